"""The page: one file with all tables, figures and what draws them in it, and nothing to fetch."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from metareplay.results import tables
from metareplay.results.charts import style
from metareplay.results.contents import Contents
from metareplay.results.figures import FIGURES, TASKS, Figure, Row, ends
from metareplay.results.looks import looks
from metareplay.runs.metrics import METRICS

LIMIT = 3_000_000
"""Bytes that a page may have."""

POINTS = (100, 50, 25, 12, 6)
"""Points of a curve, at most; fewer where the page would be too large."""

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
"""A method's shape beside its name, about 9 pixels wide."""


def page(contents: Contents) -> str:
    """The page as HTML.

    It has fewer points on its curves, and of large matrices fewer rows and columns, where it would be over 3 MB.
    """
    look = looks(contents.methods)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(re.sub("^ +", "", _file("page.html"), flags=re.MULTILINE))
    told = {
        "contents": contents,
        "problems": list(enumerate(contents.problems)),
        "figures": FIGURES,
        "rankings": [[tables.ranking(problem, size) for size in problem.sizes] for problem in contents.problems],
        "paper": tables.paper(contents),
        "metrics": [tables.metrics(contents, problem) for problem in contents.problems],
        "costs": [tables.costs(problem) for problem in contents.problems],
        "commands": [tables.commands(problem) for problem in contents.problems],
        "missing": tables.missing(contents),
        "environments": _environments(contents),
        "meanings": METRICS,
        "sizes": sorted({size for problem in contents.problems for size in problem.sizes if size}),
        "tasks_shown": TASKS,
        "looks": look,
        "places": {method: place for place, method in enumerate(look)},
        "symbols": SYMBOLS,
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "style": Markup(_file("page.css")),
        "script": Markup(_file("page.js")),
        "vega": Markup(_vega()),
        "specifications": _json({figure.id: _specification(figure, contents) for figure in FIGURES}),
    }
    made = ""
    for points in POINTS:
        made = template.render(told, data=_data(contents, points), points=points)
        if len(made.encode()) < LIMIT:
            break
    return made


def _vega() -> str:
    """Vega's runtime, as installed."""
    source: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _specification(figure: Figure, contents: Contents) -> dict[str, Any]:
    """A figure's chart in Vega, without data; colours other than the methods' follow the text's."""
    chart = figure.chart(looks(contents.methods)).to_dict()
    chart["config"] = style("currentColor") | {"legend": {"disable": True}}
    if figure.panels != "configuration":
        chart["autosize"] = {"type": "fit-x", "contains": "padding"}
    specification: dict[str, Any] = vl_convert.vegalite_to_vega(chart)
    return specification | {"usermeta": {"columns": figure.columns}}


def _data(contents: Contents, points: int) -> str:
    """What the figures draw, as JSON, deflated, in base 64; columns that are alike are there once."""
    pool: dict[str, int] = {}
    problems = []
    for problem in contents.problems:
        packed: list[dict[str, Any]] = [{} for _ in problem.groups]
        limits = {}
        for figure in FIGURES:
            found = [figure.rows(problem, group, points) for group in problem.groups]
            limits[figure.id] = ends([row for rows in found for row in rows], figure.whole)
            for of_group, rows in zip(packed, found, strict=True):
                of_group |= {figure.id: _packed(rows, pool)} if rows else {}
        groups = [
            {"method": group.method, "label": group.label, "memories": group.memories, "rows": rows}
            for group, rows in zip(problem.groups, packed, strict=True)
        ]
        problems.append({"groups": groups, "ends": limits})
    text = f'{{"problems":{_dumped(problems)},"columns":[{",".join(pool)}]}}'
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _packed(rows: list[Row], pool: dict[str, int]) -> dict[str, Any]:
    """Rows by columns: those with one value as it is, the others as their numbers in the pool."""
    same: dict[str, Any] = {}
    columns: dict[str, int] = {}
    for name, value in rows[0].items():
        if all(row[name] == value for row in rows):
            same[name] = value
        else:
            columns[name] = pool.setdefault(_dumped([row[name] for row in rows]), len(pool))
    return {"length": len(rows), "same": same, "columns": columns}


def _environments(contents: Contents) -> list[tuple[int, dict[str, str]]]:
    """What the runs ran on, and how many runs on each."""
    found = Counter(tuple(sorted(record.environment.items())) for record in contents.records)
    return [(count, dict(told)) for told, count in found.most_common()]


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _json(value: Any) -> Markup:
    """JSON that can stand in a script element, whatever texts are in it."""
    text = _dumped(value)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _file(name: str) -> str:
    return (files("metareplay.results") / name).read_text(encoding="utf-8")
