"""How the settings in ``recipes.toml`` were chosen: ``python -m benchmarks.choose_settings [STREAM …]``.

A candidate learns some training images of every task, and is judged by its mean retained accuracy on the others, over
the seeds and the stream's scenarios. Test images are never looked at. Prints lines for ``recipes.toml``.

The first search holds a fifth of each task's images out, and takes setting by setting, in the order of the grid, the
best value with the others as they are by then, at first those in the middle: seed 0. ``--search`` names those in which
every candidate is tried: ``digits`` (297 of the 1297 training images held out, two seeds); ``omniglot`` (drawings 13
to 15 of every character, two seeds); ``omniglot-cnn``, for the convolutional network: three alphabets, one seed.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from metareplay import METHODS, Diverged, Stream, benchmark, run
from metareplay.data import catalogue as sources
from metareplay.data.decode import DRAWINGS, FOR_TESTING
from metareplay.data.images import ImageSet
from metareplay.settings import hyperparameters
from metareplay.streams.catalogue import find

Grids = dict[str, dict[str, tuple[Any, ...]]]

RATES, LOWER = (0.01, 0.03, 0.1, 0.3), (0.003, 0.01, 0.03)
"""Where nothing is replayed, what a step forgets must be little."""
FIXED = {"memories": 200, "replay_batch_size": 10, "glances": 1, "xi": 0.01, "batches_per_example": 5}
ALL: Grids = {
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
DIGITS_RATES, SHARES = (0.003, 0.01, 0.03, 0.1), (0.03, 0.1, 0.3)
REPLAY: dict[str, tuple[Any, ...]] = {"memories": (500, 200), "lr": (), "replay_batch_size": (10, 25)}
DIGITS: Grids = {
    "online": {"lr": (0.0003, 0.001, *DIGITS_RATES)},
    "taskinput": {"lr": (0.001, *DIGITS_RATES)},
    "independent": {"lr": DIGITS_RATES},
    "ewc": {"lr": DIGITS_RATES, "n_memories": (10,), "memory_strength": (1.0, 10.0, 100.0)},
    "gem": {"memories": (500, 200), "lr": (0.01, 0.03), "memory_strength": (0.0, 0.5, 1.0)},
    "eralg4": REPLAY | {"lr": DIGITS_RATES},
    "eralg5": REPLAY | {"lr": DIGITS_RATES},
    "meralg1": REPLAY | {"lr": (0.03, 0.1), "beta": SHARES, "replay_batch_size": (10,), "batches_per_example": (5,)},
    "meralg6": REPLAY | {"lr": (0.03, 0.1), "gamma": SHARES},
    "meralg7": REPLAY | {"lr": (0.01, 0.03, 0.1), "s": (2.0, 5.0), "gamma": SHARES, "replay_batch_size": (10,)},
}
DRAWN: dict[str, tuple[Any, ...]] = {"memories": (960, 240), "lr": (), "replay_batch_size": (10, 25)}
OMNIGLOT: Grids = {
    "online": {"lr": (0.003, *RATES[:3])},
    "taskinput": {"lr": RATES},
    "independent": {"lr": RATES},
    "ewc": {"lr": RATES[:3], "n_memories": (100,), "memory_strength": (1.0, 10.0, 100.0)},
    "gem": {"memories": (960, 240), "lr": RATES[:3], "memory_strength": (0.0, 0.5)},
    "eralg4": DRAWN | {"lr": RATES[1:]},
    "eralg5": DRAWN | {"lr": RATES[:3]},
    "meralg1": DRAWN | {"lr": (0.03, 0.1), "beta": (0.1, 0.3), "batches_per_example": (5,)},
    "meralg6": DRAWN | {"lr": (0.03, 0.1), "gamma": (0.1, 0.3, 1.0)},
    "meralg7": DRAWN | {"lr": (0.03, 0.1), "s": (2.0, 5.0), "gamma": (0.1, 0.3, 1.0), "replay_batch_size": (25,)},
}
OMNIGLOT_CNN: Grids = {
    "online": {"lr": (0.01, 0.03)},
    "independent": {"lr": (0.03, 0.1)},
    "gem": {"memories": (240,), "lr": (0.03, 0.1, 0.3), "memory_strength": (0.0, 0.5)},
    "eralg4": {"memories": (240,), "lr": (0.03, 0.1), "replay_batch_size": (10,)},
    "meralg1": {
        "memories": (240,), "lr": (0.03, 0.1), "beta": (0.3,), "replay_batch_size": (10,), "batches_per_example": (1,),
    },
}  # fmt: skip


def held_out(images: ImageSet, out: np.ndarray) -> ImageSet:
    """The same with some of the training images in the place of the test images."""
    train, test = (images.train.only(np.flatnonzero(side)) for side in (~out, out))
    return replace(images, train=train, test=test)


@cache
def digits() -> ImageSet:
    """One in every so many of a class's training images, 297 in all, is held out."""
    images = sources.get("digits")
    out = np.zeros(len(images.train), bool)
    out[np.argsort(images.train.labels, kind="stable")[:: len(images.train) // 297][:297]] = True
    return held_out(images, out)


@cache
def drawings() -> ImageSet:
    """The last three training drawings of each character are held out."""
    images = sources.get("omniglot-small")
    return held_out(images, np.arange(len(images.train)) % (DRAWINGS - FOR_TESTING) >= DRAWINGS - FOR_TESTING - 3)


@dataclass(frozen=True)
class Search:
    """What is tried on which streams; the settings of a run; and whether every candidate is."""

    names: tuple[str, ...]
    stream: Callable[[str], Stream]
    grids: Grids
    seeds: int = 2
    every: bool = True
    run: dict[str, Any] = field(default_factory=dict)

    def grid(self, stream: str, method: str) -> dict[str, tuple[Any, ...]]:
        """Of digits-split five tasks have together as many examples as one task of the others."""
        grid = self.grids[method]
        return (
            grid | {"memories": (200, 50)} if self.every and stream == "digits-split" and "memories" in grid else grid
        )


OF_DIGITS, CNN = (
    ("digits-rotations", "digits-permutations", "digits-split"),
    {"network": "cnn-small", "engine": "torch"},
)
SEARCHES = {
    "field": Search(
        (*OF_DIGITS, "mnist-rotations", "mnist-permutations", "mnist-split", "omniglot-small"),
        lambda name: benchmark(name).validation(0.2), ALL, 1, every=False,
    ),
    "digits": Search(OF_DIGITS, lambda name: find(name).stream(images=digits(), samples_per_task=0), DIGITS),
    "omniglot": Search(("omniglot-small",), lambda name: find(name).stream(8, images=drawings()), OMNIGLOT),
    "omniglot-cnn": Search(
        ("omniglot-small",), lambda name: find(name).stream(3, images=drawings()), OMNIGLOT_CNN, 1, run=CNN
    ),
}  # fmt: skip


@cache
def retained(search: str, name: str, method: str, settings: tuple[tuple[str, Any], ...]) -> float:
    """Mean retained accuracy on what is held out."""
    of = SEARCHES[search]
    stream = of.stream(name)
    # Gem learns ten drawings at a time, as its authors have it: one run would take a quarter of an hour otherwise.
    batch_size = 10 if of.run and method == "gem" else 1
    try:
        records = [
            run(stream, METHODS[method](**dict(settings)), seed=seed, scenario=scenario, batch_size=batch_size,
                evaluate="end", **of.run)
            for seed in range(of.seeds) for scenario in stream.scenarios
        ]  # fmt: skip
    except Diverged:
        return 0.0
    return float(np.mean([record.metrics["retained_accuracy"] for record in records]))


def best_of_every(search: str, stream: str, method: str, pool: ProcessPoolExecutor) -> Iterator[tuple[Any, float]]:
    """For each number of memories the best settings, and what they retain."""
    grid = SEARCHES[search].grid(stream, method)
    candidates = [tuple(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    n = len(candidates)
    found = dict(zip(candidates, pool.map(retained, [search] * n, [stream] * n, [method] * n, candidates), strict=True))
    for memories in grid.get("memories", (None,)):
        best = max((one for one in candidates if dict(one).get("memories") == memories), key=found.__getitem__)
        yield dict(best), found[best]


def best_by_turns(search: str, stream: str, method: str, _: ProcessPoolExecutor) -> Iterator[tuple[Any, float]]:
    """The best value of one setting after another."""
    grid, there = SEARCHES[search].grids[method], {parameter.name for parameter in hyperparameters(METHODS[method])}
    settings = {name: value for name, value in FIXED.items() if name in there}
    settings |= {name: values[len(values) // 2] for name, values in grid.items()}
    for name, values in grid.items():
        found = {value: retained(search, stream, method, tuple((settings | {name: value}).items())) for value in values}
        settings[name] = max(found, key=found.__getitem__)
    yield settings, retained(search, stream, method, tuple(settings.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="*", metavar="STREAM")
    parser.add_argument("--search", default="field", choices=SEARCHES)
    parser.add_argument("--methods", nargs="+")
    options = parser.parse_args()
    search = SEARCHES[options.search]
    with ProcessPoolExecutor() as pool:
        for stream in options.streams or search.names:
            print(f"\n[{stream}]", flush=True)
            for method in options.methods or search.grids:
                choose = best_of_every if search.every else best_by_turns
                for settings, share in choose(options.search, stream, method, pool):
                    line = ", ".join([*(f"{name} = {value}" for name, value in settings.items()), "published = false"])
                    print(f"{method} = [{{ {line} }}]  # {100 * share:.1f} %", flush=True)


if __name__ == "__main__":
    sys.exit(main())
