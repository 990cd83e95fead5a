"""Kinds of streams: what is done to a data set. Each is one function, whose signature declares its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metareplay.data.images import ImageSet
from metareplay.settings import Hyperparameter, hyperparameters
from metareplay.streams.stream import DOMAIN, Stream, Task

Tasks = Callable[..., list[Task]]


@dataclass(frozen=True)
class Kind:
    """A kind of stream, called with images to make one.

    Parameters
    ----------
    name
        Such as ``rotations``.
    tasks
        Makes the tasks from images and its settings.
    settings
        What can be chosen.
    scenarios
        What a run may choose from unless the benchmark says otherwise, its default first.
    meaning
        What a task is, in a line.
    resized
        Whether the tasks of other images would cost a run the same: they have as many, and differ by a map alone.
    """

    name: str
    tasks: Tasks
    settings: tuple[Hyperparameter, ...]
    scenarios: tuple[str, ...]
    meaning: str
    resized: bool

    def __call__(
        self,
        images: ImageSet,
        *,
        name: str | None = None,
        samples_per_task: int | None = None,
        scenarios: tuple[str, ...] | None = None,
        **chosen: Any,
    ) -> Stream:
        """Make the stream.

        Parameters
        ----------
        name
            The stream's name; by default ``<images>-<kind>``.
        samples_per_task
            How many training images of each task a run sees unless it says otherwise; None for all.
        scenarios
            What a run may choose from, its default first.
        chosen
            Settings of the kind.

        Raises
        ------
        BadInput
            If a setting is out of its range, or does not fit the images.
        """
        values = {setting.name: setting.check(chosen.pop(setting.name, setting.default)) for setting in self.settings}
        tasks = self.tasks(images, **values, **chosen)
        own = [max(task.classes) for task in tasks if task.classes is not None]
        return Stream(
            name=name or f"{images.name}-{self.name}",
            tasks=tuple(tasks),
            classes=1 + max(own) if own else images.classes,
            settings=values,
            data_sha256=images.sha256,
            samples_per_task=samples_per_task,
            scenarios=scenarios or self.scenarios,
        )


def kind(
    name: str, meaning: str, scenarios: tuple[str, ...] = (DOMAIN,), resized: bool = False
) -> Callable[[Tasks], Kind]:
    """Declare a function of images and settings, which makes tasks, as a kind of stream; see ``Kind``."""

    def declare(tasks: Tasks) -> Kind:
        return Kind(name, tasks, hyperparameters(tasks), scenarios, meaning, resized)

    return declare
