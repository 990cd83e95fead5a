"""The result of a run, for people."""

from __future__ import annotations

from rich.text import Text

from metareplay.cli.tables import console, name_of
from metareplay.results.table import Column, Row, Table, thousands
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.runs.record import Record

ONLY_IF_LOOKED = ("minimum_accuracy", "worst_dip", "stability_gap")
"""Shown only of runs that were evaluated within tasks: at their ends alone they say little that the others do not."""


def show(record: Record) -> None:
    """Print the metrics, in percent, and what they cost."""
    configuration, rows = record.configuration, []
    looked = not isinstance(record.metrics["stability_gap"], Undefined)
    undefined: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        value = record.metrics[name]
        if name in ONLY_IF_LOOKED and not looked:
            continue
        if isinstance(value, Undefined):
            undefined.setdefault(str(value), []).append(metric.short)
        else:
            percent = f"{100 * value:{'+' if metric.difference else ''}.1f} %"
            rows.append(Row((Text(metric.short, "bold"), Text(percent, "bold"), metric.meaning)))
    usual = {"scenario": "domain-incremental", "order": "tasks"}
    unusual = [f"{configuration[name]}" for name, value in usual.items() if configuration.get(name, value) != value]
    title = [configuration["benchmark"], configuration["method"], *unusual, f"seed {configuration['seed']}"]
    out = console()
    out.print(name_of(", ".join(map(str, title)), "bold"))
    out.print(Table((Column("", holds="words"), Column(""), Column("", holds="words")), tuple(rows)).terminal())
    for why, names in undefined.items():
        out.print(f"{', '.join(names)}: {why}", soft_wrap=True)
    costs = f"{record.train_seconds:.1f} s of training; {record.eval_seconds:.1f} s of evaluation"
    out.print(f"{thousands(record.steps)} steps in {costs}", soft_wrap=True)
