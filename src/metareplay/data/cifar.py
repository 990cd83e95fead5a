"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): small colour photographs, from the official binary archives.

A record is its labels, one byte each (CIFAR-100: the coarse, then the fine one, which counts), and 3072 pixels: all
red, then all green, then all blue, each row by row.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.data.download import Unusable
from metareplay.data.published import Decoded

SHAPE = (3, 32, 32)
PIXELS = 3072
TRAIN_10 = tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6))


def decoder(train: tuple[str, ...], test: str, labels: int) -> Callable[[Sequence[NDArray[np.uint8]]], Decoded]:
    """What reads one of the two archives: its files of training images, that of test images, labels in a record."""

    def decode(contents: Sequence[NDArray[np.uint8]]) -> Decoded:
        parts: list[NDArray[np.uint8]] = []
        try:
            with tarfile.open(fileobj=io.BytesIO(contents[0].data), mode="r:gz") as tar:
                for name in (*train, test):
                    file = tar.extractfile(name)
                    records = np.frombuffer(file.read() if file else b"", np.uint8)
                    if not len(records) or len(records) % (labels + PIXELS):
                        raise Unusable(f"{name} in it has {len(records)} bytes, which are no whole records")
                    parts.append(records.reshape(-1, labels + PIXELS))
        except KeyError:
            raise Unusable(f"there is no {name} in it") from None
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise Unusable("it is damaged, truncated, or no .tar.gz archive") from error
        trained, tested = np.concatenate(parts[:-1]), parts[-1]
        return Decoded(
            np.ascontiguousarray(trained[:, labels:]),
            trained[:, labels - 1].astype(np.int64),
            np.ascontiguousarray(tested[:, labels:]),
            tested[:, labels - 1].astype(np.int64),
        )

    return decode


decode_10 = decoder(TRAIN_10, "cifar-10-batches-bin/test_batch.bin", 1)
decode_100 = decoder(("cifar-100-binary/train.bin",), "cifar-100-binary/test.bin", 2)
