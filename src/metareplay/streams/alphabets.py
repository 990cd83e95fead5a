"""Alphabets: every task shows the characters of one alphabet; more generally, one group of a data set's classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages, ImageSet
from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter
from metareplay.streams.scenarios import CLASS, TASK
from metareplay.streams.stream import Images, Stream, Task

OPTIONS = (
    Hyperparameter("tasks", int, 8, "[1, inf)", "how many tasks the stream has: the first so many of the alphabets"),
)


def alphabets(
    images: ImageSet,
    tasks: int = 8,
    *,
    name: str | None = None,
    samples_per_task: int | None = None,
    scenarios: tuple[str, ...] = (TASK, CLASS),
) -> Stream:
    """A stream whose t-th task shows the t-th group of classes: Omniglot's alphabets, with as many classes as each has.

    There is one output for every character of all tasks. In the task-incremental scenario only those of the task's own
    alphabet are scored, in training and in testing.

    Parameters
    ----------
    name
        The stream's name; by default that of the images.
    samples_per_task
        How many training images of each task a run sees unless it says otherwise; None for all.
    scenarios
        What a run may choose from, its default first.

    Raises
    ------
    BadInput
        If there are fewer groups than tasks.
    """
    for option in OPTIONS:
        option.check(tasks)
    if tasks > len(images.groups):
        raise BadInput(f"--tasks is {tasks}, but {images.name} has {len(images.groups)} alphabets, and a task is one")
    chosen = images.groups[:tasks]
    return Stream(
        name=name or images.name,
        tasks=tuple(
            Task(
                f"{alphabet}, {len(classes)} characters",
                _only(images.train, images.train_labels, classes),
                _only(images.test, images.test_labels, classes),
                classes,
            )
            for alphabet, classes in chosen
        ),
        classes=1 + max(max(classes) for _, classes in chosen),
        settings={"tasks": tasks},
        data_sha256=images.sha256,
        samples_per_task=samples_per_task,
        scenarios=scenarios,
    )


def _only(base: BaseImages, labels: NDArray[np.int64], classes: tuple[int, ...]) -> Images:
    rows = np.flatnonzero(np.isin(labels, classes))
    return Images(base, labels[rows], rows=rows)
