"""How the settings of the methods that the field compares with were chosen: ``python -m benchmarks.choose_settings``.

A fifth of each task's training images are held out; a candidate learns the others, and is judged by its retained
accuracy on those held out: seed 0, the mean over the stream's scenarios. Test images are never
looked at. The search is the same for all: setting by setting, in the order of ``GRIDS``, the best value with the others
as they are by then, at first those in the middle. Prints lines for ``recipes.toml``.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from typing import Any

import numpy as np

from metareplay import METHODS, Diverged, Stream, benchmark, run
from metareplay.settings import hyperparameters
from metareplay.streams.catalogue import BENCHMARKS

STREAMS = (
    "digits-rotations",
    "digits-permutations",
    "digits-split",
    "mnist-rotations",
    "mnist-permutations",
    "mnist-split",
    "omniglot-small",
)
HELD_OUT = 0.2
FIXED = {"memories": 200, "replay_batch_size": 10, "glances": 1, "xi": 0.01, "batches_per_example": 5}
RATES, LOWER = (0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03)
"""Where nothing is replayed, what a step forgets must be little."""
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "agem": {"lr": RATES},
    "der": {"lr": RATES, "alpha": (0.1, 0.3, 1.0)},
    "derpp": {"lr": RATES, "alpha": (0.1, 0.3, 1.0), "beta": (0.5, 1.0)},
    "erace": {"lr": RATES},
    "mir": {"lr": RATES},
    "gss": {"lr": RATES},
    "clser": {"lr": RATES, "strength": (0.1, 1.0), "stable_decay": (0.99, 0.999)},
    "gdumb": {"lr": RATES},
    "si": {"lr": LOWER, "c": (0.1, 1.0)},
    "ewc-online": {"lr": LOWER, "strength": (1.0, 10.0, 100.0)},
    "mas": {"lr": LOWER, "strength": (0.01, 0.1, 1.0)},
    "lwf": {"lr": LOWER, "strength": (0.1, 1.0)},
    "lamaml": {"lr": (0.1, 0.3), "lr_of_lr": (0.1, 0.3)},
    "cmaml": {"lr": (0.1, 0.3), "outer_lr": (0.1, 0.3)},
    "sync": {"lr": (0.1, 0.3), "outer_lr": (0.1, 0.3)},
    "ncm": {},
    "slda": {},
    "online": {"lr": LOWER},
    "taskinput": {"lr": RATES},
    "independent": {"lr": RATES},
    "ewc": {"lr": LOWER, "memory_strength": (1.0, 10.0, 100.0)},
    "gem": {"lr": RATES, "memory_strength": (0.0, 0.5, 1.0)},
    "eralg4": {"lr": RATES},
    "eralg5": {"lr": RATES},
    "meralg1": {"lr": RATES, "beta": (0.03, 0.1, 0.3)},
    "meralg6": {"lr": RATES, "gamma": (0.1, 0.3, 1.0)},
    "meralg7": {"lr": RATES, "gamma": (0.1, 0.3, 1.0), "s": (2.0, 5.0)},
}


@cache
def held_out(stream: str) -> Stream:
    """The stream, tested on training images that it does not learn from."""
    return benchmark(stream).validation(HELD_OUT)


@cache
def retained(stream: str, method: str, settings: tuple[tuple[str, Any], ...]) -> float:
    """Retained accuracy on the images held out."""
    try:
        records = [
            run(held_out(stream), METHODS[method](**dict(settings)), scenario=scenario, evaluate="end")
            for scenario in held_out(stream).scenarios
        ]
    except Diverged:
        return 0.0
    return float(np.mean([record.metrics["retained_accuracy"] for record in records]))


def choose(stream: str, method: str) -> str:
    """The best settings, as a line of TOML."""
    there = {parameter.name for parameter in hyperparameters(METHODS[method])}
    settings = {name: value for name, value in FIXED.items() if name in there}
    settings |= {name: values[len(values) // 2] for name, values in GRIDS[method].items()}
    found = {}
    for name, values in GRIDS[method].items():
        found = {value: retained(stream, method, tuple((settings | {name: value}).items())) for value in values}
        settings[name] = max(found, key=found.__getitem__)
    best = max(found.values()) if found else retained(stream, method, tuple(settings.items()))
    line = ", ".join([*(f"{name} = {value}" for name, value in settings.items()), "published = false"])
    return f"{method} = [{{ {line} }}]  # {100 * best:.1f} %"


def main() -> None:
    """Search for every stream and method named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="*", default=STREAMS, choices=[*STREAMS, *BENCHMARKS], metavar="STREAM")
    parser.add_argument("--methods", nargs="+", default=list(GRIDS), choices=GRIDS)
    options = parser.parse_args()
    for stream in options.streams:
        print(f"\n[{stream}]", flush=True)
        for method in options.methods:
            print(choose(stream, method), flush=True)


if __name__ == "__main__":
    sys.exit(main())
