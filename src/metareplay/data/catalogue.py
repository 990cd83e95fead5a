"""Base data sets: real images that streams are made from.

They are loaded once in a process, and stay grey levels of one byte: all tasks of a stream share them. Those that lie in
files are mapped into memory, so that processes share them too.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import platformdirs
from numpy.typing import NDArray

from metareplay.data.cifar import CIFAR10, CIFAR100
from metareplay.data.download import DataFile, Unusable, fetch, mapped, place_of, read
from metareplay.data.images import ImageSet as ImageSet
from metareplay.data.omniglot import OMNIGLOT, OMNIGLOT_SMALL
from metareplay.errors import BadInput
from metareplay.streams.stream import BaseImages


class Source(Protocol):
    """Where a base data set comes from."""

    @property
    def name(self) -> str:
        """Its name, as ``metareplay data get`` takes it."""

    @property
    def description(self) -> str:
        """What it is, in one line."""

    @property
    def size(self) -> int:
        """Bytes that it takes on disk; 0 for one that is installed with metareplay."""

    def get(self, folder: Path, source: str | Path | None = None, progress: bool = True) -> ImageSet:
        """Load it, first fetching into ``folder`` what is not there; see the function ``get``."""

    def present(self, folder: Path) -> bool:
        """Whether it can be loaded without a network."""


@dataclass(frozen=True)
class Digits:
    """scikit-learn's handwritten digits, with a fixed split of ours.

    The 500 test images are every 3.6th of all 1797, ordered by class: so each class has its share, and the split
    depends on no random generator.
    """

    name: str = "digits"
    description: str = "handwritten digits of 8 × 8 pixels, 1297 for training and 500 for testing (UCI, scikit-learn)"
    size: int = 0

    def get(self, folder: Path, source: str | Path | None = None, progress: bool = True) -> ImageSet:
        if source is not None:
            raise BadInput(f"--from {source} was given, but digits is installed with metareplay: leave --from out")
        return _digits()

    def present(self, folder: Path) -> bool:
        return True


@dataclass(frozen=True)
class IdxImages:
    """Images and labels in four files of MNIST's idx format, fetched on first use.

    Parameters
    ----------
    files
        Training images and labels, then test images and labels.
    mirrors
        Addresses of folders that serve them, gzipped or plain.
    """

    name: str
    description: str
    files: tuple[DataFile, DataFile, DataFile, DataFile]
    mirrors: tuple[str, ...]
    classes: int = 10

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def get(self, folder: Path, source: str | Path | None = None, progress: bool = True) -> ImageSet:
        if source is not None:
            fetch(self.name, self.files, folder, source=place_of(source), progress=progress)
        try:
            return _idx_images(self, folder)
        except Unusable:
            fetch(self.name, self.files, folder, mirrors=self.mirrors, progress=progress)
            return _idx_images(self, folder)

    def present(self, folder: Path) -> bool:
        try:
            for file in self.files:
                read(folder, file)
        except Unusable:
            return False
        return True


MNIST = IdxImages(
    "mnist",
    "handwritten digits of 28 × 28 pixels, 60 000 for training and 10 000 for testing (LeCun, Cortes and Burges)",
    (
        DataFile(
            "train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        DataFile("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        DataFile("t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        DataFile("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
)

FASHION_MNIST = IdxImages(
    "fashion-mnist",
    "articles of clothing in 28 × 28 grey pixels, 60 000 for training and 10 000 for testing (Xiao et al.)",
    (
        DataFile(
            "train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        DataFile("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        DataFile("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        DataFile("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
)

SOURCES: dict[str, Source] = {
    source.name: source for source in (Digits(), MNIST, FASHION_MNIST, CIFAR10, CIFAR100, OMNIGLOT, OMNIGLOT_SMALL)
}


@dataclass(frozen=True)
class Listed:
    """One line of ``metareplay data list``."""

    name: str
    description: str
    size: int  # bytes on disk; 0: installed with metareplay
    folder: Path | None  # where it is, or would be, cached; None: installed with metareplay
    present: bool  # whether it is there and intact


def data_folder() -> Path:
    """Where data sets are cached: ``METAREPLAY_DATA``, else the platform's cache folder."""
    chosen = os.environ.get("METAREPLAY_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("metareplay") / "data"


def get(name: str, source: str | Path | None = None, progress: bool = True) -> ImageSet:
    """Load a base data set; on first use fetch it.

    Parameters
    ----------
    name
        One of ``SOURCES``.
    source
        A folder or an http(s) address to take its files from, in place of the cache and the mirrors.
    progress
        Whether to show progress bars on standard error while something is fetched.

    Raises
    ------
    BadInput
        If there is no such data set, or the source's files are not those that were published.
    RunFailed
        If it cannot be downloaded, or cannot be stored.
    """
    if name not in SOURCES:
        raise BadInput(f"there is no data set {name!r}; there are {', '.join(SOURCES)}")
    return SOURCES[name].get(data_folder() / name, source, progress)


def listing() -> list[Listed]:
    """All base data sets, and whether they are there."""
    folders = {name: data_folder() / name for name in SOURCES}
    return [
        Listed(s.name, s.description, s.size, folders[s.name] if s.size else None, s.present(folders[s.name]))
        for s in SOURCES.values()
    ]


@cache
def _digits() -> ImageSet:
    from sklearn.datasets import load_digits  # takes a second, which those who learn from MNIST need not wait

    data, labels = load_digits(return_X_y=True)
    pixels, labels = data.astype(np.uint8), labels.astype(np.int64)
    n, tests = len(pixels), 500
    by_class = np.argsort(labels, kind="stable")
    is_test = np.zeros(n, bool)
    is_test[by_class] = np.arange(n) * tests % n < tests
    train, test = BaseImages(pixels[~is_test], white=16, shape=(8, 8)), BaseImages(pixels[is_test], 16, (8, 8))
    sha256 = _sha256(pixels, labels, is_test)
    return ImageSet("digits", train, labels[~is_test], test, labels[is_test], 10, sha256)


@cache
def _idx_images(source: IdxImages, folder: Path) -> ImageSet:
    """Raises Unusable if a file is missing or damaged."""
    train, train_labels, test, test_labels = (_decode_idx(mapped(folder, file)) for file in source.files)
    return ImageSet(
        source.name,
        BaseImages(train.reshape(len(train), -1), shape=train.shape[1:]),
        train_labels.astype(np.int64),
        BaseImages(test.reshape(len(test), -1), shape=test.shape[1:]),
        test_labels.astype(np.int64),
        source.classes,
        hashlib.sha256("".join(file.sha256 for file in source.files).encode()).hexdigest(),
    )


def _decode_idx(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An idx file: two zero bytes, the type (8: uint8), the number of axes, their lengths (big-endian), the values."""
    axes = int(content[3])
    lengths = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(lengths)


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
