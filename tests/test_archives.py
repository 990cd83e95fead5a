"""CIFAR, EMNIST and Omniglot: archives in their formats, what must not get through, and a ResNet on one."""

import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import metareplay
from made_up_archives import (
    cifar10_files,
    cifar100_files,
    drawing,
    idx,
    omniglot_files,
    published,
    records,
    tar_gz,
    zipped,
)  # fmt: skip
from metareplay import cli
from metareplay.data import catalogue, download
from metareplay.data.decode import BALANCED
from metareplay.errors import BadInput
from metareplay.streams.catalogue import BENCHMARKS
from metareplay.streams.kinds import alphabets
from metareplay.streams.stream import allowed_classes
from mirrors import left_in, put

CIFAR, EMNIST = "cifar-10-binary.tar.gz", "gzip.zip"
DECODED = {"decoded.json", "train.npy", "train_labels.npy", "test.npy", "test_labels.npy"}
FIRST, SECOND = (file.name for file in catalogue.OMNIGLOT_SMALL.files)
ONE = omniglot_files("images_background_small1", {"Zulu": 2, "Early_A": 3})
TWO = omniglot_files("images_background_small2", {"Early_A": 3, "B_(new)": 4}, seed=1)


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch):
    monkeypatch.setattr(download, "_LOADED", {})


def cifar10(files, *mirrors):
    return published(catalogue.CIFAR10, [archive := tar_gz(files)], 10, *mirrors), archive


def fetched(tmp_path, source, *archives):
    """The images of a data set whose archives lie in somebody's folder."""
    theirs = {file.name: content for file, content in zip(source.files, archives, strict=True)}
    return source.get(tmp_path / "cache", put(tmp_path / "theirs", theirs), progress=False)


def test_a_mirror_gives_the_official_format(tmp_path, serve):
    mirror = serve({CIFAR: tar_gz(cifar10_files(each=20))})
    source, _ = cifar10(cifar10_files(each=20), mirror.url)
    assert not source.present(tmp_path)
    images = source.get(tmp_path, progress=False)
    assert (len(images.train), len(images.test), images.classes) == (100, 20, 10)
    assert images.train.base.shape == (3, 32, 32)
    assert images.train.base.pixels.dtype == np.uint8
    assert images.train.labels.tolist() == [i % 20 % 10 for i in range(100)]
    assert left_in(tmp_path) == {CIFAR} | DECODED
    assert source.present(tmp_path)
    assert mirror.asked == [CIFAR]


def test_pixels_are_red_then_green_then_blue_row_by_row_and_255_is_one(tmp_path):
    pixels = np.zeros((2, 3072), np.uint8)
    pixels[0, 1024 + 32 * 5 + 7] = 255  # green, row 5, column 7
    files = cifar10_files(2) | {"cifar-10-batches-bin/data_batch_1.bin": records([0, 1], pixels)}
    first = fetched(tmp_path, *cifar10(files)).train.inputs(np.array([0])).reshape(3, 32, 32)
    assert first[1, 5, 7] == 1.0
    assert first.sum() == 1.0


def test_cifar100_has_the_fine_labels(tmp_path):
    archive = tar_gz(cifar100_files(train=200, test=100))
    images = fetched(tmp_path, published(catalogue.CIFAR100, [archive], 100), archive)
    assert np.bincount(images.train.labels).tolist() == [2] * 100
    stream = BENCHMARKS["cifar100-split"].stream(images=images)
    assert len(stream.tasks) == 20
    assert stream.tasks[19].classes == (95, 96, 97, 98, 99)
    assert stream.scenarios == ("task-incremental", "class-incremental")


def test_it_is_unpacked_once_and_later_processes_map_what_was_kept(tmp_path, monkeypatch):
    source, archive = cifar10(cifar10_files())
    first = fetched(tmp_path, source, archive)
    monkeypatch.setattr(download, "_LOADED", {})
    monkeypatch.setattr("tarfile.open", None)  # so that unpacking fails
    second = source.get(tmp_path / "cache")
    assert isinstance(second.train.base.pixels.base, np.memmap) or isinstance(second.train.base.pixels, np.memmap)
    np.testing.assert_array_equal(first.train.base.pixels, second.train.base.pixels)
    assert first.sha256 == second.sha256
    assert source.get(tmp_path / "cache") is second


@pytest.mark.parametrize("damaged", ["train.npy", "test_labels.npy", "decoded.json"])
@pytest.mark.parametrize("how", ["altered", "cut", "gone", "foreign"])
def test_what_was_kept_and_is_damaged_is_made_anew(tmp_path, monkeypatch, damaged, how):
    source, archive = cifar10(cifar10_files())
    first = fetched(tmp_path, source, archive)
    first_pixels, path = first.train.base.pixels.copy(), tmp_path / "cache" / damaged
    content = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(
            {"altered": content[:-1] + b"\x07", "cut": content[: len(content) // 2], "foreign": b"{}"}[how]
        )
    monkeypatch.setattr(download, "_LOADED", {})
    again = source.get(tmp_path / "cache")
    np.testing.assert_array_equal(again.train.base.pixels, first_pixels)
    assert again.sha256 == first.sha256
    assert left_in(tmp_path / "cache") == {CIFAR} | DECODED
    json.loads((tmp_path / "cache" / "decoded.json").read_bytes())


def test_where_nothing_can_be_written_it_is_unpacked_each_time(tmp_path, monkeypatch):
    source, archive = cifar10(cifar10_files())
    put(tmp_path, {CIFAR: archive})

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(download, "write_atomically", refuse)
    assert len(source.get(tmp_path, progress=False).train) == 100
    assert left_in(tmp_path) == {CIFAR}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda archive: archive[: len(archive) // 2], "only .*: it is truncated or another file"),
        (lambda archive: b"<html>Please log in</html>", "has only 26"),
        (lambda archive: archive + b"x", "has more"),
    ],
)
def test_a_truncated_or_foreign_archive_is_refused_and_nothing_is_kept(tmp_path, serve, change, reason):
    source, archive = cifar10(cifar10_files())
    for place in (put(tmp_path / "theirs", {CIFAR: change(archive)}), serve({CIFAR: change(archive)}).url):
        with pytest.raises(BadInput, match=reason) as refused:
            source.get(tmp_path / "cache", place, progress=False)
        assert "\n" not in str(refused.value)
        assert left_in(tmp_path / "cache") == set()


def drawn(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28)).astype(np.uint8)


def emnist(train=188, test=94):
    """As NIST has them: each image by its columns, the other parts of EMNIST beside it."""
    parts = []
    for n, seed in ((train, 0), (test, 1)):
        parts += [idx(drawn(n, seed).transpose(0, 2, 1)), idx(np.arange(n) % 47)]
    packed = (gzip.compress(part, mtime=0) for part in parts)
    return dict(zip(BALANCED, packed, strict=True)) | {"gzip/emnist-letters-mapping.txt": b"1 65 97"}


def test_images_of_nists_archive_stand_upright(tmp_path):
    images = fetched(tmp_path, published(catalogue.EMNIST_BALANCED, [zipped(emnist())], 47), zipped(emnist()))
    assert (len(images.train), len(images.test), images.classes, images.train.base.shape) == (188, 94, 47, (28, 28))
    np.testing.assert_array_equal(images.train.base.pixels.reshape(-1, 28, 28), drawn(188, 0))
    np.testing.assert_array_equal(images.test.base.pixels.reshape(-1, 28, 28), drawn(94, 1))
    assert np.bincount(images.train.labels).tolist() == [4] * 47
    assert left_in(tmp_path / "cache") == {EMNIST} | DECODED
    named = BENCHMARKS["emnist-label-permuted"]
    assert (named.tasks, named.samples_per_task) == (400, 2500)
    stream = named.stream(images=images, tasks=3, samples_per_task=188)
    assert stream.classes == 47
    assert all(np.bincount(task.train.labels).tolist() == [4] * 47 for task in stream.tasks)
    assert len({task.train.labels.tobytes() for task in stream.tasks}) == 3
    assert metareplay.run(stream, metareplay.Online(), hidden=(10,), evaluate="never").online[1] == 3 * 188


def omniglot(tmp_path, one=ONE, two=TWO):
    return fetched(tmp_path, *small_omniglot(zipped(one), zipped(two)))


def small_omniglot(*archives):
    return published(catalogue.OMNIGLOT_SMALL, archives, 9), *archives


def test_a_character_is_a_class_and_an_alphabet_a_group_of_them(tmp_path):
    images = omniglot(tmp_path)
    assert images.groups == (("Early A", (0, 1, 2)), ("Zulu", (3, 4)), ("B (new)", (5, 6, 7, 8)))
    assert np.bincount(images.train.labels).tolist() == [15] * 9
    assert np.bincount(images.test.labels).tolist() == [5] * 9
    assert images.train.base.shape == (28, 28)


def test_an_alphabet_that_is_in_two_archives_counts_once_as_the_first_has_it(tmp_path):
    both = omniglot(tmp_path / "both")
    alone = omniglot(tmp_path / "alone", two={name: body for name, body in TWO.items() if "Early_A" not in name})
    np.testing.assert_array_equal(both.train.base.pixels, alone.train.base.pixels)


def test_ink_is_one_and_a_pixel_is_the_share_of_ink_where_it_lies(tmp_path):
    ink = np.zeros((105, 105), bool)
    ink[:15, :30] = True  # of each 15 × 15 pixels 4 × 4 are made
    ink[90, 90] = True
    images = omniglot(tmp_path, ONE | {next(iter(ONE)): drawing(ink)})
    zulu = images.train.inputs(np.flatnonzero(images.train.labels == 3)[:1]).reshape(28, 28)
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
    images = omniglot(tmp_path, marked)
    for side, numbers in ((images.train, range(1, 16)), (images.test, range(16, 21))):
        ink = side.inputs(np.flatnonzero(side.labels < 5)).sum(1) * 3.75**2
        np.testing.assert_allclose(ink, [*numbers] * 5, atol=0.2)


def test_a_task_is_an_alphabet_and_its_scores_are_masked_to_its_characters(tmp_path):
    images = omniglot(tmp_path)
    stream = alphabets(images, tasks=3)
    names = ["Early A, 3 characters", "Zulu, 2 characters", "B (new), 4 characters"]
    assert [task.description for task in stream.tasks] == names
    assert [len(task.train) for task in stream.tasks] == [45, 30, 60]
    assert stream.scenarios == ("task-incremental", "class-incremental")
    allowed = allowed_classes(stream, "task-incremental", [0])
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert alphabets(images, tasks=2).classes == 5
    with pytest.raises(BadInput, match=r"tasks is 4, but omniglot-small has 3 alphabets"):
        alphabets(images, tasks=4)
    with pytest.raises(BadInput, match="digits has 0 alphabets"):
        alphabets(catalogue.get("digits"), tasks=1)


def test_the_two_real_archives_hold_eight_alphabets(shared_omniglot, data_folder):
    """Five each; Greek and Latin are in both, drawing for drawing."""
    images = catalogue.get("omniglot-small", shared_omniglot, progress=False)
    assert {name: len(classes) for name, classes in images.groups} == {
        "Balinese": 24, "Early Aramaic": 22, "Greek": 24, "Korean": 40, "Latin": 26, "Japanese (katakana)": 47,
        "Sanskrit": 42, "Tagalog": 17,
    }  # fmt: skip
    assert (len(images.train), len(images.test)) == (242 * 15, 242 * 5)
    assert 0.03 < images.train.inputs(np.arange(3630)).mean() < 0.15  # ink on paper, not paper on ink
    sizes = {file.name: file.stat().st_size for file in (data_folder / "omniglot-small").iterdir()}
    assert sum(sizes.values()) == pytest.approx(catalogue.OMNIGLOT_SMALL.size, rel=0.01)
    assert catalogue.OMNIGLOT_SMALL.present(data_folder / "omniglot-small")
    found = []
    for name in (FIRST, SECOND):
        with zipfile.ZipFile(shared_omniglot / name) as packed:
            found.append({path.split("/", 1)[1]: packed.read(path) for path in packed.namelist() if ".png" in path})
    both = found[0].keys() & found[1].keys()
    assert {path.split("/")[0] for path in both} == {"Greek", "Latin"}
    assert len(both) == (24 + 26) * 20
    assert all(found[0][path] == found[1][path] for path in both)


PART, NAMED = "cifar-10-batches-bin/data_batch_3.bin", next(iter(ONE))
WHOLE = cifar10_files(each=2)


def png(size, mode):
    content = io.BytesIO()
    Image.new(mode, size).save(content, "PNG")
    return content.getvalue()


def changed_zip():
    """Omniglot's first archive, damaged."""
    good = zipped(ONE)
    place, header, lying = good.index(b"IDAT"), good.rindex(b"PK\x01\x02"), bytearray(good)
    lying[header + 24 : header + 28] = (5).to_bytes(4, "little")  # says another size than it has
    return good[:-500], b"\x1f\x8b no zip", b"", good[:place] + bytes(20) + good[place + 20 :], bytes(lying)


NOT_WHAT_IT_SHOULD_BE = [
    *((catalogue.CIFAR10, 10, [archive], reason) for archive, reason in (
        (tar_gz({name: content for name, content in WHOLE.items() if name != PART}), f"no {PART}"),
        (tar_gz(WHOLE | {PART: b""}), "has 0 bytes"),
        (tar_gz(WHOLE | {PART: bytes(3073 * 2 - 1)}), "has 6145 bytes, which are no whole records"),
        (tar_gz(WHOLE | {PART: records([0, 10], np.zeros((2, 3072)))}), "11 classes in it"),
        (b"", "damaged, truncated, or no .tar.gz"),
        (b"\x1f\x8b", "damaged, truncated, or no .tar.gz"),
        (gzip.compress(b"no tar"), "damaged, truncated, or no .tar.gz"),
        (gzip.compress(bytes(10240)), "there is no"),
        (tar_gz(cifar10_files())[:-2000], "damaged, truncated"),
    )),
    *((catalogue.EMNIST_BALANCED, 47, [archive], reason) for archive, reason in (
        (b"no archive", "it is damaged, truncated, or no .zip archive"),
        (zipped({"gzip/readme.txt": b""}), "there is no gzip/emnist-balanced-train-images-idx3-ubyte.gz in it"),
        (zipped(emnist() | {BALANCED[1]: b"plain"}), "it is damaged"),
        (zipped(emnist() | {BALANCED[0]: gzip.compress(idx(drawn(188, 0)))[:-9]}), "in it is truncated or too large"),
        (zipped(emnist() | {BALANCED[0]: gzip.compress(idx(np.zeros((188, 7, 7))))}), r"images of shape \(7, 7\)"),
        (zipped(emnist() | {BALANCED[1]: gzip.compress(idx(np.arange(5)))}), "there is not one label for each image"),
        (zipped(emnist() | {BALANCED[3]: gzip.compress(idx(np.arange(94)))}), "94 classes in it instead of 47"),
    )),
    *((catalogue.OMNIGLOT_SMALL, 9, [first, zipped(TWO)], reason) for first, reason in (
        (zipped(ONE | {NAMED: b"no image"}), "no PNG image"),
        (zipped(ONE | {NAMED: ONE[NAMED][:60]}), "no PNG image, or a damaged"),
        (zipped(ONE | {NAMED: png((105, 105), "RGB")}), "black or white"),
        (zipped(ONE | {NAMED: png((2000, 2000), "1")}), "105 × 105"),
        (zipped(ONE | {NAMED: png((20000, 20000), "1")}), "no PNG image, or a"),
        (zipped(ONE | {"top/Alphabet/elsewhere.png": b""}), "no drawing of a character"),
        (zipped(ONE | {NAMED.replace("_01", "_21"): ONE[NAMED]}), "21 drawings instead"),
        (zipped(ONE | omniglot_files("top", {"New": 1})), "10 classes in it instead of 9"),
        *((archive, r"damaged, truncated, or no \.zip archive|damaged one") for archive in changed_zip()),
    )),
]  # fmt: skip


@pytest.mark.parametrize(
    ("like", "classes", "archives", "reason"), NOT_WHAT_IT_SHOULD_BE, ids=map(str, range(len(NOT_WHAT_IT_SHOULD_BE)))
)
def test_an_archive_that_is_not_what_it_should_be_is_refused_whole(tmp_path, like, classes, archives, reason):
    """Even where its checksum is the one that was published."""
    with pytest.raises(BadInput, match=reason) as refused:
        fetched(tmp_path, published(like, archives, classes), *archives)
    assert str(refused.value).startswith(f"{like.name} cannot be made of {like.files[0].name}")
    assert "\n" not in str(refused.value)
    assert left_in(tmp_path / "cache") == set()


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """The folder of a small archive, in the place of the official one."""
    pytest.importorskip("torch")
    archive = tar_gz(cifar100_files(train=1000, test=100))
    monkeypatch.setitem(catalogue.SOURCES, "cifar100", published(catalogue.CIFAR100, [archive], 100))
    return put(tmp_path / "theirs", {catalogue.CIFAR100.files[0].name: archive})


@pytest.mark.slow
def test_from_the_archive_to_the_result_on_the_command_line(cifar100, data_folder, tmp_path, capsys):
    assert cli.main(["data", "get", "cifar100", "--from", str(cifar100)]) in (0, None)
    assert "1000 images for training, 100 for testing" in capsys.readouterr().out
    command = "run cifar100-split online --network resnet18-reduced --tasks 5 --samples-per-task 4 --batch-size 4"
    assert cli.main([*command.split(), "--quiet", "--out", str(tmp_path / "runs")]) in (0, None)
    assert "RA " in capsys.readouterr().out
