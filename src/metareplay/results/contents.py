"""What a report is about: the runs of a folder by problem, configuration and seed, and those that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metareplay.errors import BadInput
from metareplay.results.groups import Group, groups
from metareplay.runs import folder as runs
from metareplay.runs.metrics import Undefined, distance_to_iid
from metareplay.runs.record import Record


@dataclass(frozen=True)
class Absent:
    """A run without a record.

    Parameters
    ----------
    name
        What it would have been.
    state
        ``running``, ``stopped``, ``failed`` or ``broken``, as ``runs.Status`` has it.
    why
        What is known of it.
    folder
        Where it is.
    """

    name: str
    state: str
    why: str
    folder: str


@dataclass(frozen=True, eq=False)
class Problem:
    """Configurations that can be compared: they learned the same things in the same order."""

    name: str
    groups: tuple[Group, ...]

    @cached_property
    def sizes(self) -> list[int]:
        """The memory sizes that there are, from the largest; without any, one of 0."""
        return sorted({group.memories or 0 for group in self.groups} - {0}, reverse=True) or [0]

    def of_size(self, size: int) -> list[Group]:
        """Those with so many memories, and those that need none, from the highest retained accuracy to the lowest."""
        there = [group for group in self.groups if (group.memories or size) == size]
        return sorted(there, key=lambda group: -retained(group))

    @cached_property
    def description(self) -> str:
        """What is learned, in a line: tasks, examples, scenario, order."""
        told = self.groups[0].configuration
        tasks = len(self.groups[0].records[0].tasks)
        samples, size = told.get("samples_per_task"), told.get("batch_size", 1)
        parts = [
            f"{tasks} task{'s' if tasks > 1 else ''}",
            f"{samples} examples of each" if samples else "all examples of each",
            "one at a time" if size == 1 else f"{size} at a time",
            f"order: {told.get('order', 'tasks')}",
            str(told.get("scenario") or ""),
        ]
        epochs = told.get("epochs", 1)
        return ", ".join(part for part in [*parts, f"{epochs} epochs" if epochs > 1 else ""] if part)

    @cached_property
    def methods(self) -> set[str]:
        """The methods of its configurations."""
        return {group.method for group in self.groups}

    @cached_property
    def seeds(self) -> set[int]:
        """The seeds that any configuration was run with."""
        return {seed for group in self.groups for seed in group.seeds}

    def missing(self, group: Group) -> list[int]:
        """The seeds that other configurations were run with, and this one was not."""
        return sorted(self.seeds - set(group.seeds))


def short_name(group: Group) -> str:
    """A configuration's name beside others with as many memories: mostly its method."""
    return group.label.replace(f", {group.memories} memories", "", 1)


@dataclass(frozen=True, eq=False)
class Contents:
    """All that a report shows.

    Parameters
    ----------
    problems
        By name.
    absent
        Runs that were begun and have no record.
    source
        The folder, as it was given.
    """

    problems: tuple[Problem, ...]
    absent: tuple[Absent, ...]
    source: str

    @cached_property
    def groups(self) -> list[Group]:
        """All configurations."""
        return [group for problem in self.problems for group in problem.groups]

    @cached_property
    def methods(self) -> list[str]:
        """All methods, by name."""
        return sorted({group.method for group in self.groups})

    @cached_property
    def records(self) -> list[Record]:
        """All records."""
        return [record for group in self.groups for record in group.records]

    def distance_to_iid(self, group: Group) -> list[float] | Undefined:
        """How much less each seed retained than the same run with all tasks' examples mixed, where there is one."""
        mixed: dict[str, Record] = {}
        for other in self.groups:
            if other.method == group.method and other.configuration.get("order") == "iid" and other is not group:
                mixed |= {_apart_from_order(record): record for record in other.records}
        found = [
            distance_to_iid(record, mixed[same])
            for record in group.records
            if (same := _apart_from_order(record)) in mixed
        ]
        return found or Undefined("there is no run with --order iid that is the same in all else")


def read(root: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> Contents:
    """Read all runs of a folder.

    Parameters
    ----------
    root
        The folder, as ``metareplay run --out`` fills it.
    progress
        Told how many runs were read, of how many.

    Raises
    ------
    BadInput
        If it is not there, or holds no run.
    """
    if not root.is_dir():
        raise BadInput(f"there is no folder {root}; `metareplay run … --out {root}` would make it")
    found = runs.find(root)
    records, absent = [], []
    for done, run in enumerate(found):
        progress(done, len(found))
        record = run.record()
        if record is not None:
            records.append(record)
        else:
            absent.append(_absent(run))
    if not found:
        raise BadInput(f"there are no runs in {root}: `metareplay run … --out {root}` puts one there")
    return contents(records, absent, str(root))


def contents(records: Iterable[Record], absent: Sequence[Absent] = (), source: str = "") -> Contents:
    """Put records into their problems."""
    problems: dict[str, list[Group]] = {}
    for group in groups(records):
        problems.setdefault(group.problem, []).append(group)
    return Contents(tuple(Problem(name, tuple(found)) for name, found in problems.items()), tuple(absent), source)


def retained(group: Group) -> float:
    """The mean retained accuracy, which always has a meaning."""
    mean = group.mean("retained_accuracy")
    assert not isinstance(mean, Undefined)
    return mean


def _absent(run: runs.Run) -> Absent:
    status = run.status()
    told = status.configuration or {}
    hyperparameters = told.get("hyperparameters", {})
    memories = f", {hyperparameters['memories']} memories" if "memories" in hyperparameters else ""
    name = f"{told['benchmark']}, {told['method']}{memories}, seed {told['seed']}" if "seed" in told else "not known"
    why = status.message or ""
    if status.examples is not None:
        why = f"{why} {status.examples} examples were learned.".strip()
    return Absent(name, status.state, why, run.key)


def _apart_from_order(record: Record) -> str:
    other = ("order", "task_order", "eval_every")
    return repr(sorted((name, value) for name, value in record.configuration.items() if name not in other))
