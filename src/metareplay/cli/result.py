"""The result of a run: for people on standard output, for programs as JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from metareplay.errors import RunFailed
from metareplay.records import Record

MEASURES = (
    ("retained_accuracy", "RA", "{:.1f} %", "retained accuracy: on all tasks, at the end"),
    ("learning_accuracy", "LA", "{:.1f} %", "learning accuracy: on each task, right after it was learned"),
    ("backward_transfer", "BTI", "{:+.1f} %", "backward transfer and interference: RA − LA"),
    (
        "forward_transfer",
        "FT",
        "{:+.1f} %",
        "forward transfer: before each task came, above no training",
    ),
    ("online_accuracy", "online", "{:.1f} %", "online accuracy: on each example, before it was learned"),
)


def show(record: Record) -> None:
    """Print the metrics, in percent, and what they cost."""
    configuration = record.configuration
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(style="bold", justify="right")
    table.add_column()
    for name, short, form, meaning in MEASURES:
        table.add_row(short, form.format(100 * record.metrics[name]), meaning)
    console = Console(highlight=False)
    console.print(f"[bold]{configuration['benchmark']}, {configuration['method']}, seed {configuration['seed']}[/]")
    console.print(table)
    console.print(
        f"{grouped(record.steps)} steps in {record.train_seconds:.1f} s of training; "
        f"{record.eval_seconds:.1f} s of evaluation",
        soft_wrap=True,
    )


def grouped(number: int) -> str:
    """A whole number with its digits in threes."""
    return f"{number:,}".replace(",", " ")


def write_json(record: Record, file: str) -> None:
    """Write the record's summary as one line of JSON, ``-`` being standard output; a file is there whole or not at all.

    Raises
    ------
    RunFailed
        If the file cannot be written.
    """
    text = json.dumps(record.summary()) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    path = Path(file)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path, text)
    except OSError as error:
        raise RunFailed(f"--json {file} cannot be written: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
