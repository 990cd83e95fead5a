"""Splits: the classes of a data set are shared out, and every task shows its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages, ImageSet
from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter
from metareplay.streams.scenarios import CLASS, TASK
from metareplay.streams.stream import Images, Stream, Task

OPTIONS = (
    Hyperparameter("tasks", int, 5, "[1, inf)", "how many tasks the stream has; the classes are shared out among them"),
)


def splits(
    images: ImageSet,
    tasks: int = 5,
    *,
    name: str | None = None,
    samples_per_task: int | None = None,
    scenarios: tuple[str, ...] = (CLASS, TASK),
) -> Stream:
    """A stream whose tasks show the images of consecutive classes: 0 and 1, then 2 and 3 …, as in GEM's CIFAR-100.

    Where the classes do not divide by the tasks, the first tasks have one class more than the others.
    No image is copied: a task is a list of rows of the images, which all tasks share.

    Parameters
    ----------
    name
        The stream's name; by default ``<images>-split``.
    samples_per_task
        How many training images of each task a run sees unless it says otherwise; None for all.
    scenarios
        What a run may choose from, its default first.

    Raises
    ------
    BadInput
        If there are fewer classes than tasks, or a class without images.
    """
    for option in OPTIONS:
        option.check(tasks)
    if tasks > images.classes:
        raise BadInput(
            f"--tasks is {tasks}, but {images.name} has {images.classes} classes: each task needs one of its own"
        )
    shares = [tuple(share.tolist()) for share in np.array_split(np.arange(images.classes), tasks)]
    return Stream(
        name=name or f"{images.name}-split",
        tasks=tuple(
            Task(
                _description(share),
                _only(images.train, images.train_labels, share),
                _only(images.test, images.test_labels, share),
                share,
            )
            for share in shares
        ),
        classes=images.classes,
        settings={"tasks": tasks},
        data_sha256=images.sha256,
        samples_per_task=samples_per_task,
        scenarios=scenarios,
    )


def _only(base: BaseImages, labels: NDArray[np.int64], share: tuple[int, ...]) -> Images:
    rows = np.flatnonzero((labels >= share[0]) & (labels <= share[-1]))
    return Images(base, labels[rows], rows=rows)


def _description(share: tuple[int, ...]) -> str:
    return f"class {share[0]}" if len(share) == 1 else f"classes {share[0]} to {share[-1]}"
