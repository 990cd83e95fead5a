"""The benchmarks by name: a base data set, what is done to it, and how much of it each task shows."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter
from metareplay.streams import permutations, rotations, sources
from metareplay.streams.base import Stream


@dataclass(frozen=True)
class Benchmark:
    """A stream that can be had by name.

    Parameters
    ----------
    name, description
        Such as ``mnist-rotations``, and one line on what it is.
    data
        The base data set, one of ``sources.SOURCES``.
    kind
        ``rotations`` or ``permutations``.
    tasks, samples_per_task
        How many tasks, and training images of each, unless asked otherwise.
    """

    name: str
    description: str
    data: str
    kind: str
    tasks: int
    samples_per_task: int

    @property
    def options(self) -> tuple[Hyperparameter, ...]:
        """What can be chosen: each option's name, default, range and meaning."""
        samples = Hyperparameter(
            "samples_per_task",
            int,
            self.samples_per_task,
            "[0, inf)",
            "how many training images of each task are learned; 0: all",
        )
        _, made_with = _KINDS[self.kind]
        return (
            *(dataclasses.replace(o, default=self.tasks) if o.name == "tasks" else o for o in made_with),
            samples,
        )

    def stream(
        self,
        tasks: int | None = None,
        min_angle: float | None = None,
        max_angle: float | None = None,
        stream_seed: int | None = None,
        samples_per_task: int | None = None,
        *,
        images: sources.ImageSet | None = None,
        progress: bool = True,
    ) -> Stream:
        """Make the stream; on first use this downloads its base data.

        Parameters
        ----------
        tasks, min_angle, max_angle, stream_seed, samples_per_task
            See ``options``; None for the benchmark's own.
        images
            Other base images to make it from.
        progress
            Whether to show a download's progress on standard error.

        Raises
        ------
        BadInput
            If an option is out of its range or not one of this benchmark's, or base data are damaged.
        RunFailed
            If the base data cannot be downloaded.
        """
        asked = {
            "tasks": tasks,
            "min_angle": min_angle,
            "max_angle": max_angle,
            "stream_seed": stream_seed,
            "samples_per_task": samples_per_task,
        }
        chosen = self._checked({name: value for name, value in asked.items() if value is not None})
        images = images or sources.get(self.data, progress=progress)
        if chosen["samples_per_task"] > len(images.train):
            raise BadInput(
                f"--samples-per-task is {chosen['samples_per_task']}, but {images.name} has only "
                f"{len(images.train)} training images: ask for that many or fewer"
            )
        make, _ = _KINDS[self.kind]
        return make(images, name=self.name, **chosen)

    def _checked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """All options with their values, before anything is downloaded."""
        options = {option.name: option for option in self.options}
        for name, value in asked.items():
            if name not in options:
                flags = ", ".join(option.flag for option in self.options)
                raise BadInput(
                    f"--{name.replace('_', '-')} is {value!r}, but {self.name} has no angles; its options are {flags}"
                )
        return {name: option.check(asked.get(name, option.default)) for name, option in options.items()}


_KINDS: dict[str, tuple[Callable[..., Stream], tuple[Hyperparameter, ...]]] = {
    "rotations": (rotations.rotations, rotations.OPTIONS),
    "permutations": (permutations.permutations, permutations.OPTIONS),
}

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "digits-rotations", "small digits, turned by another angle in each task", "digits", "rotations", 10, 1297
        ),
        Benchmark(
            "digits-permutations",
            "small digits, pixels in another order in each task",
            "digits",
            "permutations",
            10,
            1297,
        ),
        Benchmark(
            "mnist-rotations", "MNIST, turned by another angle in each task (MER paper)", "mnist", "rotations", 20, 1000
        ),
        Benchmark(
            "mnist-permutations",
            "MNIST, pixels in another order in each task (MER paper)",
            "mnist",
            "permutations",
            20,
            1000,
        ),
        Benchmark(
            "mnist-many-permutations",
            "the same, more tasks with fewer examples (MER paper)",
            "mnist",
            "permutations",
            100,
            200,
        ),
    )
}


def find(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises
    ------
    BadInput
        If there is none; the message offers the nearest name.
    """
    if name not in BENCHMARKS:
        nearest = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0)
        raise BadInput(
            f"there is no benchmark {name!r}; did you mean {nearest[0]}? `metareplay benchmarks` lists all of them"
        )
    return BENCHMARKS[name]


def benchmark(name: str, **options: Any) -> Stream:
    """The stream of a benchmark: ``benchmark("mnist-rotations", tasks=5)``.

    Parameters
    ----------
    name
        Such as ``digits-rotations``; ``metareplay benchmarks`` lists all.
    options
        As ``Benchmark.stream`` takes them.
    """
    return find(name).stream(**options)
