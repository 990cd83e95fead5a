"""``metareplay suite``: carry out many runs."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metareplay import user_code
from metareplay.cli.arguments import Parser, values
from metareplay.cli.result import grouped
from metareplay.cli.tables import WIDER_THAN_ANY_LINE
from metareplay.data import catalogue as sources
from metareplay.errors import BadInput, RunFailed, plain
from metareplay.settings import Hyperparameter
from metareplay.streams import catalogue as benchmarks
from metareplay.suites.driver import Outcome
from metareplay.suites.plan import Planned, at_hand, in_words, name, options, plan, short
from metareplay.suites.progress import SuiteDisplay, note
from metareplay.suites.suite import Suite

SEEDS = Hyperparameter("seeds", int, None, "[1, inf)", "how many seeds each configuration is run with, from 0")
JOBS = Hyperparameter("jobs", int, None, "[1, inf)", "how many runs are under way at a time")
EXECUTORS = ("local", "ray")
TOLD = 20
"""Failures that are listed at the end; `metareplay results` lists all."""


def main(argv: list[str]) -> None:
    """Carry out a suite."""
    given = _parser().parse(argv)
    chosen = {
        option.name: option.check(value) for option in (SEEDS, JOBS) for value in values([option], given).values()
    }
    seeds, jobs = chosen.get("seeds"), chosen.get("jobs")
    _check(given)
    suite = Suite.read(given.suite, seeds)
    out = Path(given.out)
    if given.dry_run:
        at_a_time = jobs or (len(os.sched_getaffinity(0)) if given.executor == "local" else 1)
        _show_plan(suite, plan(suite.requests, out), at_a_time, out)
        return
    if _fetch(suite, given.quiet):
        suite = Suite.read(given.suite, seeds)  # now with its data, which the check wants too
    for text in suite.notes:
        note(text, given.quiet)
    executor = importlib.import_module(f"metareplay.suites.{given.executor}")
    address: dict[str, Any] = {"address": given.address} if given.address else {}
    display = SuiteDisplay(plan(suite.requests, out), given.quiet)
    try:
        with display:
            outcomes: list[Outcome] = executor.execute(
                suite.requests, out, jobs=jobs, report=display, note=display.note, tracker=given.tracker, **address
            )
    except KeyboardInterrupt:
        stopped = _stopped(display.last.done if display.last else 0, len(suite.requests), given)
        if given.executor == "ray":  # to leave Ray in order takes seconds, and crashes where it has only begun to start
            note(stopped)
            os._exit(130)
        raise KeyboardInterrupt(stopped) from None
    _tell(suite, outcomes, given)


def _parser() -> Parser:
    parser = Parser(
        prog="metareplay suite",
        description="Carry out many runs: those of a suite file of yours, or of a suite that metareplay comes with.\n"
        "What is there already is not run again; what was stopped goes on from where it was.",
    )
    parser.add_argument("suite", metavar="NAME|FILE.toml", help=f"which suite: {', '.join(Suite.shipped())}, or a file")
    parser.add_argument("--seeds", metavar="N", help="run each configuration with seeds 0 … N−1, not with the file's")
    parser.add_argument(
        "--jobs", metavar="N", help="how many runs are under way at a time (default: one for each core)"
    )
    parser.add_argument("--out", metavar="DIR", default="runs", help="where records are kept (default: runs)")
    parser.add_argument("--executor", metavar="local|ray", default="local", help="what runs them (default: local)")
    parser.add_argument("--address", metavar="ADDRESS", help="the Ray cluster, such as auto; else one on this machine")
    parser.add_argument("--tracker", metavar="FILE.py:NAME", help="a function of yours to call after every evaluation")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run, and about how long it takes")
    parser.add_argument("--quiet", action="store_true", help="show no progress and no notes")
    return parser


def _check(given: Namespace) -> None:
    """What can be said before the suite is read."""
    if given.executor not in EXECUTORS:
        raise BadInput(f"--executor is {given.executor!r}, but must be one of {', '.join(EXECUTORS)}")
    if given.address and given.executor != "ray":
        raise BadInput("--address is where a Ray cluster is, and needs --executor ray")
    if given.tracker:
        user_code.load(given.tracker, "--tracker")
    if Path(given.out).exists() and not Path(given.out).is_dir():
        raise BadInput(f"--out is {given.out}, but must be a folder")


def _fetch(suite: Suite, quiet: bool) -> bool:
    """Fetch what data are not here yet, once, before the workers need them; whether there were any."""
    wanted = [benchmarks.find(benchmark) for benchmark in dict.fromkeys(r.benchmark for r in suite.requests)]
    missing = dict.fromkeys(benchmark.data for benchmark in wanted if not at_hand(benchmark))
    for data in missing:
        sources.get(data, progress=not quiet)
    return bool(missing)


# Before


def _show_plan(suite: Suite, planned: Sequence[Planned], jobs: int, out: Path) -> None:
    """Print what would run: a line for each configuration, and what all of it costs."""
    configurations: dict[tuple[str, ...], list[Planned]] = defaultdict(list)
    for each in planned:
        request = each.request
        settings = ", ".join(f"{key} {value}" for key, value in options(request).items())
        configurations[short(request.benchmark), short(request.method), settings or "–"].append(each)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("benchmark", "method", "settings"):
        table.add_column(title)
    for title in ("seeds", "done", "steps each", "time each"):
        table.add_column(title, justify="right", no_wrap=True)
    for names, group in configurations.items():
        states, first = Counter(each.state for each in group), group[0]
        table.add_row(
            *(Text(plain(name)) for name in names),
            str(len(group)),
            "?" if states["unknown"] else str(states["done"]),
            "?" if first.steps is None else grouped(first.steps),
            "?" if first.seconds is None else f"about {in_words(first.seconds)}",
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDER_THAN_ANY_LINE)
    console.print(Text(plain(suite.name), "bold"))
    console.print(table)
    for line in [*_sums(planned, jobs, out), *suite.notes]:
        console.print(Text(plain(line)), soft_wrap=True)


def _sums(planned: Sequence[Planned], jobs: int, out: Path) -> list[str]:
    """What is there, what is to do, and how long it takes."""
    states = Counter(each.state for each in planned)
    there = [
        f"{states[state]} {state}" for state in ("done", "running", "stopped", "failed", "broken") if states[state]
    ]
    lines = [f"{len(planned)} runs; in {out}: {', '.join(there) or 'none of them yet'}"]
    if states["unknown"]:
        lines.append(f"the data of {states['unknown']} are not here yet, so it is not known which of these are done")
    to_do = [each for each in planned if each.state not in ("done", "running")]
    if to_do:
        steps, seconds = sum(each.steps or 0 for each in to_do), sum(each.seconds or 0.0 for each in to_do)
        lines += [
            f"to do: {len(to_do)} runs, {grouped(steps)} SGD steps{_besides(each.steps is None for each in to_do)}",
            f"about {in_words(seconds)} of one core{_besides(each.seconds is None for each in to_do)}",
        ]
        if jobs > 1:
            lines[-1] += f", {in_words(seconds / jobs)} with {jobs} at a time"
    return lines


def _besides(unknown: Iterable[bool]) -> str:
    number = sum(unknown)
    return f", besides {number} runs of which that is not known" if number else ""


# After


def _tell(suite: Suite, outcomes: Sequence[Outcome], given: Namespace) -> None:
    """Say what became of the suite, and what to do next; raises where not all is done."""
    states = Counter(outcome.state for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if states["not started"]:
        raise KeyboardInterrupt(_stopped(states["done"], len(outcomes), given))
    where = plain(given.out)
    print(f"{plain(suite.name)}: {states['done']} of {len(outcomes)} runs are done; they are in {where}")
    if states["done"]:
        print(f"to see them: metareplay results --out {where}\nas a page:   metareplay report {where} -o report.html")
    sys.stdout.flush()
    if states["elsewhere"]:
        note(f"{states['elsewhere']} runs are under way in another process, and were left to it", given.quiet)
    if failed:
        listed = [f"{name(outcome.request)}: {outcome.message}" for outcome in failed[:TOLD]]
        if len(failed) > TOLD:
            listed.append(f"and {len(failed) - TOLD} more; `metareplay results --out {given.out}` lists all")
        number = f"{len(failed)} of {len(outcomes)} runs failed"
        raise RunFailed("\n  ".join([f"{number}; to try them again: {_command(given)}", *listed]))


def _stopped(done: int, of: int, given: Namespace) -> str:
    return f"stopped: {done} of {of} runs are done, in {given.out}; to go on: {_command(given)}"


def _command(given: Namespace) -> str:
    """The command that was given, to be given again."""
    words = ["metareplay", "suite", given.suite]
    for flag in ("seeds", "jobs", "executor", "address", "tracker"):
        if getattr(given, flag) not in (None, "local"):
            words += [f"--{flag}", getattr(given, flag)]
    return shlex.join([*words, "--out", given.out] if given.out != "runs" else words)
