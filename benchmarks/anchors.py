"""Numbers that others have published or claimed, and ours for the same: ``python -m benchmarks.anchors [NAME …]``.

Each anchor is a protocol as closely as it is known and as the data here allow; what differs stands beside it. MNIST
must be there (``metareplay data get mnist``). Prints Markdown, a row as soon as it is there, for ``docs/results.md``.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metareplay import METHODS, Stream, benchmark, run


@dataclass(frozen=True)
class Anchor:
    """A published number's source, protocol and value; ``differs`` is what we know to be otherwise with us."""

    name: str
    source: str
    stream: Callable[[], Stream]
    method: str
    settings: dict[str, Any]
    theirs: str
    differs: str
    run: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3
    metric: str = "retained_accuracy"


def split_among_all(**options: Any) -> Stream:
    """MNIST, two classes a task, all ten outputs scored from the start, as most code has it."""
    return replace(benchmark("mnist-split", **options), scenarios=("domain-incremental",))


BATCHES = {"batch_size": 10, "hidden": (100, 100)}
ALL = BATCHES | {"samples_per_task": 0}
GSS = {"lr": 0.05, "replay_batch_size": 10}
GSS_DIFFERS = "one step a batch, ten replayed; how many theirs takes and replays is not known here"
AVERAGES = {"strength": 2.0, "stable_decay": 0.99, "stable_rate": 0.9, "plastic_decay": 0.99, "plastic_rate": 1.0}
ANCHORS = (
    *(
        Anchor(
            f"gss {memories}", "GSS, disjoint MNIST (Aljundi 2019)", split_among_all, "gss",
            GSS | {"memories": memories}, theirs, GSS_DIFFERS, BATCHES,
        )
        for memories, theirs in ((300, "82.6"), (500, "84.8"))
    ),
    *(
        Anchor(
            f"reservoir {memories}", "the same with a reservoir", split_among_all, "mir",
            GSS | {"memories": memories, "candidates": 10}, theirs, GSS_DIFFERS, BATCHES,
        )
        for memories, theirs in ((300, "37.5"), (500, "57.9"))
    ),
    Anchor(
        "gdumb", "GDumb, MNIST 5 × 2 classes (Prabhu 2020, README)", lambda: benchmark("mnist-split"), "gdumb",
        {"memories": 300, "lr": 0.05, "passes": 128, "fit_batch_size": 16}, "89.1 ± 0.4",
        "no weight decay, no clipping, no batch normalisation; two layers of 100", ALL | {"evaluate": "end"},
    ),
    *(
        Anchor(
            f"clser {memories}", "CLS-ER, split MNIST (Arani 2022, README)", split_among_all, "clser",
            AVERAGES | {"memories": memories, "lr": lr, "replay_batch_size": size}, theirs,
            "d is not shortened at the start", ALL | {"evaluate": "end"},
        )
        for memories, lr, size, theirs in ((200, 0.03, 128, "89.5 ± 0.2"), (500, 0.1, 32, "92.1 ± 0.3"))
    ),
    Anchor(
        "agem", "A-GEM, permuted MNIST, 17 tasks (Chaudhry 2019)", lambda: benchmark("mnist-permutations", tasks=17),
        "agem", {"memories": 17 * 250, "lr": 0.1, "replay_batch_size": 256}, "89.1",
        "10 000 images a task; other permutations; memory and replayed batch are our guess",
        {"batch_size": 10, "hidden": (256, 256), "samples_per_task": 10_000, "evaluate": "end"}, seeds=1,
    ),
    *(
        Anchor(
            f"mammoth {method}", f"split MNIST, batches of ten, Mammoth's settings for `{method}`", split_among_all,
            method, settings, "–", "no number with these settings is known to us", ALL | {"evaluate": "end"},
        )
        for method, settings in (
            ("online", {"lr": 0.03}), ("si", {"lr": 0.1, "c": 1.0, "xi": 0.9}),
            ("ewc-online", {"lr": 0.03, "strength": 180.0, "decay": 1.0}),
            ("lwf", {"lr": 0.03, "strength": 1.0, "temperature": 2.0}),
        )
    ),
    *(
        Anchor(
            f"lamaml {metric}", f"La-MAML, rotations, 50 samples a task: {metric.replace('_', ' ')}",
            lambda: benchmark("mnist-rotations"), "lamaml",
            {"lr": 0.15, "lr_of_lr": 0.3, "memories": 200, "replay_batch_size": 10, "glances": 5}, theirs,
            "other angles, draws and initial weights; theirs is one seed", {"batch_size": 10, "samples_per_task": 50},
            metric=metric,
        )
        for metric, theirs in (
            ("learning_accuracy", "45.5"), ("retained_accuracy", "66.0"), ("backward_transfer", "+20.5"),
        )
    ),
    *(
        Anchor(
            f"omniglot {method}", f"sequential Omniglot (Schwarz 2018), {words}",
            lambda: benchmark("omniglot-small"), method, settings, theirs,
            "8 alphabets, not 50; a perceptron, not a convolutional network; 20 passes; no augmentation",
            {"batch_size": 10, "epochs": 20},
        )
        for method, words, settings, theirs in (
            ("online", "fine-tuning", {"lr": 0.1}, "26.2"),
            ("ewc-online", "online EWC", {"lr": 0.1, "strength": 10.0, "n_memories": 400}, "70.0 ± 3.2"),
        )
    ),
)  # fmt: skip


def row(anchor: Anchor) -> str:
    begin = time.perf_counter()
    settings = METHODS[anchor.method](**anchor.settings)
    stream = anchor.stream()
    records = [run(stream, replace(settings), seed=seed, **anchor.run) for seed in range(anchor.seeds)]
    found = [100 * record.metrics[anchor.metric] for record in records]
    spread = f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
    given = ", ".join(f"{name} {value}" for name, value in anchor.settings.items())
    print(f"{anchor.name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    ours = f"`{anchor.method}`, {given} | {np.mean(found):.1f}{spread}"
    return f"| {anchor.source} | {ours} | {anchor.theirs} | {anchor.differs} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [anchor.name.split()[0] for anchor in ANCHORS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(dict.fromkeys(names))}")
    chosen = parser.parse_args().names
    if wrong := set(chosen) - set(names):
        parser.error(f"there is no anchor {min(wrong)}; there are {', '.join(dict.fromkeys(names))}")
    print("| | ours | ours, % | theirs, % | what differs |\n|---|---|--:|--:|---|", flush=True)
    for anchor, name in zip(ANCHORS, names, strict=True):
        if not chosen or name in chosen:
            print(row(anchor), flush=True)


if __name__ == "__main__":
    main()
