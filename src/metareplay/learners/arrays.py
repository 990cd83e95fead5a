"""Arrays as compiled code takes them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.errors import BadInput
from metareplay.learners import kernels
from metareplay.learners.base import Rows
from metareplay.streams.stream import Images


def aligned(size: int, behind: int = 0, make: Any = np.zeros) -> NDArray[np.float32]:
    """Zeros, or what `np.empty` has, that begin at a cache line, and room ``behind`` them that may be read."""
    lanes = kernels.LINE // 4
    room: NDArray[np.float32] = make(size + lanes + behind, np.float32)
    begin = -(room.ctypes.data // 4) % lanes
    return room[begin : begin + size]


def compact(array: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The same numbers as the kernels are compiled for: those of another type or layout would be compiled anew."""
    if type(array) is np.ndarray and array.dtype is dtype and array.flags.carray:
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
    """Inputs of large groups of slots, sorted by input, from the second time on that the same ones are asked for.

    Attributes
    ----------
    slots
        Which they were read from, once they are sorted: whoever writes one says so by ``forget``.
    """

    def __init__(self) -> None:
        self.slots: NDArray[np.bool_] | None = None
        self._groups: list[bytes] | None = None
        self._lists: list[tuple[NDArray[Any], ...]] = []

    def forget(self, slots: Any) -> None:
        """Sort again if one of ``slots`` is among those that were sorted."""
        if self.slots is not None and np.any(self.slots[slots]):
            self._groups = None

    def of(self, groups: Sequence[Rows], table: tuple[NDArray[Any], ...], inputs: int) -> Sequence[Any]:
        """For each group what `kernels.sort_inputs` makes of it; nothing the first time."""
        large = [len(group) >= kernels.BLOCK for group in groups]
        asked = [group.tobytes() for group in compress(groups, large)]
        if asked != self._groups:
            self._groups, self.slots, self._lists = asked, None, [()] * len(groups)
        elif self.slots is None:
            self.slots = np.zeros(len(table[0]), bool)
            for place, group in compress(enumerate(groups), large):
                self.slots[group] = True
                entries = int(table[0][group, kernels.COUNT].sum())
                ends = np.zeros((-(-len(group) // kernels.MANY), inputs), np.int64)
                self._lists[place] = ends, np.empty(entries, np.uint8), np.empty(entries, np.float32)
                kernels.sort_inputs(*table, group, *self._lists[place])
        return self._lists
