"""``metareplay run``: learn one benchmark with one method, keep the record, show the result."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from metareplay.cli import methods, result
from metareplay.cli.arguments import Parser, add_flag, value, values
from metareplay.errors import BadInput, RunFailed
from metareplay.experiment import Experiment, Progress
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.progress import Display
from metareplay.records import Record
from metareplay.settings import Hyperparameter, hyperparameters
from metareplay.streams import benchmarks
from metareplay.streams.benchmarks import BENCHMARKS, Benchmark
from metareplay.suites import recipes

NETWORK = (
    Hyperparameter("layers", int, 2, "[0, inf)", "how many hidden layers the network has"),
    Hyperparameter("hiddens", int, 100, "[1, inf)", "how many units each hidden layer has"),
)
RUN = (
    Hyperparameter(
        "seed", int, 0, "[0, inf)", "the seed of which examples are seen, their order, initial weights and replay"
    ),
    Hyperparameter("epochs", int, 1, "[1, inf)", "how often a task's examples are seen before the next task comes"),
    Hyperparameter("batch_size", int, 1, "[1, inf)", "how many examples come at once"),
    Hyperparameter(
        "eval_every", int, 0, "[0, inf)", "how many batches lie between evaluations; 0: only before and after tasks"
    ),
)


def main(argv: list[str]) -> None:
    """Learn one benchmark with one method."""
    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        _explain(argv)
    request = Request.read(argv[0], argv[1], argv[2:])
    given = request.parser().parse(argv[2:], _flags_of_others())
    experiment = request.experiment(given)
    folder = Path(given.out) / experiment.key
    if given.json not in (None, "-") and not Path(given.json).parent.is_dir():
        raise BadInput(f"--json is {given.json}, but there is no folder {Path(given.json).parent}")
    record = None if given.again else _earlier(folder, given.quiet)
    if record is None:
        _note(request.note, given.quiet)
        _require_writable(folder.parent)
        record = _live(experiment, given.quiet)
        try:
            record.save(folder)
        except RunFailed:  # a full disk does not take away what an hour has shown
            _show(record, given, None)
            raise
    _show(record, given, folder)


def _explain(argv: list[str]) -> NoReturn:
    """Say what can be said while benchmark or method is not known."""
    parser = Parser(
        prog="metareplay run",
        usage="metareplay run BENCHMARK METHOD [flags]",
        description="Learn one benchmark with one method, keep the record, and show the result.",
        epilog="The flags depend on both: `metareplay run BENCHMARK METHOD --help` explains them.\n"
        "A method of your own is a class in a file of yours: `metareplay run BENCHMARK FILE.py:CLASS`",
    )
    parser.add_list("benchmarks", {name: benchmark.description for name, benchmark in BENCHMARKS.items()})
    parser.add_list("methods", {name: methods.summary(method) for name, method in METHODS.items()})
    if "-h" in argv or "--help" in argv:
        parser.parse(["--help"])
    parser.error("BENCHMARK and METHOD come first: metareplay run BENCHMARK METHOD [flags]")


@dataclass(frozen=True)
class Request:
    """A benchmark, a method, and the hyper-parameters to use where no others are given."""

    benchmark: Benchmark
    name: str
    method: type[Method]
    memories: int | None
    defaults: dict[str, Any]
    note: str | None

    @classmethod
    def read(cls, benchmark: str, method: str, argv: list[str]) -> Request:
        """Look both up; of the flags, only the number of memories matters yet."""
        found, chosen = benchmarks.find(benchmark), methods.find(method)
        memories = _memories(found.name, method, chosen, argv)
        settings: dict[str, Any] = {} if memories is None else {"memories": memories}
        note = None
        if method in METHODS:  # there are no recipes for a user's own
            settings, note = recipes.settings(found.name, method, memories)
        own = {parameter.name: parameter.default for parameter in hyperparameters(chosen)}
        return cls(found, method, chosen, memories, own | settings, note)

    def parser(self) -> Parser:
        """All flags, each with its meaning, range and default."""
        prog = f"metareplay run {self.benchmark.name} {self.name}"
        parser = Parser(prog=prog, usage=f"{prog} [flags]", description=methods.summary(self.method))
        group = parser.add_argument_group(f"settings of {self.name}", self.note)
        for parameter in hyperparameters(self.method):
            add_flag(group, parameter, self.defaults[parameter.name])
        for title, options in (
            (f"the stream, {self.benchmark.name}", self.benchmark.options),
            ("the network", NETWORK),
            ("the run", RUN),
        ):
            group = parser.add_argument_group(title)
            for option in options:
                add_flag(group, option, option.default)
        group = parser.add_argument_group("the result")
        group.add_argument("--out", metavar="DIR", default="runs", help="where records are kept (default: runs)")
        group.add_argument("--json", metavar="FILE", help="write the result there as JSON; - is standard output")
        group.add_argument("--again", action="store_true", help="run it even if its record is there already")
        group.add_argument("--quiet", action="store_true", help="show no progress and no notes")
        return parser

    def experiment(self, given: Namespace) -> Experiment:
        """What to run, with all flags checked before anything is downloaded."""
        settings = {
            parameter.name: _setting(parameter, text, self.benchmark.name, self.name, self.memories)
            for parameter in hyperparameters(self.method)
            if (text := getattr(given, parameter.name)) is not None
        }
        method = self.method(**self.defaults | settings)
        network = {option.name: option.default for option in NETWORK} | values(NETWORK, given)
        run = values(RUN, given)
        stream = values(self.benchmark.options, given)
        return Experiment(
            stream=self.benchmark.stream(**stream, progress=not given.quiet),
            method=method,
            hidden=(network["hiddens"],) * network["layers"],
            **run,
        )


def _memories(benchmark: str, name: str, method: type[Method], argv: list[str]) -> int | None:
    """The number of memories that is asked for; the other settings' defaults depend on it."""
    peek = Parser(prog=f"metareplay run {benchmark} {name}", add_help=False)
    peek.add_argument("--memories")
    text = peek.parse_known_args(argv)[0].memories
    for parameter in hyperparameters(method):
        if parameter.name == "memories" and text is not None:
            memories: int = _setting(parameter, text, benchmark, name, None)
            return memories
    return None


def _setting(parameter: Hyperparameter, text: Any, benchmark: str, method: str, memories: int | None) -> Any:
    """The value of a hyper-parameter; if it is none, the error names the published one."""
    try:
        return value(parameter, text)
    except BadInput as error:
        published = recipes.published(benchmark, method, parameter.name, memories)
        raise BadInput(f"{error}. {published}" if published else str(error)) from None


def _flags_of_others() -> dict[str, list[str]]:
    """Which methods or benchmarks have each flag that not all of them have."""
    owners = defaultdict(list)
    for name, method in METHODS.items():
        for parameter in hyperparameters(method):
            owners[parameter.flag].append(name)
    for name, benchmark in BENCHMARKS.items():
        for option in benchmark.options:
            owners[option.flag].append(name)
    return owners


def _earlier(folder: Path, quiet: bool) -> Record | None:
    """The record of the same run, made before."""
    if not folder.exists():
        return None
    try:
        record = Record.load(folder)
    except BadInput:
        _note(f"the record in {folder} is damaged: running again", quiet)
        return None
    when = datetime.fromisoformat(record.started).astimezone()
    _note(f"this was run before, on {when:%Y-%m-%d at %H:%M}: here is its result (--again runs it again)", quiet)
    return record


def _require_writable(folder: Path) -> None:
    """Find out before an hour of training, not after it."""
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise RunFailed(f"{folder} cannot keep the record: {error.strerror}; name another folder with --out") from error


def _live(experiment: Experiment, quiet: bool) -> Record:
    """Run it, showing how far it is; Ctrl-C says how far it came."""
    last: Progress | None = None
    with Display(quiet) as display:
        report = display.run()

        def follow(now: Progress) -> None:
            nonlocal last
            last = now
            report(now)

        try:
            return experiment.run(follow)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_stopped(last)) from None


def _stopped(last: Progress | None) -> str:
    where = "before the first example"
    if last is not None and last.examples:
        where = f"at example {last.examples} of {last.all_examples}, in task {last.visit + 1} of {last.visits}"
    return f"stopped {where}; nothing of this run was kept: its record is written when it ends"


def _show(record: Record, given: Namespace, folder: Path | None) -> None:
    kept = f"the record is in {folder}" if folder else None
    if given.json == "-":
        _note(kept, given.quiet)
    else:
        result.show(record)
        if kept:
            print(kept)
    if given.json is not None:
        result.write_json(record, given.json)


def _note(text: str | None, quiet: bool) -> None:
    if text and not quiet:
        print(f"metareplay: {text}", file=sys.stderr)
