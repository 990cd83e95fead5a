"""What the published choices are worth: ``python -m benchmarks.variants --seeds 3``.

Runs the methods whose published form differs from the textbook's both ways, on MNIST Rotations with otherwise the same
settings, and prints Markdown: RA, LA and BTI in percent. What is already in ``--out`` is not run again.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.reproduce import MEASURES, Configuration, percent
from metareplay import Record, Trainer

BENCHMARK = "mnist-rotations"
VARIANTS: tuple[tuple[str, int | None, str, dict[str, Any]], ...] = (
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


def run(variant: int, seed: int, out: Path) -> Record:
    """Run one, unless its record is there."""
    method, memories, _, changes = VARIANTS[variant]
    published = Configuration(BENCHMARK, method, memories).experiment(seed)
    experiment = replace(published, method=replace(published.method, **changes))
    if not (out / experiment.key).exists():
        Trainer(experiment).train().save(out / experiment.key)
    return Record.load(out / experiment.key)


def main() -> None:
    """Run all, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    names = list(dict.fromkeys(method for method, *_ in VARIANTS))
    parser.add_argument("--methods", nargs="+", default=names, choices=names)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    chosen = [place for place, (method, *_) in enumerate(VARIANTS) if method in given.methods]
    jobs = [(variant, seed) for variant in chosen for seed in range(given.seeds)]
    with ProcessPoolExecutor() as pool:
        records = list(pool.map(run, *zip(*jobs, strict=True), [given.out] * len(jobs)))
    print("| method | memories | variant | RA | LA | BTI |")
    print("|---|---|---|---|---|---|")
    for variant in chosen:
        method, memories, words, _ = VARIANTS[variant]
        mine = [record for (which, _), record in zip(jobs, records, strict=True) if which == variant]
        cells = " | ".join(percent([record.metrics[name] for record in mine]) for name in MEASURES)
        print(f"| {method} | {memories or '–'} | {words} | {cells} |")


if __name__ == "__main__":
    main()
