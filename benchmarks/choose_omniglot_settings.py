"""How the Omniglot settings were chosen: ``python -m benchmarks.choose_omniglot_settings NETWORK [METHOD …]``.

Each candidate learns drawings 1 to 12 of every character of the eight alphabets; the best retained accuracy on drawings
13 to 15 wins, for the perceptron (mlp) the mean of two seeds, for the convolutional network (cnn-small) one seed and
three alphabets. Drawings 16 to 20, which are for testing, are never looked at. Prints lines for ``recipes.toml`` and
``omniglot.toml``.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from metareplay import METHODS, Diverged, run
from metareplay.data import catalogue as sources
from metareplay.data.images import BaseImages, ImageSet
from metareplay.data.omniglot import DRAWINGS, FOR_TESTING
from metareplay.streams.catalogue import find

HELD_OUT = 3
"""Of the training drawings of each character."""

GRIDS: dict[str, dict[str, dict[str, tuple[Any, ...]]]] = {
    "mlp": {
        "online": {"lr": (0.003, 0.01, 0.03, 0.1)},
        "taskinput": {"lr": (0.01, 0.03, 0.1, 0.3)},
        "independent": {"lr": (0.01, 0.03, 0.1, 0.3)},
        "ewc": {"lr": (0.01, 0.03, 0.1), "n_memories": (100,), "memory_strength": (1.0, 10.0, 100.0)},
        "gem": {"memories": (960, 240), "lr": (0.01, 0.03, 0.1), "memory_strength": (0.0, 0.5)},
        "eralg4": {"memories": (960, 240), "lr": (0.03, 0.1, 0.3), "replay_batch_size": (10, 25)},
        "eralg5": {"memories": (960, 240), "lr": (0.01, 0.03, 0.1), "replay_batch_size": (10, 25)},
        "meralg1": {
            "memories": (960, 240),
            "lr": (0.03, 0.1),
            "beta": (0.1, 0.3),
            "replay_batch_size": (10, 25),
            "batches_per_example": (5,),
        },
        "meralg6": {
            "memories": (960, 240),
            "lr": (0.03, 0.1),
            "gamma": (0.1, 0.3, 1.0),
            "replay_batch_size": (10, 25),
        },
        "meralg7": {
            "memories": (960, 240),
            "lr": (0.03, 0.1),
            "s": (2.0, 5.0),
            "gamma": (0.1, 0.3, 1.0),
            "replay_batch_size": (25,),
        },
    },
    "cnn-small": {
        "online": {"lr": (0.01, 0.03)},
        "independent": {"lr": (0.03, 0.1)},
        "gem": {"memories": (240,), "lr": (0.03, 0.1, 0.3), "memory_strength": (0.0, 0.5)},
        "eralg4": {"memories": (240,), "lr": (0.03, 0.1), "replay_batch_size": (10,)},
        "meralg1": {
            "memories": (240,),
            "lr": (0.03, 0.1),
            "beta": (0.3,),
            "replay_batch_size": (10,),
            "batches_per_example": (1,),
        },
    },
}
SEEDS = {"mlp": range(2), "cnn-small": range(1)}
TASKS = {"mlp": 8, "cnn-small": 3}
BATCH_SIZE = {("cnn-small", "gem"): 10}
"""As its authors have it; it would take a quarter of an hour for one run otherwise. All others learn one by one."""


def training_drawings_only() -> ImageSet:
    """Omniglot's small sets with the last of their training drawings in the place of the test drawings."""
    omniglot = sources.get("omniglot-small")
    number = np.arange(len(omniglot.train)) % (DRAWINGS - FOR_TESTING)
    held_out = number >= number.max() + 1 - HELD_OUT
    shape = omniglot.train.shape
    return replace(
        omniglot,
        train=BaseImages(omniglot.train.pixels[~held_out], shape=shape),
        train_labels=omniglot.train_labels[~held_out],
        test=BaseImages(omniglot.train.pixels[held_out], shape=shape),
        test_labels=omniglot.train_labels[held_out],
    )


def retained_accuracy(network: str, method: str, settings: dict[str, Any]) -> float:
    """Mean over the seeds, on the held-out training drawings."""
    stream = find("omniglot-small").stream(TASKS[network], images=training_drawings_only())
    engine = "fused" if network == "mlp" else "torch"
    try:
        records = [
            run(
                stream,
                METHODS[method](**settings),
                seed=seed,
                batch_size=BATCH_SIZE.get((network, method), 1),
                network=network,
                engine=engine,
            )
            for seed in SEEDS[network]
        ]
    except Diverged:
        return 0.0
    return float(np.mean([record.metrics["retained_accuracy"] for record in records]))


def main() -> None:
    """Search every grid and print the best of it."""
    network, *methods = sys.argv[1:]
    for method in methods or GRIDS[network]:
        grid = GRIDS[network][method]
        candidates = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        found = [retained_accuracy(network, method, candidate) for candidate in candidates]
        for memories in grid.get("memories", (None,)):
            fitting = [i for i in range(len(candidates)) if candidates[i].get("memories") == memories]
            best = max(fitting, key=found.__getitem__)
            line = ", ".join(f"{name} = {value}" for name, value in candidates[best].items())
            others = ", ".join(f"{100 * found[i]:.1f}" for i in fitting)
            print(f"{method}: {{ {line} }}  # {100 * found[best]:.1f} % of {others}", flush=True)


if __name__ == "__main__":
    main()
