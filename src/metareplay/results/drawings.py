"""The figures as SVG and PDF, for a paper; no browser is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vl_convert

from metareplay.files import write_atomically
from metareplay.results.charts import style, with_data
from metareplay.results.contents import Contents, Problem
from metareplay.results.figures import FIGURES, Figure, Row, ends
from metareplay.results.groups import Group
from metareplay.results.looks import Look, looks

INK = "#222222"
POINTS = 100
COLUMNS = {"size": 3, "problem": 1, "configuration": 5}


def draw(contents: Contents, folder: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> list[Path]:
    """Write every figure of every problem as SVG and PDF.

    Returns
    -------
    files
        What was written; figures that have no meaning for a problem's runs are left out.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    look = looks(contents.methods)
    written: list[Path] = []
    names: set[str] = set()
    for number, problem in enumerate(contents.problems):
        name = re.sub(r"[^a-z0-9]+", "-", problem.name.lower()).strip("-")
        name = f"{name}-{number}" if name in names or not name else name
        names.add(name)
        for place, figure in enumerate(FIGURES):
            progress(number * len(FIGURES) + place, len(contents.problems) * len(FIGURES))
            specification = drawing(figure, problem, look)
            if specification is None:
                continue
            svg = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
            for kind, content in (("svg", svg.encode()), ("pdf", vl_convert.svg_to_pdf(svg))):
                path = folder / f"{name}-{figure.id}.{kind}"
                write_atomically(path, content)
                written.append(path)
    return written


def drawing(figure: Figure, problem: Problem, look: dict[str, Look]) -> dict[str, Any] | None:
    """A figure of a problem in Vega-Lite, all panels and their legend; None if there is nothing to draw."""
    own = {method: look[method] for method in look if method in problem.methods}
    panels = [(title, rows) for title, groups in _panels(figure, problem) if (rows := _rows(figure, problem, groups))]
    if not panels:
        return None
    chart = figure.chart(own)
    limits = ends([row for _, rows in panels for row in rows], figure.whole)
    drawn = [with_data(chart, rows, limits) | ({"title": title} if title else {}) for title, rows in panels]
    return {"concat": drawn, "columns": COLUMNS[figure.panels], "config": style(INK)}


def _panels(figure: Figure, problem: Problem) -> list[tuple[str, list[Group]]]:
    if figure.panels == "size":
        return [(f"{size} memories" if size else "", problem.of_size(size)) for size in problem.sizes]
    if figure.panels == "configuration":
        return [(group.label, [group]) for group in problem.groups]
    return [("", sorted(problem.groups, key=lambda group: group.memories or 0))]


def _rows(figure: Figure, problem: Problem, groups: list[Group]) -> list[Row]:
    return [row for group in groups for row in figure.rows(problem, group, POINTS)]
