"""The methods that the field compares with: microseconds per example, beside the naive loops of the tests."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import data, plain_pytorch, steps
from benchmarks.timing import Work, beside, in_turns, table
from metareplay import METHODS
from metareplay.data.images import ImageSet
from metareplay.learners.fused import FusedPerceptron
from metareplay.networks import Perceptron
from metareplay.settings import hyperparameters

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from naive import Example, Naive
from test_against_naive_loops import CASES, Case

TASKS, BEFORE = 5, 40
"""The task that is timed is the last of so many; of each of the others so many batches of ten have come."""
SETTINGS: dict[str, Any] = {
    "lr": 0.001, "memories": 200, "replay_batch_size": 10, "n_memories": 100, "glances": 1, "interpolate_every": 100,
}  # fmt: skip
"""Beside them a method has its defaults."""
TARGETS = {
    "derpp": (100, 15), "erace": (90, 14), "agem": (100, 30), "mir": (230, 31), "si": (75, 12), "lwf": (60, 11),
    "mas": (60, 12), "lamaml": (190, 70),
}  # fmt: skip
"""The most microseconds per example, in batches of one and of ten."""


def through(theta: Any, x: Tensor, _: Any) -> Tensor:
    """The perceptron's scores, its weights as ``(in, out)``."""
    return plain_pytorch.forward([part.T if part.ndim == 2 else part for part in theta], x)


def competitors(case: Case, base: ImageSet) -> Callable[[int], dict[str, Work]]:
    """For a batch size, a method and its naive loop in float32, both in the middle of their lives."""
    stream, rng = data.rotations(base, TASKS), np.random.default_rng(0)
    there = {parameter.name: parameter.default for parameter in hyperparameters(METHODS[case.id])}
    settings = there | {name: value for name, value in SETTINGS.items() if name in there}
    method = METHODS[case.id](**settings)
    network = Perceptron((stream.inputs, *steps.HIDDEN, stream.classes))
    learner = FusedPerceptron(network, 10 + method.capacity(TASKS, 10), 10, rng)
    method.start(learner, np.random.default_rng(1), TASKS)
    theta = [torch.tensor(part.copy()) for layer in learner.layers() for part in layer]
    naive: Naive = case.loop(through, theta, np.random.default_rng(1), TASKS, settings)
    for task in range(TASKS):
        images = stream.tasks[task].train
        which = rng.integers(0, len(images), 10 * BEFORE)
        x, y = images.inputs(which), images.labels[which]
        tensors = list(zip(torch.from_numpy(x), y.tolist(), strict=True))

        def ours(begin: int, size: int, task: int = task, x: Any = x, y: Any = y) -> None:
            rows = np.arange(size)
            learner.put(rows, x[begin : begin + size], y[begin : begin + size], task)
            method.observe(rows)

        def theirs(begin: int, size: int, task: int = task, tensors: Any = tensors) -> None:
            naive.observe([Example(one, label, task) for one, label in tensors[begin : begin + size]])

        method.begin_task(task, task - 1 if task else None)
        naive.begin_task(task, task - 1 if task else None)
        for begin in range(0, len(x), 10) if task < TASKS - 1 else ():
            ours(begin, 10)
            theirs(begin, 10)

    def work(learn: Callable[[int, int], None], size: int) -> Work:
        def learning(batches: int) -> None:
            for number in range(batches):
                learn(number * size % len(x), size)

        return learning

    return lambda size: {"ours": work(ours, size), "PyTorch": work(theirs, size)}


def measure(base: ImageSet, seconds: float, rounds: int, only: tuple[str, ...] = ()) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for case in CASES:
        if only and case.id not in only:
            continue
        of_size = competitors(case, base)
        for size in (1, 10):
            times = in_turns(of_size(size), seconds, rounds)
            results.setdefault(case.id, {})[size] = beside(times, "PyTorch", "ours", per=size)
    return results


def lines(results: dict[str, Any]) -> list[str]:
    rows = []
    for name, row in results.items():
        ours, theirs = ([row[size]["microseconds"][who] for size in (1, 10)] for who in ("ours", "PyTorch"))
        faster = " / ".join(f"{row[size]['times_as_fast']:.0f}" for size in (1, 10))
        most = " / ".join(map(str, TARGETS.get(name, ())))
        shown = (f"{ours[0]:,.0f} / {ours[1]:,.1f}", most, f"{theirs[0]:,.0f} / {theirs[1]:,.0f}", f"{faster} ×")
        rows.append((name, *shown))
    title = (
        "Learning one example, batches of one / of ten: 784-100-100-10, 200 memories, ten replayed, at the last task"
    )
    return table(title, "ours, µs | at most | naive PyTorch, µs | ours is faster by", rows)
