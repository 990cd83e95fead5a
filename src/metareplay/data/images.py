"""Labelled base images: what a source gives and a stream is made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metareplay.streams.stream import BaseImages


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, for training and for testing.

    Parameters
    ----------
    name
        The data set's name, such as ``mnist``.
    train, test
        The images.
    train_labels, test_labels
        ``(n,)`` int64 classes, 0 … ``classes - 1``.
    sha256
        SHA-256 over all of it, as hexadecimal: part of a run's identity.
    groups
        Classes that belong together, each group with its name: Omniglot's alphabets. Their classes are consecutive and
        cover all of the set's, in this order; empty where nothing groups them.
    """

    name: str
    train: BaseImages
    train_labels: NDArray[np.int64]
    test: BaseImages
    test_labels: NDArray[np.int64]
    classes: int
    sha256: str
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
