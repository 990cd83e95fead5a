"""The charts, in Vega-Lite by Altair, and what each method looks like in them: the same in all figures.

Each draws rows of its own kind (``figures.py`` makes them), in a page or on paper; the ends of its axes are parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import altair as alt

from metareplay.errors import plain
from metareplay.methods import METHODS

WIDTH, HEIGHT, STEP, CELLS = 280, 200, 22, 130
"""Pixels on paper: of a panel, of a row of a ranking, of a side of a matrix."""
TALL = 300
"""Pixels: the height of a panel in a page, where it is as wide as its column."""

COLOURS = ("#767676", "#8a6d00", "#aa4499", "#228833", "#0077bb", "#cc3311", "#009988", "#7b68c8", "#aa7755", "#5f8a5f")
"""After Paul Tol's schemes for colour-blind readers, each at least three times as light or dark as the page."""
OWN = ("#b05080", "#4e86b0", "#8a8a30", "#d0603a")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (12, 3))


class Style(NamedTuple):
    """Colour (hexadecimal), shape (of a Vega mark) and dashes (lengths of line and gap, in pixels)."""

    colour: str
    shape: str
    dashes: tuple[int, ...]


Styles = Mapping[str, Style]
Chart = alt.Chart | alt.LayerChart | alt.FacetChart


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """The style of each method: its family's colour, and a mark by its place in the family.

    A user's own method has its colour from its name alone, so that it is the same in every report; its mark too, unless
    another one in this report has the very same style.
    """
    families: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        families.setdefault(getattr(method, "family", "") or method.__module__, []).append(name)
    found: dict[str, Style] = {}
    for number, members in enumerate(families.values()):
        for place, name in enumerate(members):
            shape, dashes = SHAPES[(number + place) % len(SHAPES)], DASHES[place % len(DASHES)]
            found[name] = Style(COLOURS[number % len(COLOURS)], shape, dashes)
    for name in sorted(set(methods) - set(found)):
        number = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
        number, colour = divmod(number, len(OWN))
        for turn in range(len(SHAPES) * len(DASHES)):
            shape, dashes = SHAPES[(number + turn) % len(SHAPES)], DASHES[(number + turn) // len(SHAPES) % len(DASHES)]
            found[name] = Style(OWN[colour], shape, dashes)
            if found[name] not in [style for other, style in found.items() if other != name]:
                break
    return {name: found[name] for name in methods}


ROWS = alt.NamedData("rows")
ENDS = {"low": 0.0, "high": 100.0, "first": 1.0, "last": 10.0}
CHOSEN = alt.selection_point(name="chosen", fields=["method"], bind="legend")


def curve_chart(styles: Styles, page: bool, *, of: str, x: str) -> Chart:
    """Means along the stream, with 95 % intervals."""
    axis = alt.Axis(format="~s", tickCount=5, labelExpr="datum.value ? datum.label : '0'")
    along = alt.X("at:Q", title=x, axis=axis, scale=alt.Scale(zero=False, nice=False))
    base = alt.Chart(ROWS).encode(along, detail="name:N", color=_colour(styles, page))
    layers = [
        base.transform_filter("isValid(datum.low)").mark_area().encode(_y("low", of), y2="high", **_faint(0.12, page)),
        base.mark_line(strokeWidth=1.8).encode(_y("mean", of), strokeDash=_dashes(styles), **_faint(1, page)),
        base.transform_filter("datum.marked")
        .mark_point(filled=True, size=40)
        .encode(_y("mean", of), shape=_shape(styles, page), **_faint(1, page)),
    ]
    return _layers(layers, base.encode(_y("mean", of)), ("at", x, "~s"), page=page)


def ranking_chart(styles: Styles, page: bool, *, of: str) -> Chart:
    """Means with 95 % intervals, and each seed, a row each."""
    name = alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=220, domain=False, ticks=False, grid=True))
    colour = alt.Color("method:N", scale=_scale(styles, "colour"), legend=None)
    shape = alt.Shape("method:N", scale=_scale(styles, "shape"), legend=None)
    base = alt.Chart(ROWS).encode(name, color=colour)

    def along(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=of, scale=_ends("low", "high"))

    layers = [
        base.transform_flatten(["values"]).mark_tick(thickness=1, size=10, opacity=0.6).encode(along("values")),
        base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(along("low"), x2="high"),
        base.mark_point(filled=True, size=70, opacity=1).encode(along("mean"), shape=shape),
    ]
    return _layers(layers, base.encode(along("mean")), page=page, legend=False, height=alt.Step(STEP))


def dots_chart(styles: Styles, page: bool, *, of: str, x: str, seconds: bool) -> Chart:
    """Means with 95 % intervals and a dot for each seed, against time or against the number of memories."""
    if seconds:
        words = "datum.value < 60 ? datum.value + ' s' : datum.value < 3600 ? datum.value / 60 + ' min'"
        marks = [n * 10.0**power for power in (-2, -1, 0) for n in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
        marks += [n * unit for unit in (10, 60, 600, 3600, 36000) for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
        values = sorted({round(mark, 3) for mark in marks if mark < 60 or mark % 30 == 0})
        axis = alt.Axis(
            values=values, labelExpr=f"{words} : datum.value / 3600 + ' h'", labelOverlap="greedy", grid=False
        )
        scale = alt.Scale(type="log", nice=False, domainMin=alt.ExprRef("first"), domainMax=alt.ExprRef("last"))
        along = alt.X("seconds:Q", title=x, scale=scale, axis=axis)
    else:
        by_size = alt.EncodingSortField("order", op="min")
        along = alt.X("size:O", title=x, sort=by_size, axis=alt.Axis(labelAngle=0))
    base = alt.Chart(ROWS).encode(along, color=_colour(styles, page))
    line = base.transform_filter("datum.joined").mark_line(strokeWidth=1.8)
    size = {"size": alt.Size("weight:Q", scale=None)} if seconds else {}
    layers = [
        base.transform_flatten(["values"]).mark_circle(size=9).encode(_y("values", of), **_faint(0.6, page)),
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=1.5)
        .encode(_y("low", of), y2="high", **_faint(1, page)),
        base.mark_point(filled=True, size=60).encode(
            _y("mean", of), shape=_shape(styles, page), **size, **_faint(0.9, page)
        ),
    ]
    if not seconds:
        dashes = _dashes(styles)
        layers.insert(0, line.encode(_y("mean", of), detail="method:N", strokeDash=dashes, **_faint(1, page)))
    told = [("seconds", x, ".3~r")] if seconds else []
    return _layers(layers, base.encode(_y("mean", of)), *told, page=page)


def matrix_chart(styles: Styles, page: bool, *, of: str) -> Chart:
    """One accuracy matrix."""
    axis = alt.Axis(labelOverlap="parity", labelAngle=0, ticks=False, domain=False, grid=False)
    scale = alt.Scale(scheme="viridis", domain=[0, 100])
    titles = {"after:O": "after task", "task:O": "on task", "accuracy:Q": of}
    cells: alt.Chart = (
        alt.Chart(ROWS)
        .mark_rect()
        .encode(
            alt.X("task:O", title="on task", axis=axis),
            alt.Y("after:O", title="after task", axis=axis),
            alt.Color("accuracy:Q", title=of, scale=scale, legend=None if page else alt.Legend()),
            tooltip=[alt.Tooltip(field, title=title) for field, title in titles.items()],
        )
        .properties(width=CELLS, height=170 if page else CELLS)
    )
    return cells


def _layers(
    layers: list[alt.Chart], base: alt.Chart, *told: tuple[str, str, str], page: bool, legend: bool = True, **size: Any
) -> Chart:
    """One panel; in a page with marks that are not seen, large enough to be met by a pointer."""
    fields = [*told, ("mean", "mean, %", ".1f"), ("low", "interval from", ".1f"), ("high", "to", ".1f")]
    tooltip = [alt.Tooltip("name:N", title="method")]
    tooltip += [alt.Tooltip(f"{field}:Q", title=title, format=form) for field, title, form in fields]
    hover = base.mark_point(filled=True, size=150, opacity=0)
    layers = [*layers, hover.encode(tooltip=[*tooltip, alt.Tooltip("seeds:Q", title="seeds")])] if page else layers
    size = {"width": WIDTH, "height": TALL if page else HEIGHT} | size
    made = alt.layer(*layers, data=ROWS).properties(**size)
    made = made.add_params(*(alt.param(name=name, value=value) for name, value in ENDS.items()))
    return made.add_params(CHOSEN) if page and legend else made


def _y(field: str, title: str) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, scale=_ends("low", "high"))


def _ends(low: str, high: str) -> alt.Scale:
    return alt.Scale(domainMin=alt.ExprRef(low), domainMax=alt.ExprRef(high), zero=False, nice=True)


def _faint(opacity: float, page: bool) -> dict[str, Any]:
    """In a page, whoever is not chosen in the legend becomes faint."""
    shown = alt.value(opacity)
    return {"opacity": alt.condition(CHOSEN, shown, alt.value(opacity / 8)) if page else shown}


def _legend(page: bool) -> alt.Legend:
    across: dict[str, Any] = {"orient": "top", "columns": 1, "labelLimit": 300}  # as many as there is room for
    return alt.Legend(title=None, symbolOpacity=1, **(across if page else {}))


def _colour(styles: Styles, page: bool) -> alt.Color:
    return alt.Color("method:N", title=None, scale=_scale(styles, "colour"), legend=_legend(page))


def _shape(styles: Styles, page: bool) -> alt.Shape:
    return alt.Shape("method:N", title=None, scale=_scale(styles, "shape"), legend=_legend(page))


def _dashes(styles: Styles) -> alt.StrokeDash:
    return alt.StrokeDash("method:N", scale=_scale(styles, "dashes"), legend=None)


def _scale(styles: Styles, name: str) -> alt.Scale:
    values = [getattr(style, name) for style in styles.values()]
    return alt.Scale(domain=list(map(plain, styles)), range=[list(v) if isinstance(v, tuple) else v for v in values])


def theme(foreground: str) -> dict[str, Any]:
    """Vega's configuration: one colour for all that is no mark; in a page that is ``currentColor``, as the text's."""
    text = {"labelColor": foreground, "titleColor": foreground, "labelFontSize": 11, "titleFontSize": 11}
    return {
        "background": None,
        "view": {"stroke": None},
        "font": "system-ui, 'Liberation Sans', Arial, sans-serif",
        "axis": text
        | {"titleFontWeight": "normal", "gridColor": foreground, "gridOpacity": 0.13, "tickColor": foreground}
        | {"domainColor": foreground, "domainOpacity": 0.4, "tickOpacity": 0.4},
        "legend": text | {"symbolStrokeWidth": 1.8, "symbolSize": 60},
        "title": {"color": foreground, "fontSize": 12, "anchor": "start"},
        "aria": False,  # a screen reader is told by the figure's description and its table, not by every mark
    }
