"""A user's own arrays, checked and made into a stream."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages
from metareplay.errors import BadInput
from metareplay.streams.scenarios import with_classes_of_labels
from metareplay.streams.stream import Images, Stream, Task

NAMES = ("x_train", "y_train", "x_test", "y_test")
"""What a task consists of."""
MOST_CLASSES = 1_000_000


def stream(
    name: str,
    tasks: Sequence[Sequence[Any] | Mapping[str, Any]],
    classes: int | None = None,
    shape: tuple[int, ...] | None = None,
    scenarios: Sequence[str] | None = None,
    descriptions: Sequence[str] | None = None,
) -> Stream:
    """Make a stream of arrays: see ``Stream.from_arrays``."""
    if len(tasks) == 0:
        raise BadInput(f"{name} has no tasks; it needs at least one: ({', '.join(NAMES)})")
    words = [f"task {number}" for number in range(len(tasks))] if descriptions is None else list(map(str, descriptions))
    if len(words) != len(tasks):
        raise BadInput(f"{name} has {len(tasks)} tasks, but {len(words)} descriptions")
    bases = _Bases(shape)
    made = []
    for number, task in enumerate(tasks):
        where = f"task {number} of {name}"
        x_train, y_train, x_test, y_test = _parts(where, task)
        train = _images(where, "train", x_train, y_train, bases)
        made.append(Task(words[number], train, _images(where, "test", x_test, y_test, bases)))
    there = 1 + max(int(images.labels.max()) for task in made for images in (task.train, task.test))
    whole = Stream(
        name,
        tuple(made),
        classes=there if classes is None else classes,
        settings={"tasks": len(made)},
        data_sha256=_sha256(made),
    )
    whole = with_classes_of_labels(whole)
    return whole if scenarios is None else replace(whole, scenarios=tuple(scenarios))


def _parts(where: str, task: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
    if isinstance(task, Mapping):
        if set(task) != set(NAMES):
            raise BadInput(f"{where} has {', '.join(map(str, task)) or 'nothing'}, but must have {', '.join(NAMES)}")
        return [task[name] for name in NAMES]
    if len(task) != len(NAMES):
        raise BadInput(f"{where} has {len(task)} parts, but must have four: ({', '.join(NAMES)})")
    return task


def _images(where: str, side: str, x: Any, y: Any, bases: _Bases) -> Images:
    base = bases.of(f"x_{side} of {where}", x)
    labels = _labels(f"y_{side} of {where}", y)
    if len(labels) != len(base):
        raise BadInput(f"{where} has {len(base)} examples in x_{side}, but {len(labels)} labels in y_{side}")
    return Images(base, labels)


class _Bases:
    """The inputs of all tasks: an array that several of them share is checked and kept once."""

    def __init__(self, shape: tuple[int, ...] | None) -> None:
        self.shape = shape
        self.first: tuple[str, BaseImages] | None = None
        self.kept: dict[int, tuple[Any, BaseImages]] = {}

    def of(self, what: str, x: Any) -> BaseImages:
        if id(x) not in self.kept:  # the array is held too, as another one could be given its id
            self.kept[id(x)] = x, self._base(what, x)
        base = self.kept[id(x)][1]
        first_what, first = self.first = self.first or (what, base)
        if base.width != first.width:
            raise BadInput(f"{what} has {base.width} inputs, but {first_what} has {first.width}: they must be as many")
        return base

    def _base(self, what: str, x: Any) -> BaseImages:
        array = _numbers(what, x)
        if array.ndim < 2 or array.size == 0:
            raise BadInput(f"{what} has shape {array.shape}, but must be (examples, inputs …), and not empty")
        shape = self.shape or (array.shape[1:] if array.ndim > 2 else None)
        width = math.prod(array.shape[1:])
        if shape is not None and math.prod(shape) != width:
            raise BadInput(f"{what} has {width} inputs, but the shape {tuple(shape)} has {math.prod(shape)}")
        pixels = array.reshape(len(array), width)
        if pixels.dtype != np.uint8:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is told below
                pixels = pixels.astype(np.float32, copy=False)
            # Both ends show NaN and infinity, without an array of truth values in between.
            if not (math.isfinite(pixels.min()) and math.isfinite(pixels.max())):
                row, column = np.argwhere(~np.isfinite(pixels))[0]
                raise BadInput(
                    f"{what} has {pixels[row, column]} in example {row}, input {column}, but all must be finite numbers"
                )
        return BaseImages(pixels, shape=None if shape is None else tuple(shape))


def _numbers(what: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise BadInput(f"{what} is no array: its rows have different lengths") from None
    if array.dtype.kind not in "buif":
        raise BadInput(f"{what} is an array of {array.dtype}, but must be of numbers")
    return array


def _labels(what: str, y: Any) -> NDArray[np.int64]:
    array = _numbers(what, y)
    if array.ndim != 1:
        raise BadInput(f"{what} has shape {array.shape}, but must be (examples,): one class for each")
    if array.dtype.kind not in "iu":
        raise BadInput(f"{what} is of {array.dtype}, but labels must be whole numbers, from 0: y.astype(int)")
    largest = array.max(initial=0)
    if largest >= MOST_CLASSES:
        raise BadInput(
            f"{what} has the label {largest}, but labels number the classes, of which there may be {MOST_CLASSES}"
        )
    return array.astype(np.int64, copy=False)


def _sha256(tasks: Sequence[Task]) -> str:
    """SHA-256 over what the tasks hold; inputs that are shared are gone through once."""
    digests: dict[int, bytes] = {}
    whole = hashlib.sha256()
    for task in tasks:
        for images in (task.train, task.test):
            base = images.base
            if id(base) not in digests:
                digest = hashlib.sha256(f"{base.pixels.dtype} {base.pixels.shape} {base.shape}".encode())
                digest.update(base.pixels.data)
                digests[id(base)] = digest.digest()
            whole.update(digests[id(base)])
            whole.update(np.ascontiguousarray(images.labels).data)
    return whole.hexdigest()
