"""Reports: what a folder of runs says, as a page to look at, and as tables and figures for a paper."""

from __future__ import annotations

import importlib.util

from metareplay.errors import BadInput

NEEDED = {"vl_convert": "vl-convert", "jinja2": "Jinja2"}
"""What pages and figures are drawn with; tables need none of it."""


def require_drawing() -> None:
    """Make sure that pages and figures can be drawn.

    Raises
    ------
    BadInput
        If the extra ``report`` is not installed.
    """
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise BadInput(
            f"pages and figures need {' and '.join(missing)}, not installed here: pip install 'metareplay[report]'"
        )
