"""The images that everything is measured on."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data import catalogue as sources
from metareplay.data.images import BaseImages, Images, ImageSet
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.stream import Stream

SIZE = 28
TEST_IMAGES = 10_000


def images(folder: Path | None) -> ImageSet:
    """MNIST from ``folder``, or else from the cache, or else a stand-in as large and as sparse."""
    if folder:
        with tempfile.TemporaryDirectory() as cache:
            return sources.MNIST.get(Path(cache), folder, progress=False)
    if sources.MNIST.present(sources.data_folder() / "mnist"):
        return sources.get("mnist", progress=False)
    return _enlarged(sources.get("digits"))


def rotations(base: ImageSet, tasks: int = 20) -> Stream:
    return benchmarks.find("mnist-rotations").stream(tasks=tasks, images=base)


def description(base: ImageSet) -> str:
    """What was measured on, and how much of it is not zero."""
    pixels = base.test.base.pixels
    return f"{base.name}, {100 * np.count_nonzero(pixels) / pixels.size:.0f} % of inputs not zero"


def _enlarged(digits: ImageSet) -> ImageSet:
    test = np.resize(np.arange(len(digits.test)), TEST_IMAGES)
    return replace(
        digits,
        name="digits enlarged to 28 × 28 (MNIST is not here: `metareplay data get mnist`, or --mnist FOLDER)",
        train=replace(digits.train, base=_as_mnist(digits.train.base.pixels)),
        test=Images(_as_mnist(digits.test.base.pixels[test]), digits.test.labels[test]),
    )


def _as_mnist(pixels: NDArray[np.uint8]) -> BaseImages:
    """Digits of 8 × 8 pixels, 0 … 16, as MNIST shows them: 20 × 20 in the middle of 28 × 28, strokes as thin."""
    enlarged = np.zeros((len(pixels), SIZE, SIZE), np.uint8)
    for place, small in zip(enlarged, pixels.reshape(-1, 8, 8), strict=True):
        place[4:24, 4:24] = Image.fromarray(small * np.uint8(15)).resize((20, 20), Image.Resampling.BILINEAR)
    enlarged[enlarged < 60] = 0
    return BaseImages(enlarged.reshape(-1, SIZE * SIZE), shape=(SIZE, SIZE))
