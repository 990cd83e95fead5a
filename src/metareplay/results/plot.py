"""One run as a picture: what ``Record.plot`` gives."""

from __future__ import annotations

from pathlib import Path

from metareplay.errors import BadInput
from metareplay.results import charts, require_drawing
from metareplay.results.groups import groups
from metareplay.runs.record import Record


class Plot:
    """The average accuracy along a run, and its accuracy matrix."""

    def __init__(self, record: Record) -> None:
        require_drawing()
        from metareplay.results.figures import FIGURES, INK, drawing

        problem = groups([record])
        shown = [
            found for figure in FIGURES if figure.id in ("average", "matrix") and (found := drawing(figure, problem))
        ]
        if not shown:
            raise BadInput("there is nothing to draw: the run was evaluated at its end alone, or never")
        self.spec = {
            "concat": [panel for figure in shown for panel in figure["concat"]],
            "resolve": {"scale": {"color": "independent"}},
            "config": charts.theme(INK),
        }
        """In Vega-Lite."""

    def _repr_svg_(self) -> str:
        import vl_convert

        return vl_convert.vegalite_to_svg(self.spec, allowed_base_urls=[])

    def save(self, path: Path | str) -> None:
        """Write it as SVG."""
        Path(path).write_text(self._repr_svg_(), encoding="utf-8")
