"""``metareplay benchmarks``: the streams there are to learn from."""

from __future__ import annotations

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import show
from metareplay.streams.catalogue import BENCHMARKS


def main(argv: list[str]) -> None:
    """List the benchmarks."""
    Parser(prog="metareplay benchmarks", description="List the streams there are to learn from.").parse(argv)
    show(
        (
            b.name,
            b.description,
            f"{b.tasks} tasks, {b.samples_per_task or 'all'} examples of each; data: {b.data}; {' or '.join(b.allows)}",
        )
        for b in BENCHMARKS.values()
    )
