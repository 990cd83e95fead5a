"""The benchmarks by name: a base data set, what is done to it, and how much of it each task shows; and own data."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metareplay.data import catalogue as sources
from metareplay.data.images import ImageSet
from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter
from metareplay.streams import alphabets, permutations, rotations
from metareplay.streams import groups as splits
from metareplay.streams import npz_folder as folder
from metareplay.streams.scenarios import CLASS, DOMAIN, TASK, with_classes_of_labels
from metareplay.streams.stream import Stream


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
        ``rotations``, ``permutations``, ``splits`` or ``alphabets``.
    tasks, samples_per_task
        How many tasks, and training images of each, unless asked otherwise; 0 for all.
    scenarios
        What a run may choose from, its default first; None for those of its kind.
    """

    name: str
    description: str
    data: str
    kind: str
    tasks: int
    samples_per_task: int
    scenarios: tuple[str, ...] | None = None

    @property
    def allows(self) -> tuple[str, ...]:
        """The scenarios that it allows, its default first; empty while that is not known."""
        return self.scenarios or _ALLOWS.get(self.kind, ())

    @property
    def options(self) -> tuple[Hyperparameter, ...]:
        """What can be chosen: each option's name, default, range and meaning."""
        _, made_with = _KINDS[self.kind]
        return (
            *(dataclasses.replace(o, default=self.tasks) if o.name == "tasks" else o for o in made_with),
            _samples(self.samples_per_task),
        )

    def stream(
        self, tasks: int | None = None, *, images: ImageSet | None = None, progress: bool = True, **options: Any
    ) -> Stream:
        """Make the stream; on first use this downloads its base data.

        Parameters
        ----------
        tasks, options
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
        asked = {"tasks": tasks, **options}
        chosen = self._checked({name: value for name, value in asked.items() if value is not None})
        images = images or sources.get(self.data, progress=progress)
        make, _ = _KINDS[self.kind]
        scenarios = {} if self.scenarios is None else {"scenarios": self.scenarios}
        stream = make(images, name=self.name, **chosen, **scenarios)
        smallest = min(len(task.train) for task in stream.tasks)
        if chosen["samples_per_task"] > smallest:
            whose = images.name if smallest == len(images.train) else f"a task of {self.name}"
            raise BadInput(
                f"--samples-per-task is {chosen['samples_per_task']}, but {whose} has only "
                f"{smallest} training images: ask for that many or fewer"
            )
        return stream

    def _checked(self, asked: dict[str, Any]) -> dict[str, Any]:
        """All options with their values, before anything is downloaded."""
        options = {option.name: option for option in self.options}
        for name, value in asked.items():
            if name not in options:
                flags = ", ".join(option.flag for option in self.options)
                what = "angles" if name in ("min_angle", "max_angle") else name.replace("_", " ")
                raise BadInput(
                    f"--{name.replace('_', '-')} is {value!r}, but {self.name} has no {what}; its options are {flags}"
                )
        return {name: option.check(asked.get(name, option.default)) for name, option in options.items()}


def _samples(default: int) -> Hyperparameter:
    return Hyperparameter(
        "samples_per_task", int, default, "[0, inf)", "how many training images of each task are learned; 0: all"
    )


_KINDS: dict[str, tuple[Callable[..., Stream], tuple[Hyperparameter, ...]]] = {
    "rotations": (rotations.rotations, rotations.OPTIONS),
    "permutations": (permutations.permutations, permutations.OPTIONS),
    "splits": (splits.splits, splits.OPTIONS),
    "alphabets": (alphabets.alphabets, alphabets.OPTIONS),
}

_ALLOWS = {
    "rotations": (DOMAIN,),
    "permutations": (DOMAIN,),
    "splits": (CLASS, TASK),
    "alphabets": (TASK, CLASS),
}


class OwnData(Benchmark):
    """A user's own data, in a folder of ``.npz`` files or a ``.pt`` task list; its name is the file's or folder's."""

    def __init__(self, path: Path) -> None:
        name = path.resolve().name
        if name in BENCHMARKS:
            raise BadInput(f"{path} has the name of a benchmark: rename it, so that no result is taken for another's")
        kind = "folder" if path.is_dir() else "task list"
        super().__init__(name, f"your own data: the {kind} {path}", str(path), kind, tasks=0, samples_per_task=0)

    @property
    def options(self) -> tuple[Hyperparameter, ...]:
        """How many examples of each task are learned; there is nothing else to choose."""
        return (dataclasses.replace(_samples(0), help="how many training examples of each task are learned; 0: all"),)

    def stream(
        self, tasks: int | None = None, *, images: ImageSet | None = None, progress: bool = True, **options: Any
    ) -> Stream:
        """Read the data; ``tasks`` and ``images`` cannot be chosen."""
        asked = {"tasks": tasks, "images": images, **options}
        chosen = self._checked({name: value for name, value in asked.items() if value is not None})
        if self.kind == "folder":
            stream = folder.read(self.data)
        else:
            from metareplay.streams import task_list as gem_format  # which needs PyTorch

            stream = with_classes_of_labels(gem_format.read(self.data, progress))
        return dataclasses.replace(stream, **chosen)


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
        Benchmark("digits-split", "small digits, two classes in each task", "digits", "splits", 5, 0),
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
        Benchmark("mnist-split", "MNIST, two classes in each task", "mnist", "splits", 5, 1000),
        Benchmark(
            "fashion-mnist-rotations",
            "Fashion-MNIST, turned by another angle in each task",
            "fashion-mnist",
            "rotations",
            20,
            1000,
        ),
        Benchmark(
            "fashion-mnist-permutations",
            "Fashion-MNIST, pixels in another order in each task",
            "fashion-mnist",
            "permutations",
            20,
            1000,
        ),
        Benchmark("cifar10-split", "CIFAR-10, two classes in each task", "cifar10", "splits", 5, 0, (TASK, CLASS)),
        Benchmark(
            "cifar100-split", "CIFAR-100, five classes in each task (GEM)", "cifar100", "splits", 20, 0, (TASK, CLASS)
        ),
        Benchmark("omniglot", "Omniglot, the characters of an alphabet in each task", "omniglot", "alphabets", 50, 0),
        Benchmark(
            "omniglot-small", "the same, the eight alphabets of its small sets", "omniglot-small", "alphabets", 8, 0
        ),
    )
}


def find(name: str) -> Benchmark:
    """The benchmark of that name; or for a folder of ``.npz`` files or a ``.pt`` task list, the user's own data.

    Raises
    ------
    BadInput
        If there is none; the message offers the nearest name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    path = Path(name).expanduser()
    if name and (path.is_dir() or (path.is_file() and path.suffix == ".pt")):
        return OwnData(path)
    if path.is_file():
        raise BadInput(f"{name} is no .pt task list; a user's own data is one, or a folder of .npz files")
    if name.endswith((".pt", ".npz", "/")):
        raise BadInput(f"there is no {name}; a user's own data is a .pt task list or a folder of .npz files")
    nearest = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0)
    raise BadInput(
        f"there is no benchmark {name!r}; did you mean {nearest[0]}? `metareplay benchmarks` lists all of them"
    )


def benchmark(name: str, **options: Any) -> Stream:
    """The stream of a benchmark: ``benchmark("mnist-rotations", tasks=5)``.

    Parameters
    ----------
    name
        Such as ``digits-rotations``, which ``metareplay benchmarks`` lists; or where the user's own data is.
    options
        As ``Benchmark.stream`` takes them.
    """
    return find(name).stream(**options)
