"""Groups of classes: a data set's classes are shared out among the tasks, evenly or as they belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages, ImageSet
from metareplay.errors import BadInput
from metareplay.settings import setting
from metareplay.streams.kind import kind
from metareplay.streams.stream import CLASS, TASK, Images, Task


@kind("split", "each task has some of the classes", (CLASS, TASK))
def splits(
    images: ImageSet,
    tasks: int = setting(5, "[1, inf)", help="how many tasks the stream has; the classes are shared out among them"),
) -> list[Task]:
    """Tasks show the images of consecutive classes: 0 and 1, then 2 and 3 …, as in GEM's CIFAR-100.

    Where the classes do not divide by the tasks, the first tasks have one class more than the others. BadInput if there
    are fewer classes than tasks.
    """
    if tasks > images.classes:
        raise BadInput(
            f"--tasks is {tasks}, but {images.name} has {images.classes} classes: each task needs one of its own"
        )
    shares = [tuple(share.tolist()) for share in np.array_split(np.arange(images.classes), tasks)]
    words = [f"classes {own[0]} to {own[-1]}" if len(own) > 1 else f"class {own[0]}" for own in shares]
    return _tasks(images, list(zip(words, shares, strict=True)))


@kind("alphabets", "each task has the characters of one alphabet (omniglot)", (TASK, CLASS))
def alphabets(
    images: ImageSet,
    tasks: int = setting(8, "[1, inf)", help="how many tasks the stream has: the first so many of the alphabets"),
) -> list[Task]:
    """Task t shows the t-th group of classes: Omniglot's alphabets, with as many classes as each has.

    There is one output for every character of all tasks. BadInput if there are fewer groups than tasks.
    """
    if tasks > len(images.groups):
        raise BadInput(f"--tasks is {tasks}, but {images.name} has {len(images.groups)} alphabets, and a task is one")
    return _tasks(images, [(f"{name}, {len(own)} characters", own) for name, own in images.groups[:tasks]])


def _tasks(images: ImageSet, shares: Sequence[tuple[str, tuple[int, ...]]]) -> list[Task]:
    """A task for each share of the classes, which are consecutive: a list of rows of the images, which all share."""

    def only(base: BaseImages, labels: NDArray[np.int64], own: tuple[int, ...]) -> Images:
        rows = np.flatnonzero((labels >= own[0]) & (labels <= own[-1]))
        return Images(base, labels[rows], rows=rows)

    train, test = (images.train, images.train_labels), (images.test, images.test_labels)
    return [Task(description, only(*train, own), only(*test, own), own) for description, own in shares]
