"""Rotations: every task shows the same images, turned by its own angle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.images import ImageSet
from metareplay.errors import BadInput
from metareplay.settings import setting
from metareplay.streams.kind import kind
from metareplay.streams.stream import Images, Task


@kind("rotations", "the images are turned by another angle in each task", resized=True)
def rotations(
    images: ImageSet,
    tasks: int = setting(20, "[1, 10000]", help="how many tasks the stream has, each with its own angle"),
    min_angle: float = setting(0.0, "(-inf, inf)", help="the least angle, in degrees counter-clockwise"),
    max_angle: float = setting(180.0, "(-inf, inf)", help="the angle, in degrees, that all angles stay below"),
    stream_seed: int = setting(0, "[0, inf)", help="the seed that decides the angles, the same for all runs"),
) -> list[Task]:
    """Task t shows ``images`` turned by the t-th of ``angles``.

    Nothing is turned yet: a task is a map of indices into the images, which all tasks share. BadInput if the inputs
    form no image, or there are no angles between the two.
    """
    shape = images.train.shape
    if shape is None or len(shape) != 2:
        raise BadInput(f"{images.name} cannot be rotated: its inputs form no image of rows and columns")
    made = []
    for angle in angles(tasks, min_angle, max_angle, stream_seed):
        turned = rotation_map(angle, (shape[0], shape[1]))
        train = Images(images.train, images.train_labels, turned)
        made.append(Task(f"{angle:.2f}°", train, Images(images.test, images.test_labels, turned)))
    return made


def angles(tasks: int, min_angle: float, max_angle: float, stream_seed: int) -> list[float]:
    """One angle for each task, in degrees counter-clockwise.

    The t-th is uniform in the t-th of equal slices of ``[min_angle, max_angle)``. Where it falls in its slice depends
    on t and the seed alone.
    """
    if not min_angle < max_angle or not math.isfinite(max_angle - min_angle):
        raise BadInput(
            f"--min-angle is {min_angle!r} and --max-angle {max_angle!r}, but the least angle must be below the largest"
        )
    within = np.random.default_rng(np.random.SeedSequence(stream_seed)).random(tasks)
    return [float(angle) for angle in min_angle + (np.arange(tasks) + within) / tasks * (max_angle - min_angle)]


def rotation_map(angle: float, shape: tuple[int, int]) -> NDArray[np.int32]:
    """The pixel that each pixel of a turned image is taken from, or -1 where it is black.

    What Pillow's ``Image.rotate`` does with its defaults: nearest neighbour, counter-clockwise by ``angle`` degrees,
    the same ``(rows, columns)``. Returns ``(rows * columns,)`` int32.
    """
    # Pillow turns an image whose grey levels are pixel numbers. They start at 1, since black corners are 0.
    numbers = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int32).reshape(shape)
    return np.asarray(Image.fromarray(numbers).rotate(angle)).reshape(-1) - np.int32(1)
