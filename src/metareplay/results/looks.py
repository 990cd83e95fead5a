"""How each method looks in every figure: colour, shape and dashes, the same everywhere.

The colours are after Paul Tol's schemes for colour-blind readers, a hue for each family of methods, each at least three
times as light or dark as a white and as a dark page. No method is told by colour alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """Colour (hexadecimal), shape (of a Vega mark) and dashes (lengths of line and gap, in pixels)."""

    colour: str
    shape: str
    dashes: tuple[int, ...]


LOOKS = {
    "online": Look("#767676", "circle", (2, 3)),
    "taskinput": Look("#999933", "triangle-left", (1, 0)),
    "independent": Look("#8a6d00", "triangle-right", (6, 3)),
    "ewc": Look("#aa4499", "diamond", (8, 3, 2, 3)),
    "gem": Look("#228833", "square", (1, 0)),
    "eralg4": Look("#0077bb", "triangle-up", (1, 0)),
    "eralg5": Look("#4e9bd6", "triangle-down", (6, 3)),
    "meralg1": Look("#cc3311", "circle", (1, 0)),
    "meralg6": Look("#ee6677", "cross", (6, 3)),
    "meralg7": Look("#e0701b", "diamond", (2, 2)),
}
"""Those of the methods that come with the package."""

COLOURS = ("#009988", "#7b68c8", "#aa7755", "#b05080", "#5f8a5f")
SHAPES = ("square", "cross", "diamond", "triangle-up", "triangle-down", "triangle-left", "triangle-right", "circle")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (12, 3))


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The look of each method, in the order given.

    A user's own method has its colour from its name alone, so that it is the same in every report; its shape and its
    dashes too, unless another one beside it has the very same look.
    """
    found: dict[str, Look] = {}
    for method in sorted(set(methods)):
        found[method] = LOOKS.get(method) or _own(method, set(found.values()))
    return {method: found[method] for method in methods}


def _own(method: str, taken: set[Look]) -> Look:
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:8], "big")
    number, colour = divmod(number, len(COLOURS))
    number, dashes = divmod(number, len(DASHES))
    for turn in range(len(SHAPES)):
        shape = SHAPES[(number + turn) % len(SHAPES)]
        look = Look(COLOURS[colour], shape, DASHES[(dashes + turn) % len(DASHES)])
        if look not in taken:
            break
    return look
