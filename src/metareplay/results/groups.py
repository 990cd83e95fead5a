"""The runs of a folder, and those of the same configuration put together over their seeds: all results use it."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput, plain
from metareplay.files import read_regular
from metareplay.results import choices
from metareplay.results.choices import Choice
from metareplay.results.statistics import Estimate, Progress, estimate, half_widths
from metareplay.runs.experiment import but_the_seed
from metareplay.runs.folder import Status, find
from metareplay.runs.metrics import CURVES, METRICS, Undefined
from metareplay.runs.record import COUNTED, NUMBERS, Record
from metareplay.settings import nearest

HOW = (
    "method", "method_sha256", "hyperparameters", "hidden", "network", "network_sha256", "normalise", "engine", "device"
)  # fmt: skip
"""The parts of a configuration that say how one learns. The rest is the problem, in which comparable runs agree."""
LOOKS = "looks"  # the folder in a folder of runs in which stands what was looked at while seeds were added
LOOKED_AT = "retained_accuracy"
Values = NDArray[np.float64]


@dataclass
class Comparison:
    """Two configurations, by their ``shared`` parts; of each look the seeds, p, and the level that p had to reach."""

    name: str
    keys: list[str]
    looks: list[tuple[int, float, float]] = field(default_factory=list)
    established: bool = False

    @property
    def spent(self) -> float:
        """The level that went to all its looks."""
        return math.fsum(level for _, _, level in self.looks)

    @property
    def verdict(self) -> str:
        if not self.looks:
            return f"{self.name}: not decided: there were too few seeds, or a run failed"
        n, p, level = self.looks[-1]
        word = "established" if self.established else "not established"
        return f"{self.name}: {word} with {n} seeds (p {p:.2g}, level {level:.2g}, looks: {len(self.looks)})"


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run: its ``Record.summary()``, its record, read when it is first needed, and its folder's name."""

    summary: dict[str, Any]
    load: Callable[[], Record]
    key: str = ""
    looked_at: bool = False  # whether its settings were chosen on the same tasks and seed: nothing is established on it

    @property
    def configuration(self) -> dict[str, Any]:
        return {**self.summary["configuration"]}

    @cached_property
    def numbers(self) -> dict[str, float | Undefined]:
        uncounted = [name for name in COUNTED if self.summary[name] is None]
        undefined = dict.fromkeys(uncounted, "the run was made before it was counted") | self.summary["undefined"]
        found = {name: self.summary[name] for name in (*METRICS, *NUMBERS)}
        return found | {name: Undefined(because) for name, because in undefined.items()}

    @cached_property
    def record(self) -> Record:
        return self.load()


class CurveEstimate(NamedTuple):
    """At ``(n,)`` batches (online accuracy: examples) the mean of so many seeds, and from two its interval."""

    at: Values
    mean: Values
    low: Values | None
    high: Values | None
    seeds: int


@dataclass(eq=False)
class Group:
    """The runs of one configuration, one for each seed."""

    configuration: dict[str, Any]  # what they agree in: without the seed, and without what a seed decides
    runs: tuple[Finished, ...]  # those that are finished, by increasing seed; how many are ``unfinished`` is counted
    unfinished: int
    problem: str = ""
    """The benchmark, and what tells its problem from others of it; the same for all that may be compared."""
    label: str = ""
    """The method, its number of memories, and whatever else tells the group from the others of its problem."""
    tuned: str | None = None
    """Whether it has the settings that a study chose (``yes``) or the untuned ones beside them (``no``), or neither."""
    by_looks: dict[str, bool] = field(default_factory=dict)
    """By the ``shared`` parts of others with which it was compared while seeds were added, what was established."""
    curves: dict[str, CurveEstimate | Undefined] = field(default_factory=dict)

    @property
    def benchmark(self) -> str:
        return str(self.configuration["benchmark"])

    @property
    def method(self) -> str:
        return str(self.configuration["method"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The method's settings, and those of the network and the engine."""
        return flat(self.configuration, lambda name: name in HOW) | ({"tuned": self.tuned} if self.tuned else {})

    @property
    def memories(self) -> int | None:
        """The examples that the method may hold; None where it holds none."""
        return self.settings.get("memories")

    @property
    def short(self) -> str:
        """Its label among groups with as many memories: mostly its method."""
        return self.label.replace(f", {self.memories} memories", "", 1)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(run.configuration["seed"]) for run in self.runs)

    @cached_property
    def looked_at(self) -> tuple[int, ...]:
        """The seeds on which its settings were chosen, or on whose tasks."""
        return tuple(seed for seed, run in zip(self.seeds, self.runs, strict=True) if run.looked_at)

    def values(self, name: str) -> Values | Undefined:
        """A metric or cost (``steps``, …) of each seed, ``(seeds,)``, in their order; BadInput if there is no such."""
        if name not in METRICS and name not in NUMBERS:
            raise BadInput(f"there is no metric {name!r}{nearest(name, METRICS) or ';'} there are {', '.join(METRICS)}")
        found = [run.numbers[name] for run in self.runs]
        return next((value for value in found if isinstance(value, Undefined)), None) or np.array(found, np.float64)

    def mean(self, name: str) -> float | Undefined:
        return values if isinstance(values := self.values(name), Undefined) else float(values.mean())

    def interval(self, name: str) -> Estimate | Undefined:
        return values if isinstance(values := self.values(name), Undefined) else estimate(values)

    @cached_property
    def accuracy(self) -> Values:
        """The mean of the records' accuracy matrices; column j is the j-th task met, whichever that was."""
        return np.asarray(np.mean([run.record.accuracy for run in self.runs], axis=0))

    def curve(self, name: str) -> CurveEstimate | Undefined:
        """One of ``metrics.CURVES`` over seeds: ``average_accuracy``, ``first_task``, ``online_accuracy``."""
        if name not in CURVES:
            raise BadInput(f"there is no curve {name!r}{nearest(name, CURVES) or ';'} there are {', '.join(CURVES)}")
        if name not in self.curves:
            self.curves[name] = self._curve(name)
        return self.curves[name]

    def _curve(self, name: str) -> CurveEstimate | Undefined:
        curves = []
        for run in self.runs:
            if isinstance(curve := CURVES[name](run.record), Undefined):
                return curve
            curves.append(curve)
        at = curves[0].at
        # Tasks of different sizes in an order that the seed decides are not evaluated at the same moments.
        values = np.array([curve.values if np.array_equal(curve.at, at) else np.interp(at, *curve) for curve in curves])
        mean, half = values.mean(axis=0), half_widths(values)
        low, high = (None, None) if half is None else (mean - half, mean + half)
        return CurveEstimate(np.asarray(at, np.float64), mean, low, high, len(curves))


class Contents(NamedTuple):
    """What a folder of runs holds: its configurations, the runs not finished, where it is, how settings were chosen."""

    groups: list[Group]
    unfinished: Sequence[Status] = ()
    source: str = ""
    choices: Sequence[Choice] = ()

    @property
    def problems(self) -> dict[str, list[Group]]:
        """The configurations that can be compared with each other, by the problem's name."""
        return by_problem(self.groups)


def by_problem(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Those that can be compared with each other, together."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.problem, []).append(group)
    return found


def load(root: Path, progress: Progress = lambda done, of: None) -> Contents:
    """Read all runs of a folder, as ``metareplay run --out`` fills it; BadInput if it is not there."""
    if not root.is_dir():
        raise BadInput(f"there is no folder {root}: `metareplay run` and `metareplay suite` make one (--out)")
    found, chosen = find(root), choices.load(root)
    finished, unfinished = [], []
    for done, run in enumerate(found):
        progress(done, len(found))
        if (summary := (status := run.status()).summary) is None:
            unfinished.append(status)
            continue
        if not METRICS.keys() <= summary.keys():  # of a version that had fewer metrics
            summary |= Record.load(run.folder).summary()
        looked_at = any(choice.looked_at(summary["configuration"]) for choice in chosen)
        finished.append(Finished(summary, partial(Record.load, run.folder), run.key, looked_at))
    made = groups(finished, chosen)
    by_key = {shared(group.configuration): group for group in made}
    for keys, comparison in looks(root).items():
        for key in keys & by_key.keys():
            by_key[key].by_looks |= dict.fromkeys(keys - {key}, comparison.established)
    return Contents(made, unfinished, str(root), chosen)


def looks(root: Path) -> dict[frozenset[str], Comparison]:
    """What was looked at while seeds were added, by both keys; of one in several files, with all its looks."""
    found: dict[frozenset[str], Comparison] = {}
    for path in sorted((root / LOOKS).glob("*.json")):
        try:
            for saved in json.loads(read_regular(path)):
                one = Comparison(**saved)
                keys = frozenset(one.keys)
                one.looks = [(int(n), float(p), float(level)) for n, p, level in one.looks]
                if len(keys) != 2 or not isinstance(saved["established"], bool) or not 0 <= one.spent <= 1:
                    raise ValueError("it is no comparison")
                if one.looks and (keys not in found or len(found[keys].looks) < len(one.looks)):
                    found[keys] = one
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadInput(f"{path} cannot be read ({error}); delete it, and look again") from error
    return found


def shared(configuration: Mapping[str, Any]) -> str:
    """What runs of one configuration share, as text."""
    return json.dumps(but_the_seed(configuration), sort_keys=True)


def groups(runs: Iterable[Record | Finished | Status], chosen: Sequence[Choice] = ()) -> list[Group]:
    """Runs of one configuration together, by benchmark, problem, method and settings; of one seed the last started."""
    found: dict[str, dict[int, Finished]] = defaultdict(dict)
    unfinished, configurations = Counter[str](), dict[str, dict[str, Any]]()
    for run in runs:
        if run.configuration is None:
            continue
        key = shared(run.configuration)
        configurations.setdefault(key, but_the_seed(run.configuration))
        if isinstance(run, Status):
            unfinished[key] += 1
        else:
            one = Finished(run.summary(), partial(lambda record: record, run)) if isinstance(run, Record) else run
            seed = int(run.configuration["seed"])
            found[key][seed] = max(found[key].get(seed, one), one, key=lambda run: run.summary["started"])
    made = [
        Group(configuration, tuple(run for _, run in sorted(found[key].items())), unfinished[key])
        for key, configuration in configurations.items()
    ]
    for group in made:
        group.tuned = next(filter(None, (choice.tuned(group.configuration) for choice in chosen)), None)
    learned = [flat(group.configuration, lambda name: name not in (*HOW, "benchmark")) for group in made]
    for group, telling in zip(made, distinguishing(learned, [group.benchmark for group in made]), strict=True):
        group.problem = plain(", ".join([group.benchmark, *telling]))
    families = [(group.problem, group.method, group.memories) for group in made]
    for group, telling in zip(made, distinguishing([group.settings for group in made], families), strict=True):
        size = [] if group.memories is None else [f"{group.memories} memories"]
        group.label = plain(", ".join([group.method, *size, *telling]))
    return sorted(made, key=lambda g: (g.benchmark, g.problem, g.method, -(g.memories or 0), g.label))


def distinguishing(settings: list[dict[str, Any]], families: list[Any], always: str = "") -> list[list[str]]:
    """The settings that distinguish each configuration from others of its family, as text: ``["lr=0.03"]``."""
    members: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for family, own in zip(families, settings, strict=True):
        members[family].append(own)
    names = {family: differing(own) | {always} for family, own in members.items()}
    return [
        [_as_text(name, value) for name, value in own.items() if name in names[family]]
        for family, own in zip(families, settings, strict=True)
    ]


def differing(members: list[dict[str, Any]]) -> set[str]:
    """The names that do not have one value in all members, or that some do not have."""
    names = {name for member in members for name in member}
    return {name for name in names if len({repr(member.get(name, ...)) for member in members}) > 1}


def flat(configuration: dict[str, Any], chosen: Callable[[str], bool], in_order: bool = False) -> dict[str, Any]:
    """The chosen parts of a configuration, nested ones by their own name; ``task_order`` if unusual or ``in_order``."""
    settings: dict[str, Any] = {}
    order = configuration.get("task_order", [])
    usual = order == list(range(configuration.get("stream", {}).get("tasks", len(order))))
    for name, value in configuration.items():
        if chosen(name) and name != "method" and (in_order or name != "task_order" or not usual):
            settings |= value if isinstance(value, dict) else {name: value}
    return settings


def in_short(value: object) -> str:
    """A setting's value: ``0.03``, ``100-100``, the beginning of a SHA-256."""
    text = "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text[:8] if isinstance(value, str) and len(value) == 64 else text


def _as_text(name: str, value: Any) -> str:
    """A setting in a few characters: ``lr=0.03``, ``hidden=100-100``."""
    text = in_short(value)
    if name.endswith("_sha256"):
        return f"{name.removesuffix('_sha256')} {text[:8]}"
    if len(text) > 40:  # an order of many tasks
        text = f"{text[:20]}… ({hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:4]})"
    return f"{name}={text}"


def spread(length: int, most: int) -> list[int]:
    """At most so many numbers of 0 … length − 1, evenly spread, the last among them."""
    return list(range(length - 1, -1, -math.ceil(length / most)))[::-1]
