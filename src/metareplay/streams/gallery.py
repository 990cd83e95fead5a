"""Galleries: what a stream looks like, a row of example images for each task."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metareplay.data.images import Images
from metareplay.errors import BadInput, RunFailed, failing
from metareplay.files import write_atomically
from metareplay.streams.stream import Stream

COLUMNS, MOST_ROWS = 10, 20
SIDE = 32  # pixels that an image's side has at least in the file: a small one's own pixels are enlarged
GAP, MARGIN = 2, 6


def rows(stream: Stream, columns: int = COLUMNS, most: int = MOST_ROWS) -> list[tuple[str, NDArray[np.uint8]]]:
    """For each task ``1: 45.00°``, and images ``(columns, height, width, 3)`` uint8, class by class; or BadInput."""
    shape = stream.shape
    if len(shape) == 1 or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise BadInput(f"{stream.name} cannot be drawn: its examples form no images of one or three colours")
    step = -(-len(stream.tasks) // most)
    return [
        (f"{number + 1}: {stream.tasks[number].description}", _drawn(stream.tasks[number].train, shape, columns))
        for number in range(0, len(stream.tasks), step)
    ]


def _drawn(images: Images, shape: tuple[int, ...], columns: int) -> NDArray[np.uint8]:
    values = images.inputs(_in_turn(images.labels, columns)).reshape(-1, *shape)
    grey = np.clip(values * 255, 0, 255).astype(np.uint8)
    colours = grey[:, None] if grey.ndim == 3 else grey
    return np.repeat(colours, 4 - len(colours[0]), 1)[:, :3].transpose(0, 2, 3, 1)


def _in_turn(labels: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """The first example of each class, then the second of each, and so on."""
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    longest = max(map(len, by_class))
    turns = [own[turn] for turn in range(min(columns, longest)) for own in by_class if turn < len(own)]
    return np.array(turns[:columns])


def picture(stream: Stream) -> Image.Image:
    """The gallery as one image: a row for each task, its description at the left."""
    found = rows(stream)
    height, width = found[0][1].shape[1:3]
    scale = -(-SIDE // min(height, width))
    across, down = width * scale + GAP, height * scale + GAP
    font = ImageFont.load_default(13)
    left = 3 * MARGIN + int(max(font.getlength(description) for description, _ in found))
    sheet = Image.new("RGB", (left + COLUMNS * across + MARGIN, len(found) * down + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (description, images) in enumerate(found):
        top = MARGIN + row * down
        draw.text((MARGIN, top + down / 2), description, "black", font, "lm")
        for column, pixels in enumerate(images):
            enlarged = Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))
            sheet.paste(enlarged, (left + column * across, top))
    return sheet


def save_picture(stream: Stream, path: Path) -> None:
    """Write the gallery as a PNG file: BadInput if its name does not end with ``.png`` or there is no such folder."""
    if path.suffix.lower() != ".png":
        raise BadInput(f"--output is {path}, but a gallery is a PNG image: give it a name that ends with .png")
    if not path.parent.is_dir():
        raise BadInput(f"--output is {path}, but there is no folder {path.parent}")
    content = io.BytesIO()
    picture(stream).quantize(64).save(content, "PNG", optimize=True)
    with failing(RunFailed, f"{path} cannot be written"):
        write_atomically(path, content.getvalue())
