"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): handwritten characters of many alphabets, from its archives.

An archive holds a drawing of a character as ``<archive>/<Alphabet>/<character01>/<0001_01>.png``: 105 × 105 pixels,
ink black. Twenty people have drawn each character. Here ink is 1 and paper 0, as in MNIST, and a pixel of the 28 × 28
is the share of ink in the square of 3.75 × 3.75 pixels that it covers, exactly (a box filter). Drawings 1 to 15 of
each character are for training, 16 to 20 for testing: they are other people's.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.images import Decoded
from metareplay.errors import Refused

DRAWINGS, FOR_TESTING = 20, 5
SIDE, SMALL_SIDE = 105, 28
SHAPE = (SMALL_SIDE, SMALL_SIDE)
PATH = re.compile(r"[^/]+/(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawing>\d+)\.png")

Drawings = dict[int, NDArray[np.uint8]]  # a character's, by their number
Alphabets = dict[str, dict[str, Drawings]]  # by alphabet and character


def decode(contents: Sequence[NDArray[np.uint8]]) -> Decoded:
    """All drawings of some archives; a character is a class, an alphabet a group of classes.

    Alphabets come archive by archive, in each by name; so do characters. One that is in several archives counts once.
    """
    alphabets: Alphabets = {}
    for archive in contents:
        alphabets |= {name: own for name, own in sorted(_read(archive).items()) if name not in alphabets}
    groups: list[tuple[str, tuple[int, ...]]] = []
    characters: list[NDArray[np.uint8]] = []
    for name, own in alphabets.items():
        groups.append((name.replace("_", " "), tuple(range(len(characters), len(characters) + len(own)))))
        for character, drawings in sorted(own.items()):
            if sorted(drawings) != list(range(1, DRAWINGS + 1)):
                raise Refused(f"{name}/{character} in it has {len(drawings)} drawings instead of 1 to {DRAWINGS}")
            characters.append(np.array([drawings[number] for number in sorted(drawings)]))
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


def _read(archive: NDArray[np.uint8]) -> Alphabets:
    found: Alphabets = defaultdict(lambda: defaultdict(dict))
    try:
        with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
            for name in packed.namelist():
                if name.endswith(".png"):
                    place = PATH.fullmatch(name)
                    if not place:
                        raise Refused(f"{name!r} in it is no drawing of a character of an alphabet")
                    drawings = found[place["alphabet"]][place["character"]]
                    drawings[int(place["drawing"])] = _drawing(name, packed.read(name))
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise Refused("it is damaged, truncated, or no .zip archive") from error
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
