"""``metareplay compare``: which differences between methods are established."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from metareplay.cli.arguments import Parser, nearest
from metareplay.cli.tables import check_file, console, name_of, progress, write
from metareplay.errors import BadInput
from metareplay.results import compare, groups, statistics
from metareplay.results.compare import Pair, Section, Selection
from metareplay.results.groups import Unfinished
from metareplay.results.statistics import Difference
from metareplay.runs.display import note
from metareplay.runs.metrics import METRICS, Undefined

COSTS = {"gradients": "gradients", "seconds": "train_seconds"}
NAMED = 10
"""Unfinished runs of which so many are named."""


def main(argv: list[str]) -> None:
    """Compare methods, seed by seed."""
    parser = Parser(
        prog="metareplay compare",
        description="Compare methods: their means over seeds, the differences, and whether these are established.",
        epilog="metareplay compare runs/ meralg1 eralg4 --memories 200\n"
        "metareplay compare runs/ meralg1:lr=0.03 meralg1:lr=0.1   where a method was run with several settings",
    )
    known = ", ".join(METRICS)
    parser.add_argument("runs", metavar="DIR", help="the folder of runs")
    parser.add_argument("methods", metavar="METHOD", nargs="+", help="two methods or more, or METHOD:SETTING=VALUE,…")
    parser.add_argument("--benchmark", metavar="NAME", help="only on this benchmark (default: on each)")
    parser.add_argument("--memories", metavar="N", help="only with so many memories (default: with each number)")
    parser.add_argument("--metric", metavar="NAME", default="retained_accuracy", help=f"{known} (default: the first)")
    parser.add_argument(
        "--matched", metavar="COST", help="beside each its control that took as many gradients, or seconds"
    )
    parser.add_argument("--csv", metavar="FILE", help="write it there as CSV, in fractions; - is standard output")
    given = parser.parse(argv)
    metric = given.metric.replace("-", "_")
    if metric not in METRICS:
        hint = nearest(metric, METRICS) or f"; there are {known}"
        raise BadInput(f"--metric is {given.metric!r}, which is none{hint}")
    if given.memories is not None and not given.memories.isdecimal():
        raise BadInput(f"--memories is {given.memories!r}, but must be a whole number of at least 0")
    if given.matched not in (None, *COSTS):
        raise BadInput(
            f"--matched is {given.matched!r}, but must be one of {', '.join(COSTS)}{nearest(given.matched, COSTS)}"
        )
    if len(given.methods) < 2 and not given.matched:
        parser.error("a comparison needs two methods at least")
    check_file("--csv", given.csv)
    results = groups.load(Path(given.runs), progress("runs read"))
    selections = [Selection.read(text) for text in given.methods]
    memories = None if given.memories is None else int(given.memories)
    matched = COSTS.get(given.matched)
    found = compare.sections(results.groups, selections, given.benchmark, memories, matched)
    without = [
        f"{text} ({one.title})" for one in found for text in one.entrants if matched and not _has_control(one, text)
    ]
    if without:
        control = "er-matched" if given.matched == "gradients" else "er-matched:seconds"
        note(
            f'no control within 15 % of the cost of {", ".join(without)}: controls = ["{control}"] in a suite makes it'
        )
    judged = compare.judge((pair for section in found for _, pair in section.pairs), metric)
    if given.csv != "-":
        _show(found, judged, metric, results.unfinished)
    if given.csv is not None:
        write("--csv", given.csv, compare.tidy(found, judged, metric).csv())


def _has_control(section: Section, text: str) -> bool:
    return text in (*section.controls, *section.controls.values()) or section.entrants[text].memories is None


def _show(
    found: Sequence[Section], judged: Mapping[Pair, Difference], metric: str, unfinished: Sequence[Unfinished]
) -> None:
    out = console()
    for section in found:
        out.print(name_of(section.title, "bold"))
        out.print(name_of(f"{METRICS[metric].meaning} (%)", "dim"))
        out.print(compare.means(section, metric).terminal())
        out.print(compare.differences(section, judged, metric).terminal())
        for line in compare.more_seeds(section, judged, metric):
            out.print(name_of(line), soft_wrap=True)
        values = [group.values(metric) for group in section.entrants.values()]
        for undefined in dict.fromkeys(str(value) for value in values if isinstance(value, Undefined)):
            out.print(name_of(f"{METRICS[metric].short}: {undefined}"))
        out.print()
    if judged:
        number = f"the {len(judged)} differences" if len(judged) != 1 else "the one difference"
        out.print(
            "Intervals: Student's t, 95 %. Differences: paired by seed. p: exact permutation test, two-sided; "
            f"corrected by Holm's method for {number} above. Established: corrected p ≤ {statistics.LEVEL}."
        )
    if any(not difference.established and difference.estimate.n > 1 for difference in judged.values()):
        out.print(f"More seeds: with so many, {100 * statistics.POWER:.0f} % of simulated studies establish it.")
    if any(difference.estimate.n > statistics.EXACT for difference in judged.values()):
        out.print(f"With more than {statistics.EXACT} seeds p is estimated from {statistics.DRAWS} draws.")
    if unfinished:
        out.print(f"Not counted: {len(unfinished)} without a whole record")
    for run in unfinished[:NAMED]:
        out.print(name_of(f"  {run.name} ({run.folder.name}): {run.state}{f', {run.why}' if run.why else ''}"))
    if len(unfinished) > NAMED:
        out.print(f"  and {len(unfinished) - NAMED} more; `metareplay results` lists all")
