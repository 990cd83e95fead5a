"""What a suite file says: blocks of one benchmark, one method and lists of values; and all that is wrong with it."""

import contextlib
import itertools
import json
import math
import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from metareplay import methods, networks
from metareplay.errors import BadInput, with_flags
from metareplay.methods import METHODS
from metareplay.runs import recipes
from metareplay.runs.experiment import Experiment
from metareplay.runs.request import Request
from metareplay.settings import Hyperparameter, brief, hyperparameters, nearest
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.catalogue import BENCHMARKS
from metareplay.streams.stream import Stream
from metareplay.suites.plan import RUN_OPTIONS, flat, short, stream

KEYS = ("name", "seeds", "benchmarks", "methods", "run", "exclude", "include", "compare", "controls", "tuned")
CONTROLS = {"er-matched": "gradients", "er-matched:seconds": "seconds"}
"""Controls that may be asked for, and the cost that each has in common with its method."""
PUBLISHED = "published"
ENDS = ("", *("]" + "".join(others) for n in range(4) for others in itertools.product("]}", repeat=n)))
MOST = 100_000  # runs that a suite may have; a grid gets to more by mistake
KINDS = {
    "run": ("run",),
    "benchmarks": ("stream", "run"),
    "methods": ("settings", "run"),
    "include": ("settings", "stream", "run"),
}
"""What kinds of options may be written in each part of a file."""
Place = tuple[str | int, ...]
"""How to get to a value in a file: keys, and numbers of elements: ``("benchmarks", 1, "tasks")``."""
Options = dict[str, tuple[Place, Any]]  # by name where it is written, and its value or list of values
Named = tuple[Place, str]  # where a benchmark or a method is named, and its name
Asked = tuple[Request, dict[str, Any]]  # a run that is asked for, and its ``flat``


class SuiteBlock(NamedTuple):
    """One benchmark with one method, and all options of their runs."""

    benchmark: Named
    method: Named
    options: Options
    seeds: Sequence[int]


@dataclass
class Reader:
    """A suite file being read: its content, and as text, its folder, and how many seeds to run instead."""

    content: Mapping[str, Any]
    text: str
    folder: Path
    seeds: int | None
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unfitting: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """What recipes say where none fits, before and behind the methods that they say it of."""
    count: int = 0

    @property
    def noted(self) -> tuple[str, ...]:
        """What the file's author may want to know; of settings that no recipe fits a line for all such methods."""
        unfitting = (f"{before} {', '.join(names)} {behind}" for (before, behind), names in self.unfitting.items())
        return tuple(dict.fromkeys([*unfitting, *self.notes]))

    def requests(self) -> tuple[Request, ...]:
        """All runs of the suite, seed by seed; what cannot be read is left out, and among the problems."""
        content = self.content
        self.refuse_others((), content, KEYS)
        if not isinstance(content.get("name", ""), str):
            self.problem(("name",), f"is {brief(content['name'])}, but must be text")
        if not {"benchmarks", "methods"} & content.keys() and "include" not in content:
            self.problem((), 'has no runs: begin with benchmarks = ["digits-rotations"] and methods = ["online"]')
        seeds = self.seeds_of(("seeds",), content.get("seeds", 1))
        product, included = list(self.product(seeds)), list(self.included(seeds))
        asked = self.without_excluded([run for block in product for run in self.runs(block)])
        asked += [run for block in included for run in self.runs(block)]
        unique: dict[str, Request] = {}
        for request, everything in asked:
            unique.setdefault(json.dumps(everything, sort_keys=True), request)
        if len(unique) < len(asked):
            text = f"Of {len(asked)} runs that are asked for, only {len(unique)} differ: each of these runs once."
            self.notes.append(text)
        if not unique and not self.problems:
            lacking = [name for name in ("benchmarks", "methods") if not content.get(name)]
            why = f"it names no {' and no '.join(lacking)}" if lacking else "all are excluded"
            self.problem((), f"asks for no runs: {why}")
        return tuple(sorted(unique.values(), key=lambda request: request.run["seed"]))

    def beside(self, requests: Sequence[Request]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Which of the methods are to be compared, and the controls that are asked for."""
        compare, controls = (self.names((name,), self.content.get(name, [])) for name in ("compare", "controls"))
        for place, name in controls:
            if name not in CONTROLS:
                hint = nearest(name, CONTROLS) or f"; the controls are {', '.join(CONTROLS)}"
                self.problem(place, f"is {brief(name)}, which is no control{hint}")
        there = {*(short(request.method) for request in requests), *(["er-matched"] if controls else [])}
        for place, name in compare if requests else ():  # METHOD or METHOD:SETTING=VALUE,…
            if (method := re.sub(r":[^:]*=.*", "", name)) not in there:
                there_are = f"{', '.join(sorted(there))}{nearest(method, there)}"
                self.problem(place, f"is {brief(name)}, but what runs is {there_are}")
        return tuple(name for _, name in compare), tuple(name for _, name in controls)

    def problem(self, place: Place, text: str) -> None:
        """Note what is wrong with the value at a place, as a sentence whose subject is the place."""
        in_file = re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), text)
        self.problems.append((line_of(self.text, place), f"{_written(place)}{in_file}"))

    def refuse_others(self, place: Place, given: Iterable[str], known: Iterable[str]) -> None:
        """Note each name that is not known."""
        known = list(known)
        for name in given:
            if name not in known:
                hint = _owners(name) or nearest(name, known) or f"; there are {', '.join(known)}"
                self.problem((*place, name), f"is not known here{hint}")

    def refuse_absurd(self, place: Place, value: Any) -> None:
        """Note each whole number beyond 64 bits, TOML's own limit: not every one of these can be shown."""
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, each in inside:
            self.refuse_absurd((*place, key), each)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self.problem(place, f"is a number of {value.bit_length()} bits, but TOML's whole numbers have at most 64")

    def table(self, place: Place, value: Any) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self.problem(place, f"is {brief(value)}, but must be a table")
        return {}

    def tables(self, name: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """The tables of ``[[name]]``."""
        value = self.content.get(name, [])
        if not isinstance(value, list):
            self.problem((name,), f"must be written in two pairs of brackets, as [[{name}]]")
            return
        for i, each in enumerate(value):
            yield (name, i), self.table((name, i), each)

    def seeds_of(self, place: Place, value: Any) -> Sequence[int]:
        """How many seeds, from 0, or which."""
        given = value if isinstance(value, list) else [value]
        whole = bool(given) and all(type(seed) is int and seed >= 0 for seed in given)
        if not whole or value == 0:
            self.problem(place, f"is {brief(value)}, but must say how many seeds, as in 5, or which, as in [0, 1, 7]")
            return ()
        return range(self.seeds) if self.seeds is not None else given if isinstance(value, list) else range(value)

    def product(self, seeds: Sequence[int]) -> Iterator[SuiteBlock]:
        """Each benchmark with each method, as ``benchmarks``, ``methods`` and ``[run]`` have them."""
        run = _options(("run",), self.table(("run",), self.content.get("run", {})))
        methods = None if self.content.get("methods") == PUBLISHED else list(self.methods())
        for benchmark, own in self.benchmarks():
            for method, settings in self.published(benchmark) if methods is None else methods:
                yield SuiteBlock(benchmark, method, {**run, **own, **settings}, seeds)

    def benchmarks(self) -> Iterator[tuple[Named, Options]]:
        for place, each in _each(("benchmarks",), self.content.get("benchmarks", [])):
            table = {"name": each} if isinstance(each, str) else self.table(place, each)
            if "name" in table:
                options = _options(place, table, but=("name",))
                yield from (((place, name), options) for _, name in self.names((*place, "name"), table["name"]))
            elif isinstance(each, dict):
                self.problem(place, 'says no name, as in { name = "digits-rotations", tasks = 5 }')

    def methods(self) -> Iterator[tuple[Named, Options]]:
        value = self.content.get("methods", [])
        if isinstance(value, dict):
            for name, tables in value.items():
                for place, each in _each(("methods", name), tables):
                    yield (place, name), _options(place, self.table(place, each))
        else:
            yield from ((named, {}) for named in self.names(("methods",), value))

    def published(self, benchmark: Named) -> list[tuple[Named, Options]]:
        place, found = ("methods",), list[tuple[Named, Options]]()
        for name in METHODS:
            if entries := _published(benchmark[1], name):
                found.append(((place, name), {"memories": (place, PUBLISHED)} if "memories" in entries[0] else {}))
        if not found:
            self.problem(benchmark[0], f'has no published settings: say which methods, not methods = "{PUBLISHED}"')
        return found

    def included(self, default_seeds: Sequence[int]) -> Iterator[SuiteBlock]:
        """Each benchmark with each method of every ``[[include]]``."""
        for place, table in self.tables("include"):
            if not {"benchmark", "method"} <= table.keys():
                self.problem(place, 'must say at least a benchmark and a method: benchmark = "…", method = "…"')
                continue
            seeds = self.seeds_of((*place, "seeds"), table["seeds"]) if "seeds" in table else default_seeds
            named, options = ("benchmark", "method"), _options(place, table, but=("benchmark", "method", "seeds"))
            for benchmark, method in itertools.product(*(self.names((*place, what), table[what]) for what in named)):
                yield SuiteBlock(benchmark, method, options, seeds)

    def names(self, place: Place, value: Any) -> list[Named]:
        found = _each(place, value)
        for where, each in found:
            if not isinstance(each, str):
                self.problem(where, f"is {brief(each)}, but must be a name, as text")
        return [named for named in found if isinstance(named[1], str)]

    def own_file(self, text: str) -> str:
        """Where a user's own file, or FILE.py:NAME, is if seen from the suite's folder; other names as they are."""
        if text in {*BENCHMARKS, *METHODS, *networks.NETWORKS}:
            return text
        file, colon, name = text.rpartition(":") if ".py:" in text else (text, "", "")
        there = (self.folder / Path(file).expanduser()).absolute()
        return f"{there}{colon}{name}" if colon or file.endswith(".py") or there.exists() else text

    def runs(self, block: SuiteBlock) -> list[Asked]:
        """All runs of a block: every combination of its values, each with every seed."""
        grid = self.grid(block)
        if grid is None or not all(grid.values()):  # what is wrong is among the problems
            return []
        each, before = math.prod(map(len, grid.values())), self.count
        self.count += each * len(block.seeds)
        if self.count > MOST:
            if before <= MOST:
                text = f"asks for {self.count - before} runs, {each} for each of {len(block.seeds)} seeds"
                self.problem(block.method[0], f"{text}; a suite may have {MOST} at most: give fewer values")
            return []
        return [
            (replace(request, run={**request.run, "seed": seed}), everything | {"seed": seed})
            for request in self.combinations(grid, block)
            for everything in [flat(request)]
            for seed in block.seeds
        ]

    def combinations(self, grid: Mapping[tuple[str, str], list[Any]], block: SuiteBlock) -> Iterator[Request]:
        for values in itertools.product(*grid.values()):
            chosen: dict[str, dict[str, Any]] = {"settings": {}, "stream": {}, "run": {}}
            for (kind, name), value in zip(grid, values, strict=True):
                chosen[kind][name] = value
            request = Request(self.own_file(block.benchmark[1]), self.own_file(block.method[1]), **chosen)
            if self.fits_together(request, block):
                yield request

    def grid(self, block: SuiteBlock) -> dict[tuple[str, str], list[Any]] | None:
        """By kind and name of each option its values; None where there is no such benchmark or method."""
        benchmark = self.usable(block.benchmark, benchmarks.find)
        method = self.usable(block.method, methods.find)
        known: dict[str, dict[str, Hyperparameter] | None] = {
            "settings": method and {each.name: each for each in hyperparameters(method)},
            "stream": benchmark and {each.name: each for each in benchmark.options},
            "run": RUN_OPTIONS,
        }
        grid: dict[tuple[str, str], list[Any]] = {}
        for name, (place, value) in block.options.items():
            kinds = {kind: known[kind] for kind in KINDS[str(place[0])]}
            kind = next((kind for kind, options in kinds.items() if options and name in options), None)
            if kind == "settings" and name == "memories" and value == PUBLISHED:
                entries = _published(block.benchmark[1], block.method[1])
                grid[kind, name] = [entry["memories"] for entry in entries]
                if not entries:
                    text = f"nothing was published for {short(block.method[1])} on {short(block.benchmark[1])}"
                    self.problem(place, f"is {PUBLISHED!r}, but {text}: give numbers")
            elif kind:
                grid[kind, name] = self.values(place, value, (kinds[kind] or {})[name])
            elif None not in kinds.values():  # else it may be an option of what is not known
                self.refuse_others(place[:-1], [name], itertools.chain(*(options or () for options in kinds.values())))
        return None if benchmark is None or method is None else grid

    def usable(self, named: Named, find: Callable[[str], Any]) -> Any:
        """The benchmark or method of that name; None where there is none."""
        try:
            return find(self.own_file(named[1]))
        except (ValueError, OSError, RuntimeError) as error:  # also of names that no file can have
            self.problem(named[0], f"cannot be used: {with_flags(error)}")
            return None

    def values(self, place: Place, value: Any, option: Hyperparameter) -> list[Any]:
        """A value or a list of values: those of the right type and within their range."""
        if value == []:
            self.problem(place, "is an empty list, but must have a value at least")
        return [one for where, each in _each(place, value) for one in self.checked(where, each, option)]

    def checked(self, place: Place, value: Any, option: Hyperparameter) -> list[Any]:
        """The value alone, or nothing where it is wrong."""
        try:
            value = option.check(value)
            return [self.own_file(value) if option.name in ("network", "from") else value]
        except BadInput as error:
            self.problem(place, with_flags(error).removeprefix(f"{option.flag} "))
            return []

    def fits_together(self, request: Request, block: SuiteBlock) -> bool:
        """Whether the settings go with each other and with the data."""
        before = len(self.problems)
        try:
            _, method, run = request.resolved()
            if (stream := self.stream(request, block)) is not None:
                Experiment(stream=stream, method=method, **run)
        except BadInput as error:
            self.blame(error, request, block, block.method[0], f"does not go with {short(request.benchmark)}: ")
            return False
        _, note = request.defaults()
        if note and {parameter.name for parameter in hyperparameters(type(method))} - request.settings.keys():
            before_it, _, behind = note.partition(f" {request.method} ")
            self.unfitting.setdefault((before_it, behind), {})[request.method] = None
        return len(self.problems) == before

    def stream(self, request: Request, block: SuiteBlock) -> Stream | None:
        """The stream; None where it cannot be made."""
        try:
            return stream(request, fetch=False)
        except BadInput as error:
            self.blame(error, request, block, block.benchmark[0], "cannot be made: ")
            return None

    def blame(self, error: BadInput, request: Request, block: SuiteBlock, place: Place, text: str) -> None:
        """Note an error at the option that it is about, where it begins with one's flag; else at a place."""
        about = re.match(r"--([a-z-]+) (.*)", with_flags(error), re.DOTALL)
        name = about[1].replace("-", "_") if about else ""
        if about is None or name not in block.options:
            self.problem(place, f"{text}{error}")
            return
        where, value = block.options[name]
        taken = {**request.settings, **request.stream, **request.run}[name]
        number = value.index(taken) if isinstance(value, list) and taken in value else None
        self.problem(where if number is None else (*where, number), about[2])

    def without_excluded(self, asked: list[Asked]) -> list[Asked]:
        """The runs that no ``[[exclude]]`` describes."""
        known = {name for _, everything in asked for name in everything}
        for place, table in self.tables("exclude"):
            if not table:
                self.problem(place, "says nothing, which would exclude every run")
                continue
            if asked:  # else all would be unknown
                self.refuse_others(place, table, known)
            wanted = {name: given if isinstance(given, list) else [given] for name, given in table.items()}
            for name in {"benchmark", "method"} & wanted.keys():
                wanted[name] = [self.own_file(str(given)) for given in wanted[name]]
            rest = [run for run in asked if not _described(run[1], wanted)]
            if len(rest) == len(asked) and not self.problems:
                self.problem(place, "excludes nothing: no run has all that it says")
            asked = rest
        return asked


@lru_cache(maxsize=1000)
def line_of(text: str, place: Place) -> int:
    """The line, from 1, that a place of a TOML text begins in, or that of its last part that is there; 0 for none."""
    lines = text.split("\n")

    def read(count: int) -> Any:
        """What so many lines say, an array that goes on behind them being closed; None if they end within a string."""
        for end in ENDS:
            with contextlib.suppress(tomllib.TOMLDecodeError):
                return tomllib.loads("\n".join([*lines[:count], end]))
        return None

    def steps(count: int) -> int:
        """How many steps of the way to the place there are in so many lines."""
        while (inside := read(count)) is None:
            count -= 1
        for number, step in enumerate(place):
            try:
                inside = inside[step]
            except (LookupError, TypeError):
                return number
        return len(place)

    line = bisect_left(range(len(lines) + 1), steps(len(lines)), key=steps)
    while line and read(line - 1) is None:
        line -= 1
    return line


def _each(place: Place, value: Any) -> list[tuple[Place, Any]]:
    """The elements of a list, each with its place; else the value alone."""
    return [((*place, i), each) for i, each in enumerate(value)] if isinstance(value, list) else [(place, value)]


def _options(place: Place, table: Mapping[str, Any], but: Sequence[str] = ()) -> Options:
    return {name: ((*place, name), value) for name, value in table.items() if name not in but}


def _published(benchmark: str, method: str) -> list[dict[str, Any]]:
    return [entry for entry in recipes.entries(benchmark, method) if entry.get("published", True)]


def _described(run: Mapping[str, Any], wanted: Mapping[str, list[Any]]) -> bool:
    return all(
        any((run.get(name, ...), isinstance(run.get(name), bool)) == (value, isinstance(value, bool)) for value in of)
        for name, of in wanted.items()
    )


def _written(place: Place) -> str:
    """A place as one would write it: ``methods.meralg1.memories[0]``, and a space behind it."""
    text = ""
    for step in place:
        plain = isinstance(step, int) or re.fullmatch(r"[\w-]+", step)
        text += f"[{step}]" if isinstance(step, int) else f".{step if plain else json.dumps(step, ensure_ascii=False)}"
    return f"{text.removeprefix('.')} " if place else "it "


def _owners(name: str) -> str:
    """Say whose a name is that stands in the wrong place; empty if it is nobody's."""
    if name in ("seed", "seeds"):
        return "; write seeds = 5 or seeds = [0, 1, 7] above all tables"
    if name in RUN_OPTIONS:
        return "; it is an option of runs: write it below [run]"
    owners = [of for of, method in METHODS.items() if name in {p.name for p in hyperparameters(method)}]
    owners += [of for of, benchmark in BENCHMARKS.items() if name in {option.name for option in benchmark.options}]
    return f"; it belongs to {', '.join(owners)}" if owners else ""
