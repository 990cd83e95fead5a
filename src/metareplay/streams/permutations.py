"""Permutations: every task shows the same images with their pixels in its own random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import ImageSet
from metareplay.settings import setting
from metareplay.streams.stream import Images, Task, kind


@kind("permutations", "their pixels are in another random order in each task", resized=True)
def permutations(
    images: ImageSet,
    tasks: int = setting(20, "[1, 10000]", help="how many tasks the stream has, each with its own order of pixels"),
    stream_seed: int = setting(0, "[0, inf)", help="the seed that decides the orders, the same for all runs"),
) -> list[Task]:
    """Task t shows ``images`` with their pixels in the t-th of ``orders``; the first task too.

    Nothing is moved yet: a task is a map of indices into the images, which all tasks share.
    """
    return [
        Task(
            "random permutation",
            Images(images.train, images.train_labels, order),
            Images(images.test, images.test_labels, order),
        )
        for order in orders(tasks, images.train.width, stream_seed)
    ]


def orders(tasks: int, inputs: int, stream_seed: int) -> list[NDArray[np.int32]]:
    """One uniformly random order of the inputs for each task, ``(inputs,)`` int32; more tasks leave the first ones."""
    rng = np.random.default_rng(np.random.SeedSequence(stream_seed))
    return [rng.permutation(inputs).astype(np.int32) for _ in range(tasks)]
