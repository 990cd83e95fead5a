"""The result of a run: for people on standard output, for programs as JSON."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from metareplay.cli.tables import name_of, write
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.runs.record import Record

ONLY_IF_LOOKED = ("minimum_accuracy", "worst_dip", "stability_gap")
"""Shown only of runs that were evaluated within tasks: at their ends alone they say little that the others do not."""


def show(record: Record) -> None:
    """Print the metrics, in percent, and what they cost."""
    configuration = record.configuration
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(style="bold", justify="right")
    table.add_column()
    looked = not isinstance(record.metrics["stability_gap"], Undefined)
    undefined: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        value = record.metrics[name]
        if isinstance(value, Undefined):
            if name not in ONLY_IF_LOOKED:
                undefined.setdefault(str(value), []).append(metric.short)
        elif looked or name not in ONLY_IF_LOOKED:
            table.add_row(metric.short, f"{100 * value:{'+' if metric.difference else ''}.1f} %", metric.meaning)
    console = Console(highlight=False)
    usual = {"scenario": "domain-incremental", "order": "tasks"}
    unusual = [f"{configuration[name]}" for name, value in usual.items() if configuration.get(name, value) != value]
    title = [configuration["benchmark"], configuration["method"], *unusual, f"seed {configuration['seed']}"]
    console.print(name_of(", ".join(map(str, title)), "bold"))
    console.print(table)
    for why, names in undefined.items():
        console.print(f"{', '.join(names)}: {why}", soft_wrap=True)
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
    write("--json", file, json.dumps(record.summary()) + "\n")
