"""The figures: what each shows, and its rows, from a problem's configurations. Accuracies are in percent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.results import charts
from metareplay.results.charts import Chart, Looks
from metareplay.results.contents import Problem, retained, short_name
from metareplay.results.groups import Group
from metareplay.runs.metrics import Undefined

Row = dict[str, Any]
MARKS = 8
"""Marks on a curve."""
TASKS = 25
"""Rows and columns of a matrix, at most."""


@dataclass(frozen=True)
class Figure:
    """A kind of figure; a problem has one of each.

    Parameters
    ----------
    id, title, caption
        Its name in files and addresses; what it shows; how to read it.
    chart
        Makes the chart.
    rows
        The rows of one configuration of a problem, of at most so many points; none where it has no meaning there.
    columns
        What a row's fields are called in the table of the figure's data.
    panels
        What is drawn apart: each ``size`` of memory, each ``configuration``, or nothing (``problem``).
    whole
        Whether the accuracy axis shows all of 0 to 100 %.
    """

    id: str
    title: str
    caption: str
    chart: Callable[[Looks], Chart]
    rows: Callable[[Problem, Group, int], list[Row]]
    columns: dict[str, str]
    panels: str
    whole: bool = False


def of_curve(problem: Problem, group: Group, points: int, *, name: str) -> list[Row]:
    """The rows of one of the curves along the stream."""
    curve = group.curve(name)
    if isinstance(curve, Undefined):
        return []
    chosen = _spread(len(curve.at), points)
    marked = set(_spread(len(chosen), MARKS).tolist())
    same = {"method": group.method, "name": short_name(group), "seeds": curve.seeds}
    ends = [None if values is None else values[chosen] for values in (curve.low, curve.high)]
    columns = zip(curve.at[chosen].tolist(), *map(_tenths, (curve.mean[chosen], *ends)), strict=False)
    return [
        same | {"at": int(at), "mean": mean, "low": low, "high": high, "marked": place in marked}
        for place, (at, mean, low, high) in enumerate(columns)
    ]


def of_retained(problem: Problem, group: Group, points: int, *, short: bool = False) -> list[Row]:
    """One row: how much was retained, on average and with each seed."""
    estimate, values = group.interval("retained_accuracy"), group.values("retained_accuracy")
    assert not isinstance(estimate, Undefined)
    assert not isinstance(values, Undefined)
    row: Row = {
        "method": group.method,
        "name": short_name(group) if short else group.label,
        "mean": _percent(estimate.mean),
        "low": _percent(estimate.low),
        "high": _percent(estimate.high),
        "seeds": len(values),
        "values": [_percent(value) for value in values.tolist()],
    }
    return [row]


def of_memory(problem: Problem, group: Group, points: int) -> list[Row]:
    """One row, with its size of memory, and whether it is its method's best of that size."""
    (row,) = of_retained(problem, group, points)
    rivals = [g for g in problem.groups if g.method == group.method and g.memories == group.memories]
    best = max(rivals, key=retained)
    size = "none" if group.memories is None else str(group.memories)
    joined = best is group and group.memories is not None
    return [row | {"size": size, "order": group.memories or 0, "joined": joined}]


def of_time(problem: Problem, group: Group, points: int) -> list[Row]:
    """One row, with its mean time of training, and a weight by its size of memory."""
    (row,) = of_retained(problem, group, points)
    seconds = group.mean("train_seconds")
    if isinstance(seconds, Undefined) or seconds <= 0:
        return []
    place = problem.sizes[::-1].index(group.memories) + 1 if group.memories in problem.sizes else 0
    return [row | {"seconds": _rounded(seconds), "weight": 40 + 50 * place}]


def of_matrix(problem: Problem, group: Group, points: int) -> list[Row]:
    """The cells of the mean accuracy matrix; of many tasks, some evenly spread ones."""
    matrix = group.accuracy
    if len(matrix) < 2:
        return []
    visits, tasks = (_spread(n, min(points, TASKS)) for n in matrix.shape)
    cells = zip(np.repeat(visits, len(tasks)).tolist(), np.tile(tasks, len(visits)).tolist(), strict=True)
    accuracies = _tenths(matrix[np.ix_(visits, tasks)].ravel())
    return [
        {"after": visit + 1, "task": task + 1, "accuracy": accuracy}
        for (visit, task), accuracy in zip(cells, accuracies, strict=True)
    ]


WITH_INTERVAL = {"mean": "mean, %", "low": "interval from", "high": "to", "seeds": "seeds"}
ALONG = "batches learned"
INTERVAL = "95 % interval over seeds"

FIGURES = (
    Figure(
        "retained",
        "Retained accuracy",
        f"On all tasks, at the end of the stream. Mark: mean; bar: {INTERVAL}; thin strokes: single seeds. "
        "Methods without a memory stand beside those of every size.",
        partial(charts.ranking, of="retained accuracy, %", x=""),
        partial(of_retained, short=True),
        {"name": "method", **WITH_INTERVAL, "values": "each seed"},
        "size",
    ),
    Figure(
        "average",
        "Average accuracy on the tasks seen so far",
        f"At every evaluation, the mean over the tasks that have come by then. Band: {INTERVAL}.",
        partial(charts.curve, of="average accuracy, %", x=ALONG),
        partial(of_curve, name="average_accuracy"),
        {"name": "method", "at": ALONG, **WITH_INTERVAL},
        "size",
    ),
    Figure(
        "first-task",
        "Accuracy on the first task",
        f"Learned at the beginning and never seen again: what is lost is forgotten. Band: {INTERVAL}.",
        partial(charts.curve, of="accuracy on the first task, %", x=ALONG),
        partial(of_curve, name="first_task"),
        {"name": "method", "at": ALONG, **WITH_INTERVAL},
        "size",
        whole=True,
    ),
    Figure(
        "online",
        "Online accuracy",
        f"On the last 1000 examples, each predicted right before it was learned. Band: {INTERVAL}.",
        partial(charts.curve, of="online accuracy, %", x="examples learned"),
        partial(of_curve, name="online_accuracy"),
        {"name": "method", "at": "examples learned", **WITH_INTERVAL},
        "size",
        whole=True,
    ),
    Figure(
        "memory",
        "Retained accuracy against memory size",
        f"Mark: mean; bar: {INTERVAL}; dots: single seeds. Lines join each method's best settings of every size.",
        partial(charts.by_memory, of="retained accuracy, %", x="memories"),
        of_memory,
        {"name": "method", "size": "memories", **WITH_INTERVAL, "values": "each seed"},
        "problem",
    ),
    Figure(
        "time",
        "Retained accuracy against training time",
        f"Mean seconds of training, without evaluation; the larger the mark, the more memories. Bar: {INTERVAL}; dots: "
        "single seeds. Times compare only where machines are alike.",
        partial(charts.by_time, of="retained accuracy, %", x="seconds of training"),
        of_time,
        {"name": "method", "seconds": "seconds of training", **WITH_INTERVAL, "values": "each seed"},
        "problem",
    ),
    Figure(
        "matrix",
        "Accuracy matrices",
        "Each row is a moment: when that task had been learned. Each column is a task: how well it was done then. "
        "Right of the diagonal are tasks to come; a column that darkens downwards is forgotten. Means over seeds.",
        partial(charts.matrix, of="accuracy, %", x="on task"),
        of_matrix,
        {"after": "after task", "task": "on task", "accuracy": "accuracy, %"},
        "configuration",
    ),
)


def ends(rows: list[Row], whole: bool) -> tuple[float, float]:
    """Where the accuracy axis of these rows begins and ends."""
    found = [value for row in rows for name in ("mean", "low", "high") if (value := row.get(name)) is not None]
    found += [value for row in rows for value in row.get("values", [])]
    if whole or not found:
        return 0.0, 100.0
    return max(0.0, 5.0 * math.floor((min(found) - 1) / 5)), min(100.0, 5.0 * math.ceil((max(found) + 1) / 5))


def _spread(length: int, points: int) -> NDArray[np.int64]:
    """At most so many numbers of 0 … length − 1, evenly spread, the last among them."""
    step = math.ceil(length / points)
    return np.arange(length - 1, -1, -step)[::-1]


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _tenths(values: NDArray[np.float64] | None) -> Iterable[float | None]:
    """In percent, to a tenth, which is what a figure can show; without values, as many as are asked for of None."""
    return repeat(None) if values is None else np.round(100 * values, 1).tolist()


def _rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")
