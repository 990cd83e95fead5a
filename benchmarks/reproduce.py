"""All published configurations, run and tabulated: ``python -m benchmarks.reproduce --seeds 3``.

Runs every configuration of ``recipes.toml`` on the MNIST benchmarks (those named, else all three) for each seed, on all
processors; what is already in ``--out`` is not run again. Then prints Markdown: RA, LA and BTI in percent, and for
Rotations the same beside the reference results in ``reference.csv``. With ``--variants`` it runs the methods whose
published form differs from the textbook's both ways instead, on Rotations with otherwise the same settings.
"""

import argparse
import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metareplay import METHODS, Record
from metareplay.runs import recipes
from metareplay.runs.request import Request
from metareplay.suites.driver import SuiteDisplay, execute
from metareplay.suites.plan import plan

BENCHMARKS = ("mnist-rotations", "mnist-permutations", "mnist-many-permutations")
MEASURES = ("retained_accuracy", "learning_accuracy", "backward_transfer")


class Configuration(NamedTuple):
    """A row of the table."""

    benchmark: str
    method: str
    memories: int | None
    variant: str = ""
    changes: dict[str, Any] | None = None

    def request(self, seed: int) -> Request:
        settings, _ = recipes.settings(self.benchmark, self.method, self.memories)
        return Request(self.benchmark, self.method, settings | (self.changes or {}), run={"seed": seed})


VARIANTS = [
    Configuration("mnist-rotations", *row)
    for row in (
        ("ewc", None, "square of the mean gradient (published)", {}),
        ("ewc", None, "mean of the squared gradients", {"mean_of_squares": True}),
        ("ewc", None, "mean of the squared gradients, λ = 10", {"mean_of_squares": True, "memory_strength": 10.0}),
        ("ewc", None, "mean of the squared gradients, λ = 1", {"mean_of_squares": True, "memory_strength": 1.0}),
        ("eralg5", 200, "sum over the batch's tasks (published)", {}),
        ("eralg5", 200, "mean over the batch's tasks", {"mean_over_tasks": True}),
        ("eralg5", 200, "mean over the batch's tasks, lr = 0.1", {"mean_over_tasks": True, "lr": 0.1}),
        ("eralg4", 200, "plain replay (published)", {}),
        ("eralg4", 200, "every 10 batches 0.1 of the change is kept", {"interpolate_every": 10, "rate": 0.1}),
        ("eralg4", 200, "every 10 batches 0.1, lr = 0.3", {"interpolate_every": 10, "rate": 0.1, "lr": 0.3}),
        ("eralg4", 200, "every 10 batches 0.9", {"interpolate_every": 10, "rate": 0.9}),
        ("eralg4", 200, "every 500 batches 0.1", {"interpolate_every": 500, "rate": 0.1}),
        ("eralg4", 200, "every 500 batches 0.1, lr = 0.3", {"interpolate_every": 500, "rate": 0.1, "lr": 0.3}),
        ("eralg4", 200, "every 500 batches 0.9", {"interpolate_every": 500, "rate": 0.9}),
        ("gem", 200, "margin 0: the plain projection (published)", {}),
        ("gem", 200, "margin 0.5", {"memory_strength": 0.5}),
        ("gem", 200, "margin 1", {"memory_strength": 1.0}),
    )
]


def configurations(benchmarks: list[str], methods: list[str]) -> list[Configuration]:
    return [
        Configuration(benchmark, method, entry.get("memories"))
        for benchmark in benchmarks
        for method in methods
        for entry in recipes.entries(benchmark, method)
    ]


def percent(values: list[float]) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def tables(chosen: list[Configuration], seeds: int, out: Path) -> None:
    with (Path(__file__).parent / "reference.csv").open() as file:
        reference = {("mnist-rotations", r["method"], int(r["memories"] or 0)): r for r in csv.DictReader(file)}
    compared = []
    for benchmark in dict.fromkeys(c.benchmark for c in chosen):
        print(f"\n### {benchmark}\n")
        print("| method | memories | variant | RA | LA | BTI | SGD steps |")
        print("|---|---|---|---|---|---|---|")
        for configuration in (c for c in chosen if c.benchmark == benchmark):
            records = [Record.load(out / configuration.request(seed).experiment().key) for seed in range(seeds)]
            found = [[record.metrics[name] for record in records] for name in MEASURES]
            name, memories, variant = configuration.method, configuration.memories or 0, configuration.variant
            cells = (name, memories or "–", variant or "published", *map(percent, found), f"{records[0].steps:,}")
            print(f"| {' | '.join(map(str, cells))} |")
            if not variant and (benchmark, name, memories) in reference:
                compared.append((name, memories, found, reference[benchmark, name, memories]))
    if compared:
        print("\n### mnist-rotations beside the reference\n")
        print("| method | memories | RA | reference (seeds) | LA | reference | BTI | reference | RA − reference |")
        print("|---|---|---|---|---|---|---|---|---|")
    for name, memories, (ra, la, bti), row in compared:
        print(
            f"| {name} | {memories or '–'} | {percent(ra)} | {row['RA']} ({row['seeds']}) "
            f"| {percent(la)} | {row['LA']} | {percent(bti)} | {row['BTI']} "
            f"| {100 * np.mean(ra) - float(row['RA']):+.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", nargs="+", default=list(BENCHMARKS), choices=BENCHMARKS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--memories", nargs="+", type=int, help="only these numbers of memories")
    parser.add_argument("--variants", action="store_true", help="the published forms and the textbooks' instead")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    chosen = configurations(given.benchmarks, given.methods)
    if given.variants:
        chosen = [variant for variant in VARIANTS if variant.method in given.methods]
    if given.memories:
        chosen = [configuration for configuration in chosen if configuration.memories in given.memories]
    requests = [configuration.request(seed) for seed in range(given.seeds) for configuration in chosen]
    with SuiteDisplay(plan(requests, given.out)) as display:
        execute(requests, given.out, report=display, note=display.note)
    tables(chosen, given.seeds, given.out)


if __name__ == "__main__":
    main()
