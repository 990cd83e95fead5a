"""The charts, in Vega-Lite by Altair. Each draws rows of its own kind (``figures.py`` makes them); none holds data.

Of every chart ``low`` and ``high`` are parameters, the ends of its accuracy axis, so that charts side by side can have
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from metareplay.results.looks import Look

WIDTH, HEIGHT, ROW, CELLS = 280, 200, 22, 130
"""Pixels: of a panel, of a row of a ranking, of a side of a matrix."""

ROWS = alt.NamedData("rows")

Looks = Mapping[str, Look]
Chart = alt.Chart | alt.LayerChart


def curve(looks: Looks, *, of: str, x: str) -> Chart:
    """Means along the stream, with 95 % intervals. Rows: method, name, seeds, at, mean, low, high, marked."""
    along = alt.X("at:Q", title=x, axis=_thousands(), scale=alt.Scale(zero=False, nice=False))
    base = alt.Chart(ROWS).encode(along, detail="name:N", color=_colour(looks))
    return _layers(
        base.transform_filter("isValid(datum.low)").mark_area(opacity=0.12).encode(_accuracy("low", of), y2="high"),
        base.mark_line(strokeWidth=1.8).encode(_accuracy("mean", of), strokeDash=_dashes(looks)),
        base.transform_filter("datum.marked")
        .mark_point(filled=True, size=40, opacity=1)
        .encode(_accuracy("mean", of), shape=_shape(looks)),
        _hover(base).encode(_accuracy("mean", of), tooltip=_told(("at", x, "~s"))),
    )


def ranking(looks: Looks, *, of: str, x: str) -> Chart:
    """Means with 95 % intervals, and each seed, a row each. Rows: method, name, mean, low, high, seeds, values."""
    name = alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=180, domain=False, ticks=False, grid=True))
    base = alt.Chart(ROWS).encode(name, color=_colour(looks))
    return _layers(
        base.transform_flatten(["values"]).mark_tick(thickness=1, size=10, opacity=0.6).encode(_along("values", of)),
        base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(_along("low", of), x2="high"),
        base.mark_point(filled=True, size=70, opacity=1).encode(_along("mean", of), shape=_shape(looks)),
        _hover(base).encode(_along("mean", of), tooltip=_told()),
        height=alt.Step(ROW),
    )


def by_memory(looks: Looks, *, of: str, x: str) -> Chart:
    """Means against the number of memories. Rows: method, name, size, order, mean, low, high, seeds, values, joined."""
    by_size = alt.EncodingSortField("order", op="min")
    size = alt.X("size:O", title=x, sort=by_size, axis=alt.Axis(labelAngle=0))
    base = alt.Chart(ROWS).encode(size, color=_colour(looks))
    return _layers(
        base.transform_filter("datum.joined")
        .mark_line(strokeWidth=1.8)
        .encode(_accuracy("mean", of), detail="method:N", strokeDash=_dashes(looks)),
        *_dots(base, looks, of),
        _hover(base).encode(_accuracy("mean", of), tooltip=_told()),
    )


def by_time(looks: Looks, *, of: str, x: str) -> Chart:
    """Means against seconds of training. Rows: method, name, seconds, mean, low, high, seeds, values, weight."""
    seconds = alt.X(
        "seconds:Q",
        title=x,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(format="~s", tickCount=4),
    )
    base = alt.Chart(ROWS).encode(seconds, color=_colour(looks))
    return _layers(
        *_dots(base, looks, of, size=alt.Size("weight:Q", scale=None)),
        _hover(base).encode(_accuracy("mean", of), tooltip=_told(("seconds", "seconds of training", ".3~s"))),
    )


def matrix(looks: Looks, *, of: str, x: str) -> Chart:
    """One accuracy matrix. Rows: after, task, accuracy."""
    axis = alt.Axis(labelOverlap="parity", labelAngle=0, ticks=False, domain=False, grid=False)
    cells: alt.Chart = (
        alt.Chart(ROWS)
        .mark_rect()
        .encode(
            alt.X("task:O", title=x, axis=axis),
            alt.Y("after:O", title="after task", axis=axis),
            alt.Color("accuracy:Q", title=of, scale=alt.Scale(scheme="viridis", domain=[0, 100])),
            tooltip=[
                alt.Tooltip("after:O", title="after task"),
                alt.Tooltip("task:O", title="on task"),
                alt.Tooltip("accuracy:Q", title=of, format=".1f"),
            ],
        )
        .properties(width=CELLS, height=CELLS)
    )
    return cells


def with_data(chart: Chart, rows: list[dict[str, Any]], ends: tuple[float, float]) -> dict[str, Any]:
    """The chart's specification with its rows, and the ends of its accuracy axis, written into it."""
    named = {"low": ends[0], "high": ends[1]}

    def settled(part: Any) -> Any:
        if isinstance(part, dict):
            if set(part) == {"expr"} and part["expr"] in named:
                return named[part["expr"]]
            return {name: settled(value) for name, value in part.items()}
        return [settled(value) for value in part] if isinstance(part, list) else part

    told = {name: value for name, value in chart.to_dict().items() if name not in ("$schema", "config", "params")}
    layers = [layer for layer in told.get("layer", []) if layer["mark"].get("opacity") != 0]  # on paper nothing points
    for layer in layers:
        layer["encoding"]["color"]["legend"] = {"symbolOpacity": 1}  # else as faint as a band
    return {**settled(told | ({"layer": layers} if layers else {})), "data": {"values": rows}}


def style(foreground: str) -> dict[str, Any]:
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


def _layers(*charts: alt.Chart, **size: Any) -> alt.LayerChart:
    """One panel of several layers of the same rows."""
    ends = [alt.param(name="low", value=0), alt.param(name="high", value=100)]
    layers = alt.layer(*charts, data=ROWS).properties(**{"width": WIDTH, "height": HEIGHT} | size).add_params(*ends)
    assert isinstance(layers, alt.LayerChart)
    return layers


def _dots(base: alt.Chart, looks: Looks, of: str, **encoding: Any) -> list[alt.Chart]:
    """A small dot for each seed, an interval, and a mark at the mean."""
    return [
        base.transform_flatten(["values"]).mark_circle(size=9, opacity=0.6).encode(_accuracy("values", of)),
        base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5).encode(_accuracy("low", of), y2="high"),
        base.mark_point(filled=True, size=60, opacity=0.9).encode(
            _accuracy("mean", of), shape=_shape(looks), **encoding
        ),
    ]


def _accuracy(field: str, title: str) -> alt.Y:
    """Accuracies upwards."""
    return alt.Y(f"{field}:Q", title=title, scale=_ends())


def _along(field: str, title: str) -> alt.X:
    """Accuracies from left to right."""
    return alt.X(f"{field}:Q", title=title, scale=_ends())


def _ends() -> alt.Scale:
    return alt.Scale(domainMin=alt.ExprRef("low"), domainMax=alt.ExprRef("high"), zero=False, nice=True)


def _hover(base: alt.Chart) -> alt.Chart:
    """Marks that are not seen, large enough to be met by a pointer."""
    unseen: alt.Chart = base.mark_point(filled=True, size=150, opacity=0)
    return unseen


def _told(*first: tuple[str, str, str]) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("name:N", title="method"),
        *(alt.Tooltip(f"{field}:Q", title=title, format=form) for field, title, form in first),
        alt.Tooltip("mean:Q", title="mean, %", format=".1f"),
        alt.Tooltip("low:Q", title="interval from", format=".1f"),
        alt.Tooltip("high:Q", title="to", format=".1f"),
        alt.Tooltip("seeds:Q", title="seeds"),
    ]


def _thousands() -> alt.Axis:
    return alt.Axis(format="~s", tickCount=5, labelExpr="datum.value ? datum.label : '0'")


def _colour(looks: Looks) -> alt.Color:
    return alt.Color("method:N", title=None, scale=_scale(looks, [look.colour for look in looks.values()]))


def _shape(looks: Looks) -> alt.Shape:
    return alt.Shape("method:N", title=None, scale=_scale(looks, [look.shape for look in looks.values()]))


def _dashes(looks: Looks) -> alt.StrokeDash:
    return alt.StrokeDash("method:N", title=None, scale=_scale(looks, [list(look.dashes) for look in looks.values()]))


def _scale(looks: Looks, values: list[Any]) -> alt.Scale:
    return alt.Scale(domain=list(looks), range=values)
