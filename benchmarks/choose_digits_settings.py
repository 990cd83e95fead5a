"""How the digits settings in ``recipes.toml`` were chosen: ``python -m benchmarks.choose_digits_settings [NAME …]``.

Each candidate learns 1000 of the 1297 training images of every task, or its share of them; the best mean retained
accuracy on the other 297, over the seeds and the stream's scenarios, wins. The 500 test images are never looked at.
Prints lines for ``recipes.toml``.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from metareplay import METHODS, Diverged, run
from metareplay.data import catalogue as sources
from metareplay.data.images import BaseImages, ImageSet
from metareplay.streams.catalogue import find

BENCHMARKS = ("digits-rotations", "digits-permutations", "digits-split")
HELD_OUT = 297
SEEDS = range(2)
MEMORIES = (500, 200)
MEMORIES_OF_SPLIT = (200, 50)
"""Its five tasks have together as many examples as one task of the others."""

RATES = (0.003, 0.01, 0.03, 0.1)
SHARES = (0.03, 0.1, 0.3)
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "online": {"lr": (0.0003, 0.001, *RATES)},
    "taskinput": {"lr": (0.001, *RATES)},
    "independent": {"lr": RATES},
    "ewc": {"lr": RATES, "n_memories": (10,), "memory_strength": (1.0, 10.0, 100.0)},
    "gem": {"memories": MEMORIES, "lr": (0.01, 0.03), "memory_strength": (0.0, 0.5, 1.0)},
    "eralg4": {"memories": MEMORIES, "lr": RATES, "replay_batch_size": (10, 25)},
    "eralg5": {"memories": MEMORIES, "lr": RATES, "replay_batch_size": (10, 25)},
    "meralg1": {
        "memories": MEMORIES,
        "lr": (0.03, 0.1),
        "beta": SHARES,
        "replay_batch_size": (10,),
        "batches_per_example": (5,),
    },
    "meralg6": {"memories": MEMORIES, "lr": (0.03, 0.1), "gamma": SHARES, "replay_batch_size": (10, 25)},
    "meralg7": {
        "memories": MEMORIES,
        "lr": (0.01, 0.03, 0.1),
        "s": (2.0, 5.0),
        "gamma": SHARES,
        "replay_batch_size": (10,),
    },
}


def training_images_only() -> ImageSet:
    """The digits with some of their training images, one in every so many, in the place of the test images."""
    digits = sources.get("digits")
    held_out = np.zeros(len(digits.train), bool)
    held_out[np.argsort(digits.train_labels, kind="stable")[:: len(digits.train) // HELD_OUT][:HELD_OUT]] = True
    kept, tested = digits.train.pixels[~held_out], digits.train.pixels[held_out]
    return replace(
        digits,
        train=BaseImages(kept, white=16, shape=(8, 8)),
        train_labels=digits.train_labels[~held_out],
        test=BaseImages(tested, white=16, shape=(8, 8)),
        test_labels=digits.train_labels[held_out],
    )


def retained_accuracy(benchmark: str, method: str, settings: dict[str, Any]) -> float:
    """Mean over the seeds, on the held-out training images."""
    images = training_images_only()
    stream = find(benchmark).stream(images=images, samples_per_task=0)
    try:
        runs = [
            run(stream, METHODS[method](**settings), seed=seed, scenario=scenario)
            for seed in SEEDS
            for scenario in stream.scenarios
        ]
    except Diverged:
        return 0.0
    return float(np.mean([run.metrics["retained_accuracy"] for run in runs]))


def main() -> None:
    """Search every grid and print the best of it."""
    with ProcessPoolExecutor() as pool:
        for benchmark in sys.argv[1:] or BENCHMARKS:
            print(f"[{benchmark}]", flush=True)
            for method, grid in GRIDS.items():
                if benchmark == "digits-split" and "memories" in grid:
                    grid = grid | {"memories": MEMORIES_OF_SPLIT}
                candidates = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
                n = len(candidates)
                found = list(pool.map(retained_accuracy, [benchmark] * n, [method] * n, candidates))
                for memories in grid.get("memories", (None,)):
                    fitting = [i for i in range(n) if candidates[i].get("memories") == memories]
                    best = max(fitting, key=found.__getitem__)
                    line = ", ".join(f"{name} = {value}" for name, value in candidates[best].items())
                    print(f"{method}: {{ {line} }}  # {100 * found[best]:.1f} % of {len(fitting)}", flush=True)


if __name__ == "__main__":
    main()
