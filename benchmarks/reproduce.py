"""All published configurations, run and tabulated: ``python -m benchmarks.reproduce --seeds 3``.

Runs every configuration of ``recipes.toml`` on the MNIST benchmarks (those named, else all three) for each seed, on all
processors; what is already in ``--out`` is not run again. Then prints Markdown: RA, LA and BTI in percent, and for
Rotations the same beside the reference results in ``reference.csv``.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metareplay import METHODS, Experiment, Record, Trainer
from metareplay.runs import recipes
from metareplay.streams.catalogue import find

BENCHMARKS = ("mnist-rotations", "mnist-permutations", "mnist-many-permutations")
MEASURES = ("retained_accuracy", "learning_accuracy", "backward_transfer")


class Configuration(NamedTuple):
    """A row of the table."""

    benchmark: str
    method: str
    memories: int | None

    def experiment(self, seed: int) -> Experiment:
        """It, with one seed."""
        settings, _ = recipes.settings(self.benchmark, self.method, self.memories)
        return Experiment(stream=find(self.benchmark).stream(), method=METHODS[self.method](**settings), seed=seed)

    def __str__(self) -> str:
        return f"{self.benchmark} {self.method}" + (f" --memories {self.memories}" if self.memories else "")


def configurations(benchmarks: list[str], methods: list[str]) -> list[Configuration]:
    """All that have settings, in the order of the recipe file."""
    return [
        Configuration(benchmark, method, entry.get("memories"))
        for benchmark in benchmarks
        for method in methods
        for entry in recipes.entries(benchmark, method)
    ]


def run(configuration: Configuration, seed: int, out: Path) -> float:
    """Run one, unless its record is there; how long it took."""
    experiment = configuration.experiment(seed)
    begin = time.perf_counter()
    if not (out / experiment.key).exists():
        Trainer(experiment).train().save(out / experiment.key)
    return time.perf_counter() - begin


def run_all(chosen: list[Configuration], seeds: int, out: Path) -> None:
    """Run what is missing, the longest first, a line for each on standard error."""
    # Many memories, and GEM's many gradients, take longest.
    jobs = [(configuration, seed) for seed in range(seeds) for configuration in chosen]
    jobs.sort(key=lambda job: (job[0].method != "gem", job[0].method != "meralg1", -(job[0].memories or 0)))
    begin = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = {pool.submit(run, *job, out): job for job in jobs}
        for number, done in enumerate(as_completed(waiting), 1):
            configuration, seed = waiting[done]
            minutes = (time.perf_counter() - begin) / 60
            print(
                f"{number}/{len(jobs)} {configuration} --seed {seed}: {done.result():.1f} s ({minutes:.1f} min in all)",
                file=sys.stderr,
                flush=True,
            )


def percent(values: list[float]) -> str:
    """Mean, and standard deviation where there are several."""
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def tables(chosen: list[Configuration], seeds: int, out: Path) -> None:
    """Print all results, and those that have a reference beside it."""
    with (Path(__file__).parent / "reference.csv").open() as file:
        reference = {("mnist-rotations", r["method"], int(r["memories"] or 0)): r for r in csv.DictReader(file)}
    compared = []
    for benchmark in dict.fromkeys(c.benchmark for c in chosen):
        print(f"\n### {benchmark}\n")
        print("| method | memories | RA | LA | BTI | SGD steps |")
        print("|---|---|---|---|---|---|")
        for configuration in (c for c in chosen if c.benchmark == benchmark):
            records = [Record.load(out / configuration.experiment(seed).key) for seed in range(seeds)]
            found = [[record.metrics[name] for record in records] for name in MEASURES]
            name, memories = configuration.method, configuration.memories or 0
            print(f"| {name} | {memories or '–'} | {' | '.join(map(percent, found))} | {records[0].steps:,} |")
            if (benchmark, name, memories) in reference:
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
    """Run, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", nargs="+", default=list(BENCHMARKS), choices=BENCHMARKS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--memories", nargs="+", type=int, help="only these numbers of memories")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    chosen = configurations(given.benchmarks, given.methods)
    if given.memories:
        chosen = [configuration for configuration in chosen if configuration.memories in given.memories]
    run_all(chosen, given.seeds, given.out)
    tables(chosen, given.seeds, given.out)


if __name__ == "__main__":
    main()
