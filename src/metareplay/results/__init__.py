"""Reports: what a folder of runs says, as a page to look at, and as tables and figures for a paper."""

import importlib.util

from metareplay.errors import INSTALL, BadInput


def require_drawing() -> None:
    """Raise BadInput if what pages and figures are drawn with is not installed; tables need none of it."""
    needed = {"vl_convert": "vl-convert", "jinja2": "Jinja2"}
    if missing := [name for module, name in needed.items() if importlib.util.find_spec(module) is None]:
        raise BadInput(f"pages and figures need {' and '.join(missing)}, not installed: {INSTALL.format('report')}")
