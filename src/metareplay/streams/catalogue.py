"""The benchmarks by name: a base data set, what is done to it, and how much of it each task shows; and own data."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metareplay.data import catalogue as sources
from metareplay.data.images import ImageSet
from metareplay.errors import BadInput, plain
from metareplay.settings import Hyperparameter, checked, nearest
from metareplay.streams import kinds, own_files, task_list
from metareplay.streams.stream import CLASS, TASK, Stream


@dataclass(frozen=True)
class Benchmark:
    """A stream with a name."""

    name: str
    description: str
    data: str  # the base data set, one of ``data.catalogue.SOURCES``; or where a user's own data is
    kind: kinds.Kind | None  # what is done to it; None for a user's own data
    tasks: int  # unless asked otherwise, as the next
    samples_per_task: int  # 0 for all
    scenarios: tuple[str, ...] | None = None  # what a run may choose from, its default first; None for its kind's

    @property
    def allows(self) -> tuple[str, ...]:
        """The scenarios that it allows, its default first; empty while that is not known."""
        return self.scenarios or (self.kind.scenarios if self.kind else ())

    @property
    def options(self) -> tuple[Hyperparameter, ...]:
        """What can be chosen: each option's name, default, range and meaning."""
        what = "images" if self.kind else "examples"
        text = f"how many training {what} of each task are learned, at most; 0: all"
        samples = Hyperparameter("samples_per_task", int, self.samples_per_task, "[0, inf)", text)
        text = f"the share of each task's training {what} to test on in place of the test {what}, to choose settings"
        held_out = Hyperparameter("held_out", float, 0.0, "[0, 1)", text)
        own = self.kind.settings if self.kind else ()
        own = tuple(dataclasses.replace(o, default=self.tasks) if o.name == "tasks" else o for o in own)
        return (*own, samples, held_out)

    def stream(self, *, images: ImageSet | None = None, progress: bool = True, **options: Any) -> Stream:
        """Make the stream; on first use this downloads its base data, with ``progress`` on standard error.

        ``images`` are other base images to make it from; ``options`` see there, None for the benchmark's own. BadInput
        if one is out of its range or not one of this benchmark's, or base data are damaged; RunFailed if these cannot
        be downloaded.
        """
        asked = {name: value for name, value in options.items() if value is not None}
        chosen = {o.name: o.default for o in self.options} | checked(asked, self.options, f"of {self.name}")
        held_out = chosen.pop("held_out")
        stream = self._whole(images, progress, chosen)
        return stream.validation(held_out) if held_out else stream

    def _whole(self, images: ImageSet | None, progress: bool, chosen: dict[str, Any]) -> Stream:
        if self.kind is None:
            read = task_list.read if self.data.endswith(".pt") else own_files.read
            return dataclasses.replace(read(self.data, progress), **chosen)
        given = sources.get if self.data in sources.SOURCES else own_files.images
        images = images or given(self.data, progress=progress)
        return self.kind(images, name=self.name, scenarios=self.scenarios, **chosen)


_TURNED, _REORDERED = "turned by another angle in each task", "pixels in another order in each task"
_MANY, _RENAMED = "hundreds of orders of pixels, all images in each", "other labels for the classes in each task"
_NAMED: tuple[tuple[Any, ...], ...] = (
    ("digits-rotations", f"small digits, {_TURNED}", "digits", kinds.rotations, 10, 1297),
    ("digits-permutations", f"small digits, {_REORDERED}", "digits", kinds.permutations, 10, 1297),
    ("digits-split", "small digits, two classes in each task", "digits", kinds.splits, 5, 0),
    ("digits-online-permuted", f"small digits, {_MANY}", "digits", kinds.online_permuted, 30, 0),
    ("digits-input-permuted", "the same, pixels from −1 to 1", "digits", kinds.input_permuted, 30, 500),
    ("digits-label-permuted", f"small digits, {_RENAMED}", "digits", kinds.label_permuted, 30, 500),
    ("mnist-rotations", f"MNIST, {_TURNED} (MER paper)", "mnist", kinds.rotations, 20, 1000),
    ("mnist-permutations", f"MNIST, {_REORDERED} (MER paper)", "mnist", kinds.permutations, 20, 1000),
    ("mnist-many-permutations", "the same, more tasks with fewer examples (MER paper)",
     "mnist", kinds.permutations, 100, 200),
    ("mnist-split", "MNIST, two classes in each task", "mnist", kinds.splits, 5, 1000),
    ("mnist-online-permuted", f"MNIST, {_MANY} (Dohare 2024)", "mnist", kinds.online_permuted, 800, 0),
    ("mnist-input-permuted", "the same, fewer images, pixels from −1 to 1 (UPGD paper)",
     "mnist", kinds.input_permuted, 200, 5000),
    ("mnist-label-permuted", f"MNIST, {_RENAMED} (UPGD paper)", "mnist", kinds.label_permuted, 400, 2500),
    ("emnist-label-permuted", f"EMNIST, letters and digits, {_RENAMED} (UPGD paper)",
     "emnist-balanced", kinds.label_permuted, 400, 2500),
    ("fashion-mnist-rotations", f"Fashion-MNIST, {_TURNED}", "fashion-mnist", kinds.rotations, 20, 1000),
    ("fashion-mnist-permutations", f"Fashion-MNIST, {_REORDERED}", "fashion-mnist", kinds.permutations, 20, 1000),
    ("cifar10-split", "CIFAR-10, two classes in each task", "cifar10", kinds.splits, 5, 0, (TASK, CLASS)),
    ("cifar100-split", "CIFAR-100, five classes in each task (GEM)", "cifar100", kinds.splits, 20, 0, (TASK, CLASS)),
    ("omniglot", "Omniglot, the characters of an alphabet in each task", "omniglot", kinds.alphabets, 50, 0),
    ("omniglot-small", "the same, the eight alphabets of its small sets", "omniglot-small", kinds.alphabets, 8, 0),
)  # fmt: skip
BENCHMARKS: dict[str, Benchmark] = {row[0]: Benchmark(*row) for row in _NAMED}


def find(name: str) -> Benchmark:
    """The benchmark of a name, or a user's folder, ``.csv`` or ``.pt``; a folder of classes has 1 task or ``tasks``."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    path = Path(name).expanduser()
    what = "a folder, a .csv file or a .pt task list"
    if name and (path.is_dir() or (path.is_file() and path.suffix in (".pt", ".csv"))):
        own = plain(path.resolve().name)
        if own in BENCHMARKS:
            raise BadInput(f"{path} has the name of a benchmark: rename it, so that no result is taken for another's")
        kind = kinds.splits if path.is_dir() and [*own_files.tasks(path)] == [""] else None
        description = f"your own data: the {'folder' if path.is_dir() else 'task list'} {path}"
        return Benchmark(own, description, str(path), kind, 1 if kind else 0, 0)
    if name and path.exists():
        raise BadInput(f"{name} is none of a user's own data, which are {what}")
    if name.endswith((".pt", ".npz", ".csv", "/")):
        raise BadInput(f"there is no {name}; a user's own data are {what}")
    text = f"there is no benchmark {name!r}{nearest(name, BENCHMARKS) or ';'} `metareplay benchmarks` lists all of them"
    raise BadInput(text)


def benchmark(name: str, **options: Any) -> Stream:
    """The stream of a benchmark: ``benchmark("mnist-rotations", tasks=5)``.

    Parameters
    ----------
    name
        Such as ``digits-rotations``, which ``metareplay benchmarks`` lists; or where the user's own data is.
    options
        As ``Benchmark.stream`` takes them.

    Examples
    --------
    >>> metareplay.benchmark("digits-split", tasks=5).classes
    10
    """
    return find(name).stream(**options)
