"""The page: one file with all tables, figures and what draws them in it, and nothing to fetch."""

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from metareplay.errors import plain
from metareplay.results import choices, tables
from metareplay.results.charts import Styles, styles, theme
from metareplay.results.figures import FIGURES, POINTS, Figure, ends
from metareplay.results.groups import Contents, Group
from metareplay.results.statistics import Progress

LIMIT = 3_000_000
"""Bytes that a page should have at most: with more, curves have fewer points, and matrices fewer rows and columns."""


def page(contents: Contents, progress: Callable[[str], Progress] = lambda what: lambda done, of: None) -> str:
    """The page as HTML; ``progress`` makes what is called with how many of something are done, of how many."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.finalize = lambda value: plain(value) if type(value) is str else value
    groups, problems = contents.groups, contents.problems
    look = styles(sorted({group.method for group in groups}))
    environments = Counter(tuple(sorted(run.summary["environment"].items())) for group in groups for run in group.runs)
    template = environment.from_string(_file("page.html"))
    context: dict[str, Any] = {"contents": contents, "tables": tables, "figures": FIGURES, "looks": look}
    context |= {"problems": list(enumerate(problems.items())), "metrics": functools.partial(tables.metrics, contents)}
    context |= {"answers": tables.answers(contents, progress("rankings tested")), "missing": tables.missing(contents)}
    context["chosen"] = [choices.table(choice) for choice in contents.choices if choice.ended]
    context |= {"environments": environments.most_common(), "runs": sum(len(group.runs) for group in groups)}
    context["sizes"] = sorted({size for group in groups if (size := group.memories)})
    context["made"] = datetime.now(UTC).isoformat(timespec="minutes")
    context["specifications"] = _json({figure.id: _specification(figure, look) for figure in FIGURES})
    context |= {name: Markup(_file(f"page.{name}")) for name in ("css", "js")} | {"vega": Markup(_vega())}
    around = len(template.render(context, data="", points=0).encode())
    for points in (POINTS, 50, 25, 12, 6):
        data = _data(problems.values(), points, progress(f"configurations drawn, at most {points} points each"))
        if around + len(data.encode()) < LIMIT:
            break
    return template.render(context, data=data, points=points)


@functools.cache
def _vega() -> str:
    """What draws the figures in the browser: Vega, bundled, fit to lie in the page."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _specification(figure: Figure, look: Styles) -> dict[str, Any]:
    """A figure's chart in Vega, without data; colours other than the methods' follow the text's."""
    chart = figure.chart(look) | {"data": {"name": "rows"}, "config": theme("currentColor")}
    chart |= {"autosize": {"type": "fit-x", "contains": "padding"}}
    return {**vl_convert.vegalite_to_vega(chart), "usermeta": {"columns": figure.columns}}


def _data(problems: Collection[list[Group]], points: int, progress: Progress) -> Markup:
    """Each group's rows by columns, for the figures: left out where as before, one value where all are equal."""

    def column(values: list[Any]) -> Any:
        return values[0] if values.count(values[0]) == len(values) and not isinstance(values[0], list) else values

    data, done, of = [], 0, sum(map(len, problems))
    for problem in problems:
        groups: list[dict[str, Any]] = []
        before: dict[str, dict[str, Any]] = defaultdict(dict)
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for group in problem:
            progress(done := done + 1, of)
            own = {}
            for figure in FIGURES:
                if found := figure.rows(problem, group, points):
                    columns = {name: column([row[name] for row in found]) for name in found[0]} | {"n": len(found)}
                    known = before[figure.id]
                    own[figure.id] = {name: each for name, each in columns.items() if known.get(name, ...) != each}
                    before[figure.id] = columns
                    rows[figure.id] += found
            size = "" if group.memories is None else str(group.memories)
            groups.append({"method": plain(group.method), "label": group.label, "memories": size, "rows": own})
        data.append({"groups": groups, "ends": {figure.id: ends(rows[figure.id], figure.whole) for figure in FIGURES}})
    return _json(data)


def _json(value: Any) -> Markup:
    """JSON that can stand in a script element, whatever texts are in it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _file(name: str) -> str:
    return (files("metareplay.results") / name).read_text(encoding="utf-8")
