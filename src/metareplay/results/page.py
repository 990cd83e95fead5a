"""The page: one file with all tables, figures and what draws them in it, and nothing to fetch."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from metareplay.errors import plain
from metareplay.results import tables
from metareplay.results.charts import styles, theme
from metareplay.results.figures import FIGURES, POINTS, Figure, ends
from metareplay.results.groups import Contents, Group
from metareplay.results.statistics import Progress
from metareplay.results.table import Table
from metareplay.runs.metrics import METRICS

LIMIT = 3_000_000
"""Bytes that a page should have at most: with more, curves have fewer points, and matrices fewer rows and columns."""

SYMBOLS = {
    "circle": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
    "square": "M-3.5-3.5h7v7h-7Z",
    "cross": "M-4.5-1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3Z",
    "diamond": "M0-5L4 0L0 5L-4 0Z",
    "triangle-up": "M0-4.5L4.5 3.5h-9Z",
    "triangle-down": "M0 4.5L4.5-3.5h-9Z",
    "triangle-left": "M-4.5 0L3.5-4.5v9Z",
    "triangle-right": "M4.5 0L-3.5-4.5v9Z",
}
"""A method's mark before its name, about 9 pixels wide."""


def page(contents: Contents, progress: Progress = lambda done, of: None) -> str:
    """The page as HTML. ``progress`` is called with how many tests of differences are done, of how many."""
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_shown
    )
    look = styles(sorted({group.method for group in contents.groups}))
    places = {method: place for place, method in enumerate(look)}

    def mark(method: str) -> str:
        use = '<svg class="swatch" aria-hidden="true"><use href="#look-{}"/></svg> '
        return Markup(use).format(places[method]) if method in places else ""

    def show(table: Table, name: str) -> Markup:
        copies = "".join(
            f'<button type="button" data-copy="{kind}" aria-describedby="{name}-caption">Copy as {title}</button> '
            f"<template>{Markup.escape(text)}</template>"
            for kind, title, text in (("csv", "CSV", table.csv()), ("latex", "LaTeX", table.latex()))
        )
        notes = "".join(f'<p class="note">{Markup.escape(plain(note))}</p>' for note in table.notes)
        scroll = f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-caption">'
        body = table.html(mark, name)
        return Markup(
            f'<div class="table" id="{name}"><div class="tools">{copies}</div>{scroll}{body}</div>{notes}</div>'
        )

    problems = list(enumerate(contents.problems.items()))
    told = {
        "contents": contents,
        "problems": problems,
        "answers": tables.answers(contents, progress),
        "descriptions": {name: _description(problem[0]) for name, problem in contents.problems.items()},
        "tables": tables,
        "missing": tables.missing(contents),
        "environments": Counter(_environment(run) for group in contents.groups for run in group.runs).most_common(),
        "meanings": METRICS,
        "sizes": sorted({size for group in contents.groups if (size := group.memories)}),
        "figures": FIGURES,
        "looks": look,
        "symbols": SYMBOLS,
        "runs": sum(len(group.runs) for group in contents.groups),
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "show": show,
        "mark": mark,
        "style": Markup(_file("page.css")),
        "script": Markup(_file("page.js")),
        "vega": Markup(_vega()),
        "specifications": _json({figure.id: _specification(figure, look) for figure in FIGURES}),
    }
    template = environment.from_string(_file("page.html"))
    around = len(template.render(told, data="", points=0).encode())
    for points in (POINTS, 50, 25, 12, 6):
        data = _data(contents, points)
        if around + len(data.encode()) < LIMIT:
            break
    return template.render(told, data=data, points=points)


def _vega() -> str:
    """Vega's runtime, as installed."""
    source: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _shown(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _description(group: Group) -> str:
    """What is learned, in a line: tasks, examples, scenario, order."""
    told = group.configuration
    tasks, samples, size = len(set(told["task_order"])), told.get("samples_per_task"), told.get("batch_size", 1)
    parts = [
        f"{tasks} task{'s' if tasks > 1 else ''}",
        f"{samples} examples of each" if samples else "all examples of each",
        "one at a time" if size == 1 else f"{size} at a time",
        f"order: {told.get('order', 'tasks')}",
        str(told.get("scenario") or ""),
        f"{told['epochs']} epochs" if told.get("epochs", 1) > 1 else "",
    ]
    return ", ".join(filter(None, parts))


def _environment(run: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(run.summary["environment"].items()))


def _specification(figure: Figure, look: Any) -> dict[str, Any]:
    """A figure's chart in Vega, without data; colours other than the methods' follow the text's."""
    chart = figure.chart(look) | {"data": {"name": "rows"}, "config": theme("currentColor")}
    chart |= {"autosize": {"type": "fit-x", "contains": "padding"}}
    specification: dict[str, Any] = vl_convert.vegalite_to_vega(chart)
    return specification | {"usermeta": {"columns": figure.columns}}


def _data(contents: Contents, points: int) -> Markup:
    """What the figures draw: for each problem and figure the rows of each group, by columns.

    A column that is the same as that of the group before is left out; one value stands for a column of equal ones.
    """
    problems = []
    for problem in contents.problems.values():
        groups: list[dict[str, Any]] = [
            {"method": plain(group.method), "label": group.label, "memories": group.memories, "rows": {}}
            for group in problem
        ]
        limits = {}
        for figure in FIGURES:
            found = [figure.rows(problem, group, points) for group in problem]
            limits[figure.id] = ends([row for rows in found for row in rows], figure.whole)
            before: dict[str, Any] = {}
            for group, rows in zip(groups, found, strict=True):
                if rows:
                    columns = {name: _column([row[name] for row in rows]) for name in rows[0]} | {"n": len(rows)}
                    known = {name for name, column in columns.items() if before.get(name, ...) == column}
                    group["rows"][figure.id] = {name: columns[name] for name in columns if name not in known}
                    before = columns
        problems.append({"groups": groups, "ends": limits})
    return _json(problems)


def _column(values: list[Any]) -> Any:
    return values[0] if values.count(values[0]) == len(values) and not isinstance(values[0], list) else values


def _json(value: Any) -> Markup:
    """JSON that can stand in a script element, whatever texts are in it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _file(name: str) -> str:
    return (files("metareplay.results") / name).read_text(encoding="utf-8")
