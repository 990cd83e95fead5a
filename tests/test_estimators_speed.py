"""What the estimators cost: time around the compiled code, and time and memory on a long stream."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from metareplay import Experiment, Stream, Trainer
from metareplay.estimators import ContinualClassifier
from metareplay.methods.mer import MER

pytestmark = pytest.mark.slow

FEATURES = 784


def images(n: int) -> tuple[Any, Any]:
    """As sparse as handwritten digits, and something can be learned of them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, n)
    on = rng.random((10, FEATURES)) < 0.2
    return (rng.random((n, FEATURES)) * (on[y] ^ (rng.random((n, FEATURES)) < 0.03))).astype(np.float32), y


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_partial_fit_takes_as_long_as_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = images(10_000)
    stream = Stream.from_arrays("made up", [(X, y, X[:100], y[:100])])
    settings: dict[str, Any] = {"lr": 0.03, "beta": 0.3, "batches_per_example": 5, "replay_batch_size": 10}

    def a_run() -> Trainer:
        life = Trainer(Experiment(stream=stream, method=MER(memories=500, **settings), seed=0))
        life.train()
        return life

    def an_estimator(scale: bool) -> ContinualClassifier:
        model = ContinualClassifier(memories=500, scale=scale, random_state=0, **settings)
        return model.partial_fit(X, y, classes=range(10))

    a_run(), an_estimator(False), an_estimator(True)  # compile
    times = [
        (seconds(a_run), seconds(lambda: an_estimator(False)), seconds(lambda: an_estimator(True))) for _ in range(5)
    ]
    ratio = statistics.median(plain / run for run, plain, _ in times)
    scaled = statistics.median(scaled / run for run, _, scaled in times)
    with capsys.disabled():
        print(f"\npartial_fit took {ratio:.2f} times as long as the run; with scaling {scaled:.2f} times")
    assert ratio < 1.3


@pytest.mark.parametrize("scale", [True, False])
def test_python_around_the_kernel_is_little_for_one_example(scale: bool, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("river")
    from metareplay.estimators import ContinualRiverClassifier

    X, y = images(1200)
    examples = [
        ({f"pixel {i}": value for i, value in enumerate(x)}, label)
        for x, label in zip(X.tolist(), y.tolist(), strict=True)
    ]
    model = ContinualRiverClassifier(scale=scale, seed=0)
    for x, label in examples[:200]:
        model.learn_one(x, label)
    assert model._core is not None
    learner = model._core.learner
    in_kernel, reptile = [0.0], learner.reptile

    def timed(*arguments: Any) -> None:
        begin = time.thread_time()
        reptile(*arguments)
        in_kernel[0] += time.thread_time() - begin

    learner.reptile = timed  # type: ignore[method-assign]
    around = []
    for part in (examples[begin : begin + 100] for begin in range(200, 1200, 100)):
        in_kernel[0] = 0.0
        begin = time.thread_time()
        for x, label in part:
            model.learn_one(x, label)
        around.append(1e6 * (time.thread_time() - begin - in_kernel[0]) / len(part))
    with capsys.disabled():
        print(f"\n{min(around):.0f} to {max(around):.0f} µs around the kernel for one example (scale={scale})")
    assert statistics.median(around) < 150


def test_a_million_examples_take_no_more_memory_and_no_longer_each(capsys: pytest.CaptureFixture[str]) -> None:
    model = ContinualClassifier(
        hidden_layer_sizes=(8,), memories=200, replay_batch_size=2, batches_per_example=1, random_state=0
    )
    rng = np.random.default_rng(0)
    pieces, memory = [], []
    for piece in range(100):
        X = rng.normal(size=(10_000, 4)) + piece / 50
        y = (X[:, 0] > piece / 50) + 2 * (X[:, 1] > piece / 50)
        pieces.append(seconds(lambda X=X, y=y: model.partial_fit(X, y)))  # type: ignore[misc]
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    early, late = statistics.median(pieces[5:25]), statistics.median(pieces[-20:])
    with capsys.disabled():
        print(
            f"\n1 000 000 examples in {sum(pieces):.0f} s: {1e2 * early:.1f} µs each early, {1e2 * late:.1f} µs late; "
            f"{memory[9]:.0f} MB at the most after 100 000 examples, {memory[-1]:.0f} MB after all"
        )
    assert model.score(X, y) > 0.8
    assert memory[-1] - memory[9] < 5
    assert late < 1.5 * early
