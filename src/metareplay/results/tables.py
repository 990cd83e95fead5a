"""The tables of a report, as text, for the page, CSV and LaTeX. Accuracies are in percent."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from metareplay.results.commands import command
from metareplay.results.contents import Contents, Problem, short_name
from metareplay.results.groups import Group
from metareplay.results.statistics import Difference, Estimate, differences, estimate
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.runs.record import NUMBERS

NONE = "–"
PAPER = ("retained_accuracy", "learning_accuracy", "backward_transfer")
"""What the paper's tables give."""

TOLD_THE_TASK = ("independent", "taskinput")
"""Methods that must know the task when they are tested, whatever the scenario."""


@dataclass(frozen=True)
class Column:
    """A column: its title, the heading that it shares with its neighbours, and what it holds."""

    title: str
    above: str = ""
    holds: Literal["numbers", "words", "sentences", "commands"] = "numbers"
    meaning: str = ""


@dataclass(frozen=True)
class Line:
    """A row: its cells, the first naming it, and what filters go by."""

    cells: tuple[str, ...]
    problem: str | None
    method: str
    memories: int | None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption; its rows come in parts, with a rule between."""

    caption: str
    columns: tuple[Column, ...]
    parts: tuple[tuple[Line, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> list[Line]:
        """All rows."""
        return [line for part in self.parts for line in part]


@dataclass(frozen=True)
class Ranking:
    """The answer for one size of memory: a table, and its best in words."""

    problem: str
    size: int
    table: Table
    answer: str


def ranking(problem: Problem, size: int) -> Ranking:
    """The configurations of a size of memory by retained accuracy, and whether the first is better than the others."""
    ranked = problem.of_size(size)
    first, others = ranked[0], ranked[1:]
    judged = _against(first, others)
    told_apart = any(difference.established for difference in judged.values())
    lines = []
    for place, group in enumerate(ranked, 1):
        difference = judged.get(place - 2)
        lines.append(
            _line(
                problem,
                group,
                (
                    short_name(group),
                    str(place),
                    with_interval(group.interval("retained_accuracy")),
                    _verdict(place, difference),
                    NONE if difference is None else with_interval(difference.estimate, signed=True),
                    NONE if difference is None else f"{difference.corrected:.2g}",
                    str(len(group.seeds)),
                ),
                strong=place == 1 or (told_apart and (difference is None or not difference.established)),
            )
        )
    columns = (
        Column("method", holds="words"),
        Column("rank"),
        Column("RA, %", meaning=METRICS["retained_accuracy"].meaning),
        Column("first is better?", holds="words", meaning="whether that is established, at the level of 5 %"),
        Column("difference", meaning="from the first, on the seeds that both have"),
        Column("p", meaning="of an exact permutation test, corrected for all rows of this table"),
        Column("seeds"),
    )
    caption = f"{problem.name}{of_size(size)}"
    told = sorted({group.method for group in ranked} & set(TOLD_THE_TASK))
    note = f"{' and '.join(told)} {'are' if len(told) > 1 else 'is'} told the task when tested; most others are not."
    table = Table(caption, columns, (tuple(lines),), (note,) if told else ())
    return Ranking(problem.name, size, table, _answer(problem, ranked, judged))


def of_size(size: int) -> str:
    """A size of memory, to stand behind a problem's name."""
    return f", {size} memories" if size else ""


def paper(contents: Contents) -> Table:
    """The paper's layout: methods by benchmarks, with RA, LA and BTI; a part for each size of memory."""
    columns = [Column("method", holds="words")]
    columns += [
        Column(METRICS[metric].short, problem.name, meaning=METRICS[metric].meaning)
        for problem in contents.problems
        for metric in PAPER
    ]
    rows: dict[tuple[int, str], dict[str, Group]] = {}
    for problem in contents.problems:
        for group in problem.groups:
            rows.setdefault((group.memories or 0, group.label), {})[problem.name] = group
    parts: dict[int, list[Line]] = {}
    for (size, name), found in sorted(rows.items(), key=lambda row: (row[0][0] > 0, -row[0][0], row[0][1])):
        cells = [name]
        for problem in contents.problems:
            for metric in PAPER:
                there = found.get(problem.name)
                signed = METRICS[metric].difference
                cells.append(NONE if there is None else with_interval(there.interval(metric), signed=signed))
        one = next(iter(found.values()))
        parts.setdefault(size, []).append(Line(tuple(cells), None, one.method, one.memories))
    note = "Mean ± half of the 95 % interval over seeds, %."
    return Table("Methods by benchmarks", tuple(columns), tuple(map(tuple, parts.values())), (note,))


def metrics(contents: Contents, problem: Problem) -> Table:
    """Every metric of a problem's configurations."""
    columns = [Column("method", holds="words"), Column("seeds", holds="words")]
    columns += [Column(metric.short, meaning=metric.meaning) for metric in METRICS.values()]
    columns += [Column("to iid", meaning="how much less is retained than with all tasks' examples mixed")]
    lines, notes = [], dict[str, None]()
    for group in problem.groups:
        cells = [group.label, seeds(problem, group)]
        found = {metric.short: (group.interval(name), metric.difference) for name, metric in METRICS.items()}
        distance = contents.distance_to_iid(group)
        found["to iid"] = (distance if isinstance(distance, Undefined) else estimate(distance), True)
        for short, (value, signed) in found.items():
            cells.append(with_interval(value, signed=signed))
            if isinstance(value, Undefined):
                notes[f"{short} is {value}."] = None
        lines.append(_line(problem, group, cells))
    told = ("Mean ± half of the 95 % interval over seeds, %.", *notes)
    return Table(problem.name, tuple(columns), (tuple(lines),), told)


def costs(problem: Problem) -> Table:
    """What each configuration's runs cost: means over seeds."""
    units: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("steps", "SGD steps", lambda n: f"{round(n):,}".replace(",", " ")),
        ("train_seconds", "training, s", _seconds),
        ("eval_seconds", "evaluation, s", _seconds),
        ("parameter_bytes", "network, MB", _megabytes),
        ("table_bytes", "examples, MB", _megabytes),
    )
    columns = (Column("method", holds="words"), Column("seeds"), *(Column(title) for _, title, _ in units))
    lines = []
    for group in problem.groups:
        means = [(group.mean(name), told) for name, _, told in units]
        cells = [NONE if isinstance(mean, Undefined) else told(mean) for mean, told in means]
        lines.append(_line(problem, group, [group.label, str(len(group.seeds)), *cells]))
    return Table(problem.name, columns, (tuple(lines),), ("Means over seeds.",))


def commands(problem: Problem) -> Table:
    """How to get each row again."""
    lines = [
        _line(problem, group, [group.label, command(group.configuration, group.seeds)]) for group in problem.groups
    ]
    return Table(problem.name, (Column("method", holds="words"), Column("command", holds="commands")), (tuple(lines),))


def missing(contents: Contents) -> Table:
    """Runs without a record, and seeds that some configurations have and others have not."""
    columns = (
        Column("run", holds="sentences"),
        Column("state", holds="words"),
        Column("what is known", holds="sentences"),
    )
    lines = [
        Line((run.name, run.state, f"{run.why} ({run.folder})".strip()), None, "", None) for run in contents.absent
    ]
    for problem in contents.problems:
        for group in problem.groups:
            if absent := problem.missing(group):
                cells = (
                    f"{problem.name}, {group.label}",
                    "seeds missing",
                    f"seed{'s' if len(absent) > 1 else ''} {ranges(absent)}, which others of this benchmark have",
                )
                lines.append(_line(problem, group, cells))
    return Table("Runs that are not there", columns, (tuple(lines),))


def tidy(contents: Contents) -> str:
    """Everything as CSV, a row for each configuration: what it is, its metrics as fractions, and what it cost."""
    metric_columns = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    head = ["benchmark", "problem", "method", "memories", "configuration", "seeds", *metric_columns, *NUMBERS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, "command"])
    for problem in contents.problems:
        for group in problem.groups:
            row: list[object] = [group.benchmark, problem.name, group.method, group.memories, group.label]
            row.append(" ".join(map(str, group.seeds)))
            for name in METRICS:
                found = group.interval(name)
                row += ["", "", ""] if isinstance(found, Undefined) else [found.mean, found.low, found.high]
            row += [group.mean(name) for name in NUMBERS]
            writer.writerow(
                ["" if value is None else value for value in [*row, command(group.configuration, group.seeds)]]
            )
    return text.getvalue()


def with_interval(value: Estimate | Undefined, *, signed: bool = False) -> str:
    """A mean in percent with half the width of its interval, as far as they have a meaning."""
    if isinstance(value, Undefined):
        return NONE
    mean = f"{100 * value.mean:{'+' if signed else ''}.1f}".replace("-", "−")
    return mean if value.half_width is None else f"{mean} ± {100 * value.half_width:.1f}"


def seeds(problem: Problem, group: Group) -> str:
    """A configuration's seeds, and how many others have besides."""
    absent = len(problem.missing(group))
    return f"{ranges(group.seeds)}{f' ({absent} missing)' if absent else ''}"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, increasing, with neighbours drawn together: ``0–2, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _line(problem: Problem, group: Group, cells: Iterable[str], strong: bool = False) -> Line:
    return Line(tuple(cells), problem.name, group.method, group.memories, strong)


def _against(first: Group, others: list[Group]) -> dict[int, Difference]:
    """The differences of the others from the first, by their place, on the seeds that both have."""
    pairs = {}
    values = dict(zip(first.seeds, _retained(first), strict=True))
    for place, other in enumerate(others):
        both = [own - values[seed] for seed, own in zip(other.seeds, _retained(other), strict=True) if seed in values]
        if both:
            pairs[place] = both
    return dict(zip(pairs, differences(list(pairs.values())), strict=True))


def _retained(group: Group) -> list[float]:
    values = group.values("retained_accuracy")
    assert not isinstance(values, Undefined)  # it always has a meaning
    return [float(value) for value in values]


def _verdict(place: int, difference: Difference | None) -> str:
    if place == 1:
        return NONE
    if difference is None:
        return "no seed in common"
    if difference.established:
        return "yes"
    return "too few seeds" if difference.needed else "not established"


def _answer(problem: Problem, ranked: list[Group], judged: dict[int, Difference]) -> str:
    """The best, and which others may be as good."""
    first = ranked[0]
    value = with_interval(first.interval("retained_accuracy"))
    text = f"{short_name(first)} retained most: {value} %."
    if len(ranked) == 1:
        return text
    open_ones = [
        short_name(group)
        for place, group in enumerate(ranked[1:])
        if place not in judged or not judged[place].established
    ]
    needed = max((one.needed or 0 for one in judged.values()), default=0)
    if not open_ones:
        return f"{text} It is better than every other, with these seeds."
    if len(open_ones) == len(ranked) - 1:
        why = f": there are too few seeds to tell (needs at least {needed})" if needed else ""
        return f"{text} That it is better than any other is not established{why}."
    return f"{text} Not established is that it is better than {', '.join(open_ones)}."


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 10 else f"{seconds:,.0f}".replace(",", " ")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.2f}"
