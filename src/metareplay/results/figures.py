"""The figures: what each shows, and all of them as SVG and PDF for a paper. Accuracies are in percent."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert
from numpy.typing import NDArray

from metareplay.errors import BadInput, RunFailed, plain
from metareplay.files import write_atomically
from metareplay.results import charts
from metareplay.results.charts import Spec
from metareplay.results.groups import Contents, Group, groups, spread
from metareplay.results.statistics import Progress
from metareplay.results.tables import of_size, sizes
from metareplay.runs.metrics import Undefined
from metareplay.runs.record import Record

TASKS, MARKS, POINTS = 25, 8, 100  # at most: rows and columns of a matrix, marks on a curve, points of a curve
INK = "#222222"
Line = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A kind of figure; a problem has one of each. ``id`` is its name in files, ``caption`` how to read it."""

    id: str
    title: str
    caption: str
    chart: Callable[..., Spec]
    """Makes the chart of its rows from the methods' styles, for a page; given the ends of its axes, for paper."""
    rows: Callable[[list[Group], Group, int], list[Line]]
    """The rows of one configuration of a problem, of at most so many points; none where it has no meaning there."""
    columns: dict[str, str]  # what a row's fields are called in the table of the figure's data
    panels: str = "size"
    """What is drawn apart: each ``size`` of memory, each ``configuration``, or nothing (``problem``)."""
    whole: bool = False  # whether the accuracy axis shows all of 0 to 100 %

    def parts(self, problem: list[Group]) -> list[tuple[str, str, list[Group]]]:
        """What is drawn apart: its title, the attribute of its panel in a page, and its configurations."""
        if self.panels == "configuration":
            return [(group.label, f"data-group={place}", [group]) for place, group in enumerate(problem)]
        if self.panels == "problem":
            return [("", "", sorted(problem, key=lambda group: group.memories or 0))]
        return [(f"{n} memories" if n else "", f"data-size={n}", of_size(problem, n)) for n in sizes(problem)]


def of_curve(problem: list[Group], group: Group, points: int, *, name: str) -> list[Line]:
    """The rows of one of the curves along the stream."""
    curve = group.curve(name)
    if isinstance(curve, Undefined):
        return []
    chosen = spread(len(curve.at), points)
    marked = spread(len(chosen), MARKS)
    same = {"method": plain(group.method), "name": group.short, "seeds": curve.seeds}
    low, high = ([None] * len(chosen) if end is None else _tenths(end[chosen]) for end in (curve.low, curve.high))
    columns = zip(curve.at[chosen].tolist(), _tenths(curve.mean[chosen]), low, high, strict=True)
    return [
        same | {"at": int(at), "mean": mean, "low": low, "high": high, "marked": place in marked}
        for place, (at, mean, low, high) in enumerate(columns)
    ]


def of_retained(problem: list[Group], group: Group, points: int) -> list[Line]:
    """One row: how much was retained, on average and with each seed."""
    values, found = group.values("retained_accuracy"), group.interval("retained_accuracy")
    if isinstance(values, Undefined) or isinstance(found, Undefined):
        return []
    mean, low, high = (None if end is None else round(100 * end, 2) for end in (found.mean, *found.ends))
    row = {"method": plain(group.method), "name": group.short, "mean": mean, "low": low, "high": high}
    return [row | {"seeds": found.n, "values": np.round(100 * values, 2).tolist()}]


def of_memory(problem: list[Group], group: Group, points: int) -> list[Line]:
    """One row, with its size of memory, and whether it is its method's best of that size."""
    size = group.memories
    rivals = [other for other in problem if (other.method, other.memories) == (group.method, size)]
    more = {"name": group.label, "size": "none" if size is None else str(size), "order": size or 0}
    more["joined"] = size is not None and of_size(rivals, size)[0] is group
    return [row | more for row in of_retained(problem, group, points)]


def of_time(problem: list[Group], group: Group, points: int) -> list[Line]:
    """One row, with its mean time of training, and a weight by its size of memory."""
    seconds = group.mean("train_seconds")
    if isinstance(seconds, Undefined) or seconds <= 0:
        return []
    place = sizes(problem)[::-1].index(group.memories) + 1 if group.memories else 0
    more = {"name": group.label, "seconds": float(f"{seconds:.4g}"), "weight": 40 + 50 * place}
    return [row | more for row in of_retained(problem, group, points)]


def of_matrix(problem: list[Group], group: Group, points: int) -> list[Line]:
    """The cells of the mean accuracy matrix; of many tasks, some evenly spread ones."""
    if len(matrix := group.accuracy) < 2:
        return []
    visits, tasks = (spread(n, round(TASKS * min(1, points / POINTS) ** 0.5)) for n in matrix.shape)
    return [
        {"after": visit + 1, "task": task + 1, "accuracy": accuracy}
        for visit in visits
        for task, accuracy in zip(tasks, _tenths(matrix[visit][tasks]), strict=True)
    ]


def _tenths(values: NDArray[np.float64]) -> list[float]:
    """In percent, to a tenth, which is what a figure can show."""
    return [float(value) for value in np.round(100 * values, 1)]


def ends(rows: list[Line], whole: bool) -> dict[str, float]:
    """Where the axes of these rows begin and end: accuracies ``low`` and ``high``, seconds ``first`` and ``last``."""
    found = [value for row in rows for name in ("mean", "low", "high") if (value := row.get(name)) is not None]
    found += [value for row in rows for value in row.get("values", [])]
    seconds = [row["seconds"] for row in rows if "seconds" in row] or [1.0]
    low, high = (0.0, 100.0) if whole or not found else (min(found) - 1, max(found) + 1)
    low, high = max(0.0, 5.0 * math.floor(low / 5)), min(100.0, 5.0 * math.ceil(high / 5))
    return {"low": low, "high": high, "first": min(seconds) / 1.3, "last": max(seconds) * 1.3}


WITH_INTERVAL = charts.INTERVAL | {"seeds": "seeds"}
INTERVAL = "95 % interval over seeds"
RETAINED = "retained accuracy, %"


# Of each curve id, title, caption, name of either axis, which of ``metrics.CURVES``, and ``whole``.
CURVES_ALONG = (
    ("average", "Average accuracy on the tasks seen so far",
     "At every evaluation, the mean over the tasks that have come by then.",
     "average accuracy, %", "batches learned", "average_accuracy", False),
    ("first-task", "Accuracy on the first task",
     "Learned at the beginning and never seen again: what is lost is forgotten.",
     "accuracy on the first task, %", "batches learned", "first_task", True),
    ("online", "Online accuracy", "On the last 1000 examples, each predicted right before it was learned.",
     "online accuracy, %", "examples learned", "online_accuracy", True),
    ("tasks", "Online accuracy of each task", "Where it falls from task to task, plasticity is lost.",
     "online accuracy of a task, %", "examples learned", "task_accuracy", False),
    ("dead", "Dead units", "The share of hidden units that are never on, mean over layers.",
     "dead units, %", "tasks learned", "dead_units", False),
    ("rank", "Effective rank", "Of what hidden layers give, as a share of their units, mean over layers.",
     "effective rank, % of units", "tasks learned", "effective_rank", False),
    ("weights", "Size of weights", "Mean absolute weight of each layer, mean over layers, times 100.",
     "mean absolute weight, 1/100", "tasks learned", "weight_size", False),
)  # fmt: skip
FIGURES = (
    Figure(
        "retained", "Retained accuracy",
        f"On all tasks, at the end of the stream. Mark: mean; bar: {INTERVAL}; thin strokes: single seeds. "
        "Methods without a memory stand beside those of every size.",
        partial(charts.ranking_chart, of=RETAINED), of_retained,
        {"label": "method", **WITH_INTERVAL, "values": "each seed"},
    ),
    *(
        Figure(
            id, title, f"{caption} Band: {INTERVAL}.", partial(charts.curve_chart, of=of, x=x),
            partial(of_curve, name=curve), {"label": "method", "at": x, **WITH_INTERVAL}, whole=whole,
        )
        for id, title, caption, of, x, curve, whole in CURVES_ALONG
    ),
    Figure(
        "memory", "Retained accuracy against memory size",
        f"Mark: mean; bar: {INTERVAL}; dots: single seeds. Lines join each method's best settings of every size.",
        partial(charts.memory_chart, of=RETAINED), of_memory,
        {"label": "method", "size": "memories", **WITH_INTERVAL, "values": "each seed"}, "problem",
    ),
    Figure(
        "time", "Retained accuracy against training time",
        f"Mean time of training, without evaluation; the larger the mark, the more memories. Bar: {INTERVAL}; dots: "
        "single seeds. Times compare only where machines are alike.",
        partial(charts.time_chart, of=RETAINED, x="time of training"), of_time,
        {"label": "method", "seconds": "seconds of training", **WITH_INTERVAL, "values": "each seed"}, "problem",
    ),
    Figure(
        "matrix", "Accuracy matrices",
        "Each row is a moment: when that task had been learned. Each column is a task: how well it was done then. "
        "Right of the diagonal are tasks to come; a column that darkens downwards is forgotten. Means over seeds.",
        partial(charts.matrix_chart, of="accuracy, %"), of_matrix,
        {"label": "method", "after": "after task", "task": "on task", "accuracy": "accuracy, %"}, "configuration",
    ),
)  # fmt: skip


def draw(contents: Contents, folder: Path, progress: Progress = lambda done, of: None) -> list[Path]:
    """Write all figures that have a meaning as SVG and PDF; OSError, or RunFailed if one cannot be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    names: set[str] = set()
    for number, (title, problem) in enumerate(contents.problems.items()):
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:100]
        name = f"{name}-{number}" if name in names or not name else name
        names.add(name)
        for place, figure in enumerate(FIGURES):
            progress(number * len(FIGURES) + place, len(contents.problems) * len(FIGURES))
            if (specification := drawing(figure, problem)) is None:
                continue
            try:
                svg = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
                files = {"svg": svg.encode(), "pdf": vl_convert.svg_to_pdf(svg)}
            except ValueError as error:
                raise RunFailed(f"the figure {figure.id} of {title} cannot be drawn: {error}") from error
            for kind, content in files.items():
                written.append(folder / f"{name}-{figure.id}.{kind}")
                write_atomically(written[-1], content)
    return written


def drawing(figure: Figure, problem: list[Group]) -> Spec | None:
    """A figure of a problem in Vega-Lite, all panels and their legend; None if there is nothing to draw."""
    parts = figure.parts(problem)
    panels = [(title, [row for one in of for row in figure.rows(problem, one, POINTS)]) for title, _, of in parts]
    panels = [(title, rows) for title, rows in panels if rows]
    if not panels:
        return None
    limits = ends([row for _, rows in panels for row in rows], figure.whole)
    chart = figure.chart(charts.styles(sorted({group.method for group in problem})), limits)
    drawn = [chart | {"title": title, "data": {"values": rows}} for title, rows in panels]
    columns = {"size": 3, "problem": 1, "configuration": 5}[figure.panels]
    return {"concat": drawn, "columns": columns, "config": charts.theme(INK)}


class Plot:
    """What ``Record.plot`` gives: the average accuracy along a run, and its accuracy matrix; ``spec`` is Vega-Lite."""

    def __init__(self, record: Record) -> None:
        problem, chosen = groups([record]), [figure for figure in FIGURES if figure.id in ("average", "matrix")]
        shown = [found for figure in chosen if (found := drawing(figure, problem))]
        if not shown:
            raise BadInput("there is nothing to draw: the run was evaluated at its end alone, or never")
        panels = [panel for figure in shown for panel in figure["concat"]]
        self.spec = {"concat": panels, "resolve": {"scale": {"color": "independent"}}, "config": charts.theme(INK)}

    def _repr_svg_(self) -> str:
        return vl_convert.vegalite_to_svg(self.spec, allowed_base_urls=[])

    def save(self, path: Path | str) -> None:
        """Write it as SVG."""
        Path(path).write_text(self._repr_svg_(), encoding="utf-8")
