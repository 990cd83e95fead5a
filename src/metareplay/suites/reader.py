"""Read what a suite file says, and collect all that is wrong with it."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from metareplay import methods, networks
from metareplay.data import catalogue as sources
from metareplay.errors import BadInput
from metareplay.learners.engines import ENGINES
from metareplay.methods import METHODS
from metareplay.runs import recipes
from metareplay.runs.experiment import ORDERS, Experiment
from metareplay.runs.request import NETWORK, RUN, Request
from metareplay.settings import Hyperparameter, hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.catalogue import BENCHMARKS, Benchmark
from metareplay.streams.stream import Stream
from metareplay.suites.outcome import short
from metareplay.suites.positions import Place

KEYS = ("name", "seeds", "benchmarks", "methods", "run", "exclude", "include")
PUBLISHED = "published"
STAND_IN = ("rotations", "permutations")
"""Kinds of benchmarks that are checked with digits while their own images are not on this machine."""
NAMES = {*BENCHMARKS, *METHODS, *networks.NETWORKS}
CHOICES = {"order": ORDERS, "engine": tuple(ENGINES)}
RUN_OPTIONS = {option.name: option for option in (*NETWORK, *RUN) if option.name != "seed"}

Grid = Mapping[str, tuple[Any, ...]]
"""For each name the values that it takes in turn."""


def flat(request: Request) -> dict[str, Any]:
    """All that decides a run, by name: what is asked for, else what the recipe says, else the default."""
    return {
        "benchmark": request.benchmark,
        "method": request.method,
        **{option.name: option.default for option in benchmarks.find(request.benchmark).options},
        **request.stream,
        **request.defaults()[0],
        **request.settings,
        **{option.name: option.default for option in (*NETWORK, *RUN)},
        **request.run,
    }


class Part(NamedTuple):
    """A benchmark or a method, with the grids of what is its own and of its runs' options.

    Parameters
    ----------
    name
        As ``Request`` takes it.
    place
        Where it is written.
    own
        Options of the stream, or hyper-parameters.
    run
        Options of the run.
    """

    name: str
    place: Place
    own: Grid
    run: Grid


class Asked(NamedTuple):
    """A run that is asked for, and its ``flat``."""

    request: Request
    flat: dict[str, Any]


@dataclass
class Reader:
    """A suite file being read.

    Parameters
    ----------
    content, lines
        What it says, and on which lines.
    folder
        Where it lies: the names of a user's own files are relative to it.
    seeds
        How many seeds to run; None for those that the file says.
    problems
        What is wrong, each with its line.
    notes
        What is worth knowing.
    """

    content: Mapping[str, Any]
    lines: Mapping[Place, int]
    folder: Path
    seeds: int | None
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    streams: dict[str, Stream | None] = field(default_factory=dict)

    def requests(self) -> tuple[Request, ...]:
        """All runs of the suite, seed by seed; what cannot be read is left out, and among the problems."""
        content = self.content
        self.refuse_others((), content, KEYS)
        if not isinstance(content.get("name", ""), str):
            self.problem(("name",), f"is {content['name']!r}, but must be text")
        seeds = self.seeds_of(("seeds",), content.get("seeds", 1))
        table = self.table(("run",), content.get("run", {}))
        self.refuse_others(("run",), table, RUN_OPTIONS)
        self.run = self.grid(("run",), table, RUN_OPTIONS)
        if not {"benchmarks", "methods"} & content.keys() and "include" not in content:
            self.problem((), 'says of no runs: begin with benchmarks = ["digits-rotations"] and methods = ["online"]')
        asked = [
            run
            for benchmark in self.benchmarks()
            for method in (self.published(benchmark) if content.get("methods") == PUBLISHED else self.methods())
            for run in self.runs(benchmark, method, seeds)
        ]
        asked = self.without_excluded(asked) + self.included(seeds)
        unique: dict[str, Request] = {}
        for run in asked:
            unique.setdefault(json.dumps(run.flat, sort_keys=True), run.request)
        if len(unique) < len(asked):
            self.notes.append(
                f"Of {len(asked)} runs that are asked for, only {len(unique)} differ: each of these runs once."
            )
        if not unique and not self.problems:
            lacking = [name for name in ("benchmarks", "methods") if not content.get(name)]
            why = f"it names no {' and no '.join(lacking)}" if lacking else "all are excluded"
            self.problem((), f"asks for no runs: {why}")
        return tuple(sorted(unique.values(), key=lambda request: request.run["seed"]))

    # What is wrong

    def problem(self, place: Place, text: str) -> None:
        """Note what is wrong with the value at a place, as a sentence whose subject is the place."""
        there = place
        while there and there not in self.lines:
            there = there[:-1]
        in_file = re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), text)
        self.problems.append((self.lines.get(there, 0), f"{_written(place)}{in_file}"))

    def refuse_others(self, place: Place, given: Iterable[str], known: Iterable[str]) -> None:
        """Note each name that is not known."""
        known = list(known)
        for name in given:
            if name not in known:
                hint = _owners(name) or nearest(name, known) or f"; there are {', '.join(known)}"
                self.problem((*place, name), f"is not known here{hint}")

    def table(self, place: Place, value: Any) -> Mapping[str, Any]:
        """The value, if it is a table."""
        if not isinstance(value, dict):
            self.problem(place, f"is {value!r}, but must be a table")
        return value if isinstance(value, dict) else {}

    def tables(self, name: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """The tables of ``[[name]]``."""
        value = self.content.get(name, [])
        if not isinstance(value, list):
            self.problem((name,), f"must be written in two pairs of brackets, as [[{name}]]")
            return
        for i, each in enumerate(value):
            yield (name, i), self.table((name, i), each)

    # Values

    def seeds_of(self, place: Place, value: Any) -> tuple[int, ...]:
        """How many seeds, from 0, or which."""
        found: tuple[int, ...] = ()
        if _is_whole(value) and value > 0:
            found = tuple(range(value))
        elif isinstance(value, list) and value and all(_is_whole(seed) and seed >= 0 for seed in value):
            found = tuple(value)
        else:
            self.problem(place, f"is {value!r}, but must say how many seeds, as in 5, or which, as in [0, 1, 7]")
        return found if self.seeds is None else tuple(range(self.seeds))

    def grid(self, place: Place, table: Mapping[str, Any], known: Mapping[str, Hyperparameter]) -> Grid:
        """Those of a table's names that are known, each with the values that it takes."""
        grid = {name: self.choices((*place, name), table[name], known[name]) for name in table if name in known}
        return {name: values for name, values in grid.items() if values}  # else among the problems

    def choices(self, place: Place, value: Any, option: Hyperparameter) -> tuple[Any, ...]:
        """A value or a list of values, each of the right type and within its range."""
        if value == []:
            self.problem(place, "is an empty list, but must have a value at least")
        several = isinstance(value, list)
        found = []
        for i, each in enumerate(value if several else [value]):
            try:
                value = option.check(each)
                if option.name == "network":
                    value = self.own_file(value)
                    networks.check(value)
                if value not in (allowed := CHOICES.get(option.name, (value,))):
                    raise BadInput(f"is {value!r}, but must be one of {', '.join(allowed)}")
                found.append(value)
            except BadInput as error:
                self.problem((*place, i) if several else place, str(error).removeprefix(f"{option.flag} "))
        return tuple(found)

    def names(self, place: Place, value: Any) -> list[tuple[Place, str]]:
        """A name or a list of names."""
        several = isinstance(value, list)
        found = []
        for i, each in enumerate(value if several else [value]):
            where = (*place, i) if several else place
            if isinstance(each, str):
                found.append((where, each))
            else:
                self.problem(where, f"is {each!r}, but must be a name, as text")
        return found

    def own_file(self, text: str) -> str:
        """Where a user's own file, or FILE.py:NAME, is if seen from the suite's folder; other names as they are."""
        file, colon, name = text.rpartition(":")
        if file.endswith(".py"):
            return f"{(self.folder / Path(file).expanduser()).absolute()}{colon}{name}"
        there = self.folder / Path(text).expanduser()
        return str(there.absolute()) if text not in NAMES and there.exists() else text

    # Benchmarks and methods

    def benchmarks(self) -> list[Part]:
        """The benchmarks of the suite: names, or tables with a name and options."""
        value = self.content.get("benchmarks", [])
        several = isinstance(value, list)
        found = []
        for i, each in enumerate(value if several else [value]):
            place: Place = ("benchmarks", i) if several else ("benchmarks",)
            table = {"name": each} if isinstance(each, str) else self.table(place, each)
            if "name" not in table and isinstance(each, dict):
                self.problem(place, 'says no name, as in { name = "digits-rotations", tasks = 5 }')
            for _, name in self.names((*place, "name"), table["name"]) if "name" in table else []:
                found += self.benchmark(place, name, {key: value for key, value in table.items() if key != "name"})
        return found

    def benchmark(self, place: Place, name: str, table: Mapping[str, Any]) -> list[Part]:
        """A benchmark with its options, and with options of its runs; nothing where there is no such benchmark."""
        options = self.options_of(name, place, lambda found: benchmarks.find(found).options)
        if options is None:
            return []
        self.refuse_others(place, table, [*options, *RUN_OPTIONS])
        own, run = self.grid(place, table, options), self.grid(place, table, RUN_OPTIONS)
        return [Part(self.own_file(name), place, own, run)]

    def methods(self) -> list[Part]:
        """The methods of the suite: names, or tables of settings."""
        value = self.content.get("methods", [])
        found = []
        if isinstance(value, dict):
            for name, tables in value.items():
                several = isinstance(tables, list)
                for i, each in enumerate(tables if several else [tables]):
                    place: Place = ("methods", name, i) if several else ("methods", name)
                    found += self.method(place, name, self.table(place, each))
        else:
            for place, name in self.names(("methods",), value):
                found += self.method(place, name, {})
        return found

    def method(self, place: Place, name: str, table: Mapping[str, Any]) -> list[Part]:
        """A method with its settings, and with options of its runs; nothing where there is no such method."""
        settings = self.options_of(name, place, lambda found: hyperparameters(methods.find(found)))
        if settings is None:
            return []
        self.refuse_others(place, table, [*settings, *RUN_OPTIONS])
        own: Grid = {}
        if "memories" in settings and table.get("memories") == PUBLISHED:
            own = {"memories": (PUBLISHED,)}
            table = {key: value for key, value in table.items() if key != "memories"}
        own = {**own, **self.grid(place, table, settings)}
        return [Part(self.own_file(name), place, own, self.grid(place, table, RUN_OPTIONS))]

    def options_of(
        self, name: str, place: Place, find: Callable[[str], Iterable[Hyperparameter]]
    ) -> dict[str, Hyperparameter] | None:
        """The options of a benchmark or a method; None where there is none of that name."""
        try:
            return {option.name: option for option in find(self.own_file(name))}
        except BadInput as error:
            self.problem(place, f"cannot be used: {error}")
            return None

    def published(self, benchmark: Part) -> list[Part]:
        """Every method that was published for a benchmark, with each published number of memories."""
        found = [
            Part(name, ("methods",), {"memories": (entry["memories"],)} if "memories" in entry else {}, {})
            for name in METHODS
            for entry in recipes.entries(benchmark.name, name)
            if entry.get("published", True)
        ]
        if not found:
            self.problem(benchmark.place, f'has no published settings: say which methods, not methods = "{PUBLISHED}"')
        return found

    # Runs

    def runs(self, benchmark: Part, method: Part, seeds: tuple[int, ...]) -> list[Asked]:
        """All runs of a benchmark and a method: every combination of their grids, each with every seed."""
        own = method.own
        if own.get("memories") == (PUBLISHED,):
            entries = recipes.entries(benchmark.name, method.name)
            own = {**own, "memories": tuple(e["memories"] for e in entries if e.get("published", True))}
            if not own["memories"]:
                self.problem(
                    (*method.place, "memories"),
                    f"is {PUBLISHED!r}, but nothing was published for {method.name} on {benchmark.name}: give numbers",
                )
        found = []
        for stream in _combinations(benchmark.own):
            for settings in _combinations(own):
                for run in _combinations({**self.run, **benchmark.run, **method.run}):
                    request = Request(benchmark.name, method.name, settings, stream, run)
                    if self.fits_together(request, benchmark.place, method.place):
                        everything = flat(request)
                        for seed in seeds:
                            seeded = Request(benchmark.name, method.name, settings, stream, run | {"seed": seed})
                            found.append(Asked(seeded, everything | {"seed": seed}))
        return found

    def fits_together(self, request: Request, benchmark_place: Place, method_place: Place) -> bool:
        """Whether the settings go with each other and, where they are on this machine, with the data."""
        before = len(self.problems)
        try:
            benchmark, method, run = request.resolved()
            stream = self.stream(request, benchmark, benchmark_place)
            if stream is not None:
                Experiment(stream=stream, method=method, **run)
        except BadInput as error:
            self.problem(method_place, f"does not go with {short(request.benchmark)}: {error}")
            return False
        _, note = request.defaults()
        if note and {parameter.name for parameter in hyperparameters(type(method))} - request.settings.keys():
            self.notes.append(note)
        return len(self.problems) == before

    def stream(self, request: Request, benchmark: Benchmark, place: Place) -> Stream | None:
        """The stream; where its data are not here one like it, or None where there is none."""
        key = json.dumps([request.benchmark, request.stream], sort_keys=True)
        if key not in self.streams:
            self.streams[key] = None
            try:
                if at_hand(benchmark):
                    self.streams[key] = benchmark.stream(**request.stream, progress=False)
                elif benchmark.kind in STAND_IN and request.run.get("network", "mlp") == "mlp":
                    options = {**request.stream, "samples_per_task": 1}
                    self.streams[key] = benchmark.stream(**options, images=sources.get("digits"))
            except BadInput as error:
                self.problem(place, f"cannot be made: {error}")
        return self.streams[key]

    def without_excluded(self, asked: list[Asked]) -> list[Asked]:
        """The runs that no ``[[exclude]]`` describes."""
        known = {name for run in asked for name in run.flat}
        for place, table in self.tables("exclude"):
            if not table:
                self.problem(place, "says nothing, which would exclude every run")
                continue
            if asked:  # else all would be unknown
                self.refuse_others(place, table, known)
            wanted = {name: given if isinstance(given, list) else [given] for name, given in table.items()}
            for name in {"benchmark", "method"} & wanted.keys():
                wanted[name] = [self.own_file(str(given)) for given in wanted[name]]
            kept = [run for run in asked if not _described(run.flat, wanted)]
            if len(kept) == len(asked) and not self.problems:
                self.problem(place, "excludes nothing: no run has all that it says")
            asked = kept
        return asked

    def included(self, default_seeds: tuple[int, ...]) -> list[Asked]:
        """The runs of every ``[[include]]``."""
        found = []
        for place, table in self.tables("include"):
            if not {"benchmark", "method"} <= table.keys():
                self.problem(place, 'must say at least a benchmark and a method: benchmark = "…", method = "…"')
                continue
            seeds = self.seeds_of((*place, "seeds"), table["seeds"]) if "seeds" in table else default_seeds
            rest = {key: value for key, value in table.items() if key not in ("benchmark", "method", "seeds")}
            for (b_place, b_name), (m_place, m_name) in itertools.product(
                self.names((*place, "benchmark"), table["benchmark"]), self.names((*place, "method"), table["method"])
            ):
                options = self.options_of(b_name, b_place, lambda name: benchmarks.find(name).options)
                settings = self.options_of(m_name, m_place, lambda name: hyperparameters(methods.find(name)))
                if options is not None and settings is not None:
                    self.refuse_others(place, rest, [*settings, *options, *RUN_OPTIONS])
                    benchmark = Part(self.own_file(b_name), b_place, self.grid(place, rest, options), {})
                    own, run = self.grid(place, rest, settings), self.grid(place, rest, RUN_OPTIONS)
                    found += self.runs(benchmark, Part(self.own_file(m_name), m_place, own, run), seeds)
        return found


def at_hand(benchmark: Benchmark) -> bool:
    """Whether a benchmark's data are on this machine, so that nothing need be fetched."""
    source = sources.SOURCES.get(benchmark.data)
    return source is None or source.present(sources.data_folder() / source.name)


def _combinations(grid: Grid) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _described(run: Mapping[str, Any], wanted: Mapping[str, list[Any]]) -> bool:
    return all(name in run and any(_same(run[name], value) for value in of) for name, of in wanted.items())


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _written(place: Place) -> str:
    """A place as one would write it: ``methods.meralg1.memories[0]``, and a space behind it."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if re.fullmatch(r"[\w-]+", step) else f'."{step}"'
    return f"{text.removeprefix('.')} " if place else "it "


def nearest(word: str, names: Iterable[str]) -> str:
    """Ask whether the name that is most like the word was meant; empty if none is like it."""
    found = difflib.get_close_matches(word, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _owners(name: str) -> str:
    """Say whose a name is that stands in the wrong place; empty if it is nobody's."""
    if name in ("seed", "seeds"):
        return "; write seeds = 5 or seeds = [0, 1, 7] above all tables"
    owners = [of for of, method in METHODS.items() if name in {p.name for p in hyperparameters(method)}]
    owners += [of for of, benchmark in BENCHMARKS.items() if name in {option.name for option in benchmark.options}]
    if name in RUN_OPTIONS:
        return "; it is an option of runs: write it below [run]"
    return f"; it belongs to {', '.join(owners)}" if owners else ""
