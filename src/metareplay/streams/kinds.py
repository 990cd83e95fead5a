"""Kinds of streams: what is done to a data set to make one, declared as a function of images and settings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metareplay.data.images import BaseImages, Images, ImageSet
from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter, checked, hyperparameters, setting
from metareplay.streams.stream import CLASS, DOMAIN, TASK, Stream, Task, Tasks


@dataclass(frozen=True)
class Kind:
    """What is done to a data set to make a stream: one function, whose signature declares its settings."""

    name: str  # such as ``rotations``
    meaning: str  # what a task is, in a line
    tasks: Callable[..., Sequence[Task]]  # makes the tasks from images and its settings
    scenarios: tuple[str, ...] = (DOMAIN,)  # what a run may choose from unless the benchmark says otherwise

    @property
    def settings(self) -> tuple[Hyperparameter, ...]:
        return hyperparameters(self.tasks)

    def __call__(
        self, images: ImageSet, *, name: str | None = None, samples_per_task: int | None = None,
        scenarios: tuple[str, ...] | None = None, **chosen: Any,
    ) -> Stream:  # fmt: skip
        """A stream of the images, by default named ``<images>-<kind>``; BadInput if a setting does not fit."""
        values = {o.name: o.default for o in self.settings} | checked(chosen, self.settings, f"of {self.name}")
        tasks = self.tasks(images, **values)
        classes = 1 + max((max(task.classes) for task in tasks if task.classes), default=images.classes - 1)
        name = name or f"{images.name}-{self.name}"
        return Stream(name, tasks, classes, values, images.sha256, samples_per_task, scenarios or self.scenarios)


def _count(usual: int, what: str, valid: str = "[1, 10000]") -> Any:
    return setting(usual, valid, help=f"how many tasks the stream has{what}")


@partial(Kind, "rotations", "the images are turned by another angle in each task")
def rotations(
    images: ImageSet,
    tasks: int = _count(20, ", each with its own angle"),
    min_angle: float = setting(0.0, "(-inf, inf)", help="the least angle, in degrees counter-clockwise"),
    max_angle: float = setting(180.0, "(-inf, inf)", help="the angle, in degrees, that all angles stay below"),
    stream_seed: int = setting(0, "[0, inf)", help="the seed that decides the angles, the same for all runs"),
) -> list[Task]:
    """Task t shows ``images`` turned by the t-th of ``angles``.

    Nothing is turned yet: a task is a map of indices into the images, which all tasks share. BadInput if the inputs
    form no image, or there are no angles between the two.
    """
    shape = images.train.base.shape
    if shape is None or len(shape) != 2:
        raise BadInput(f"{images.name} cannot be rotated: its inputs form no image of rows and columns")
    turned = [(f"{a:.2f}°", rotation_map(a, shape)) for a in angles(tasks, min_angle, max_angle, stream_seed)]
    return [_mapped(angle, images, index_map) for angle, index_map in turned]


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


def rotation_map(angle: float, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The pixel that each pixel of a turned image is taken from, or -1 where it is black.

    What Pillow's ``Image.rotate`` does with its defaults: nearest neighbour, counter-clockwise by ``angle`` degrees,
    the same ``(rows, columns)``. Returns ``(rows * columns,)`` int32.
    """
    # Pillow turns an image whose grey levels are pixel numbers. They start at 1, since black corners are 0.
    numbers = np.arange(1, math.prod(shape) + 1, dtype=np.int32).reshape(shape)
    return np.asarray(Image.fromarray(numbers).rotate(angle)).reshape(-1) - np.int32(1)


PIXELS, LABELS = (f", each with its own order of {what}" for what in ("pixels", "labels"))
SEED = setting(0, "[0, inf)", help="the seed that decides the orders, the same for all runs")


@partial(Kind, "permutations", "their pixels are in another random order in each task")
def permutations(images: ImageSet, tasks: int = _count(20, PIXELS), stream_seed: int = SEED) -> list[Task]:
    """Task t shows ``images`` with their pixels in the t-th of ``orders``; the first task too."""
    made = orders(tasks, images.train.width, stream_seed)
    return [_mapped("random permutation", images, order) for order in made]


def orders(tasks: int, inputs: int, stream_seed: int) -> list[NDArray[np.int32]]:
    """One uniformly random order of the inputs for each task, ``(inputs,)`` int32; more tasks leave the first ones."""
    rng = np.random.default_rng(np.random.SeedSequence(stream_seed))
    return [rng.permutation(inputs).astype(np.int32) for _ in range(tasks)]


@partial(Kind, "online-permuted", "the same, but hundreds of tasks, each made when it comes")
def online_permuted(images: ImageSet, tasks: int = _count(800, PIXELS), stream_seed: int = SEED) -> Sequence[Task]:
    """Task t shows ``images`` with their pixels in the order ``nth(t, …)`` (Dohare et al. 2024)."""
    return Tasks(tasks, lambda t: _mapped("random permutation", images, nth(t, images.train.width, stream_seed)))


@partial(Kind, "input-permuted", "the same, with pixels from −1 to 1")
def input_permuted(images: ImageSet, tasks: int = _count(200, PIXELS), stream_seed: int = SEED) -> Sequence[Task]:
    """``online_permuted`` with inputs (x − .5) / .5 (Elsayed and Mahmood 2024)."""
    return online_permuted.tasks(_centred(images), tasks, stream_seed)


@partial(Kind, "label-permuted", "their classes have other labels in each task; pixels from −1 to 1")
def label_permuted(images: ImageSet, tasks: int = _count(400, LABELS), stream_seed: int = SEED) -> Sequence[Task]:
    """In task t class c has the label ``nth(t, …)[c]``; inputs are (x − .5) / .5 (Elsayed and Mahmood 2024)."""
    centred = _centred(images)

    def task(number: int) -> Task:
        given = nth(number, images.classes, stream_seed).astype(np.int64)
        train, test = (replace(side, labels=given[side.labels]) for side in (centred.train, centred.test))
        return Task("random labels", train, test)

    return Tasks(tasks, task)


def nth(task: int, length: int, stream_seed: int) -> NDArray[np.int32]:
    """The uniformly random order of a task, ``(length,)`` int32; it depends on no other task's."""
    rng = np.random.default_rng(np.random.SeedSequence(stream_seed, spawn_key=(task,)))
    return rng.permutation(length).astype(np.int32)


def _mapped(text: str, images: ImageSet, index_map: NDArray[np.int32]) -> Task:
    return Task(text, replace(images.train, index_map=index_map), replace(images.test, index_map=index_map))


def _centred(images: ImageSet) -> ImageSet:
    """The same pixels, not copied, as numbers from −1 to 1."""
    sides = ((side, side.base) for side in (images.train, images.test))
    train, test = (replace(own, base=BaseImages(b.pixels, b.white, b.shape, centred=True)) for own, b in sides)
    return replace(images, train=train, test=test)


@partial(Kind, "split", "each task has some of the classes", scenarios=(CLASS, TASK))
def splits(images: ImageSet, tasks: int = _count(5, "; the classes are shared among them", "[1, inf)")) -> list[Task]:
    """Tasks show the images of consecutive classes: 0 and 1, then 2 and 3 …, as in GEM's CIFAR-100.

    Where the classes do not divide by the tasks, the first tasks have one class more than the others. BadInput if there
    are fewer classes than tasks.
    """
    if tasks > images.classes:
        text = f"--tasks is {tasks}, but {images.name} has {images.classes} classes: each task needs one of its own"
        raise BadInput(text)
    shares = [tuple(share.tolist()) for share in np.array_split(np.arange(images.classes), tasks)]
    words = [f"classes {own[0]} to {own[-1]}" if len(own) > 1 else f"class {own[0]}" for own in shares]
    return _grouped(images, words, shares)


@partial(Kind, "alphabets", "each task has the characters of one alphabet (omniglot)", scenarios=(TASK, CLASS))
def alphabets(images: ImageSet, tasks: int = _count(8, ": the first alphabets", "[1, inf)")) -> list[Task]:
    """Task t shows the t-th group of classes: Omniglot's alphabets, with as many classes as each has.

    There is one output for every character of all tasks. BadInput if there are fewer groups than tasks.
    """
    if tasks > len(images.groups):
        raise BadInput(f"--tasks is {tasks}, but {images.name} has {len(images.groups)} alphabets, and a task is one")
    own = images.groups[:tasks]
    return _grouped(images, [f"{name}, {len(share)} characters" for name, share in own], [share for _, share in own])


def _grouped(images: ImageSet, words: Sequence[str], shares: Sequence[tuple[int, ...]]) -> list[Task]:
    """A task for each share of the classes, which are consecutive: a list of rows of the images, which all share."""

    def only(side: Images, own: tuple[int, ...]) -> Images:
        return side.only(np.flatnonzero((side.labels >= own[0]) & (side.labels <= own[-1])))

    named = zip(words, shares, strict=True)
    return [Task(text, only(images.train, own), only(images.test, own), own) for text, own in named]


KINDS = {
    kind.name: kind
    for kind in (rotations, permutations, splits, alphabets, online_permuted, input_permuted, label_permuted)
}
