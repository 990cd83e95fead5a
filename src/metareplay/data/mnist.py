"""MNIST and Fashion-MNIST: grey images of 28 × 28 pixels in idx files, mapped into memory as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import Decoded
from metareplay.errors import Refused


def decode(contents: Sequence[NDArray[np.uint8]]) -> Decoded:
    """Training images and labels, then test images and labels; raises Refused."""
    train, train_labels, test, test_labels = map(idx, contents)
    if (len(train), len(test)) != (len(train_labels), len(test_labels)):
        raise Refused("there is not one label for each image in it")
    return Decoded(train.reshape(len(train), -1), train_labels, test.reshape(len(test), -1), test_labels)


def idx(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An idx file: two zero bytes, the type (8: uint8), the number of axes, their lengths (big-endian), the values."""
    axes = int(content[3]) if len(content) > 4 and content[:3].tolist() == [0, 0, 8] else 0
    if not axes or len(content) < 4 + 4 * axes:
        raise Refused("it is no idx file of bytes")
    lengths = np.frombuffer(content, ">u4", axes, offset=4).tolist()
    values = content[4 + 4 * axes :]
    if not len(values) or math.prod(lengths) != len(values):
        raise Refused(f"it is an idx file of shape {tuple(lengths)}, but has {len(values)} values")
    return values.reshape(lengths)
