"""``metareplay run``: learn one benchmark with one method, keep the record, show the result."""

import contextlib
import json
from argparse import Namespace
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from rich.text import Text

from metareplay import methods
from metareplay.cli.arguments import Parser, add_flag, owners, values
from metareplay.cli.lists import summary
from metareplay.cli.tables import check_file, console, say, write
from metareplay.methods import METHODS
from metareplay.results.table import Column, Row, Table, thousands
from metareplay.runs import trackers
from metareplay.runs.display import Display, note
from metareplay.runs.folder import Run, Unsaved
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.runs.record import Record
from metareplay.runs.request import NETWORK, RUN, Request
from metareplay.settings import hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.catalogue import BENCHMARKS

HELP = {"-h", "--help"}
ONLY_IF_LOOKED = ("minimum_accuracy", "worst_dip", "stability_gap")
"""Shown only of runs that were evaluated within tasks: at their ends alone they say little that the others do not."""


def main(argv: list[str]) -> None:
    """Learn one benchmark with one method, keep the record, and show the result."""
    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        _explain(argv)
    benchmark, method, *flags = argv
    parser = _parser(Request(benchmark, method))
    if HELP & set(flags):
        given, _ = parser.parse_known_args([flag for flag in flags if flag not in HELP])
        with contextlib.suppress(
            ValueError, TypeError, AttributeError
        ):  # defaults depend on how many memories there are
            parser = _parser(Request(benchmark, method, {"memories": int(given.memories)}))
        parser.parse(["--help"])
    given = parser.parse(flags, _owners)
    settings = values(hyperparameters(methods.find(method)), given)
    stream = values(benchmarks.find(benchmark).options, given)
    request = Request(benchmark, method, settings, stream, values((*NETWORK, *RUN), given))
    tracker = trackers.find(given.tracker) if given.tracker else None
    experiment = request.experiment(progress=not given.quiet)
    run = Run(Path(given.out) / experiment.key)
    check_file("--json", given.json)
    record = None if given.again else run.record()
    if record is not None:
        when = f"{datetime.fromisoformat(record.started).astimezone():%Y-%m-%d at %H:%M}"
        note(f"this was run before, on {when}: here is its result (--again runs it again)", given.quiet)
    else:
        if inexact := request.defaults()[1]:
            note(inexact, given.quiet)
        try:
            with Display(given.quiet) as display:
                record = run.carry_out(
                    experiment, display.run(), tracker, again=given.again, weights=not given.no_weights,
                    note=display.note,
                )  # fmt: skip
        except Unsaved as unsaved:  # a full disk does not take away what an hour has shown
            _show(unsaved.record, given, None)
            raise
    _show(record, given, run.folder)


def _explain(argv: list[str]) -> NoReturn:
    """Say what can be said while benchmark or method is not known."""
    epilog = """\
The flags depend on both: `metareplay run BENCHMARK METHOD --help` explains them.
A method of your own is a class in a file of yours: `metareplay run BENCHMARK FILE.py:CLASS`
Your own data are a folder (.npz or .csv files, images) or a .pt task list: `metareplay run FOLDER METHOD`"""
    parser = Parser("metareplay run", main, usage="metareplay run BENCHMARK METHOD [flags]", epilog=epilog)
    parser.add_list("benchmarks", {name: benchmark.description for name, benchmark in BENCHMARKS.items()})
    parser.add_list("methods", {name: summary(method) for name, method in METHODS.items()})
    if HELP & set(argv):
        parser.parse(["--help"])
    parser.error("BENCHMARK and METHOD come first: metareplay run BENCHMARK METHOD [flags]")


def _parser(request: Request) -> Parser:
    benchmark, method = benchmarks.find(request.benchmark), methods.find(request.method)
    defaults, note = request.defaults()
    prog = f"metareplay run {request.benchmark} {request.method}"
    parser = Parser(prog, usage=f"{prog} [flags]", description=summary(method))
    if benchmark.allows:
        defaults["scenario"] = benchmark.allows[0]
    titles = {
        f"settings of {request.method}": hyperparameters(method),
        f"the stream, {benchmark.name}": benchmark.options,
    }
    for title, options in (titles | {"the network": NETWORK, "the run": RUN}).items():
        group = parser.add_argument_group(title, note if title.startswith("settings") else None)
        for option in options:
            if option.name == "scenario" and benchmark.allows:
                option = replace(option, help=f"among which classes has to be chosen: {' or '.join(benchmark.allows)}")
            add_flag(group, option, defaults.get(option.name, option.default))
    group = parser.add_argument_group("the result")
    group.add_argument("--out", metavar="DIR", default="runs", help="where records are kept (default: runs)")
    group.add_argument("--json", metavar="FILE", help="write the result there as JSON; - is standard output")
    group.add_argument("--tracker", metavar="NAME", help=trackers.HELP)
    group.add_argument("--no-weights", action="store_true", help="save the record without what was learned")
    group.add_argument("--again", action="store_true", help="run it even if its record is there already")
    group.add_argument("--quiet", action="store_true", help="show no progress and no notes")
    return parser


def _owners() -> dict[str, list[str]]:
    """By flag the methods and benchmarks that have it."""
    own = {name: benchmark.options for name, benchmark in BENCHMARKS.items()}
    return owners({name: hyperparameters(method) for name, method in METHODS.items()} | own)


def _show(record: Record, given: Namespace, folder: Path | None) -> None:
    if given.json != "-":
        show_result(record)
    if folder and given.json == "-":
        note(f"the record is in {folder}", given.quiet)
    elif folder:
        say(f"the record is in {folder}")
        say(f"to see it: metareplay show {folder}; as a page: metareplay report {folder.parent}")
    if given.json is not None:
        write("--json", given.json, json.dumps(record.summary()) + "\n")


def show_result(record: Record) -> None:
    """Print the metrics, in percent, and what they cost."""
    configuration, rows = record.configuration, []
    looked = not isinstance(record.metrics["stability_gap"], Undefined)
    undefined: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        value = record.metrics[name]
        if name in ONLY_IF_LOOKED and not looked:
            continue
        if isinstance(value, Undefined):
            undefined.setdefault(str(value), []).append(metric.short)
        else:
            percent = f"{100 * value:{'+' if metric.difference else ''}.1f} %"
            rows.append(Row((Text(metric.short, "bold"), Text(percent, "bold"), metric.meaning)))
    usual = {"scenario": "domain-incremental", "order": "tasks"}
    unusual = [f"{configuration[name]}" for name, value in usual.items() if configuration.get(name, value) != value]
    title = [configuration["benchmark"], configuration["method"], *unusual, f"seed {configuration['seed']}"]
    say(", ".join(map(str, title)), "bold")
    console().print(Table((Column("", holds="words"), Column(""), Column("", holds="words")), tuple(rows)).terminal())
    for why, names in undefined.items():
        say(f"{', '.join(names)}: {why}")
    costs = f"{record.train_seconds:.1f} s of training; {record.eval_seconds:.1f} s of evaluation"
    say(f"{thousands(record.steps)} steps in {costs}")
