"""Study files: which settings are searched, and by which protocol, which keeps that apart from what is reported."""

import contextlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from metareplay import methods
from metareplay.errors import BadInput
from metareplay.runs.metrics import METRICS
from metareplay.runs.request import Request
from metareplay.settings import Hyperparameter, Range, hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.studies.search import MADE, Searched, Space
from metareplay.suites.plan import short, stream
from metareplay.suites.reader import Place, Reader
from metareplay.suites.suite import parse, refuse

BETTER_HIGH = [name for name, metric in METRICS.items() if metric.higher_is_better]
SEED = 1000  # the first of the seeds that trials have: far from those that anybody reports
KEYS = (
    "name", "seeds", "benchmarks", "methods", "run", "protocol", "search", "trials", "metric", "compare", "controls"
)  # fmt: skip
OPTIONS = (
    Hyperparameter("trials", int, None, "[1, 100000]", "how many settings are tried", optional=True),
    Hyperparameter("metric", str, "retained_accuracy", "", "what is compared", tuple(BETTER_HIGH)),
    Hyperparameter("search", str, None, "", "who chooses what is tried", tuple(MADE), optional=True),
)
PROTOCOLS = {
    "first-tasks": Hyperparameter("first_tasks", int, None, "[1, inf)", "how many tasks settings are chosen on"),
    "validation": Hyperparameter("validation", float, None, "(0, 1)", "the share of training images held out"),
    "seeds": Hyperparameter("seeds", int, None, "[1, inf)", "how many other seeds settings are chosen on"),
}


@dataclass(frozen=True)
class Study:
    """One method on one benchmark: what is reported, with untuned settings, and where each setting is searched."""

    request: Request
    space: Space
    protocol: str
    search: str
    metric: str
    trials: int | None

    @property
    def seeds(self) -> range:
        """Of each trial."""
        kind, _, value = self.protocol.partition(":")
        return range(SEED, SEED + (int(value) if kind == "seeds" else 1))

    @property
    def runs(self) -> int:
        """How many runs its trials take, if none is given up."""
        return len(self.seeds) * (1 + MADE[self.search](self.space, self.trials).trials)

    def apart(self) -> tuple[Request, Request]:
        """What trials run, and what is reported; BadInput if the protocol does not go with the stream."""
        kind, _, value = self.protocol.partition(":")
        request = self.request
        if kind == "stream":
            if value == request.benchmark:
                to_do = "choose settings on another benchmark"
                raise BadInput(f"protocol is {self.protocol}, but that is reported: {to_do}")
            return replace(request, benchmark=value, stream={}), request
        if kind == "validation":
            return replace(request, stream={**request.stream, "held_out": float(value)}), request
        if kind == "seeds":
            return request, request
        tasks, most = len(stream(request, fetch=False).tasks), int(value)
        if most >= tasks:
            has = f"{request.benchmark} has {tasks} tasks"
            raise BadInput(f"protocol is {self.protocol}, but {has}: leave some to report")
        parts = (f"0-{most - 1}", f"{most}-{tasks - 1}")
        one, other = (replace(request, run={**request.run, "task_order": part}) for part in parts)
        return one, other


@dataclass(frozen=True)
class StudyFile:
    """What a study file asks for: its name, its studies, the seeds that are reported, and what else the suite says."""

    name: str
    studies: tuple[Study, ...]
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()
    passed: Mapping[str, Any] = field(default_factory=dict)


def read(file: str | Path) -> StudyFile:
    """Read a study file and check all of it; BadInput lists all that is wrong, each with its line."""
    path, reader = parse(file)
    content = reader.content
    reader.refuse_others((), content, KEYS)
    checked = (reader.checked((each.name,), content.get(each.name, each.default), each) for each in OPTIONS)
    trials, metric, search = ((found or [None])[0] for found in checked)
    metric, search = metric or "", search or ("tpe" if importlib.util.find_spec("optuna") else "random")
    protocol = _protocol(reader, content.get("protocol"))
    seeds = tuple(reader.seeds_of(("seeds",), content.get("seeds", 10)))
    if protocol.startswith("seeds:") and (used := set(seeds) & set(range(SEED, SEED + int(protocol[6:])))):
        reader.problem(("seeds",), f"are to be reported, but settings are chosen on {min(used)}: name others")
    studies: list[Study] = []
    for block in reader.product(seeds[:1]):
        scales: dict[str, Literal["log", "linear"]] = {}
        for name, (place, value) in block.options.items():
            if place[0] == "methods" and isinstance(value, dict):
                scales[name], ends = _range(reader, place, value)
                block.options[name] = place, ends
        grid = reader.grid(block)
        if grid is None or reader.problems:
            continue
        kind = methods.find(reader.own_file(block.method[1]))
        own, searched = {parameter.name: parameter for parameter in hyperparameters(kind)}, dict[str, Searched]()
        for (what, name), values in grid.items():
            if what == "settings" and (scale := scales.get(name)):
                searched[name] = Searched(Range(values[0], values[1], scale), own[name].type)
            elif what == "settings" and len(values) > 1:
                searched[name] = Searched(tuple("none" if v is None else v for v in values), own[name].type)
        others = {key: values for key, values in grid.items() if key[0] != "settings" or key[1] not in searched}
        if not searched:
            free = (p for name, p in own.items() if p.search and ("settings", name) not in others)
            searched = {parameter.name: Searched(parameter.search, parameter.type) for parameter in free}
        if not searched:
            reader.problem(block.method[0], "has nothing to search: give it lr = { low = 1e-3, high = 1, log = true }")
            continue
        for request in reader.combinations(others, block):
            whole = {**request.defaults()[0], **request.settings}
            study = Study(replace(request, settings=whole), searched, protocol, search, metric, trials)
            if study in studies:
                reader.problem(block.method[0], f"asks for {short(request.method)} twice: once is enough")
            studies.append(study)
    if not studies and not reader.problems:
        reader.problem((), 'asks for nothing: begin with benchmarks = ["digits-rotations"] and methods = ["eralg4"]')
    compare, controls = reader.beside([study.request for study in studies])
    refuse(path, reader)
    for study in studies:
        MADE[search](study.space, trials)  # complains of a grid that does not fit
    tuned = [name if "=" in name or name == "er-matched" else f"{name}:tuned=yes" for name in compare]
    passed = {name: values for name, values in (("compare", tuned), ("controls", list(controls))) if values}
    return StudyFile(content.get("name", path.stem), tuple(studies), seeds, reader.noted, passed)


def _protocol(reader: Reader, given: Any) -> str:
    kind, _, value = str(given).partition(":")
    if kind not in (*PROTOCOLS, "stream") or not value:
        known = '"seeds:3", "first-tasks:3", "validation:0.1" or "stream:digits-permutations"'
        place: Place = ("protocol",) if given is not None else ()
        reader.problem(place, f"must say what settings are chosen on: protocol = {known}")
        return "seeds:1"
    if kind == "stream":
        reader.usable((("protocol",), value), benchmarks.find)
        return f"stream:{reader.own_file(value)}"
    typed: Any = value
    with contextlib.suppress(ValueError):
        typed = PROTOCOLS[kind].type(value)
    reader.checked(("protocol",), typed, PROTOCOLS[kind])
    return str(given)


def _range(reader: Reader, place: Place, table: dict[str, Any]) -> tuple[Literal["log", "linear"], list[Any]]:
    """The scale of a range, and both of its ends, as all else checks them."""
    low, high, log = table.get("low", 0), table.get("high", 0), table.get("log", False)
    fine = table.keys() <= {"low", "high", "log"} and isinstance(log, bool)
    if not fine or not all(isinstance(end, int | float) for end in (low, high)) or not low < high:
        reader.problem(place, "must be { low = 1e-3, high = 1, log = true }, low below high")
    elif log and low <= 0:
        reader.problem((*place, "low"), f"is {low}, but a range by its logarithm begins above 0")
    return "log" if log else "linear", [low, high]
