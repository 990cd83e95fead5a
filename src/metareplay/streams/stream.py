"""Streams of tasks, which share images; scenarios are van de Ven and Tolias's (2019; 2022)."""

import hashlib
import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages, Images
from metareplay.errors import BadInput, plain
from metareplay.settings import brief, nearest

DOMAIN, TASK, CLASS = SCENARIOS = ("domain-incremental", "task-incremental", "class-incremental")
PARTS = ("x_train", "y_train", "x_test", "y_test")  # what a task of arrays consists of
MOST_CLASSES = 1_000_000


@dataclass(frozen=True, eq=False)
class Task:
    """One task of a stream: what to learn, what to be tested on, and what makes it this task.

    Parameters
    ----------
    description
        Such as ``45.00°`` or ``classes 0 to 1``.
    train, test
        Its examples.
    classes
        The classes that may occur in it, ascending; None for all of the stream's.

    Examples
    --------
    >>> task = stream.tasks[1]
    >>> task.description, len(task.test)
    ('...°', 500)
    """

    description: str
    train: Images
    test: Images
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "description", plain(self.description))


class Tasks(Sequence[Task]):
    """So many tasks, each made by its number when it is asked for: a thousand take no more memory than one."""

    def __init__(self, count: int, make: Callable[[int], Task]) -> None:
        self._count, self._make = count, lru_cache(maxsize=2)(make)  # one that is learned is asked for again and again

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        which = range(self._count)[number]
        return self._make(which) if isinstance(which, int) else [self._make(each) for each in which]


@dataclass(frozen=True, eq=False)
class Stream:
    """Tasks in their order.

    Parameters
    ----------
    name
        The benchmark's name, such as ``mnist-rotations``.
    tasks
        At least one; all with the same number of inputs. A tuple, or ``Tasks``.
    classes
        How many classes the tasks have together; labels run from 0 to ``classes - 1``.
    settings
        What the stream was made with (tasks, angles, stream seed …): plain values, part of a run's identity.
    data_sha256
        SHA-256 of the base data, as hexadecimal: part of a run's identity too.
    samples_per_task
        How many training examples of each task a run sees unless it says otherwise; None for all.
    scenarios
        What a run may choose from, its default first: one or more of ``SCENARIOS``.

    Examples
    --------
    >>> stream
    Stream('digits-rotations': 2 tasks of 50 examples, 10 classes, shape (8, 8), domain-incremental)
    """

    name: str
    tasks: Sequence[Task]
    classes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    samples_per_task: int | None = None
    scenarios: tuple[str, ...] = (DOMAIN,)

    def __repr__(self) -> str:
        learned = self.samples_per_task or len(self.tasks[0].train)
        count = f"{len(self.tasks)} tasks of {learned} examples, {self.classes} classes, shape {self.shape}"
        return f"Stream({self.name!r}: {count}, {' or '.join(self.scenarios)})"

    def _repr_png_(self) -> bytes | None:
        """For a notebook: some images of each task; None where the examples form none."""
        file = io.BytesIO()
        try:
            import_module("metareplay.streams.gallery").picture(self).save(file, "PNG")  # which imports this
        except BadInput:
            return None
        return file.getvalue()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", plain(self.name))
        if not self.tasks:
            raise BadInput(f"stream {self.name!r} has no tasks; it needs at least one")
        unknown = [scenario for scenario in self.scenarios if scenario not in SCENARIOS]
        if unknown or not self.scenarios:
            given, hint = ", ".join(map(repr, self.scenarios)) or "none", nearest(str(*unknown[:1]), SCENARIOS)
            must = f"there are {', '.join(SCENARIOS)}, and it needs at least one"
            raise BadInput(f"stream {self.name!r} has the scenarios {given}, but {must}{hint}")
        if not 0 < self.classes <= MOST_CLASSES:
            raise BadInput(f"stream {self.name!r} has {brief(self.classes)} classes, but must have 1 to {MOST_CLASSES}")
        for number, task in enumerate(self.tasks):
            self._check(number, task)

    def _check(self, number: int, task: Task) -> None:
        for side, images in (("train", task.train), ("test", task.test)):
            if images.width != self.inputs:
                what, first = f"x_{side} of task {number} of {self.name}", f"x_train of task 0 of {self.name}"
                raise BadInput(f"{what} has {images.width} inputs, but {first} has {self.inputs}: they must be as many")
        where, sides = f"task {number} of stream {self.name!r}", (task.train.labels, task.test.labels)
        for labels in sides:
            if len(labels) == 0:
                raise BadInput(f"{where} has no training or no test examples")
            low, high = labels.min(), labels.max()
            if low < 0 or high >= self.classes:
                raise BadInput(f"{where} has labels from {low} to {high}, but they must lie in 0 … {self.classes - 1}")
        if task.classes is not None:
            own = np.array(task.classes, np.int64)
            if not len(own) or (np.diff(own) <= 0).any() or own[0] < 0 or own[-1] >= self.classes:
                must = f"they must be ascending and lie in 0 … {self.classes - 1}"
                raise BadInput(f"{where} has the classes {brief(task.classes)}, but {must}")
            if len(foreign := np.setdiff1d(np.concatenate(sides), own)):
                raise BadInput(f"{where} has the label {foreign[0]}, which is not one of its classes")

    @staticmethod
    def from_arrays(
        name: str,
        tasks: Sequence[Sequence[Any] | Mapping[str, Any]],
        *,
        classes: int | None = None,
        shape: tuple[int, ...] | None = None,
        scenarios: Sequence[str] | None = None,
        descriptions: Sequence[str] | None = None,
        data_sha256: str | None = None,
    ) -> "Stream":
        """A stream of arrays of your own.

        BadInput, with the task, if an array is not of numbers, is empty or has another width than the others, inputs
        are NaN or infinite, or labels do not fit.

        Parameters
        ----------
        name
            Its name, in records and reports.
        tasks
            For each task ``(x_train, y_train, x_test, y_test)``, or a dictionary with these names. Inputs are arrays of
            numbers ``(n, …)``: uint8 are grey levels, of which 255 becomes 1.0; all others become float32, as they
            are. Labels are whole numbers ``(n,)``, from 0. Float32 and uint8 arrays are not copied; an array that
            several tasks share is kept once.
        classes
            How many classes there are; None for one more than the largest label, or where most numbers up to that
            never occur (article numbers), for the different ones, in ascending order.
        shape
            How the inputs lie in an image, such as ``(28, 28)`` or ``(channels, rows, columns)``; None for the
            arrays' own shape, which is none for ``(n, inputs)``.
        scenarios
            What a run may choose from, its default first; None for those that fit the labels (``fitting``).
        descriptions
            What makes each task this task; None for ``task 0``, ``task 1`` …
        data_sha256
            Where the arrays come from a file whose hash is known; None for the hash of the arrays.

        Examples
        --------
        >>> x, y = np.eye(4), np.arange(4)
        >>> metareplay.Stream.from_arrays("mine", [(x, y, x, y), (1 - x, y, 1 - x, y)])
        Stream('mine': 2 tasks of 4 examples, 4 classes, shape (4,), ...)
        """
        if len(tasks) == 0:
            raise BadInput(f"{name} has no tasks; it needs at least one: ({', '.join(PARTS)})")
        words = [f"task {n}" for n in range(len(tasks))] if descriptions is None else list(map(str, descriptions))
        if len(words) != len(tasks):
            raise BadInput(f"{name} has {len(tasks)} tasks, but {len(words)} descriptions")
        sides = _sides(name, tasks, shape)
        sha256 = _sha256(sides) if data_sha256 is None else data_sha256
        if classes is None:
            sides, classes = _numbered(sides)
        made, own = [], []
        for text, train, test in zip(words, sides[::2], sides[1::2], strict=True):
            own.append(tuple(np.union1d(train.labels, test.labels).tolist()))
            made.append(Task(text, train, test, own[-1]))
        allowed = fitting(own) if scenarios is None else tuple(scenarios)
        return Stream(name, tuple(made), classes, {"tasks": len(tasks)}, sha256, scenarios=allowed)

    def validation(self, held_out: float | int) -> Self:
        """The same stream with training images held out as its test images, to choose hyper-parameters on.

        They are the same images in every task that shows the same ones, spread evenly over the classes, and depend on
        no random generator. The test images are not used at all.

        Parameters
        ----------
        held_out
            The share of each task's training images, between 0 and 1, or their number. BadInput if that leaves no image
            on one of the two sides.

        Examples
        --------
        >>> metareplay.run(stream.validation(0.2), metareplay.MER(lr=0.03))
        Record(meralg1 on digits-rotations..., seed 0: retained accuracy ... %)
        """
        kind = held_out.item() if isinstance(held_out, np.generic) else held_out
        if isinstance(kind, bool) or not isinstance(kind, int | float) or not kind > 0 or (kind >= 1 and kind % 1):
            raise BadInput(f"held_out is {brief(held_out)}, but must be a share between 0 and 1, or a number of images")

        def held(number: int) -> Task:
            task = self.tasks[number]
            n = len(task.train)
            count = round(kind * n) if kind < 1 else int(kind)
            if not 0 < count < n:
                of = f"{count} of the {n} training images of task {number} of {self.name}"
                raise BadInput(f"held_out is {held_out}, which holds {of} out; at least one must be, and one left")
            out = np.zeros(n, bool)
            out[np.argsort(task.train.labels, kind="stable")] = np.arange(n) * count % n < count
            train, test = (task.train.only(np.flatnonzero(side)) for side in (~out, out))
            return replace(task, train=train, test=test)

        tasks = Tasks(len(self.tasks), held)
        least = min(len(task.train) for task in tasks)
        samples = None if self.samples_per_task is None else min(self.samples_per_task, least)
        return replace(self, tasks=tasks, samples_per_task=samples, settings={**self.settings, "held_out": kind})

    @property
    def inputs(self) -> int:
        """How many inputs an example has."""
        return self.tasks[0].train.width

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example: an image's, or ``(inputs,)`` where they form none."""
        shape = self.tasks[0].train.base.shape
        return shape if shape is not None and math.prod(shape) == self.inputs else (self.inputs,)


def allowed_classes(stream: Stream, scenario: str, met: Collection[int]) -> NDArray[np.bool_] | None:
    """Which classes are scored for each task's examples: what ``Learner.restrict`` takes.

    ``(tasks, classes)``, or None where nothing is restricted. Task-incremental: the classes of the example's own task.
    Class-incremental: those of all tasks in ``met``, the present one too; before the first task nothing is restricted.
    """
    if scenario == DOMAIN:
        return None
    own = np.zeros((len(stream.tasks), stream.classes), bool)
    for number, task in enumerate(stream.tasks):
        own[number, slice(None) if task.classes is None else list(task.classes)] = True
    if scenario == CLASS:
        own[:] = own[sorted(met)].any(0) if met else True
    return None if own.all() else own


def fitting(classes: Sequence[Collection[int]]) -> tuple[str, ...]:
    """The scenarios that make a difference for tasks with these classes; the likeliest first."""
    kinds = {frozenset(own) for own in classes}
    if len(kinds) == 1:
        return (DOMAIN,)
    return (CLASS, TASK) if sum(map(len, classes)) == len(frozenset().union(*kinds)) else SCENARIOS


def _sides(name: str, tasks: Sequence[Any], shape: tuple[int, ...] | None) -> list[Images]:
    """The training and test examples of each task, in turn; an array that several share is checked and kept once."""
    bases: dict[int, tuple[Any, BaseImages]] = {}  # holds the arrays too, as others could be given their ids
    sides: list[Images] = []
    for number, task in enumerate(tasks):
        where = f"task {number} of {name}"
        x_train, y_train, x_test, y_test = _parts(where, task)
        for side, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
            if id(x) not in bases:
                bases[id(x)] = x, _base(f"x_{side} of {where}", x, shape)
            base, labels = bases[id(x)][1], _labels(f"y_{side} of {where}", y)
            if len(labels) != len(base):
                raise BadInput(f"{where} has {len(base)} examples in x_{side}, but {len(labels)} labels in y_{side}")
            sides.append(Images(base, labels))
    return sides


def _numbered(sides: list[Images]) -> tuple[list[Images], int]:
    """One class for each number up to the largest label, or, where most of those never occur, for each label."""
    largest = max(int(images.labels.max()) for images in sides)
    known = np.unique(np.concatenate([np.unique(images.labels) for images in sides]))
    if known[0] < 0 or largest < 2 * len(known):
        return sides, 1 + largest
    return [replace(images, labels=np.searchsorted(known, images.labels)) for images in sides], len(known)


def _parts(where: str, task: Sequence[Any] | Mapping[str, Any]) -> Sequence[Any]:
    if isinstance(task, Mapping):
        if set(task) != set(PARTS):
            raise BadInput(f"{where} has {', '.join(map(str, task)) or 'nothing'}, but must have {', '.join(PARTS)}")
        return [task[name] for name in PARTS]
    if len(task) != len(PARTS):
        raise BadInput(f"{where} has {len(task)} parts, but must have four: ({', '.join(PARTS)})")
    return task


def _base(what: str, x: Any, shape: tuple[int, ...] | None) -> BaseImages:
    array = _numbers(what, x)
    if array.ndim < 2 or array.size == 0:
        raise BadInput(f"{what} has shape {array.shape}, but must be (examples, inputs …), and not empty")
    shape = shape or (array.shape[1:] if array.ndim > 2 else None)
    width = math.prod(array.shape[1:])
    if shape is not None and math.prod(shape) != width:
        raise BadInput(f"{what} has {width} inputs, but the shape {tuple(shape)} has {math.prod(shape)}")
    pixels = array.reshape(len(array), width)
    if pixels.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            pixels = pixels.astype(np.float32, copy=False)
        # Both ends show NaN and infinity, without an array of truth values in between.
        if not (math.isfinite(pixels.min()) and math.isfinite(pixels.max())):
            row, column = np.argwhere(~np.isfinite(pixels))[0]
            value = f"{pixels[row, column]} in example {row}, input {column}"
            raise BadInput(f"{what} has {value}, but all must be finite numbers")
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
    if array.dtype.kind == "u" and array.max(initial=0) > np.iinfo(np.int64).max:
        raise BadInput(f"{what} has the label {array.max()}, which is too large for a whole number of 64 bits")
    return array.astype(np.int64, copy=False)


def _sha256(sides: Sequence[Images]) -> str:
    """SHA-256 over examples and labels; inputs that are shared are gone through once."""
    digests: dict[int, bytes] = {}
    whole = hashlib.sha256()
    for images in sides:
        base = images.base
        if id(base) not in digests:
            digest = hashlib.sha256(f"{base.pixels.dtype} {base.pixels.shape} {base.shape}".encode())
            digest.update(base.pixels.data)
            digests[id(base)] = digest.digest()
        whole.update(digests[id(base)])
        whole.update(np.ascontiguousarray(images.labels).data)
    return whole.hexdigest()
