"""Images: grey levels in one byte each, shared by all tasks that are made from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput

STRIP = 112
"""Columns of inputs whose weights, some 100 units wide, stay in the near caches while images pass over them."""


class BaseImages:
    """A data set's inputs, shared by all tasks that are made from it.

    Parameters
    ----------
    pixels
        ``(n, d)`` uint8 grey levels, or float32 inputs taken as they are.
    white
        The grey level that becomes input 1.0 (uint8 only).
    shape
        How the ``d`` inputs lie in an image, for those that draw it; None when they form no image.
    centred
        Whether grey levels become −1 … 1, (x − .5) / .5, in place of 0 … 1 (uint8 only).

    Examples
    --------
    >>> pixels = np.random.default_rng(0).integers(0, 256, (20, 64), np.uint8)
    >>> base = metareplay.BaseImages(pixels, shape=(8, 8))
    >>> len(base), base.width
    (20, 64)
    """

    def __init__(
        self, pixels: NDArray[Any], white: int = 255, shape: tuple[int, ...] | None = None, centred: bool = False
    ) -> None:
        if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.float32):
            must = "must be uint8 or float32 with one row per image"
            raise BadInput(f"base images are {pixels.dtype} with shape {pixels.shape}, but {must}")
        self.pixels: NDArray[Any] = np.ascontiguousarray(pixels)
        self.shape = shape
        # Dividing, not multiplying by 1/white: the last bit is then what PyTorch's `x / 255.0` gives.
        levels = (np.arange(256) / np.float32(white)).astype(np.float32)
        self.white, self.levels = white, (levels - np.float32(0.5)) / np.float32(0.5) if centred else levels

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def inputs(self, rows: NDArray[np.integer[Any]], index_map: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        """The inputs of some images, ``(len(rows), width)`` float32; input i is pixel ``index_map[i]``, or 0 for -1."""
        if index_map is None:
            taken = self.pixels[rows]
            return np.asarray(self.levels[taken] if taken.dtype == np.uint8 else taken)
        black, place, taken = index_map < 0, np.maximum(index_map, 0), self.pixels.take(rows, 0)
        if taken.dtype == np.uint8:
            inputs = np.empty((len(rows), len(place)), np.float32)
            _lay_out()(np.asarray(taken), place, self.levels, inputs)
        else:
            inputs = taken.take(place, 1)
        if black.any():
            inputs[:, black] = 0
        return inputs

    @cached_property
    def strips(self) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float32]]:
        """All columns ``in_strips`` of 112: made once, at the first evaluation, and shared by every task."""
        return self.in_strips(np.arange(self.width), range(STRIP, self.width, STRIP))

    def in_strips(
        self, order: NDArray[np.int64], cuts: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float32]]:
        """All inputs that are not zero: ``starts (strips, n + 1)``, ``columns``, ``values``.

        ``columns[starts[s, i] : starts[s, i + 1]]`` are those of image i that lie in the s-th strip, which are the
        columns ``order[cuts[s - 1] : cuts[s]]``.
        """
        there = self.pixels != 0 if self.pixels.dtype != np.uint8 else (self.levels != 0)[self.pixels]
        starts = np.zeros((len(cuts) + 1, len(self) + 1), np.int64)
        columns, values, end = [], [], 0
        for start, strip in zip(starts, map(np.sort, np.split(order, cuts)), strict=True):
            image, place = there[:, strip].nonzero()
            start[:] = end + np.searchsorted(image, np.arange(len(self) + 1))
            end += len(image)
            columns.append(strip[place].astype(np.uint16 if self.width <= 65536 else np.int32))
            pixels = self.pixels[image, columns[-1]]
            values.append(self.levels[pixels] if pixels.dtype == np.uint8 else pixels)
        return starts, np.concatenate(columns), np.concatenate(values)


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled examples: rows of the base images, read through a map of indices.

    Parameters
    ----------
    base
        The images that this task and others share.
    labels
        ``(n,)`` int64 classes, one per example.
    index_map
        ``(inputs,)`` integers: input ``i`` is base pixel ``index_map[i]``, or black where that is -1.
        None for the base images as they are.
    rows
        ``(n,)`` which base images these are; None for all of them, in order.

    Examples
    --------
    >>> test = stream.tasks[1].test
    >>> test.inputs(np.arange(3)).shape, len(test.labels) == len(test)
    ((3, 64), True)
    """

    base: BaseImages
    labels: NDArray[np.int64]
    index_map: NDArray[np.int32] | None = None
    rows: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        return f"Images({len(self)} of {self.width} inputs)"

    def __post_init__(self) -> None:
        n = len(self.base) if self.rows is None else len(self.rows)
        if self.labels.shape != (n,):
            raise BadInput(f"{self.labels.shape} labels were given for {n} images; there must be one for each")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def width(self) -> int:
        """How many inputs an example has."""
        return self.base.width if self.index_map is None else len(self.index_map)

    def inputs(self, which: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The inputs of examples ``which``: ``(len(which), width)`` float32."""
        return self.base.inputs(which if self.rows is None else self.rows[which], self.index_map)

    def only(self, which: NDArray[np.integer[Any]]) -> Self:
        """The examples ``which`` alone; no image is copied."""
        rows = np.asarray(which, np.int64) if self.rows is None else self.rows[which]
        return replace(self, labels=self.labels[which], rows=rows)


@cache
def _lay_out() -> Any:
    """Of each row of grey levels input j is that at ``place[j]``: NumPy would move them twice."""
    from metareplay.compiled import compiled  # Numba, when images are read: commands that compute nothing need it not

    @compiled
    def lay_out(pixels: Any, place: Any, levels: Any, inputs: Any) -> None:
        for i in range(len(pixels)):
            for j in range(len(place)):
                inputs[i, j] = levels[pixels[i, place[j]]]

    return lay_out


class Decoded(NamedTuple):
    """What files hold: ``(n, d)`` uint8 images and ``(n,)`` labels; groups as ``ImageSet`` has them."""

    train: NDArray[np.uint8]
    train_labels: NDArray[Any]
    test: NDArray[np.uint8]
    test_labels: NDArray[Any]
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, for training and for testing, with labels 0 … ``classes - 1``.

    ``sha256`` is over all of it, as hexadecimal: part of a run's identity. ``groups`` are classes that belong together,
    each with its name: Omniglot's alphabets. Their classes are consecutive and cover all of the set's, in this order.
    """

    name: str
    train: Images
    test: Images
    classes: int
    sha256: str
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
