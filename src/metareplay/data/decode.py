"""What decodes the contents of data sets' files: idx, EMNIST, CIFAR, Omniglot; Refused where they are wrong."""

import io
import math
import re
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.images import Decoded
from metareplay.errors import Refused

Contents = Sequence[NDArray[np.uint8]]
BALANCED = [
    f"gzip/emnist-balanced-{part}-ubyte.gz"
    for part in ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
]
MOST = 1 << 28  # bytes that a file in EMNIST's archive may unpack to; the largest has 88 million


@contextmanager
def _archive(kind: str) -> Iterator[None]:
    try:
        yield
    except KeyError as error:  # both libraries quote the name
        raise Refused(f"there is no {str(error.args[0]).split(chr(39))[1]} in it") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError,
            OSError) as error:  # fmt: skip
        raise Refused(f"it is damaged, truncated, or no {kind} archive") from error


def idx_files(contents: Contents) -> Decoded:
    """Training images and labels, then test images and labels."""
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


def emnist_balanced(contents: Contents) -> Decoded:
    """The balanced part of EMNIST (Cohen et al. 2017), from NIST's archive; columns come first there, and rows here."""
    parts: list[NDArray[np.uint8]] = []
    with _archive(".zip"), zipfile.ZipFile(io.BytesIO(contents[0].data)) as archive:
        for name in BALANCED:
            unpacker = zlib.decompressobj(wbits=31)  # gzip's format
            parts.append(np.frombuffer(unpacker.decompress(archive.read(name), MOST), np.uint8))
            if not unpacker.eof:
                raise Refused(f"{name} in it is truncated or too large")
    for which in (0, 2):
        images = idx(parts[which])
        if images.shape[1:] != (28, 28):
            raise Refused(f"{BALANCED[which]} in it has images of shape {images.shape[1:]}")
        parts[which] = np.append(parts[which][:16], images.transpose(0, 2, 1))
    return idx_files(parts)


def cifar_10(contents: Contents) -> Decoded:
    """CIFAR-10 (Krizhevsky 2009): a record is its label, one byte, and 3072 pixels: red, green, blue, row by row."""
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    return _records([f"cifar-10-batches-bin/{name}.bin" for name in names], 1, contents)


def cifar_100(contents: Contents) -> Decoded:
    """The same with two labels, the coarse and the fine one, which counts."""
    return _records(["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"], 2, contents)


def _records(files: Sequence[str], labels: int, contents: Contents) -> Decoded:
    parts: list[NDArray[np.uint8]] = []
    with _archive(".tar.gz"), tarfile.open(fileobj=io.BytesIO(contents[0].data), mode="r:gz") as tar:
        for name in files:
            file = tar.extractfile(name)
            records = np.frombuffer(file.read() if file else b"", np.uint8)
            if not len(records) or len(records) % (labels + 3072):
                raise Refused(f"{name} in it has {len(records)} bytes, which are no whole records")
            parts.append(records.reshape(-1, labels + 3072))
    sides = np.concatenate(parts[:-1]), parts[-1]
    (train, train_labels), (test, test_labels) = (
        (np.ascontiguousarray(side[:, labels:]), side[:, labels - 1].astype(np.int64)) for side in sides
    )
    return Decoded(train, train_labels, test, test_labels)


DRAWINGS, FOR_TESTING = 20, 5
SIDE, SMALL_SIDE = 105, 28
PATH = re.compile(r"[^/]+/(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawing>\d+)\.png")
Drawings = dict[int, NDArray[np.uint8]]  # a character's, by their number
Alphabets = dict[str, dict[str, Drawings]]  # by alphabet and character


def omniglot(contents: Contents) -> Decoded:
    """All drawings of some archives (Lake et al. 2015); a character is a class, an alphabet a group of classes.

    An archive holds a drawing of a character as ``<archive>/<Alphabet>/<character01>/<0001_01>.png``: 105 × 105 pixels,
    ink black. Twenty people have drawn each character: drawings 1 to 15 are for training, 16 to 20 for testing. Here
    ink is 1 and paper 0, as in MNIST, and a pixel of the 28 × 28 is the share of ink in the square of 3.75 × 3.75
    pixels that it covers, exactly (a box filter).

    Alphabets come archive by archive, in each by name; so do characters. One that is in several archives counts once.
    """
    alphabets: Alphabets = {}
    for archive in contents:
        alphabets |= {name: own for name, own in sorted(_alphabets(archive).items()) if name not in alphabets}
    groups: list[tuple[str, tuple[int, ...]]] = []
    characters: list[NDArray[np.uint8]] = []
    for name, own in alphabets.items():
        groups.append((name.replace("_", " "), tuple(range(len(characters), len(characters) + len(own)))))
        for character, drawings in sorted(own.items()):
            if sorted(drawings) != list(range(1, DRAWINGS + 1)):
                raise Refused(f"{name}/{character} in it has {len(drawings)} drawings instead of 1 to {DRAWINGS}")
            characters.append(np.array([drawings[number] for number in sorted(drawings)]))
    train, test = np.split(np.array(characters), [DRAWINGS - FOR_TESTING], axis=1)  # of (characters, 20, 784)
    labels = [np.arange(len(characters), dtype=np.int64).repeat(part.shape[1]) for part in (train, test)]
    width = SMALL_SIDE**2
    return Decoded(train.reshape(-1, width), labels[0], test.reshape(-1, width), labels[1], tuple(groups))


def _alphabets(content: NDArray[np.uint8]) -> Alphabets:
    found: Alphabets = defaultdict(lambda: defaultdict(dict))
    with _archive(".zip"), zipfile.ZipFile(io.BytesIO(content.data)) as archive:
        for name in archive.namelist():
            if name.endswith(".png"):
                place = PATH.fullmatch(name)
                if not place:
                    raise Refused(f"{name!r} in it is no drawing of a character of an alphabet")
                drawings = found[place["alphabet"]][place["character"]]
                drawings[int(place["drawing"])] = _drawing(name, archive.read(name))
    if not found:
        raise Refused("there is no drawing in it")
    return found


def _drawing(name: str, content: bytes) -> NDArray[np.uint8]:
    """A drawing's share of ink in each of 28 × 28 pixels, 255 for all, ``(784,)``."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (SIDE, SIDE) or image.mode != "1":  # before anything is unpacked
                raise Refused(f"{name!r} in it has not {SIDE} × {SIDE} black or white pixels")
            grey = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused(f"{name!r} in it is no PNG image, or a damaged one") from error
    covered = (_quarters() @ (grey == 0) @ _quarters().T).astype(np.int64)  # of 15 × 15: whole numbers make it exact
    share: NDArray[np.uint8] = ((covered * 255 + 112) // 225).astype(np.uint8)
    return share.reshape(-1)


@cache
def _quarters() -> NDArray[np.float32]:
    """How many quarters of each of 105 pixels lie under each of 28, which cover 15 quarters each."""
    quarters = np.zeros((SMALL_SIDE, SIDE), np.float32)
    np.add.at(quarters, (np.arange(4 * SIDE) // 15, np.arange(4 * SIDE) // 4), 1)
    return quarters
