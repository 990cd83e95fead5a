"""What commands print and write: lists and tables on standard output, files that are asked for, progress."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metareplay.errors import BadInput, RunFailed, failing, plain
from metareplay.files import write_atomically

WIDER_THAN_ANY_LINE = 1000
PATIENCE = 2.0  # seconds between two notes of progress


def console() -> Console:
    """Standard output; only a terminal's width breaks lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDER_THAN_ANY_LINE)


def show(entries: Iterable[tuple[str, str, str]]) -> None:
    """Print names, what each is, and its details on the next line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, what, details in entries:
        table.add_row(Text(name, "bold", no_wrap=True), Text.assemble(what, "\n", (details, "dim")))
    console().print(table)


def check_file(flag: str, file: str | None) -> None:
    """BadInput, before anything is worked out, if no file can be made there; ``-`` is standard output."""
    if file in (None, "-"):
        return
    path = Path(str(file))
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{flag} is {file}, but there is no folder {path.parent}")
    if path.is_dir():
        raise BadInput(f"{flag} is {file}, but that is a folder: name a file in it")


def write(flag: str, file: str, text: str) -> None:
    """Write a file whole or not at all, else RunFailed; ``-`` is standard output."""
    if file in ("-", "/dev/stdout"):  # which may be a file that others are to be added to
        sys.stdout.write(text)
        return
    with failing(RunFailed, f"{flag} {file} cannot be written"):
        write_atomically(Path(file), text.encode())


def progress(what: str) -> Callable[[int, int], None]:
    """Progress on standard error, where it takes long, and not too often."""
    last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last > PATIENCE:
            last = time.monotonic()
            print(f"metareplay: {done} of {of} {what}", file=sys.stderr)

    return tell


def say(text: str, style: str = "", wrap: bool = False) -> None:
    """Print a line with names in it: no markup, and nothing that a terminal obeys."""
    console().print(Text(plain(text), style), soft_wrap=not wrap)
