"""EMNIST, balanced: from an archive of NIST's form with made-up images; and what must not get through."""

import gzip

import numpy as np
import pytest

import metareplay
from made_up_archives import idx, published, zipped
from metareplay.data import catalogue
from metareplay.data import download as publishing
from metareplay.data.decode import BALANCED
from metareplay.errors import BadInput
from metareplay.streams.catalogue import BENCHMARKS
from mirrors import left_in, put

NAME = "gzip.zip"


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch):
    monkeypatch.setattr(publishing, "_LOADED", {})


def drawn(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28)).astype(np.uint8)


def files(train=188, test=94):
    """As NIST has them: each image by its columns, the other parts of EMNIST beside it."""
    parts = []
    for n, seed in ((train, 0), (test, 1)):
        parts += [idx(drawn(n, seed).transpose(0, 2, 1)), idx(np.arange(n) % 47)]
    return dict(zip(BALANCED, map(gzip.compress, parts), strict=True)) | {"gzip/emnist-letters-mapping.txt": b"1 65 97"}


def test_a_mirror_gives_nists_archive_and_images_stand_upright(tmp_path, serve):
    archive = zipped(files())
    source = published(catalogue.EMNIST_BALANCED, [archive], 47, serve({NAME: archive}).url)
    images = source.get(tmp_path, progress=False)
    assert (len(images.train), len(images.test), images.classes, images.train.shape) == (188, 94, 47, (28, 28))
    np.testing.assert_array_equal(images.train.pixels.reshape(-1, 28, 28), drawn(188, 0))
    np.testing.assert_array_equal(images.test.pixels.reshape(-1, 28, 28), drawn(94, 1))
    assert np.bincount(images.train_labels).tolist() == [4] * 47
    assert left_in(tmp_path) == {NAME, "decoded.json", "train.npy", "train_labels.npy", "test.npy", "test_labels.npy"}


def test_its_stream_gives_all_47_classes_other_labels_in_each_task(tmp_path):
    archive = zipped(files())
    source = published(catalogue.EMNIST_BALANCED, [archive], 47)
    images = source.get(tmp_path / "cache", put(tmp_path / "theirs", {NAME: archive}), progress=False)
    named = BENCHMARKS["emnist-label-permuted"]
    assert (named.tasks, named.samples_per_task) == (400, 2500)
    stream = named.stream(images=images, tasks=3, samples_per_task=188)
    assert stream.classes == 47
    assert all(np.bincount(task.train.labels).tolist() == [4] * 47 for task in stream.tasks)
    assert len({task.train.labels.tobytes() for task in stream.tasks}) == 3
    record = metareplay.run(stream, metareplay.Online(), hidden=(10,), evaluate="never")
    assert record.online[1] == 3 * 188


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no archive", "it is damaged, truncated, or no .zip archive"),
        (zipped({"gzip/readme.txt": b""}), "there is no gzip/emnist-balanced-train-images-idx3-ubyte.gz in it"),
        (zipped(files() | {BALANCED[1]: b"plain"}), "it is damaged"),
        (zipped(files() | {BALANCED[0]: gzip.compress(idx(drawn(188, 0)))[:-9]}), "in it is truncated or too large"),
        (zipped(files() | {BALANCED[0]: gzip.compress(idx(np.zeros((188, 7, 7))))}), r"images of shape \(7, 7\)"),
        (zipped(files() | {BALANCED[1]: gzip.compress(idx(np.arange(5)))}), "there is not one label for each image"),
        (zipped(files() | {BALANCED[3]: gzip.compress(idx(np.arange(94)))}), "94 classes in it instead of 47"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be_is_refused_whole(tmp_path, content, reason):
    source = published(catalogue.EMNIST_BALANCED, [content], 47)
    with pytest.raises(BadInput, match=reason):
        source.get(tmp_path / "cache", put(tmp_path / "theirs", {NAME: content}), progress=False)
    assert left_in(tmp_path / "cache") == set()
