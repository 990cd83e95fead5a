"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): handwritten characters of many alphabets, from its archives.

An archive holds a drawing of a character as ``<archive>/<Alphabet>/<character01>/<0001_01>.png``: 105 × 105 pixels,
ink black. Twenty people have drawn each character. Here ink is 1 and paper 0, as in MNIST, and a pixel of the 28 × 28
is the share of ink in the square of 3.75 × 3.75 pixels that it covers, exactly (a box filter). Drawings 1 to 15 of
each character are for training, 16 to 20 for testing: they are other people's.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.archived import ArchivedImages, Decoded
from metareplay.data.archives import zip_files
from metareplay.data.download import DataFile, Report, Unusable

DRAWINGS, FOR_TESTING = 20, 5
SIDE, SMALL_SIDE = 105, 28
SHAPE = (SMALL_SIDE, SMALL_SIDE)
LIMIT = 64_000_000
MEMBERS = 50_000
"""Bytes and files that an archive may have: the largest official one has 8 MB in 21 000 files."""

PATH = re.compile(r"[^/]+/(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawing>\d+)\.png")

Drawings = dict[int, NDArray[np.uint8]]  # a character's, by their number
Alphabets = dict[str, dict[str, Drawings]]  # by alphabet and character


def decode(archives: Sequence[Path], report: Report) -> Decoded:
    """All drawings of some archives; a character is a class, an alphabet a group of classes.

    Alphabets come archive by archive, in each by name; so do characters. One that is in several archives counts once.
    """
    alphabets: Alphabets = {}
    for archive in archives:
        alphabets |= {name: own for name, own in sorted(_read(archive, report).items()) if name not in alphabets}
    groups: list[tuple[str, tuple[int, ...]]] = []
    characters: list[NDArray[np.uint8]] = []
    for name, own in alphabets.items():
        groups.append((name.replace("_", " "), tuple(range(len(characters), len(characters) + len(own)))))
        characters += [_in_order(f"{name}/{character}", drawings) for character, drawings in sorted(own.items())]
    everything = np.array(characters)  # (characters, 20, 784)
    for_training = DRAWINGS - FOR_TESTING
    numbers = np.arange(len(characters), dtype=np.int64)
    return Decoded(
        everything[:, :for_training].reshape(-1, SMALL_SIDE**2),
        numbers.repeat(for_training),
        everything[:, for_training:].reshape(-1, SMALL_SIDE**2),
        numbers.repeat(FOR_TESTING),
        tuple(groups),
    )


def _read(archive: Path, report: Report) -> Alphabets:
    found: Alphabets = defaultdict(lambda: defaultdict(dict))
    for name, content in zip_files(archive, ".png", LIMIT, MEMBERS, report):
        place = PATH.fullmatch(name)
        if not place:
            raise Unusable(f"{name!r} in it is no drawing of a character of an alphabet")
        drawings = found[place["alphabet"]][place["character"]]
        drawings[int(place["drawing"])] = _drawing(name, content)
    if not found:
        raise Unusable("there is no drawing in it")
    return found


def _drawing(name: str, content: bytes) -> NDArray[np.uint8]:
    """A drawing's share of ink in each of 28 × 28 pixels, 255 for all, ``(784,)``."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (SIDE, SIDE) or image.mode != "1":  # before anything is unpacked
                raise Unusable(f"{name!r} in it has not {SIDE} × {SIDE} black or white pixels")
            grey = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unusable(f"{name!r} in it is no PNG image, or a damaged one") from error
    return _smaller(grey == 0)


def _smaller(ink: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The share of ink under each of 28 × 28 pixels, 255 for all, ``(784,)``: whole numbers make it exact."""
    covered = (_quarters() @ ink @ _quarters().T).astype(np.int64)  # of 15 × 15
    return ((covered * 255 + 112) // 225).astype(np.uint8).reshape(-1)


@cache
def _quarters() -> NDArray[np.float32]:
    """How many quarters of each of 105 pixels lie under each of 28, which cover 15 quarters each."""
    quarters = np.zeros((SMALL_SIDE, SIDE), np.float32)
    np.add.at(quarters, (np.arange(4 * SIDE) // 15, np.arange(4 * SIDE) // 4), 1)
    return quarters


def _in_order(character: str, drawings: Drawings) -> NDArray[np.uint8]:
    if sorted(drawings) != list(range(1, DRAWINGS + 1)):
        raise Unusable(f"{character} in it has {len(drawings)} drawings instead of those numbered 1 to {DRAWINGS}")
    return np.array([drawings[number] for number in sorted(drawings)])


MIRRORS = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python",
    "https://github.com/brendenlake/omniglot/raw/master/python",
)

OMNIGLOT = ArchivedImages(
    "omniglot",
    "handwritten characters of 28 × 28 pixels: 1623 of 50 alphabets, 15 drawings for training and 5 for testing (Lake)",
    (
        # The SHA-256 are TensorFlow Datasets', whose list has those of the small archives too, which we have verified.
        DataFile(
            "images_background.zip",
            9464212,
            "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
            archive=True,
        ),
        DataFile(
            "images_evaluation.zip",
            6462886,
            "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
            archive=True,
        ),
    ),
    MIRRORS,
    decode,
    SHAPE,
    1623,
    1623 * DRAWINGS,
)

OMNIGLOT_SMALL = ArchivedImages(
    "omniglot-small",
    "the 8 alphabets, 242 characters, of Omniglot's two small sets of five; Greek and Latin are in both, and here once",
    (
        DataFile(
            "images_background_small1.zip",
            1319022,
            "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            archive=True,
        ),
        DataFile(
            "images_background_small2.zip",
            1580917,
            "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
            archive=True,
        ),
    ),
    MIRRORS,
    decode,
    SHAPE,
    242,
    242 * DRAWINGS,
)
