"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): small colour photographs, from the official binary archives.

A record is its labels, one byte each (CIFAR-100: the coarse, then the fine one, which counts), and 3072 pixels: all
red, then all green, then all blue, each row by row.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import Decoded
from metareplay.errors import Refused

SHAPE = (3, 32, 32)
PIXELS = 3072


def decode(files: Sequence[str], labels: int, contents: Sequence[NDArray[np.uint8]]) -> Decoded:
    """The images in some files of an archive, the last of them for testing, with so many labels in a record."""
    parts: list[NDArray[np.uint8]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(contents[0].data), mode="r:gz") as tar:
            for name in files:
                file = tar.extractfile(name)
                records = np.frombuffer(file.read() if file else b"", np.uint8)
                if not len(records) or len(records) % (labels + PIXELS):
                    raise Refused(f"{name} in it has {len(records)} bytes, which are no whole records")
                parts.append(records.reshape(-1, labels + PIXELS))
    except KeyError:
        raise Refused(f"there is no {name} in it") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise Refused("it is damaged, truncated, or no .tar.gz archive") from error
    sides = np.concatenate(parts[:-1]), parts[-1]
    (train, train_labels), (test, test_labels) = (
        (np.ascontiguousarray(side[:, labels:]), side[:, labels - 1].astype(np.int64)) for side in sides
    )
    return Decoded(train, train_labels, test, test_labels)


_FILES_10 = [f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")]
decode_10 = partial(decode, _FILES_10, 1)
decode_100 = partial(decode, ["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"], 2)
