"""The gallery of a benchmark in the terminal, two pixels in each character."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from metareplay.streams import gallery
from metareplay.streams.stream import Stream

WIDEST = 14
"""Columns of an image; it is made smaller to fit."""
MOST_ROWS = 10
SHADES = " ░▒▓█"


def show(stream: Stream) -> None:
    """Print a row of images for each task, as many as there is room for."""
    console = Console(highlight=False)
    room = max(1, (console.width + 1) // (WIDEST + 1))
    for description, images in gallery.rows(stream, room, MOST_ROWS):
        console.print(Text(description, "bold"))
        across = np.concatenate([_framed(_smaller(image)) for image in images], 1)[:, 1:]
        for upper, lower in zip(across[::2], across[1::2], strict=True):
            console.print(_line(upper, lower, console.color_system is not None))


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean of each square of pixels, so that it is at most so wide, with an even number of rows."""
    factor = -(-image.shape[1] // WIDEST)
    high, wide = image.shape[0] // factor // 2 * 2, image.shape[1] // factor
    squares = image[: high * factor, : wide * factor].reshape(high, factor, wide, factor, 3)
    means: NDArray[np.float64] = squares.mean((1, 3))
    return means


def _framed(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """With an empty column before it, which no colour is."""
    return np.pad(image, ((0, 0), (1, 0), (0, 0)), constant_values=-1)


def _line(upper: NDArray[np.float64], lower: NDArray[np.float64], colours: bool) -> Text:
    line = Text()
    for above, below in zip(upper, lower, strict=True):
        if above[0] < 0:
            line.append(" ")
        elif colours:
            line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        else:
            line.append(SHADES[round((above.mean() + below.mean()) / 510 * (len(SHADES) - 1))])
    return line
