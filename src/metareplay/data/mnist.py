"""MNIST and its kin: grey images of 28 × 28 pixels in idx files, mapped into memory as they are; EMNIST's archive."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import Decoded
from metareplay.errors import Refused

BALANCED = [
    f"gzip/emnist-balanced-{part}-ubyte.gz"
    for part in ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
]
MOST = 1 << 28
"""Bytes that a file in EMNIST's archive may unpack to; the largest has 88 million."""


def decode(contents: Sequence[NDArray[np.uint8]]) -> Decoded:
    """Training images and labels, then test images and labels; raises Refused."""
    train, train_labels, test, test_labels = map(idx, contents)
    if (len(train), len(test)) != (len(train_labels), len(test_labels)):
        raise Refused("there is not one label for each image in it")
    return Decoded(train.reshape(len(train), -1), train_labels, test.reshape(len(test), -1), test_labels)


def decode_balanced(contents: Sequence[NDArray[np.uint8]]) -> Decoded:
    """The balanced part of EMNIST (Cohen et al. 2017), from NIST's archive; columns come first there, and rows here."""
    parts: list[NDArray[np.uint8]] = []
    try:
        with zipfile.ZipFile(io.BytesIO(contents[0].data)) as archive:
            for name in BALANCED:
                unpacker = zlib.decompressobj(wbits=31)  # gzip's format
                parts.append(np.frombuffer(unpacker.decompress(archive.read(name), MOST), np.uint8))
                if not unpacker.eof:
                    raise Refused(f"{name} in it is truncated or too large")
    except KeyError:
        raise Refused(f"there is no {name} in it") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise Refused("it is damaged, truncated, or no .zip archive") from error
    for which in (0, 2):
        images = idx(parts[which])
        if images.shape[1:] != (28, 28):
            raise Refused(f"{BALANCED[which]} in it has images of shape {images.shape[1:]}")
        parts[which] = np.append(parts[which][:16], images.transpose(0, 2, 1))
    return decode(parts)


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
