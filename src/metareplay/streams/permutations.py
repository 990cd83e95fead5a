"""Permutations: every task shows the same images with their pixels, or their labels, in its own random order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages, ImageSet
from metareplay.settings import setting
from metareplay.streams.kind import kind
from metareplay.streams.stream import Images, Task, Tasks

SEED = setting(0, "[0, inf)", help="the seed that decides the orders, the same for all runs")


@kind("permutations", "their pixels are in another random order in each task", resized=True)
def permutations(
    images: ImageSet,
    tasks: int = setting(20, "[1, 10000]", help="how many tasks the stream has, each with its own order of pixels"),
    stream_seed: int = SEED,
) -> list[Task]:
    """Task t shows ``images`` with their pixels in the t-th of ``orders``; the first task too.

    Nothing is moved yet: a task is a map of indices into the images, which all tasks share.
    """
    return [
        _reordered(images, images.train, images.test, order) for order in orders(tasks, images.train.width, stream_seed)
    ]


def orders(tasks: int, inputs: int, stream_seed: int) -> list[NDArray[np.int32]]:
    """One uniformly random order of the inputs for each task, ``(inputs,)`` int32; more tasks leave the first ones."""
    rng = np.random.default_rng(np.random.SeedSequence(stream_seed))
    return [rng.permutation(inputs).astype(np.int32) for _ in range(tasks)]


@kind("online-permuted", "the same, but hundreds of tasks, each made when it comes", resized=True)
def online_permuted(
    images: ImageSet,
    tasks: int = setting(800, "[1, 10000]", help="how many tasks the stream has, each with its own order of pixels"),
    stream_seed: int = SEED,
) -> Sequence[Task]:
    """Task t shows ``images`` with their pixels in the order ``nth(t, …)`` (Dohare et al. 2024)."""
    return _made(images, images.train, images.test, tasks, stream_seed)


@kind("input-permuted", "the same, with pixels from −1 to 1", resized=True)
def input_permuted(
    images: ImageSet,
    tasks: int = setting(200, "[1, 10000]", help="how many tasks the stream has, each with its own order of pixels"),
    stream_seed: int = SEED,
) -> Sequence[Task]:
    """``online_permuted`` with inputs (x − .5) / .5 (Elsayed and Mahmood 2024)."""
    return _made(images, _centred(images.train), _centred(images.test), tasks, stream_seed)


@kind("label-permuted", "their classes have other labels in each task; pixels from −1 to 1")
def label_permuted(
    images: ImageSet,
    tasks: int = setting(400, "[1, 10000]", help="how many tasks the stream has, each with its own order of labels"),
    stream_seed: int = SEED,
) -> Sequence[Task]:
    """In task t class c has the label ``nth(t, …)[c]``; inputs are (x − .5) / .5 (Elsayed and Mahmood 2024)."""
    train, test = _centred(images.train), _centred(images.test)

    def task(number: int) -> Task:
        given = nth(number, images.classes, stream_seed).astype(np.int64)
        sides = Images(train, given[images.train_labels]), Images(test, given[images.test_labels])
        return Task("random labels", *sides)

    return Tasks(tasks, task)


def nth(task: int, length: int, stream_seed: int) -> NDArray[np.int32]:
    """The uniformly random order of a task, ``(length,)`` int32; it depends on no other task's."""
    rng = np.random.default_rng(np.random.SeedSequence(stream_seed, spawn_key=(task,)))
    return rng.permutation(length).astype(np.int32)


def _made(images: ImageSet, train: BaseImages, test: BaseImages, tasks: int, stream_seed: int) -> Sequence[Task]:
    return Tasks(tasks, lambda task: _reordered(images, train, test, nth(task, train.width, stream_seed)))


def _reordered(images: ImageSet, train: BaseImages, test: BaseImages, order: NDArray[np.int32]) -> Task:
    sides = Images(train, images.train_labels, order), Images(test, images.test_labels, order)
    return Task("random permutation", *sides)


def _centred(base: BaseImages) -> BaseImages:
    """The same pixels, not copied, as numbers from −1 to 1."""
    return BaseImages(base.pixels, base.white, base.shape, centred=True)
