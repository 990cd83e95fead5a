"""The charts, in Vega-Lite, for a page or, given the ends of axes, for paper; and what each method looks like."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from metareplay.errors import plain
from metareplay.methods import METHODS

WIDTH, HEIGHT, STEP, CELLS = 280, 200, 22, 130
"""Pixels on paper: of a panel, of a row of a ranking, of a side of a matrix."""
TALL = 300  # pixels: the height of a panel in a page, where it is as wide as its column
COLOURS = ("#767676", "#8a6d00", "#aa4499", "#228833", "#0077bb", "#cc3311", "#009988", "#aa7755", "#7b68c8", "#5f8a5f")
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
Ends = Mapping[str, Any]
Spec = dict[str, Any]


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """By method its family's colour and a mark by its place there; a user's own by its name, the same if free."""
    families = groupby(METHODS, key=lambda name: METHODS[name].family)  # in whose order the methods are
    found = {
        name: Style(COLOURS[number % len(COLOURS)], SHAPES[(number + place) % len(SHAPES)], DASHES[place % len(DASHES)])
        for number, (_, members) in enumerate(families)
        for place, name in enumerate(members)
    }
    for name in sorted(set(methods) - set(found)):
        number = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
        number, colour = divmod(number, len(OWN))
        for turn in range(number, number + len(SHAPES) * len(DASHES)):
            style = Style(OWN[colour], SHAPES[turn % len(SHAPES)], DASHES[turn // len(SHAPES) % len(DASHES)])
            if style not in found.values():
                break
        found[name] = style
    return {name: found[name] for name in methods}


PAGE = {name: {"expr": name} for name in ("low", "high", "first", "last")}
"""In a page the ends of axes are parameters, set when it is drawn."""
INTERVAL = {"mean": "mean, %", "low": "interval from", "high": "to"}
KNOWN, SINGLE = [{"filter": "isValid(datum.low)"}], [{"flatten": ["values"]}]
"""What is drawn: intervals that are known, each seed apart."""
CHOSEN = {"name": "chosen", "select": {"type": "point", "fields": ["method"]}, "bind": "legend"}


def curve_chart(styles: Styles, ends: Ends = PAGE, *, of: str, x: str) -> Spec:
    """Means along the stream, with 95 % intervals."""
    axis = {"format": "~s", "tickCount": 5, "labelExpr": "datum.value ? datum.label : '0'"}
    along = _number("at", x, axis=axis, scale={"zero": False, "nice": False})
    mean, bar, _ = _accuracies("y", of, ends)
    line = mean | {"strokeDash": _look(styles, "dashes")} | _faint(1, ends)
    points = mean | {"shape": _look(styles, "shape", _legend(ends))} | _faint(1, ends)
    layers = [
        _layer("area", bar | _faint(0.12, ends), KNOWN),
        _layer("line", line, strokeWidth=1.8),
        _layer("point", points, [{"filter": "datum.marked"}], filled=True, size=40),
    ]
    shared = {"x": along, "detail": _category("name"), "color": _look(styles, "colour", _legend(ends))}
    return _layers(layers, shared, mean, ends, _number("at", x, format="~s"))


def ranking_chart(styles: Styles, ends: Ends = PAGE, *, of: str) -> Spec:
    """Means with 95 % intervals, and each seed, a row each."""
    axis = {"labelLimit": 220, "domain": False, "ticks": False, "grid": True}
    mean, bar, each = _accuracies("x", of, ends)
    layers = [
        _layer("tick", each, SINGLE, thickness=1, size=10, opacity=0.6),
        _layer("rule", bar, KNOWN, strokeWidth=2),
        _layer("point", mean | {"shape": _look(styles, "shape")}, filled=True, size=70, opacity=1),
    ]
    shared = {"y": _category("name", title=None, sort=None, axis=axis), "color": _look(styles, "colour")}
    return _layers(layers, shared, mean, ends) | {"height": {"step": STEP}}


def memory_chart(styles: Styles, ends: Ends = PAGE, *, of: str) -> Spec:
    """Means with 95 % intervals and a dot for each seed, against the number of memories."""
    sort = {"field": "order", "op": "min"}
    along = {"field": "size", "type": "ordinal", "title": "memories", "sort": sort, "axis": {"labelAngle": 0}}
    line = {"detail": _category("method"), "strokeDash": _look(styles, "dashes")} | _faint(1, ends)
    line |= _accuracies("y", of, ends)[0]
    joined = _layer("line", line, [{"filter": "datum.joined"}], strokeWidth=1.8)
    return _dots(styles, ends, of, along, [joined], {})


def time_chart(styles: Styles, ends: Ends = PAGE, *, of: str, x: str) -> Spec:
    """The same against time; the larger a mark, the more memories."""
    words = "datum.value < 60 ? datum.value + ' s' : datum.value < 3600 ? datum.value / 60 + ' min'"
    marks = [n * 10.0**power for power in (-2, -1, 0) for n in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    marks += [n * unit for unit in (10, 60, 600, 3600, 36000) for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    values = sorted({round(mark, 3) for mark in marks if mark < 60 or mark % 30 == 0})
    axis = {"values": values, "labelExpr": f"{words} : datum.value / 3600 + ' h'", "labelOverlap": "greedy"}
    scale = {"type": "log", "nice": False, "domainMin": ends["first"], "domainMax": ends["last"]}
    along = _number("seconds", x, axis=axis | {"grid": False}, scale=scale)
    size = {"size": {"field": "weight", "type": "quantitative", "scale": None}}
    return _dots(styles, ends, of, along, [], size, _number("seconds", x, format=".3~r"))


def matrix_chart(styles: Styles, ends: Ends = PAGE, *, of: str) -> Spec:
    """One accuracy matrix."""
    axis = {"labelOverlap": "parity", "labelAngle": 0, "ticks": False, "domain": False, "grid": False}
    task = {"field": "task", "type": "ordinal", "title": "on task"}
    after = {"field": "after", "type": "ordinal", "title": "after task"}
    accuracy = _number("accuracy", of)
    legend = {"legend": None} if ends is PAGE else {}
    shades = accuracy | {"scale": {"scheme": "viridis", "domain": [0, 100]}} | legend
    encoding = {"x": task | {"axis": axis}, "y": after | {"axis": axis}, "color": shades}
    cells = _layer("rect", encoding | {"tooltip": [after, task, accuracy]})
    return cells | {"width": CELLS, "height": 170 if ends is PAGE else CELLS}


def _dots(styles: Styles, ends: Ends, of: str, along: Spec, below: list[Spec], size: Spec, *tips: Spec) -> Spec:
    mean, bar, each = _accuracies("y", of, ends)
    marks = mean | {"shape": _look(styles, "shape", _legend(ends))} | size | _faint(0.9, ends)
    layers = [
        *below,
        _layer("circle", each | _faint(0.6, ends), SINGLE, size=9),
        _layer("rule", bar | _faint(1, ends), KNOWN, strokeWidth=1.5),
        _layer("point", marks, filled=True, size=60),
    ]
    return _layers(layers, {"x": along, "color": _look(styles, "colour", _legend(ends))}, mean, ends, *tips)


def _layers(layers: list[Spec], shared: Spec, mean: Spec, ends: Ends, *tips: Spec) -> Spec:
    """One panel; in a page with marks that are not seen, large enough to be met by a pointer."""
    chart = {"encoding": shared, "width": WIDTH, "height": HEIGHT}
    if ends is not PAGE:
        return chart | {"layer": layers}
    values = [_number(field, title, format=".1f") for field, title in INTERVAL.items()]
    tooltip = [_category("name", title="method"), *tips, *values, _number("seeds", "seeds")]
    hover = _layer("point", mean | {"tooltip": tooltip}, filled=True, size=150, opacity=0)
    if shared["color"]["legend"]:
        layers[0]["params"] = [CHOSEN]
    return chart | {"layer": [*layers, hover], "height": TALL, "params": [{"name": name, "value": 1} for name in PAGE]}


def _layer(mark: str, encoding: Spec, transform: Sequence[Spec] = (), **properties: Any) -> Spec:
    return {"mark": {"type": mark, **properties}, "encoding": encoding, "transform": transform}


def _number(field: str, title: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **more}


def _category(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "nominal", **more}


def _accuracies(axis: str, title: str, ends: Ends) -> tuple[Spec, Spec, Spec]:
    """Along an axis the mean, the interval, and each seed."""
    scale = {"domainMin": ends["low"], "domainMax": ends["high"], "zero": False, "nice": True}
    mean, low, each = ({axis: _number(field, title, scale=scale)} for field in ("mean", "low", "values"))
    return mean, low | {f"{axis}2": {"field": "high"}}, each


def _faint(opacity: float, ends: Ends) -> Spec:
    """In a page, whoever is not chosen in the legend becomes faint."""
    condition = {"condition": {"param": "chosen", "value": opacity}, "value": opacity / 8}
    return {"opacity": condition if ends is PAGE else {"value": opacity}}


def _legend(ends: Ends) -> Spec:
    across = {"orient": "top", "columns": 1, "labelLimit": 300}  # the page makes as many as there is room for
    return {"title": None, "symbolOpacity": 1} | (across if ends is PAGE else {})


def _look(styles: Styles, what: str, legend: Spec | None = None) -> Spec:
    """Methods by their colour, shape or dashes."""
    scale = {"domain": list(map(plain, styles)), "range": [getattr(style, what) for style in styles.values()]}
    return _category("method", title=None, scale=scale, legend=legend)


def theme(foreground: str) -> dict[str, Any]:
    """Vega's configuration: one colour for all that is no mark; in a page that is ``currentColor``, as the text's."""
    text = {"labelColor": foreground, "titleColor": foreground, "labelFontSize": 11, "titleFontSize": 11}
    return {
        "background": None,
        "view": {"stroke": None},
        "font": "'Liberation Sans', Arial, sans-serif",  # as wide on paper as where it was laid out
        "axis": text
        | {"titleFontWeight": "normal", "gridColor": foreground, "gridOpacity": 0.13, "tickColor": foreground}
        | {"domainColor": foreground, "domainOpacity": 0.4, "tickOpacity": 0.4},
        "legend": text | {"symbolStrokeWidth": 1.8, "symbolSize": 60},
        "title": {"color": foreground, "fontSize": 12, "anchor": "start"},
        "aria": False,  # a screen reader is told by the figure's description and its table, not by every mark
    }
