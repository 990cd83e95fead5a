"""The engine torch beside PyTorch as one finds it in most programs: a module, its loss, ``torch.optim.SGD``."""

import copy
from typing import Any

import numpy as np
import torch
from torch.nn import Linear, ReLU, Sequential
from torch.nn.functional import cross_entropy

from benchmarks import steps
from benchmarks.timing import Work, beside, in_turns, table
from metareplay import METHODS, Stream
from metareplay.learners.pytorch import PyTorchLearner
from metareplay.networks import Perceptron, describe

NEEDED = 2
"""How many times as fast a step of the perceptron must be."""
AT_ONCE = 100
SHAPE, CLASSES = (3, 32, 32), 100
MEMORIES, REPLAYED, LR = 50, 10, 0.001


def measure(stream: Stream, seconds: float, rounds: int) -> dict[str, Any]:
    return {"perceptron": _perceptron(stream, seconds, rounds), "resnet": _resnet(seconds, max(3, rounds // 3))}


def _perceptron(stream: Stream, seconds: float, rounds: int) -> dict[str, Any]:
    fused = steps.learner(stream)
    x, y = steps.table(fused, stream)
    network = Perceptron((stream.inputs, *steps.HIDDEN, stream.classes))
    ours = PyTorchLearner(network, steps.MEMORIES, 1, np.random.default_rng(0))
    for views, values in zip(ours.layers(), fused.layers(), strict=True):
        for view, value in zip(views, values, strict=True):
            view[...] = value
    ours.put(np.arange(steps.MEMORIES), x, y, 0)
    module = Sequential(
        Linear(stream.inputs, steps.HIDDEN[0]), ReLU(), Linear(*steps.HIDDEN), ReLU(),
        Linear(steps.HIDDEN[1], stream.classes),
    )  # fmt: skip
    tensors = [array for weights, biases in fused.layers() for array in (weights.T, biases)]
    with torch.no_grad():
        for part, array in zip(module.parameters(), tensors, strict=True):
            part.copy_(torch.tensor(np.ascontiguousarray(array)))
    x_tensor, y_tensor = torch.from_numpy(x), torch.from_numpy(y)
    rng = np.random.default_rng(1)

    def as_usual(rows: list[int], lr: float) -> None:
        optimizer = torch.optim.SGD(module.parameters(), lr)
        for row in rows:
            optimizer.zero_grad()
            cross_entropy(module(x_tensor[row : row + 1]), y_tensor[row : row + 1]).backward()
            optimizer.step()

    rows = rng.integers(0, steps.MEMORIES, steps.CHECKED)
    ours.sgd_each(rows, steps.LR_CHECKED)
    as_usual(rows.tolist(), steps.LR_CHECKED)
    theirs = torch.cat([part.detach().t().flatten() for part in module.parameters()]).numpy()
    difference = float(np.abs(np.asarray(ours.parameters()) - theirs).max())
    if not difference < steps.TOLERANCE:
        raise SystemExit(f"after {steps.CHECKED} steps the parameters differ from PyTorch's by {difference:.1e}")

    times = in_turns(
        {
            "ours": lambda units: ours.sgd_each(rng.integers(0, steps.MEMORIES, units * AT_ONCE), steps.LR),
            "usual": lambda units: as_usual(rng.integers(0, steps.MEMORIES, units * AT_ONCE).tolist(), steps.LR),
        },
        seconds,
        rounds,
    )
    return beside(times, "usual", "ours", per=AT_ONCE) | {"largest_difference": difference}


class Usual:
    """Online learning, experience replay and MER on a module, with an optimiser; memories are given."""

    def __init__(self, module: torch.nn.Module, x: np.ndarray, y: np.ndarray) -> None:
        self.module = module
        self.x, self.y = torch.from_numpy(x).view(-1, *SHAPE), torch.from_numpy(y)
        self.optimizer = torch.optim.SGD(module.parameters(), LR)

    def step(self, rows: list[int]) -> None:
        self.optimizer.zero_grad()
        cross_entropy(self.module(self.x[rows]), self.y[rows]).backward()
        self.optimizer.step()

    def online(self, memories: list[int]) -> None:
        self.step([0])

    def eralg4(self, memories: list[int]) -> None:
        self.step([0, *memories])

    def meralg1(self, memories: list[int]) -> None:
        before = copy.deepcopy(self.module.state_dict())
        for row in (0, *memories):
            self.step([row])
        after = self.module.state_dict()
        kept = {name: before[name] + 0.5 * (after[name] - before[name]) for name, _ in self.module.named_parameters()}
        self.module.load_state_dict(kept, strict=False)


def _resnet(seconds: float, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.random((1 + MEMORIES, int(np.prod(SHAPE))), np.float32)
    y = rng.integers(CLASSES, size=1 + MEMORIES)
    network = describe("resnet18-reduced", SHAPE, CLASSES)
    result = {}
    for name in ("online", "eralg4", "meralg1"):
        ours = PyTorchLearner(network, 1 + MEMORIES, 1, np.random.default_rng(0))
        replay = {} if name == "online" else {"memories": MEMORIES, "replay_batch_size": REPLAYED}
        method = METHODS[name](lr=LR, **replay, **({"beta": 0.5} if name == "meralg1" else {}))
        method.start(ours, np.random.default_rng(1), 1)
        for row in range(1, 1 + MEMORIES):
            ours.put(np.array([0]), x[row : row + 1], y[row : row + 1], 0)
            if replay:
                method.memory.offer(0)
        usual = getattr(Usual(network.modules()[0].train(), x, y), name)

        def learn(units: int, ours: Any = ours, method: Any = method) -> None:
            for _ in range(units):
                ours.put(np.array([0]), x[:1], y[:1], 0)
                method.observe(np.array([0]))

        def as_usual(units: int, learn: Any = usual) -> None:
            for _ in range(units):
                learn(rng.integers(1, 1 + MEMORIES, REPLAYED).tolist())

        competitors: dict[str, Work] = {"ours": learn, "usual": as_usual}
        times = in_turns(competitors, seconds, rounds)
        result[name] = beside(times, "usual", "ours", unit="milliseconds", per=1000)
    return result


def lines(result: dict[str, Any]) -> list[str]:
    step = result["perceptron"]
    title = "The engine torch: one SGD step on one example, 784-100-100-10"
    ours, usual = (f"{step['microseconds'][name]:.1f}" for name in ("ours", "usual"))
    rows: list[tuple[object, ...]] = [("ours, `sgd_each` on the engine torch", ours, "", "")]
    rows.append(("module, loss, `torch.optim.SGD`", usual, f"{step['times_as_fast']:.1f} ×", NEEDED))
    out = table(title, "µs a step | ours is faster by | required", rows)
    out += ["", f"After {steps.CHECKED} steps the parameters differ by at most {step['largest_difference']:.0e}.", ""]
    title = f"Reduced ResNet-18, images of {SHAPE}, {CLASSES} classes; {REPLAYED} memories in a batch"
    rows = [
        (name, *(f"{row['milliseconds'][who]:.1f}" for who in ("ours", "usual")), f"{row['times_as_fast']:.2f} ×")
        for name, row in result["resnet"].items()
    ]
    return out + table(title, "ours, ms an example | as usual, ms | ours is faster by", rows)
