"""What each primitive of a learner costs, on both engines."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.steps import HIDDEN, MEMORIES, learner
from benchmarks.timing import in_turns, median, table
from metareplay import Stream
from metareplay.learners.base import Learner
from metareplay.learners.pytorch import PyTorchLearner
from metareplay.methods import losses
from metareplay.networks import Perceptron

LR = 1e-4


def adam(theta: Any, g: Any, m: Any, v: Any, lr: float) -> Any:
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return theta - lr * m / (v**0.5 + 1e-8), m, v


def si(theta: Any, g: Any, path: Any, omega: Any, anchor: Any, lr: float, c: float) -> Any:
    step = -lr * (g + 2 * c * omega * (theta - anchor))
    return theta + step, path - g * step


def pull(theta: Any, g: Any, anchor: Any, lr: float) -> Any:
    return theta - lr * (g + 0.1 * (theta - anchor))


def works(it: Learner) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(1)
    one, rows = np.arange(1), rng.integers(0, MEMORIES, 20)
    batches, groups = rng.integers(0, MEMORIES, (5, 11)), [rng.integers(0, MEMORIES, 50) for _ in range(3)]
    g, *state = (0 * it.parameters() + 0.01 for _ in range(4))

    def loss(z: Any, rows: Any) -> Any:
        return losses.cross_entropy(z, it.labels[rows])

    def tried() -> None:
        with it.trial():
            pass

    return {
        "forward, 1 row": lambda: it.forward(one),
        "sgd, 1 row": lambda: it.sgd(one, LR),
        "sgd, 20 rows": lambda: it.sgd(rows, LR),
        "sgd, 20 rows, with a loss": lambda: it.sgd(rows, LR, loss=loss),
        "sgd_each, 20 rows": lambda: it.sgd_each(rows, LR),
        "reptile, 5 × 11 rows": lambda: it.reptile(batches, LR, 0.3),
        "gradient, 1 row": lambda: it.gradient(one),
        "gradient, 20 rows": lambda: it.gradient(rows),
        "dots, 1 row and 3 × 50": lambda: it.dots(one, groups),
        "descend": lambda: it.descend(g, LR),
        "interpolate": lambda: it.interpolate(g, 1.0),
        "update: Adam": lambda: it.update(adam, g, *state[:2], lr=LR),
        "update: SI": lambda: it.update(si, g, *state, lr=LR, c=0.1),
        "update: pull to a vector": lambda: it.update(pull, g, state[0], lr=LR),
        "activations, 20 rows": lambda: it.activations(rows),
        "layers": lambda: it.layers(),
        "trial, of nothing": tried,
        "load": lambda: it.load(g),
    }


def measure(stream: Stream, seconds: float, rounds: int) -> dict[str, Any]:
    fused = learner(stream)
    network = Perceptron((stream.inputs, *HIDDEN, stream.classes))
    torch = PyTorchLearner(network, MEMORIES, 1, np.random.default_rng(0))
    every = np.arange(MEMORIES)
    torch.put(every, fused.inputs(every), fused.labels.copy(), 0)
    pairs = {"compiled": works(fused), "PyTorch": works(torch)}

    def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
        return lambda units: [call() for _ in range(units)] and None

    result = {}
    for name in pairs["compiled"]:
        times = in_turns({engine: repeated(calls[name]) for engine, calls in pairs.items()}, seconds / 8, rounds)
        result[name] = {engine: median(times, engine) for engine in times}
    return result


def lines(result: dict[str, Any]) -> list[str]:
    rows = ((name, f"{cost['compiled']:.1f}", f"{cost['PyTorch']:.0f}") for name, cost in result.items())
    return table("A call of each primitive, 784-100-100-10, in µs", "compiled | PyTorch", rows)
