"""What a learner learns from: a stream of tasks, each a view of base images through a map of indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages
from metareplay.errors import BadInput
from metareplay.streams.scenarios import DOMAIN, SCENARIOS


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
    """

    base: BaseImages
    labels: NDArray[np.int64]
    index_map: NDArray[np.int32] | None = None
    rows: NDArray[np.int64] | None = None

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
        base = self.base.inputs(which if self.rows is None else self.rows[which])
        if self.index_map is None:
            return base
        mapped = base[:, self.index_map]
        mapped[:, self.index_map < 0] = 0
        return mapped


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
    """

    description: str
    train: Images
    test: Images
    classes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """Tasks in their order.

    Parameters
    ----------
    name
        The benchmark's name, such as ``mnist-rotations``.
    tasks
        At least one; all with the same number of inputs.
    classes
        How many classes the tasks have together; labels run from 0 to ``classes - 1``.
    settings
        What the stream was made with (tasks, angles, stream seed …): plain values, part of a run's identity.
    data_sha256
        SHA-256 of the base data, as hexadecimal: part of a run's identity too.
    samples_per_task
        How many training examples of each task a run sees unless it says otherwise; None for all.
    scenarios
        What a run may choose from, its default first: see ``scenarios.SCENARIOS``.
    """

    name: str
    tasks: tuple[Task, ...]
    classes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    samples_per_task: int | None = None
    scenarios: tuple[str, ...] = (DOMAIN,)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise BadInput(f"stream {self.name!r} has no tasks; it needs at least one")
        widths = {images.width for task in self.tasks for images in (task.train, task.test)}
        if len(widths) != 1:
            raise BadInput(f"the tasks of stream {self.name!r} have different numbers of inputs: {sorted(widths)}")
        unknown = [scenario for scenario in self.scenarios if scenario not in SCENARIOS]
        if unknown or not self.scenarios:
            raise BadInput(
                f"stream {self.name!r} has the scenarios {', '.join(map(repr, self.scenarios)) or 'none'}, "
                f"but there are {', '.join(SCENARIOS)}, and it needs at least one"
            )
        for number, task in enumerate(self.tasks):
            self._check(number, task)

    def _check(self, number: int, task: Task) -> None:
        where = f"task {number} of stream {self.name!r}"
        if task.classes is not None:
            own = np.array(task.classes, np.int64)
            if not len(own) or (np.diff(own) <= 0).any() or own[0] < 0 or own[-1] >= self.classes:
                raise BadInput(
                    f"{where} has the classes {task.classes}, but they must be ascending and lie in "
                    f"0 … {self.classes - 1}"
                )
        for images in (task.train, task.test):
            if len(images) == 0:
                raise BadInput(f"{where} has no training or no test examples")
            low, high = int(images.labels.min()), int(images.labels.max())
            if low < 0 or high >= self.classes:
                raise BadInput(f"{where} has labels from {low} to {high}, but they must lie in 0 … {self.classes - 1}")
            if task.classes is not None:
                there = np.flatnonzero(np.bincount(images.labels))
                foreign = np.setdiff1d(there, task.classes)
                if len(foreign):
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
    ) -> Stream:
        """A stream of arrays of your own.

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
            How many classes there are; None for one more than the largest label.
        shape
            How the inputs lie in an image, such as ``(28, 28)`` or ``(channels, rows, columns)``; None for the
            arrays' own shape, which is none for ``(n, inputs)``.
        scenarios
            What a run may choose from, its default first; None for those that fit the labels (``scenarios.fitting``).
        descriptions
            What makes each task this task; None for ``task 0``, ``task 1`` …

        Raises
        ------
        BadInput
            If an array is not of numbers, is empty or has another width than the others, inputs are NaN or infinite,
            or labels do not fit; the message names the task.

        Examples
        --------
        >>> stream = Stream.from_arrays("mine", [(x, y, x_test, y_test), (x + 1, y, x_test + 1, y_test)])
        """
        from metareplay.streams import arrays  # which builds on this module

        return arrays.stream(name, tasks, classes, shape, scenarios, descriptions)

    @property
    def inputs(self) -> int:
        """How many inputs an example has."""
        return self.tasks[0].train.width
