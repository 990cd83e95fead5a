"""Records of the same configuration, put together over their seeds: what tables, comparisons and reports stand on."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.results.statistics import Estimate, estimate, half_widths
from metareplay.runs.metrics import CURVES, METRICS, Curve, Undefined
from metareplay.runs.record import NUMBERS, Record

HOW = ("method", "method_sha256", "hyperparameters", "hidden", "network", "network_sha256", "engine", "device")
"""The parts of a configuration that say how one learns. The rest is the problem, in which comparable runs agree."""


@dataclass(frozen=True)
class CurveEstimate:
    """A curve along the stream over several seeds.

    Parameters
    ----------
    at
        ``(n,)`` batches learned, or examples for the online accuracy.
    mean, low, high
        ``(n,)`` the mean over seeds and the ends of its 95 % interval; the ends are None with one seed.
    seeds
        How many.
    """

    at: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None
    seeds: int


@dataclass(frozen=True, eq=False)
class Group:
    """The records of one configuration, one for each seed.

    Parameters
    ----------
    configuration
        What the records agree in: their configuration without the seed, and without what a seed decides.
    records
        By increasing seed.
    label
        The method, its number of memories, and whatever else tells the group from the others of its problem.
    problem
        The benchmark, and whatever tells its problem from the others of that benchmark.
    """

    configuration: dict[str, Any]
    records: tuple[Record, ...]
    label: str = field(default="", kw_only=True)
    problem: str = field(default="", kw_only=True)

    @property
    def benchmark(self) -> str:
        """The benchmark's name."""
        return str(self.configuration["benchmark"])

    @property
    def method(self) -> str:
        """The method's id."""
        return str(self.configuration["method"])

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The method's settings."""
        return dict(self.configuration["hyperparameters"])

    @property
    def settings(self) -> dict[str, Any]:
        """The method's settings, and those of the network and the engine."""
        return _flat(self.configuration, inside=True)

    @property
    def memories(self) -> int | None:
        """The examples that the method may hold; None where it holds none."""
        return self.hyperparameters.get("memories")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, increasing."""
        return tuple(int(record.configuration["seed"]) for record in self.records)

    @cached_property
    def problem_key(self) -> str:
        """The same text for all groups that may be compared seed by seed."""
        return _canonical({name: value for name, value in self.configuration.items() if name not in HOW})

    def values(self, metric: str) -> NDArray[np.float64] | Undefined:
        """A metric or a cost (``steps``, ``train_seconds``, …) of each seed, ``(seeds,)``, in the order of ``seeds``.

        Raises
        ------
        BadInput
            If there is no such metric.
        """
        if metric in NUMBERS:
            return np.array([getattr(record, metric) for record in self.records], np.float64)
        if metric not in METRICS:
            raise BadInput(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
        found = [record.metrics[metric] for record in self.records]
        for value in found:
            if isinstance(value, Undefined):
                return value
        return np.array(found, np.float64)

    def mean(self, metric: str) -> float | Undefined:
        """The mean over seeds."""
        values = self.values(metric)
        return values if isinstance(values, Undefined) else float(values.mean())

    def interval(self, metric: str) -> Estimate | Undefined:
        """The mean over seeds with its 95 % interval."""
        values = self.values(metric)
        return values if isinstance(values, Undefined) else estimate(values)

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """The mean of the records' accuracy matrices; column j is the j-th task met, whichever that was."""
        return np.asarray(np.mean([record.accuracy for record in self.records], axis=0))

    def curve(self, name: str) -> CurveEstimate | Undefined:
        """One of ``metrics.CURVES`` over seeds: ``average_accuracy``, ``first_task``, ``online_accuracy``."""
        if name not in CURVES:
            raise BadInput(f"there is no curve {name!r}; there are {', '.join(CURVES)}")
        curves: list[Curve] = []
        for record in self.records:
            found = CURVES[name](record)
            if isinstance(found, Undefined):
                return found
            curves.append(found)
        at = curves[0].at
        # Tasks of different sizes in an order that the seed decides are not evaluated at the same moments.
        values = np.array([curve.values if np.array_equal(curve.at, at) else np.interp(at, *curve) for curve in curves])
        mean, half = values.mean(axis=0), half_widths(values)
        low, high = (None, None) if half is None else (mean - half, mean + half)
        return CurveEstimate(np.asarray(at, np.float64), mean, low, high, len(curves))


def groups(records: Iterable[Record]) -> list[Group]:
    """Put records of the same configuration together, by benchmark, problem, method and settings.

    Of two records of one configuration and one seed, that which was started last counts.
    """
    found: dict[str, dict[int, Record]] = defaultdict(dict)
    configurations: dict[str, dict[str, Any]] = {}
    for record in records:
        shared = _without_seed(record.configuration)
        key = _canonical(shared)
        configurations.setdefault(key, shared)
        seed = int(record.configuration["seed"])
        if seed not in found[key] or found[key][seed].started < record.started:
            found[key][seed] = record
    made = [Group(configurations[key], tuple(of for _, of in sorted(found[key].items()))) for key in found]
    return _labelled(made)


def _without_seed(configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration without its seed, and without the order of tasks where that is drawn from the seed."""
    drawn = {"seed"} | ({"task_order"} if configuration.get("order") == "shuffled" else set())
    return {name: value for name, value in configuration.items() if name not in drawn}


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _labelled(made: list[Group]) -> list[Group]:
    """The groups, sorted, with names that tell them apart."""
    problems = _telling(made, lambda g: g.benchmark, inside=False)
    settings = _telling(made, lambda g: (g.problem_key, g.method, g.memories), inside=True)
    named = [
        Group(
            group.configuration,
            group.records,
            label=", ".join([group.method, *_size(group), *settings[i]]),
            problem=", ".join([group.benchmark, *problems[i]]),
        )
        for i, group in enumerate(made)
    ]
    return sorted(named, key=lambda g: (g.benchmark, g.problem, g.method, -(g.memories or 0), g.label))


def _size(group: Group) -> list[str]:
    return [] if group.memories is None else [f"{group.memories} memories"]


def _telling(made: list[Group], family: Callable[[Group], Any], *, inside: bool) -> list[list[str]]:
    """For each group the values in which its family differs, of the method's side or the problem's."""
    values = [_flat(group.configuration, inside=inside) for group in made]
    families: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for group, value in zip(made, values, strict=True):
        families[family(group)].append(value)
    telling = {which: differing(members) for which, members in families.items()}
    return [
        [told(name, mine) for name, mine in value.items() if name in telling[family(group)]]
        for group, value in zip(made, values, strict=True)
    ]


def differing(members: list[dict[str, Any]]) -> set[str]:
    """The names that do not have one value in all members, or that some do not have."""
    found: dict[str, list[str]] = defaultdict(list)
    for member in members:
        for name, value in member.items():
            found[name].append(repr(value))
    return {name for name, told in found.items() if len(told) < len(members) or len(set(told)) > 1}


def _flat(configuration: dict[str, Any], *, inside: bool) -> dict[str, Any]:
    """The values of a configuration that are of the method's side, or the problem's; nested ones by their own name."""
    flat: dict[str, Any] = {}
    for name, value in configuration.items():
        in_order = name == "task_order" and value == list(range(len(value)))
        if (name in HOW) is inside and name not in ("benchmark", "method") and not in_order:
            flat |= value if isinstance(value, dict) else {name: value}
    return flat


def told(name: str, value: Any) -> str:
    """A setting in a few characters: ``lr=0.03``, ``hidden=100-100``."""
    text = "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if name.endswith("_sha256"):
        return f"{name.removesuffix('_sha256')} {text[:8]}"
    if len(text) > 40:  # an order of many tasks
        text = f"{text[:20]}… ({hashlib.sha256(text.encode()).hexdigest()[:4]})"
    return f"{name}={text}"
