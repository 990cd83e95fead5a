"""Arrays as compiled code takes them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.data.images import BaseImages, Images
from metareplay.errors import BadInput
from metareplay.learners import kernels
from metareplay.learners.base import Rows

STRIP, REST = 56, 24
"""Columns in a strip of sorted inputs; and of how many a row must have values, on the mean, that another strip pays."""


def aligned(size: int, behind: int = 0, make: Any = np.zeros) -> NDArray[np.float32]:
    """Zeros, or what `np.empty` has, that begin at a cache line, and room ``behind`` them that may be read."""
    lanes = kernels.LINE // 4
    room: NDArray[np.float32] = make(size + lanes + behind, np.float32)
    begin = -(room.ctypes.data // 4) % lanes
    return room[begin : begin + size]


def compact(array: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The same numbers as the kernels are compiled for: those of another type or layout would be compiled anew."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:  # unpickled ones have a dtype apart
        return array
    return np.require(array, dtype, ["C", "A", "W"])


def address(array: NDArray[Any]) -> int:
    """Where a writable array begins, in a third of the time that NumPy takes to say it."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # an array is a buffer


def has_room(vector: NDArray[Any], behind: int) -> bool:
    """Whether kernels can read this vector, and so many floats behind it, as it is."""
    whole: Any = vector.base
    plain = type(whole) is np.ndarray and all(a.dtype == np.float32 and a.flags.carray for a in (vector, whole))
    return plain and address(vector) + vector.nbytes + 4 * behind <= address(whole) + whole.nbytes


def in_a_room(rooms: list[NDArray[np.float32]], number: int, length: int) -> NDArray[np.float32]:
    """So many vectors of any values: in a room that nobody holds any more, as fresh pages are slow."""
    for room in rooms:
        if len(room) >= number * length and sys.getrefcount(room.base) <= 2:
            break
    else:
        rooms.insert(0, room := aligned(number * length, make=np.empty))
        del rooms[max(1, 3 // number) :]
    return room[: number * length].reshape(number, length)


def read_as(images: Images, inputs: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The map of images of so many inputs, and the base images that they are; BadInput if there are not such."""
    index_map = np.arange(images.base.width) if images.index_map is None else images.index_map
    rows = np.arange(len(images)) if images.rows is None else images.rows
    for what, numbers, end in (("inputs", index_map, images.base.width), ("images", rows, len(images.base))):
        if len(numbers) and not -1 <= numbers.min() <= numbers.max() < end:
            raise BadInput(f"the images read base {what} up to {numbers.max()}, but there are {end}")
    if len(index_map) != inputs:
        raise BadInput(f"the images have {len(index_map)} inputs, but the network has {inputs}")
    return index_map, rows


class SortedInputs:
    """Inputs of large groups of slots, sorted from the second time on that the same ones are asked for.

    Attributes
    ----------
    slots
        Which they were read from, once they are sorted: whoever writes one says so by ``forget``.
    strips
        For `kernels.backward`: all groups' as ``BaseImages.in_strips`` has them, and which image there each row is.
    lists
        Each group's strips, and its inputs sorted for `kernels.add_sorted_gradients`; None until then.
    """

    def __init__(self, unit_type: Any) -> None:
        self._groups: list[bytes] = []
        self.nothing = (np.zeros((0, 1), np.int64), np.zeros(0, unit_type), np.zeros(0, np.float32), np.arange(0))
        self._forget()

    def _forget(self) -> None:
        self.slots: NDArray[np.bool_] | None = None
        self.strips: tuple[NDArray[Any], ...] = self.nothing
        self.lists: list[Any] = [None] * len(self._groups)

    def forget(self, slots: Any) -> None:
        """Sort again if one of ``slots`` is among those that were sorted."""
        if self.slots is not None and np.any(self.slots[slots]):
            self._forget()

    def of(self, groups: Sequence[Rows], learner: Any) -> tuple[tuple[NDArray[Any], ...], list[Any]]:
        """``strips`` and each group's ``lists``, of a `FusedPerceptron`.

        Not the first one's, which mostly are new examples; nothing of groups that are small.
        """
        if not learner._in_blocks or not 0 < kernels.BLOCK * (len(groups) - 1) <= sum(map(len, groups[1:])):
            return self.nothing, [None] * len(groups)
        others = [learner._slots(group) for group in groups[1:]]
        asked = [group.tobytes() for group in others]
        if asked != self._groups:
            self._groups = asked
            self._forget()
        elif self.slots is None and all(map(len, others)):
            self.slots = np.zeros(learner.slots, bool)
            self.slots[np.concatenate(others)] = True
            dense = [learner.inputs(group) for group in others]
            *strips, places = self.strips = _in_strips(dense)
            parts = np.split(places, np.cumsum([len(group) for group in others])[:-1])
            self.lists = [((*strips, part), _by_input(x)) for part, x in zip(parts, dense, strict=True)]
        return self.strips, [None, *self.lists]


def _in_strips(groups: Sequence[NDArray[np.float32]]) -> tuple[NDArray[Any], ...]:
    """The strips of several groups as those of one, in which each has an image more that is empty."""
    parts = [_most_often_first(x) for x in groups]
    most, end, starts = max(len(part[0]) for part in parts), 0, []
    for start, _, values in parts:
        starts.append(end + np.pad(start, ((0, most - len(start)), (0, 0)), constant_values=len(values)))
        end += len(values)
    columns, values = (np.concatenate(arrays) for arrays in list(zip(*parts, strict=True))[1:])
    number = np.repeat(np.arange(len(groups)), [len(x) for x in groups])
    return np.concatenate(starts, 1), columns, values, np.arange(len(number)) + number


def _most_often_first(x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """Strips of 56 columns, whose weights stay in the nearest cache, and of all that are left when these are few."""
    often = (x != 0).mean(0)
    order = np.argsort(-often, kind="stable")
    cuts = [end for end in range(STRIP, len(order), STRIP) if often[order[end - STRIP :]].sum() > REST]
    return BaseImages(x).in_strips(order, cuts)


def _by_input(x: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
    """What `kernels.add_sorted_gradients` takes: ``ends (blocks, inputs)``, ``who``, and the values."""
    blocks = [x[begin : begin + kernels.MANY].T for begin in range(0, len(x), kernels.MANY)]
    counts = np.array([np.count_nonzero(block, 1) for block in blocks])
    who = np.concatenate([block.nonzero()[1] for block in blocks]).astype(np.uint8)
    return counts.cumsum().reshape(counts.shape), who, np.concatenate([block[block != 0] for block in blocks])
