"""Permutations: every task shows the same images with their pixels in its own random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import ImageSet
from metareplay.settings import Hyperparameter
from metareplay.streams.stream import Images, Stream, Task

OPTIONS = (
    Hyperparameter("tasks", int, 20, "[1, inf)", "how many tasks the stream has, each with its own order of pixels"),
    Hyperparameter("stream_seed", int, 0, "[0, inf)", "the seed that decides the orders, the same for all runs"),
)


def permutations(
    images: ImageSet,
    tasks: int = 20,
    stream_seed: int = 0,
    *,
    name: str | None = None,
    samples_per_task: int | None = None,
) -> Stream:
    """A stream whose t-th task shows ``images`` with their pixels in the t-th of ``orders``; the first task too.

    Nothing is moved yet: a task is a map of indices into the images, which all tasks share.

    Parameters
    ----------
    name
        The stream's name; by default ``<images>-permutations``.
    samples_per_task
        How many training images of each task a run sees unless it says otherwise; None for all.

    Raises
    ------
    BadInput
        If an option is out of its range.
    """
    return Stream(
        name=name or f"{images.name}-permutations",
        tasks=tuple(
            Task(
                "random permutation",
                Images(images.train, images.train_labels, order),
                Images(images.test, images.test_labels, order),
            )
            for order in orders(tasks, images.train.width, stream_seed)
        ),
        classes=images.classes,
        settings={"tasks": tasks, "stream_seed": stream_seed},
        data_sha256=images.sha256,
        samples_per_task=samples_per_task,
    )


def orders(tasks: int, inputs: int, stream_seed: int) -> list[NDArray[np.int32]]:
    """One uniformly random order of the inputs for each task, ``(inputs,)`` int32; more tasks leave the first ones."""
    for option, value in zip(OPTIONS, (tasks, stream_seed), strict=True):
        option.check(value)
    rng = np.random.default_rng(np.random.SeedSequence(stream_seed))
    return [rng.permutation(inputs).astype(np.int32) for _ in range(tasks)]
