"""CIFAR: small archives in the official format, from a server on this machine; and what must not get through."""

import gzip
import hashlib
import json

import numpy as np
import pytest

from made_up_archives import cifar10, cifar10_files, cifar100_files, published, records, tar_gz
from metareplay.data import catalogue
from metareplay.data import catalogue as sources
from metareplay.data import download as publishing
from metareplay.data.download import Published
from metareplay.errors import BadInput, RunFailed
from metareplay.streams.catalogue import BENCHMARKS
from mirrors import left_in, put

NAME = "cifar-10-binary.tar.gz"
KEPT = {NAME, "decoded.json", "train.npy", "train_labels.npy", "test.npy", "test_labels.npy"}


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch):
    monkeypatch.setattr(publishing, "_LOADED", {})


def test_a_mirror_gives_the_official_format(tmp_path, serve):
    files = cifar10_files(each=20)
    source, archive = cifar10(files)
    mirror = serve({NAME: archive})
    source, _ = cifar10(files, mirror.url)
    assert not source.present(tmp_path)
    images = source.get(tmp_path, progress=False)
    assert (len(images.train), len(images.test), images.classes) == (100, 20, 10)
    assert images.train.shape == (3, 32, 32)
    assert images.train.pixels.dtype == np.uint8
    assert images.train_labels.tolist() == [i % 20 % 10 for i in range(100)]
    assert left_in(tmp_path) == KEPT
    assert source.present(tmp_path)
    assert mirror.asked == [NAME]


def test_pixels_are_red_then_green_then_blue_row_by_row_and_255_is_one(tmp_path):
    pixels = np.zeros((2, 3072), np.uint8)
    pixels[0, 1024 + 32 * 5 + 7] = 255  # green, row 5, column 7
    files = cifar10_files(2) | {"cifar-10-batches-bin/data_batch_1.bin": records([0, 1], pixels)}
    source, archive = cifar10(files)
    images = source.get(tmp_path / "cache", put(tmp_path / "theirs", {NAME: archive}), progress=False)
    first = images.train.inputs(np.array([0])).reshape(3, 32, 32)
    assert first[1, 5, 7] == 1.0
    assert first.sum() == 1.0


def test_cifar100_has_the_fine_labels(tmp_path):
    archive = tar_gz(cifar100_files(train=200, test=100))
    source = published(catalogue.CIFAR100, [archive], 100)
    images = source.get(tmp_path / "cache", put(tmp_path / "theirs", {source.files[0].name: archive}), progress=False)
    assert np.bincount(images.train_labels).tolist() == [2] * 100
    stream = BENCHMARKS["cifar100-split"].stream(images=images)
    assert len(stream.tasks) == 20
    assert stream.tasks[19].classes == (95, 96, 97, 98, 99)
    assert stream.scenarios == ("task-incremental", "class-incremental")


def test_it_is_unpacked_once_and_later_processes_map_what_was_kept(tmp_path, monkeypatch):
    source, archive = cifar10(cifar10_files())
    first = source.get(tmp_path / "cache", put(tmp_path / "theirs", {NAME: archive}), progress=False)
    assert source.get(tmp_path / "cache") is not None
    monkeypatch.setattr(publishing, "_LOADED", {})
    monkeypatch.setattr("tarfile.open", None)  # so that unpacking fails
    second = source.get(tmp_path / "cache")
    assert isinstance(second.train.pixels.base, np.memmap) or isinstance(second.train.pixels, np.memmap)
    np.testing.assert_array_equal(first.train.pixels, second.train.pixels)
    assert first.sha256 == second.sha256
    assert source.get(tmp_path / "cache") is second


@pytest.mark.parametrize("damaged", ["train.npy", "test_labels.npy", "decoded.json"])
@pytest.mark.parametrize("how", ["altered", "cut", "gone", "foreign"])
def test_what_was_kept_and_is_damaged_is_made_anew(tmp_path, monkeypatch, damaged, how):
    source, archive = cifar10(cifar10_files())
    first = source.get(tmp_path / "cache", put(tmp_path / "theirs", {NAME: archive}), progress=False)
    first_pixels, path = first.train.pixels.copy(), tmp_path / "cache" / damaged
    content = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(
            {"altered": content[:-1] + b"\x07", "cut": content[: len(content) // 2], "foreign": b"{}"}[how]
        )
    monkeypatch.setattr(publishing, "_LOADED", {})
    again = source.get(tmp_path / "cache")
    np.testing.assert_array_equal(again.train.pixels, first_pixels)
    assert again.sha256 == first.sha256
    assert left_in(tmp_path / "cache") == KEPT
    json.loads((tmp_path / "cache" / "decoded.json").read_bytes())


def test_where_nothing_can_be_written_it_is_unpacked_each_time(tmp_path, monkeypatch):
    source, archive = cifar10(cifar10_files())
    put(tmp_path, {NAME: archive})

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(publishing, "write_atomically", refuse)
    assert len(source.get(tmp_path, progress=False).train) == 100
    assert left_in(tmp_path) == {NAME}


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
    for place in (put(tmp_path / "theirs", {NAME: change(archive)}), serve({NAME: change(archive)}).url):
        with pytest.raises(BadInput, match=reason) as refused:
            source.get(tmp_path / "cache", place, progress=False)
        assert "\n" not in str(refused.value)
        assert left_in(tmp_path / "cache") == set()


def test_a_mirror_that_breaks_off_is_passed_over(tmp_path, serve, nobody):
    files = cifar10_files()
    _, archive = cifar10(files)
    broken, good = serve({NAME: archive}, cut=0.6), serve({NAME: archive})
    source, _ = cifar10(files, nobody, broken.url, good.url)
    assert len(source.get(tmp_path, progress=False).train) == 100
    alone, _ = cifar10(files, broken.url)
    with pytest.raises(RunFailed, match=r"broke off after \d+ of \d+ bytes.*--from FOLDER"):
        alone.get(tmp_path / "other", progress=False)


PART = "cifar-10-batches-bin/data_batch_3.bin"
WHOLE = cifar10_files(each=2)
NOT_WHAT_IT_SHOULD_BE = {
    "a part missing": (tar_gz({name: content for name, content in WHOLE.items() if name != PART}), f"no {PART}"),
    "an empty part": (tar_gz(WHOLE | {PART: b""}), "has 0 bytes"),
    "half a record": (tar_gz(WHOLE | {PART: bytes(3073 * 2 - 1)}), "has 6145 bytes, which are no whole records"),
    "a class more": (tar_gz(WHOLE | {PART: records([0, 10], np.zeros((2, 3072)))}), "11 classes in it"),
    "nothing": (b"", "damaged, truncated, or no .tar.gz"),
    "two bytes": (b"\x1f\x8b", "damaged, truncated, or no .tar.gz"),
    "no tar": (gzip.compress(b"no tar"), "damaged, truncated, or no .tar.gz"),
    "an empty tar": (gzip.compress(bytes(10240)), "there is no"),
    "cut": (tar_gz(cifar10_files())[:-2000], "damaged, truncated"),
}


@pytest.mark.parametrize(("archive", "reason"), NOT_WHAT_IT_SHOULD_BE.values(), ids=NOT_WHAT_IT_SHOULD_BE)
def test_an_archive_that_is_not_what_it_should_be_is_refused_whole(tmp_path, archive, reason):
    """Even where its checksum is the one that was published."""
    source = published(catalogue.CIFAR10, [archive], 10)
    with pytest.raises(BadInput, match=reason) as refused:
        source.get(tmp_path / "cache", put(tmp_path / "theirs", {NAME: archive}), progress=False)
    assert str(refused.value).startswith(f"cifar10 cannot be made of {NAME}: ")
    assert "\n" not in str(refused.value)
    assert left_in(tmp_path / "cache") == set()


def test_the_published_archives_are_named_by_checksums_of_the_right_form():
    for source in sources.SOURCES.values():
        for file in getattr(source, "files", ()):
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
        if isinstance(source, Published) and source.archived:
            assert all(mirror.startswith("https://") for mirror in source.mirrors)


def test_a_runs_identity_follows_from_what_is_in_the_archive(tmp_path):
    names = []
    for seed in (0, 0, 1):
        source, archive = cifar10(cifar10_files(seed=seed))
        folder = tmp_path / str(len(names))
        names.append(source.get(folder / "cache", put(folder, {NAME: archive}), progress=False).sha256)
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == len(hashlib.sha256().hexdigest())
