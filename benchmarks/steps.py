"""One SGD step on one example: ours, plain PyTorch, JAX."""

from typing import Any

import numpy as np
import torch

from benchmarks import plain_pytorch, timing
from benchmarks.timing import Work, in_turns, median, ratio
from metareplay import Stream
from metareplay.learners.fused import FusedPerceptron
from metareplay.networks import Perceptron

try:
    from benchmarks import plain_jax
except ImportError:
    plain_jax = None

HIDDEN = (100, 100)
MEMORIES = 5120
LR = 0.001
"""Slow learning, so that the network stays much the same while it is timed."""
AT_ONCE = 1000
"""Steps in one call, and in one unit of work."""
CHECKED, LR_CHECKED = 500, 0.03
"""Steps after which all must have the same parameters."""
TOLERANCE = 1e-4
NEEDED = {"PyTorch": (60, 100), "JAX": (3.5, 5)}
"""How many times as fast ours must be, and is meant to be."""


def learner(stream: Stream, seed: int = 0) -> FusedPerceptron:
    rng = np.random.default_rng(seed)
    ours = FusedPerceptron(Perceptron((stream.inputs, *HIDDEN, stream.classes)), MEMORIES, 1, rng)
    for task, rows in enumerate(np.array_split(rng.permutation(MEMORIES), len(stream.tasks))):
        images = stream.tasks[task].train
        which = rng.integers(0, len(images), len(rows))
        ours.put(rows, images.inputs(which), images.labels[which], task)
    return ours


def table(ours: FusedPerceptron, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """The same examples ``x (memories, inputs)``, ``y (memories,)``, dense."""
    state = ours.state()
    x = np.zeros((ours.slots, stream.inputs), np.float32)
    for row, (count, *_) in enumerate(state["examples"]):
        x[row, state["index"][row, :count]] = state["value"][row, :count]
    return x, ours.labels.copy()


def measure(stream: Stream, seconds: float, rounds: int) -> dict[str, Any]:
    """Check that all learn the same, then time them."""
    ours = learner(stream)
    x, y = table(ours, stream)
    layers = [(weights.copy(), biases.copy()) for weights, biases in ours.layers()]
    tensors = {name: plain_pytorch.tensors(layers) for name in ("PyTorch", "PyTorch by hand")}
    loops = {"PyTorch": plain_pytorch.steps, "PyTorch by hand": plain_pytorch.steps_by_hand}
    x_tensor, y_tensor = torch.from_numpy(x), torch.from_numpy(y)
    rng = np.random.default_rng(1)

    def in_pytorch(name: str) -> Work:
        def work(units: int) -> None:
            rows = rng.integers(0, MEMORIES, units * AT_ONCE).tolist()
            loops[name](tensors[name], x_tensor, y_tensor, rows, LR)

        return work

    competitors: dict[str, Work] = {
        "ours": lambda units: ours.sgd_each(rng.integers(0, MEMORIES, units * AT_ONCE), LR),
        **{name: in_pytorch(name) for name in loops},
    }

    rows = rng.integers(0, MEMORIES, CHECKED)
    ours.sgd_each(rows, LR_CHECKED)
    for name, loop in loops.items():
        loop(tensors[name], x_tensor, y_tensor, rows.tolist(), LR_CHECKED)
    after = {name: [array.detach().numpy() for array in arrays] for name, arrays in tensors.items()}
    if plain_jax:
        in_jax = plain_jax.Steps(layers, x, y, AT_ONCE)
        in_jax.run(rows, LR_CHECKED)
        after["JAX"] = [array for weights, biases in in_jax.layers() for array in (weights.T, biases)]
        competitors["JAX"] = lambda units: in_jax.run(rng.integers(0, MEMORIES, units * AT_ONCE), LR)
    mine = [array for weights, biases in ours.layers() for array in (weights.T, biases)]
    differences = {
        name: max(float(np.abs(a - b).max()) for a, b in zip(mine, theirs, strict=True))
        for name, theirs in after.items()
    }
    for name, difference in differences.items():
        if not difference < TOLERANCE:
            raise SystemExit(f"after {CHECKED} steps the parameters of {name} differ from ours by {difference:.1e}")

    times = in_turns(competitors, seconds, rounds)
    return {
        "microseconds": {name: median(times, name) / AT_ONCE for name in times},
        "times_as_fast": {name: ratio(times, name, "ours") for name in times if name != "ours"},
        "largest_difference": differences,
    }


def lines(result: dict[str, Any]) -> list[str]:
    rows = [("ours", f"{result['microseconds']['ours']:.2f}", "", "", "")]
    for name, times in result["times_as_fast"].items():
        rows.append((name, f"{result['microseconds'][name]:.1f}", f"{times:.1f} ×", *NEEDED.get(name, ("", ""))))
    title = f"One SGD step on one example, 784-100-100-10, random rows of {MEMORIES}"
    out = timing.table(title, "µs a step | ours is faster by | required | aim", rows)
    largest = max(result["largest_difference"].values())
    out += ["", f"After {CHECKED} steps the parameters of all differ by at most {largest:.0e}."]
    if "JAX" not in result["microseconds"]:
        out.append("JAX is not installed; with it (pip install jax) it is measured too.")
    return out
