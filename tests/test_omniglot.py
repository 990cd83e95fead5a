"""Omniglot: small archives in the official format, and the two real small ones where they are on the machine."""

import zipfile

import numpy as np
import pytest
from PIL import Image

import metareplay
from made_up_archives import drawing, omniglot_files, small_omniglot, zipped
from metareplay.data import catalogue as sources
from metareplay.data import download as published
from metareplay.errors import BadInput, RunFailed
from metareplay.methods import METHODS
from metareplay.streams.catalogue import BENCHMARKS
from metareplay.streams.kinds import alphabets
from metareplay.streams.stream import allowed_classes
from mirrors import left_in, put

FIRST, SECOND = (file.name for file in sources.OMNIGLOT_SMALL.files)
ONE = omniglot_files("images_background_small1", {"Zulu": 2, "Early_A": 3})
TWO = omniglot_files("images_background_small2", {"Early_A": 3, "B_(new)": 4}, seed=1)


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch):
    monkeypatch.setattr(published, "_LOADED", {})


def made_up(tmp_path, one=ONE, two=TWO):
    archives = zipped(one), zipped(two)
    theirs = put(tmp_path / "theirs", dict(zip((FIRST, SECOND), archives, strict=True)))
    return small_omniglot(*archives, 9).get(tmp_path / "cache", theirs, progress=False)


def test_a_character_is_a_class_and_an_alphabet_a_group_of_them(tmp_path):
    images = made_up(tmp_path)
    assert images.groups == (("Early A", (0, 1, 2)), ("Zulu", (3, 4)), ("B (new)", (5, 6, 7, 8)))
    assert np.bincount(images.train_labels).tolist() == [15] * 9
    assert np.bincount(images.test_labels).tolist() == [5] * 9
    assert images.train.shape == (28, 28)


def test_an_alphabet_that_is_in_two_archives_counts_once_as_the_first_has_it(tmp_path):
    both = made_up(tmp_path / "both")
    alone = made_up(tmp_path / "alone", two={name: body for name, body in TWO.items() if "Early_A" not in name})
    np.testing.assert_array_equal(both.train.pixels, alone.train.pixels)


def test_ink_is_one_and_a_pixel_is_the_share_of_ink_where_it_lies(tmp_path):
    ink = np.zeros((105, 105), bool)
    ink[:15, :30] = True  # of each 15 × 15 pixels 4 × 4 are made
    ink[90, 90] = True
    name = next(iter(ONE))
    images = made_up(tmp_path, ONE | {name: drawing(ink)})
    zulu = images.train.inputs(np.flatnonzero(images.train_labels == 3)[:1]).reshape(28, 28)
    np.testing.assert_array_equal(zulu[:4, :8], 1)
    assert zulu[24, 24] == pytest.approx(1 / 3.75**2, abs=1 / 255)
    zulu[:4, :8] = zulu[24, 24] = 0
    assert not zulu.any()


def test_the_last_five_drawings_of_each_character_are_for_testing(tmp_path):
    marked = {}
    for name in ONE:
        ink = np.zeros((105, 105), bool)
        ink[0, : int(name[-6:-4])] = True  # as many pixels as the drawing's number
        marked[name] = drawing(ink)
    images = made_up(tmp_path, marked)
    ink_of_train = images.train.inputs(np.flatnonzero(images.train_labels < 5)).sum(1) * 3.75**2
    ink_of_test = images.test.inputs(np.flatnonzero(images.test_labels < 5)).sum(1) * 3.75**2
    np.testing.assert_allclose(ink_of_train, [*range(1, 16)] * 5, atol=0.2)
    np.testing.assert_allclose(ink_of_test, [*range(16, 21)] * 5, atol=0.2)


def test_a_task_is_an_alphabet_and_its_scores_are_masked_to_its_characters(tmp_path):
    stream = alphabets(made_up(tmp_path), tasks=3)
    assert [task.description for task in stream.tasks] == [
        "Early A, 3 characters",
        "Zulu, 2 characters",
        "B (new), 4 characters",
    ]
    assert [len(task.train) for task in stream.tasks] == [45, 30, 60]
    assert stream.scenarios == ("task-incremental", "class-incremental")
    allowed = allowed_classes(stream, "task-incremental", [0])
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert alphabets(made_up(tmp_path), tasks=2).classes == 5


def test_more_alphabets_than_there_are_cannot_be_had(tmp_path):
    with pytest.raises(BadInput, match=r"tasks is 4, but omniglot-small has 3 alphabets"):
        alphabets(made_up(tmp_path), tasks=4)
    with pytest.raises(BadInput, match="digits has 0 alphabets"):
        alphabets(sources.get("digits"), tasks=1)


@pytest.mark.parametrize("scenario", ["task-incremental", "class-incremental"])
def test_it_can_be_learned(tmp_path, scenario):
    stream = BENCHMARKS["omniglot-small"].stream(tasks=3, images=made_up(tmp_path))
    method = METHODS["eralg4"](lr=0.1, memories=100, replay_batch_size=10)
    record = metareplay.run(stream, method, scenario=scenario)
    assert record.metrics["retained_accuracy"] > 0.8


def test_the_two_real_archives_hold_eight_alphabets(shared_omniglot, data_folder):
    """Five each; Greek and Latin are in both, drawing for drawing."""
    images = sources.get("omniglot-small", shared_omniglot, progress=False)
    assert [(name, len(classes)) for name, classes in images.groups] == [
        ("Balinese", 24),
        ("Early Aramaic", 22),
        ("Greek", 24),
        ("Korean", 40),
        ("Latin", 26),
        ("Japanese (katakana)", 47),
        ("Sanskrit", 42),
        ("Tagalog", 17),
    ]
    assert (len(images.train), len(images.test)) == (242 * 15, 242 * 5)
    assert 0.03 < images.train.inputs(np.arange(3630)).mean() < 0.15  # ink on paper, not paper on ink
    sizes = {file.name: file.stat().st_size for file in (data_folder / "omniglot-small").iterdir()}
    assert sum(sizes.values()) == pytest.approx(sources.OMNIGLOT_SMALL.size, rel=0.01)
    assert sources.OMNIGLOT_SMALL.present(data_folder / "omniglot-small")


def test_greek_and_latin_are_the_same_drawings_in_both_real_archives(shared_omniglot):
    found = []
    for name in (FIRST, SECOND):
        with zipfile.ZipFile(shared_omniglot / name) as packed:
            found.append({path.split("/", 1)[1]: packed.read(path) for path in packed.namelist() if ".png" in path})
    both = found[0].keys() & found[1].keys()
    assert {path.split("/")[0] for path in both} == {"Greek", "Latin"}
    assert len(both) == (24 + 26) * 20
    assert all(found[0][path] == found[1][path] for path in both)


def test_a_mirror_serves_the_archives(tmp_path, serve, nobody):
    archives = zipped(ONE), zipped(TWO)
    mirror = serve(dict(zip((FIRST, SECOND), archives, strict=True)))
    source = small_omniglot(*archives, 9, nobody, mirror.url)
    assert len(source.get(tmp_path, progress=False).train) == 135
    assert mirror.asked == [FIRST, SECOND]
    with pytest.raises(RunFailed, match="could not be fetched"):
        small_omniglot(*archives, 9, nobody).get(tmp_path / "other", progress=False)


NAMED = next(iter(ONE))


def png(size, mode):
    import io

    content = io.BytesIO()
    Image.new(mode, size).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        pytest.param({NAMED: b"no image"}, "no PNG image", id="no image"),
        pytest.param({NAMED: ONE[NAMED][:60]}, "no PNG image, or a damaged", id="half an image"),
        pytest.param({NAMED: png((105, 105), "RGB")}, "black or white", id="colours"),
        pytest.param({NAMED: png((2000, 2000), "1")}, "105 × 105", id="a large image"),
        pytest.param({NAMED: png((20000, 20000), "1")}, "no PNG image, or a", id="an image that is a bomb"),
        pytest.param({"top/Alphabet/elsewhere.png": b""}, "no drawing of a character", id="another path"),
        pytest.param({NAMED.replace("_01", "_21"): ONE[NAMED]}, "21 drawings instead", id="a drawing more"),
        pytest.param(omniglot_files("top", {"New": 1}), "10 classes in it instead of 9", id="a class more"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be_is_refused_whole(tmp_path, files, reason):
    """Even where its checksum is the one that was published."""
    archives = zipped(ONE | files), zipped(TWO)
    theirs = put(tmp_path / "theirs", dict(zip((FIRST, SECOND), archives, strict=True)))
    with pytest.raises(BadInput, match=reason) as refused:
        small_omniglot(*archives, 9).get(tmp_path / "cache", theirs, progress=False)
    assert "\n" not in str(refused.value)
    assert left_in(tmp_path / "cache") == set()


@pytest.mark.parametrize("how", ["cut", "foreign", "empty", "altered", "lies about its size"])
def test_a_damaged_archive_is_refused(tmp_path, how):
    good, second = zipped(ONE), zipped(TWO)
    place = good.index(b"IDAT")
    lying = bytearray(good)
    header = good.rindex(b"PK\x01\x02")
    lying[header + 24 : header + 28] = (5).to_bytes(4, "little")
    bad = {
        "cut": good[:-500],
        "foreign": b"\x1f\x8b no zip",
        "empty": b"",
        "altered": good[:place] + bytes(20) + good[place + 20 :],
        "lies about its size": bytes(lying),
    }[how]
    theirs = put(tmp_path / "theirs", {FIRST: bad, SECOND: second})
    with pytest.raises(BadInput, match=r"damaged, truncated, or no \.zip archive|damaged one"):
        small_omniglot(bad, second, 9).get(tmp_path / "cache", theirs, progress=False)
    assert left_in(tmp_path / "cache") == set()
    with pytest.raises(BadInput, match=r"SHA-256 is|only|more"):
        small_omniglot(good, second, 9).get(tmp_path / "cache", theirs, progress=False)
    assert left_in(tmp_path / "cache") == set()
