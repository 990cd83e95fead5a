"""Kinds of streams: what is done to a data set to make one, declared as a function of images and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from metareplay.data.images import ImageSet
from metareplay.settings import Hyperparameter, hyperparameters
from metareplay.streams.stream import DOMAIN, Stream, Task


@dataclass(frozen=True)
class Kind:
    """What is done to a data set to make a stream: one function, whose signature declares its settings."""

    name: str  # such as ``rotations``
    meaning: str  # what a task is, in a line
    tasks: Callable[..., Sequence[Task]]  # makes the tasks from images and its settings
    scenarios: tuple[str, ...]  # what a run may choose from unless the benchmark says otherwise, its default first
    resized: bool  # whether the tasks of other images would cost a run the same: as many, which differ by a map alone

    @property
    def settings(self) -> tuple[Hyperparameter, ...]:
        return hyperparameters(self.tasks)

    def __call__(
        self,
        images: ImageSet,
        *,
        name: str | None = None,
        samples_per_task: int | None = None,
        scenarios: tuple[str, ...] | None = None,
        **chosen: Any,
    ) -> Stream:
        """A stream of the images, by default named ``<images>-<kind>``; BadInput if a setting does not fit."""
        values = {setting.name: setting.check(chosen.pop(setting.name, setting.default)) for setting in self.settings}
        tasks = self.tasks(images, **values, **chosen)
        classes = 1 + max((max(task.classes) for task in tasks if task.classes), default=images.classes - 1)
        name = name or f"{images.name}-{self.name}"
        return Stream(name, tasks, classes, values, images.sha256, samples_per_task, scenarios or self.scenarios)


def kind(
    name: str, meaning: str, scenarios: tuple[str, ...] = (DOMAIN,), resized: bool = False
) -> Callable[[Callable[..., Sequence[Task]]], Kind]:
    """Declare a function of images and settings, which makes tasks, as a kind of stream; see ``Kind``."""
    return lambda tasks: Kind(name, meaning, tasks, scenarios, resized)
