"""Lists on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDER_THAN_ANY_LINE = 1000


def show(entries: Iterable[tuple[str, str, str]]) -> None:
    """Print names, what each is, and its details on the next line; only a terminal's width breaks lines."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, what, details in entries:
        table.add_row(Text(name, "bold", no_wrap=True), Text.assemble(what, "\n", (details, "dim")))
    terminal = sys.stdout.isatty()
    Console(highlight=False, width=None if terminal else WIDER_THAN_ANY_LINE).print(table)
