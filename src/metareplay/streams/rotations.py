"""Rotations: every task shows the same images, turned by its own angle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.images import ImageSet
from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter
from metareplay.streams.stream import Images, Stream, Task

OPTIONS = (
    Hyperparameter("tasks", int, 20, "[1, inf)", "how many tasks the stream has, each with its own angle"),
    Hyperparameter("min_angle", float, 0.0, "(-inf, inf)", "the least angle, in degrees counter-clockwise"),
    Hyperparameter("max_angle", float, 180.0, "(-inf, inf)", "the angle, in degrees, that all angles stay below"),
    Hyperparameter("stream_seed", int, 0, "[0, inf)", "the seed that decides the angles, the same for all runs"),
)


def rotations(
    images: ImageSet,
    tasks: int = 20,
    min_angle: float = 0.0,
    max_angle: float = 180.0,
    stream_seed: int = 0,
    *,
    name: str | None = None,
    samples_per_task: int | None = None,
) -> Stream:
    """A stream whose t-th task shows ``images`` turned by the t-th of ``angles``.

    Nothing is turned yet: a task is a map of indices into the images, which all tasks share.

    Parameters
    ----------
    name
        The stream's name; by default ``<images>-rotations``.
    samples_per_task
        How many training images of each task a run sees unless it says otherwise; None for all.

    Raises
    ------
    BadInput
        If an option is out of its range, or the data set has no images.
    """
    shape = images.train.shape
    if shape is None or len(shape) != 2:
        raise BadInput(f"{images.name} cannot be rotated: its inputs form no image of rows and columns")
    turned = angles(tasks, min_angle, max_angle, stream_seed)
    maps = [rotation_map(angle, (shape[0], shape[1])) for angle in turned]
    return Stream(
        name=name or f"{images.name}-rotations",
        tasks=tuple(
            Task(
                f"{angle:.2f}°",
                Images(images.train, images.train_labels, index_map),
                Images(images.test, images.test_labels, index_map),
            )
            for angle, index_map in zip(turned, maps, strict=True)
        ),
        classes=images.classes,
        settings={
            "tasks": tasks,
            "min_angle": float(min_angle),
            "max_angle": float(max_angle),
            "stream_seed": stream_seed,
        },
        data_sha256=images.sha256,
        samples_per_task=samples_per_task,
    )


def angles(tasks: int, min_angle: float, max_angle: float, stream_seed: int) -> list[float]:
    """One angle for each task, in degrees counter-clockwise.

    The t-th is uniform in the t-th of equal slices of ``[min_angle, max_angle)``. Where it falls in its slice depends
    on t and the seed alone.
    """
    for option, value in zip(OPTIONS, (tasks, min_angle, max_angle, stream_seed), strict=True):
        option.check(value)
    if not min_angle < max_angle or not math.isfinite(max_angle - min_angle):
        raise BadInput(
            f"--min-angle is {min_angle!r} and --max-angle {max_angle!r}, but the least angle must be below the largest"
        )
    within = np.random.default_rng(np.random.SeedSequence(stream_seed)).random(tasks)
    return [float(angle) for angle in min_angle + (np.arange(tasks) + within) / tasks * (max_angle - min_angle)]


def rotation_map(angle: float, shape: tuple[int, int]) -> NDArray[np.int32]:
    """The pixel that each pixel of a turned image is taken from, or -1 where it is black.

    What Pillow's ``Image.rotate`` does with its defaults: nearest neighbour, counter-clockwise, the same size.

    Parameters
    ----------
    angle
        Degrees counter-clockwise.
    shape
        Rows and columns.

    Returns
    -------
    index_map
        ``(rows * columns,)`` int32.
    """
    # Pillow turns an image whose grey levels are pixel numbers. They start at 1, since black corners are 0.
    numbers = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int32).reshape(shape)
    return np.asarray(Image.fromarray(numbers).rotate(angle)).reshape(-1) - np.int32(1)
