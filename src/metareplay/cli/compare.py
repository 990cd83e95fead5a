"""``metareplay compare``: which differences between methods are established."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metareplay.cli.arguments import Parser, nearest
from metareplay.cli.tables import WIDER_THAN_ANY_LINE
from metareplay.errors import BadInput, RunFailed
from metareplay.files import write_atomically
from metareplay.results import contents, statistics
from metareplay.results.compare import Pair, Section, Selection, judge, sections
from metareplay.results.contents import Absent
from metareplay.results.groups import Group
from metareplay.results.statistics import Difference, Estimate
from metareplay.runs.metrics import METRICS, Undefined

COLUMNS = (
    "problem",
    "memories",
    "metric",
    "method",
    "other",
    "seeds",
    "mean",
    "half_width",
    "p",
    "corrected_p",
    "verdict",
)
SECONDS_BETWEEN_NOTES = 2.0
TOLD = 10
"""Runs that are not counted, of which so many are named."""


def main(argv: list[str]) -> None:
    """Compare methods, seed by seed."""
    parser = _parser()
    given = parser.parse(argv)
    metric = given.metric.replace("-", "_")
    if metric not in METRICS:
        known = nearest(metric, METRICS) or f"; there are {', '.join(METRICS)}"
        raise BadInput(f"--metric is {given.metric!r}, which is none{known}")
    if given.memories is not None and not given.memories.isdecimal():
        raise BadInput(f"--memories is {given.memories!r}, but must be a whole number of at least 0")
    if len(given.methods) < 2:
        parser.error("a comparison needs two methods at least")
    memories = None if given.memories is None else int(given.memories)
    read = contents.read(Path(given.runs), _reading())
    found = sections(read.groups, [Selection.read(text) for text in given.methods], given.benchmark, memories)
    judged = judge(found, metric)
    if given.csv != "-":
        _show(found, judged, metric, read.absent)
    if given.csv is not None:
        _write(_rows(found, judged, metric), given.csv)


def _parser() -> Parser:
    parser = Parser(
        prog="metareplay compare",
        description="Compare methods: their means over seeds, the differences, and whether these are established.",
        epilog="metareplay compare runs/ meralg1 eralg4 --memories 200\n"
        "metareplay compare runs/ meralg1:lr=0.03 meralg1:lr=0.1   where a method was run with several settings",
    )
    parser.add_argument("runs", metavar="DIR", help="the folder of runs")
    parser.add_argument("methods", metavar="METHOD", nargs="+", help="two methods or more, or METHOD:SETTING=VALUE,…")
    parser.add_argument("--benchmark", metavar="NAME", help="only on this benchmark (default: on each)")
    parser.add_argument("--memories", metavar="N", help="only with so many memories (default: with each number)")
    parser.add_argument(
        "--metric", metavar="NAME", default="retained_accuracy", help=f"{', '.join(METRICS)} (default: the first)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write it there as CSV, in fractions; - is standard output")
    return parser


def _show(found: Sequence[Section], judged: Mapping[Pair, Difference], metric: str, absent: Sequence[Absent]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDER_THAN_ANY_LINE)
    for section in found:
        console.print(Text(section.title, "bold"))
        console.print(Text(f"{METRICS[metric].meaning} (%)", "dim"))
        console.print(_means(section, metric))
        console.print(_differences(section, judged, metric))
        values = [group.values(metric) for group in section.entrants.values()]
        for undefined in dict.fromkeys(str(value) for value in values if isinstance(value, Undefined)):
            console.print(Text(f"{METRICS[metric].short}: {undefined}"))
        console.print()
    if judged:
        _explain(console, judged)
    for line in _not_counted(absent):
        console.print(Text(line))


def _explain(console: Console, judged: Mapping[Pair, Difference]) -> None:
    number = f"the {len(judged)} differences" if len(judged) != 1 else "the one difference"
    console.print(
        Text(
            "Intervals: Student's t, 95 %. Differences: paired by seed. p: exact permutation test, two-sided; "
            f"corrected by Holm's method for {number} above. Established: corrected p ≤ {statistics.LEVEL}."
        )
    )
    if any(difference.estimate.n > statistics.EXACT for difference in judged.values()):
        console.print(Text(f"With more than {statistics.EXACT} seeds p is estimated from {statistics.DRAWS} draws."))


def _means(section: Section, metric: str) -> Table:
    table = _table("method", "seeds", "mean ± 95 %")
    for text, group in section.entrants.items():
        value = group.interval(metric)
        shown = "undefined" if isinstance(value, Undefined) else _percent(value, METRICS[metric].difference)
        table.add_row(Text(text), str(len(group.seeds)), shown)
    return table


def _differences(section: Section, judged: Mapping[Pair, Difference], metric: str) -> Table:
    table = _table("difference", "seeds", "mean ± 95 %", "p", "corrected p")
    table.add_column()
    for one, other in section.pairs:
        pair = section.pair(one, other)
        name, difference = Text(f"{one} − {other}"), judged.get(pair)
        if difference is None:
            table.add_row(name, "", "", "", "", _why_not(pair, metric))
        else:
            table.add_row(
                name,
                str(difference.estimate.n),
                _percent(difference.estimate, sign=True),
                _p(difference.p),
                _p(difference.corrected),
                difference.verdict,
            )
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, min_width=20)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _why_not(pair: tuple[Group, Group], metric: str) -> str:
    undefined = any(isinstance(group.values(metric), Undefined) for group in pair)
    return "undefined" if undefined else "cannot be compared: they have no seed in common"


def _percent(value: Estimate, sign: bool) -> str:
    mean = f"{100 * value.mean:{'+' if sign else ''}.1f}"
    return mean if value.half_width is None else f"{mean} ± {100 * value.half_width:.1f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _not_counted(absent: Sequence[Absent]) -> list[str]:
    """The runs without a whole record, which no table shows."""
    if not absent:
        return []
    lines = [f"Not counted: {len(absent)} without a whole record"]
    lines += [f"  {run.name} ({run.folder}): {run.state}{f', {run.why}' if run.why else ''}" for run in absent[:TOLD]]
    more = len(absent) - TOLD
    return [*lines, f"  and {more} more; `metareplay results` lists all"] if more > 0 else lines


def _rows(found: Sequence[Section], judged: Mapping[Pair, Difference], metric: str) -> list[list[object]]:
    """A row for each mean, in which ``other`` is empty, and one for each difference."""
    rows: list[list[object]] = []
    for section in found:
        where = [section.problem, section.memories, metric]
        for text, group in section.entrants.items():
            value = group.interval(metric)
            if isinstance(value, Undefined):
                rows.append([*where, text, None, len(group.seeds), None, None, None, None, value])
            else:
                rows.append([*where, text, None, value.n, value.mean, value.half_width, None, None, None])
        for one, other in section.pairs:
            pair = section.pair(one, other)
            if difference := judged.get(pair):
                value = difference.estimate
                p = [difference.p, difference.corrected, difference.verdict]
                rows.append([*where, one, other, value.n, value.mean, value.half_width, *p])
            else:
                rows.append([*where, one, other, 0, None, None, None, None, _why_not(pair, metric)])
    return rows


def _write(rows: Sequence[Sequence[object]], file: str) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    if file == "-":
        sys.stdout.write(text.getvalue())
        return
    try:
        write_atomically(Path(file), text.getvalue().encode())
    except OSError as error:
        raise RunFailed(f"--csv {file} cannot be written: {error.strerror or error}") from error


def _reading() -> Callable[[int, int], None]:
    """Say now and then how many runs were read, where that takes long."""
    last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_NOTES:
            last = time.monotonic()
            print(f"metareplay: {done} of {of} runs read", file=sys.stderr)

    return tell
