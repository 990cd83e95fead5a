"""``metareplay suite`` and ``metareplay tune``: carry out many runs, and choose settings by them."""

import os
import shlex
import sys
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import check_file, console, say
from metareplay.data import catalogue as sources
from metareplay.errors import BadInput, RunFailed, plain
from metareplay.results import choices
from metareplay.results.choices import Choice
from metareplay.results.compare import Selection
from metareplay.results.table import Column, Row, Table, thousands
from metareplay.runs import trackers
from metareplay.runs.display import in_words, note
from metareplay.runs.request import Request
from metareplay.settings import Hyperparameter
from metareplay.streams import catalogue as benchmarks
from metareplay.studies import controls, until
from metareplay.studies import tune as tuning
from metareplay.studies.file import read
from metareplay.suites.driver import EXECUTOR, Outcome, SuiteDisplay, execute
from metareplay.suites.plan import Planned, at_hand, flat, name, options, plan, short
from metareplay.suites.reader import CONTROLS
from metareplay.suites.suite import Suite

JOBS = Hyperparameter("jobs", int, None, "[1, inf)", "how many runs are under way at a time", optional=True)
OPTIONS = (
    Hyperparameter("seeds", int, None, "[1, inf)", "how many seeds each configuration is run with", optional=True),
    Hyperparameter("until", str, None, "", "until when seeds are added", ("established",), optional=True),
    Hyperparameter("most", int, 30, "[6, 1000]", "how many seeds are run at most until a difference is established"),
)
LISTED = 20  # failures that are listed at the end; `metareplay results` lists all


def suite(argv: list[str]) -> None:
    """Carry out the runs of a suite file, yours or one of metareplay's; what is done stays, stopped runs go on."""
    parser = Parser("metareplay suite", suite)
    parser.add_argument("suite", metavar="NAME|FILE.toml", help=f"which suite: {', '.join(Suite.shipped())}, or a file")
    parser.add_options(OPTIONS, seeds="as the file says", until="none are added")
    parser.add_argument("--tracker", metavar="NAME", help=trackers.HELP)
    parser.add_argument("--dry-run", action="store_true", help="only say what would run, and about how long it takes")
    given = parsed(parser, "runs", argv)
    file = Suite.read(given.suite, given.seeds)
    if given.until and len(file.compare) < 2:
        raise BadInput('--until established needs to know what: compare = ["meralg1", "eralg4"] in the suite file')
    selections = [Selection.read(text) for text in file.compare] if given.until else []
    tuned, out = [Choice.read(one) for one in file.tuned], Path(given.out)
    until.check(file, selections, tuned)
    if given.dry_run:
        _show_plan(file, plan(file.requests, out), given, selections)
        return
    fetch(file.requests, given.quiet)
    for text in file.notes:
        note(text, given.quiet)
    for choice in tuned:
        choice.save(out)  # so that no report of these runs claims anything on what their settings were chosen on
    display = SuiteDisplay(plan(file.requests, out), given.quiet)
    backend: dict[str, Any] = {"executor": given.executor, "address": given.address, "jobs": given.jobs}
    backend |= {"report": display, "note": display.note}
    requests, source = list(file.requests), None
    try:
        with display:
            outcomes = execute(requests, out, tracker=given.tracker, **backend)
            requests += controls.controls(requests, out, tuned, file.controls, **backend) if file.controls else []
            if selections or len(requests) > len(file.requests):
                source = until.Until(requests, selections, out, given.most) if selections else None
                outcomes = execute(() if source else requests, out, tracker=given.tracker, source=source, **backend)
    except KeyboardInterrupt:
        done = f"{display.done} of {len(requests)} runs are done, in {given.out}"
        stopped = f"stopped: {done}; to go on: {given.command}"
        if given.executor == "ray":  # to leave Ray in order takes seconds, and crashes where it has only begun to start
            note(stopped)
            os._exit(130)
        raise KeyboardInterrupt(stopped) from None
    for comparison in source.comparisons or () if source else ():
        say(comparison.verdict)
    _tell(file, outcomes, given)


def parsed(parser: Parser, out: str, argv: list[str]) -> Namespace:
    """The arguments, with the flags of all that carries out many runs, checked before anything is read."""
    parser.add_options((JOBS, EXECUTOR), jobs="one for each core")
    parser.add_argument("--out", metavar="DIR", default=out, help=f"where records are kept (default: {out})")
    parser.add_argument("--address", metavar="ADDRESS", help="the Ray cluster, such as auto; else one on this machine")
    parser.add_argument("--quiet", action="store_true", help="show no progress and no notes")
    given = parser.parse(argv)
    given.command = shlex.join([*parser.prog.split(), *argv])
    if given.address and given.executor != "ray":
        raise BadInput("--address is where a Ray cluster is, and needs --executor ray")
    if getattr(given, "tracker", None):
        trackers.find(given.tracker)
    if Path(given.out).exists() and not Path(given.out).is_dir():
        raise BadInput(f"--out is {given.out}, but must be a folder")
    return given


def fetch(requests: Iterable[Request], quiet: bool) -> None:
    """Fetch what data are not here yet, once, before the workers need them."""
    wanted = [benchmarks.find(benchmark) for benchmark in dict.fromkeys(r.benchmark for r in requests)]
    for data in dict.fromkeys(benchmark.data for benchmark in wanted if not at_hand(benchmark)):
        sources.get(data, progress=not quiet)


def _show_plan(suite: Suite, planned: Sequence[Planned], given: Namespace, selections: Sequence[Selection]) -> None:
    configurations: dict[tuple[str, ...], list[Planned]] = defaultdict(list)
    for each in planned:
        request = each.request
        settings = ", ".join(f"{key} {value}" for key, value in options(request).items())
        configurations[short(request.benchmark), short(request.method), settings or "–"].append(each)
    rows = []
    for names, group in configurations.items():
        first, states = group[0], [each.state for each in group]
        done = "?" if "unknown" in states else states.count("done")
        steps = "?" if first.steps is None else thousands(first.steps)
        seconds = "?" if first.seconds is None else f"about {in_words(first.seconds)}"
        rows.append(Row((*names, len(group), done, steps, seconds)))
    words = [Column(title, holds="words") for title in ("benchmark", "method", "settings")]
    numbers = [Column(title) for title in ("seeds", "done", "steps each", "time each")]
    say(suite.name, "bold")
    console().print(Table((*words, *numbers), tuple(rows)).terminal("bold"))
    jobs = given.jobs or (len(os.sched_getaffinity(0)) if given.executor == "local" else 1)
    further = _further(suite, list(configurations.values()), {one.method for one in selections}, given.most)
    for line in [*_sums(planned, jobs, given.out), *further, *suite.notes]:
        say(line)


def _further(suite: Suite, groups: list[list[Planned]], compared: set[str], most: int) -> Iterator[str]:
    """What follows from those runs: controls, and with ``--until`` seeds."""
    beside = [group for group in groups if flat(group[0].request).get("memories")] if suite.controls else []
    if beside:
        tried = {"gradients": controls.RATES, "seconds": controls.RATES + controls.TIMED}
        for cost in (CONTROLS[name] for name in suite.controls):
            runs = sum(tried[cost] + len(group) for group in beside)
            how = f"{controls.RATES} learning rates each, and then every seed"
            yield f"besides: {len(beside)} controls, {how}: {runs} runs, of as many {cost} as those that they stand by"
    adding = [group for group in groups if short(group[0].request.method) in compared]
    if adding:
        more, seconds = [max(0, most - len(group)) for group in adding], [group[0].seconds or 0 for group in adding]
        took = in_words(sum(n * each for n, each in zip(more, seconds, strict=True)))
        yield f"besides: seeds as it takes, {most} at most: up to {sum(more)} more runs, about {took} of one core"


def _sums(planned: Sequence[Planned], jobs: int, out: str) -> Iterator[str]:
    """What is there, what is to do, and how long it takes."""
    states = Counter[str](each.state for each in planned)
    there = ("done", "running", "stopped", "failed", "broken")
    known = [f"{states[state]} {state}" for state in there if states[state]]
    yield f"{len(planned)} runs; in {out}: {', '.join(known) or 'none of them yet'}"
    if states["unknown"]:
        yield f"the data of {states['unknown']} are not here yet, so it is not known which of these are done"
    to_do = [each for each in planned if each.state not in ("done", "running")]
    if to_do:
        steps, seconds = [each.steps for each in to_do], [each.seconds for each in to_do]
        took = sum(filter(None, seconds))
        at_a_time = f", {in_words(took / jobs)} with {jobs} at a time" if jobs > 1 else ""
        yield f"to do: {len(to_do)} runs, {thousands(sum(filter(None, steps)))} SGD steps{_besides(steps.count(None))}"
        yield f"about {in_words(took)} of one core{_besides(seconds.count(None))}{at_a_time}"


def _besides(unknown: int) -> str:
    return f", besides {unknown} runs of which that is not known" if unknown else ""


def _tell(suite: Suite, outcomes: Sequence[Outcome], given: Namespace) -> None:
    """Say what became of the suite, and what to do next; raises where not all is done."""
    states = Counter(outcome.state for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    where = plain(given.out)
    print(f"{plain(suite.name)}: {states['done']} of {len(outcomes)} runs are done; they are in {where}")
    if states["done"]:
        print(f"to see them: metareplay results --out {where}\nas a page:   metareplay report {where} -o report.html")
    sys.stdout.flush()
    if states["elsewhere"]:
        note(f"{states['elsewhere']} runs are under way in another process, and were left to it", given.quiet)
    if failed:
        listed = [f"{name(outcome.request)}: {outcome.message}" for outcome in failed[:LISTED]]
        if len(failed) > LISTED:
            listed.append(f"and {len(failed) - LISTED} more; `metareplay results --out {given.out}` lists all")
        number = f"{len(failed)} of {len(outcomes)} runs failed"
        raise RunFailed("\n  ".join([f"{number}; to try them again: {given.command}", *listed]))


def tune(argv: list[str]) -> None:
    """Choose settings as a study file says; trials are runs, what comes out is a suite file; stopped ones go on."""
    parser = Parser("metareplay tune", tune)
    parser.add_argument("file", metavar="FILE.toml", help="methods, benchmarks, the protocol and how many trials")
    text = "the suite of what was chosen (default: tuned.toml)"
    parser.add_argument("-o", "--output", metavar="FILE", default="tuned.toml", help=text)
    given = parsed(parser, "runs/tuning", argv)
    check_file("--output", given.output)
    file = read(given.file)
    fetch([request for study in file.studies for request in study.apart()], given.quiet)
    for text in file.notes:
        note(text, given.quiet)
    out = Path(given.out)
    spare = [each.seconds or 1.0 for study in file.studies for each in plan([study.request], out) * study.runs]
    display = SuiteDisplay([], given.quiet, spare)
    try:
        with display:
            chosen = tuning.tune(
                file, out=out, write=given.output, jobs=given.jobs, executor=given.executor, address=given.address,
                report=display, note=display.note,
            )  # fmt: skip
    except KeyboardInterrupt:
        stopped = f"stopped: {display.done} runs are done, in {given.out}; to go on: {given.command}"
        raise KeyboardInterrupt(stopped) from None
    for choice in chosen:
        shown = choices.table(choice)
        console().print(shown.terminal())
        for line in shown.notes:
            say(line)
    print(f"the settings are in {plain(given.output)}; to report them: metareplay suite {plain(given.output)}")
