"""Where a whole run's time goes: meralg1 with 5120 memories, and Python's own share of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.models import Case
from metareplay import METHODS, Experiment, Trainer, run
from metareplay.data.images import ImageSet
from metareplay.learners import kernels
from metareplay.learners.fused import FusedPerceptron
from metareplay.networks import Perceptron

CASE = Case("meralg1", 5120)
TASKS = 4
"""Fewer than the benchmark's 20, for the sake of evaluation; training is the same."""
MOST = 0.10
"""Python's share at most."""
TRAINING = ("put", "steps", "sgd_each", "copy")
"""The kernels that meralg1 learns with."""


@dataclass
class Calls:
    """How often a kernel was called, and how long it took."""

    number: int = 0
    seconds: float = 0.0


@contextmanager
def timed_kernels() -> Iterator[dict[str, Calls]]:
    calls = {name: Calls() for name in TRAINING}
    compiled = {name: getattr(kernels, name) for name in TRAINING}

    def timed(kernel: Callable[..., Any], record: Calls) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = kernel(*arguments)
            record.seconds += time.perf_counter() - begin
            record.number += 1
            return result

        return call

    for name, kernel in compiled.items():
        setattr(kernels, name, timed(kernel, calls[name]))
    try:
        yield calls
    finally:
        for name, kernel in compiled.items():
            setattr(kernels, name, kernel)


def seconds_to_enter_a_kernel() -> float:
    """What a call costs beside the kernel's work: that of ``sgd_each`` with nothing to do."""
    learner = FusedPerceptron(Perceptron((784, 100, 100, 10)), 2, 1, np.random.default_rng(0))
    nothing = np.empty(0, np.int64)
    with timed_kernels() as calls:
        for _ in range(10_000):
            learner.sgd_each(nothing, 0.1)
    return calls["sgd_each"].seconds / calls["sgd_each"].number


def measure(base: ImageSet, samples_per_task: int) -> dict[str, Any]:
    method = METHODS[CASE.model](**CASE.settings)
    experiment = Experiment(stream=data.rotations(base, TASKS), method=method, samples_per_task=samples_per_task)
    run(experiment.stream, method, samples_per_task=1)  # compiles
    entering = seconds_to_enter_a_kernel()
    with timed_kernels() as calls:
        record = Trainer(experiment).train()
    inside = sum(call.seconds - call.number * entering for call in calls.values())
    return {
        "examples": len(record.predicted_right),
        "steps": record.steps,
        "train_seconds": record.train_seconds,
        "eval_seconds": record.eval_seconds,
        "kernel_seconds": inside,
        "python_share": 1 - inside / record.train_seconds,
        "microseconds_to_enter_a_kernel": entering * 1e6,
    }


def lines(result: dict[str, Any]) -> list[str]:
    train, examples = result["train_seconds"], result["examples"]
    return [
        f"A run of {CASE.name}, shortened to {examples} examples: {result['steps']} steps in {train:.1f} s, evaluation "
        f"{result['eval_seconds']:.1f} s. Python's own share of training is {result['python_share']:.1%} "
        f"(required: under {MOST:.0%})."
    ]
