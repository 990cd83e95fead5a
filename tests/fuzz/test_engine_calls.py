"""Random calls, valid and not, of everything that a learner does: both engines compute the same and refuse the same.

The calls run in a process of their own, so that a crash is a failure, which names the seed that repeats it:
``PYTHONPATH=tests python -m fuzz.test_engine_calls SEED CALLS``.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metareplay.errors import BadInput
from metareplay.learners.base import Diverged
from metareplay.learners.fused import FusedPerceptron
from metareplay.networks import Perceptron
from test_learner_primitives import flat, write

COUNT = int(os.environ.get("FUZZ", "6000"))
AT_ONCE = 20_000
"""Calls of one process."""
CALLS_PER_LEARNER = 60
COUNTED = ("steps", "gradients_taken", "forward_passes")


@pytest.mark.parametrize("seed", range(-(-COUNT // AT_ONCE)))
def test_both_engines_compute_and_refuse_the_same(seed):
    pytest.importorskip("torch")
    count = min(AT_ONCE, COUNT - seed * AT_ONCE)
    command = [sys.executable, "-m", "fuzz.test_engine_calls", str(seed), str(count)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"{' '.join(command[1:])}: status {done.returncode}\n{done.stdout}{done.stderr}"


class Pair:
    """A compiled learner and PyTorch's, with the same parameters and table."""

    def __init__(self, rng):
        from metareplay.learners.pytorch import PyTorchLearner

        self.rng = rng
        widths = tuple(int(rng.choice([1, 2, 5, 15, 16, 17, 40])) for _ in range(rng.integers(2, 5)))
        private = tuple(bool(rng.random() < 0.3) for _ in widths[1:])
        self.network = Perceptron(widths, private, int(rng.integers(1, 4)))
        self.slots = int(rng.integers(3, 9))
        self.learners = (
            FusedPerceptron(self.network, self.slots, 2, np.random.default_rng(0)),
            PyTorchLearner(self.network, self.slots, 2, np.random.default_rng(0)),
        )
        ones = 0 * self.learners[0].parameters()
        for parts in self.learners[0].layers(ones):
            for part in parts:
                part[...] = 1
        self.padding = ones == 0
        self.renew()

    def renew(self):
        rng = self.rng
        values = [[rng.normal(0, 0.4, part.shape) for part in layer] for layer in self.learners[0].layers()]
        x = rng.standard_normal((self.slots, self.network.inputs)) * (rng.random((self.slots, 1)) < 0.9)
        y, tasks = (rng.integers(end, size=self.slots) for end in (self.network.classes, self.network.tasks))
        for learner in self.learners:
            write(learner, values)
            for task in range(self.network.tasks):
                own = np.flatnonzero(tasks == task)
                learner.put(own, x[own].astype(np.float32), y[own], task)
            learner.restrict(None)
            learner.steps = learner.gradients_taken = learner.forward_passes = 0

    def vector(self, learner, seed, kind):
        """The same vector for both, what lies in the compiled engine's padding aside."""
        vector = learner.noise(np.random.default_rng(seed))
        if kind in ("nan", "inf", "huge"):
            vector = vector * np.float32({"nan": np.nan, "inf": np.inf, "huge": 1e30}[kind])
        if learner is self.learners[0]:
            vector[self.padding] = 1e3
        return vector[:-1] if kind == "short" else vector

    def rows(self, dimensions=1):
        rng, shape = self.rng, tuple(int(n) for n in self.rng.integers(1, 5, dimensions))
        rows = rng.integers(self.slots, size=shape)
        kind = rng.choice(["", "list", "int32", "strided", "beyond", "before", "float", "bool", "flat", "empty", "far"],
                          p=[0.6, 0.08, 0.08, 0.08, 0.03, 0.03, 0.02, 0.02, 0.02, 0.02, 0.02])  # fmt: skip
        if kind in ("beyond", "before", "far"):
            rows.flat[rng.integers(rows.size)] = {"beyond": self.slots, "before": -1, "far": 2**40}[kind]
        shapes = {"list": rows.tolist(), "int32": rows.astype(np.int32), "strided": np.repeat(rows, 2, -1)[..., ::2],
                  "float": rows + 0.5, "bool": rows > 0, "flat": rows[None], "empty": rows[:0]}  # fmt: skip
        return shapes.get(kind, rows)

    def rate(self):
        return float(self.rng.choice([0.01, 0.1, 0.0, -0.05, 1e30, np.nan], p=[0.5, 0.4, 0.04, 0.04, 0.01, 0.01]))

    def loss(self):
        kind = self.rng.choice(["", "square", "noise", "nan", "shape", "huge"], p=[0.6, 0.2, 0.1, 0.04, 0.03, 0.03])

        def loss(z, rows):
            if kind == "square":
                return z / np.float32(len(z))
            gradient = np.random.default_rng(0).standard_normal(z.shape)
            if kind == "nan":
                gradient[-1, -1] = np.nan
            return gradient[:, :0] if kind == "shape" else gradient * (1e30 if kind == "huge" else 1)

        return None if kind == "" else loss


def sgd(pair):
    rows, lr, loss, weights = pair.rows(), pair.rate(), pair.loss(), None
    if pair.rng.random() < 0.3:
        size = np.size(rows) + int(pair.rng.choice([0, 0, 0, -1, 1]))
        weights = np.abs(pair.rng.standard_normal(max(size, 0)))
    return lambda learner: learner.sgd(rows, lr, weights, loss)


def rates(pair, rows):
    shape = np.shape(rows)
    if pair.rng.random() < 0.1:
        shape = (*shape, 2)
    return pair.rate() if pair.rng.random() < 0.5 else 0.1 * pair.rng.random(shape)


def sgd_each(pair):
    rows, loss = pair.rows(), pair.loss()
    lr = rates(pair, rows)
    return lambda learner: learner.sgd_each(rows, lr, loss)


def reptile(pair):
    rows, loss, rate = pair.rows(2), pair.loss(), float(pair.rng.choice([0.3, 1.0, 0.0]))
    lr = rates(pair, rows)
    return lambda learner: learner.reptile(rows, lr, rate, loss)


def gradient(pair):
    rows, loss = pair.rows(), pair.loss()
    return lambda learner: flat(learner.layers(learner.gradient(rows, loss)))


def gradients(pair):
    groups, loss = [pair.rows() for _ in range(pair.rng.integers(1, 4))], pair.loss()
    return lambda learner: np.stack([flat(learner.layers(one)) for one in learner.gradients(groups, loss)])


def dots(pair):
    rows, groups, loss = pair.rows(), [pair.rows() for _ in range(pair.rng.integers(1, 4))], pair.loss()

    def call(learner):
        lengths = [np.linalg.norm(flat(learner.layers(v))) for v in learner.gradients([rows, *groups], loss)]
        return np.asarray(learner.dots(rows, groups, loss)) / (1e-30 + lengths[0] * np.array(lengths[1:]))

    return call


def read(pair):
    rows, name = pair.rows(), pair.rng.choice(["forward", "activations", "inputs", "allowed"])

    def call(learner):
        result = getattr(learner, name)(rows)
        return np.concatenate([[0.0], *map(np.ravel, result)]) if name == "activations" else np.asarray(result)

    return call


def momentum(theta, g, velocity, anchor, lr, decay):
    velocity = decay * velocity + g**2 * np.sign(g)
    return theta - lr * (velocity + np.maximum(theta - anchor, -1)), velocity


def move(pair):
    rng = pair.rng
    seed, lr, count = int(rng.integers(1000)), pair.rate(), int(rng.integers(3))
    kind = str(rng.choice(["", "huge", "inf", "nan", "short", "float64"], p=[0.7, 0.06, 0.06, 0.06, 0.06, 0.06]))
    how = rng.choice(["descend", "interpolate", "load", "update", "sgd_by", "trial"])
    rows, loss = pair.rows(), pair.loss()

    def call(learner):
        vector = pair.vector(learner, seed, kind)
        if kind == "float64":
            vector = np.asarray(vector, np.float64)
        if how in ("update", "sgd_by"):
            state = [pair.vector(learner, seed + 1 + i, "") for i in range(2)]
            given = [*state[: max(count, 1)]]
            if how == "update":
                learner.update(momentum, vector, *given, lr=lr, decay=0.9)
            else:
                learner.sgd_by(momentum, rows, *given, loss=loss, lr=lr, decay=0.9)
            return flat(learner.layers(state[0]))
        if how == "trial":
            with learner.trial():
                learner.load(vector)
                return learner.forward(np.arange(pair.slots))
        learner.load(vector) if how == "load" else getattr(learner, how)(vector, lr)
        return None

    return call


def table(pair):
    rng, rows = pair.rng, pair.rows()
    n = np.size(rows)
    x = rng.standard_normal((n, pair.network.inputs + int(rng.random() < 0.05)))
    y = rng.integers(pair.network.classes, size=n + int(rng.random() < 0.05))
    task = int(rng.integers(pair.network.tasks))
    if rng.random() < 0.05:
        x[:1] = rng.choice([np.nan, np.inf, 3e38])
    if rng.random() < 0.5:
        source, target = (int(place) for place in rng.integers(-1, pair.slots + 1, 2))
        return lambda learner: learner.copy(source, target)
    return lambda learner: learner.put(rows, x.astype(np.float32), y, task)


def spoil(pair):
    slot, value = int(pair.rng.integers(pair.slots)), int(pair.rng.choice([0, 1, 5, 40, -1, 2**40]))
    name = str(pair.rng.choice(["labels", "tasks"]))

    def call(learner):
        getattr(learner, name)[slot] = value

    return call


def others(pair):
    rng, classes, tasks = pair.rng, pair.network.classes, pair.network.tasks
    kind = rng.choice(["restrict", "free", "state", "copy task", "layers"])
    allowed = rng.random((max(1, tasks - int(rng.random() < 0.1)), classes)) < 0.7
    allowed[:, 0] = True
    source, target = (int(place) for place in rng.integers(tasks, size=2))

    def call(learner):
        if kind == "restrict":
            learner.restrict(allowed)
        elif kind == "free":
            learner.restrict(None)
        elif kind == "state":
            learner.load_state(learner.state())
        elif kind == "copy task":
            learner.copy_task(source, target)
        else:
            for weights, biases in learner.layers():
                weights[..., 0] *= 0.5
                biases[...] = 0.1

    return call


CALLS = (*[sgd, sgd_each, reptile, read, move] * 2, gradient, gradients, dots, table, others)


def outcome(call, learner):
    try:
        return "", call(learner)
    except Diverged:
        return "diverged", None
    except (BadInput, IndexError):  # of several mistakes in one call, either may be found first
        return "refused", None


def kink(pair):
    """Whether rounding decides if some unit is on, or if a sum overflows: engines may then see other gradients."""
    x, tasks = pair.learners[0].inputs(np.arange(pair.slots)).astype(np.float64), pair.learners[0].tasks
    for weights, biases in pair.learners[0].layers():
        own = np.zeros(pair.slots, int) if weights.ndim == 2 else np.clip(tasks, 0, pair.network.tasks - 1)
        weights, biases = (np.atleast_2d(weights)[None], biases[None]) if weights.ndim == 2 else (weights, biases)
        with np.errstate(all="ignore"):
            terms = np.abs(x[:, :, None] * weights[own]).sum(1) + np.abs(biases[own])
            z = (x[:, :, None] * weights[own]).sum(1) + biases[own]
        if not np.all(terms < 1e30) or np.any((z != 0) & (np.abs(z) < 1e-5 * terms)):
            return True
        x = np.maximum(z, 0)
    return False


def same(ours, theirs):
    """Equal within rounding; where both overflow, or nearly, rounding decides how."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return False
    moderate = (np.abs(ours) < 1e20) | (np.abs(theirs) < 1e20)
    error, size = np.linalg.norm(ours[moderate] - theirs[moderate]), np.linalg.norm(theirs[moderate])
    return bool(error <= 1e-3 * size + 1e-5)


def run(seed, count):
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    compared, unclear = 0, None
    for number in range(count):
        if number % CALLS_PER_LEARNER == 0:
            pair, unclear = Pair(rng), None
        ours, theirs = pair.learners
        draw = spoil if rng.random() < 0.03 else CALLS[rng.integers(len(CALLS))]
        call, before = draw(pair), kink(pair) if unclear is None else unclear
        with np.errstate(all="ignore"):
            one, other = outcome(call, ours), outcome(call, theirs)
        where = f"seed {seed}, call {number}, {draw.__name__} on {pair.network}"
        unclear = kink(pair)
        clear = not before and not unclear
        if clear or "diverged" not in (one[0], other[0]):
            assert one[0] == other[0], f"{where}: {one[0] or 'done'} and {other[0] or 'done'}"
        theta = flat(ours.layers())
        if clear and one[0] == "":
            compared += 1
            assert one[1] is None or same(one[1], other[1]), f"{where}: {one[1]} and {other[1]}"
            assert same(theta, flat(theirs.layers())), f"{where}: θ differs"
            for counted in COUNTED:
                assert getattr(ours, counted) == getattr(theirs, counted), f"{where}: {counted}"
        assert not np.nan_to_num(ours.parameters()[pair.padding]).any(), f"{where}: padding is not zero"
        assert np.array_equal(ours.labels, theirs.labels), where
        largest = max(np.abs(theta).max(), np.abs(ours.inputs(range(pair.slots))).max())
        spoiled = not largest <= 1e3  # also by NaN
        if rng.random() < (0.5 if spoiled else 0.1):
            pair.renew()
            unclear = None
        else:
            write(theirs, ours.layers())
            for counted in COUNTED:
                setattr(theirs, counted, getattr(ours, counted))
    assert compared > 0.4 * count, f"only {compared} of {count} calls could be compared"
    print(f"{compared} of {count} calls compared")


if __name__ == "__main__":
    run(*(int(argument) for argument in sys.argv[1:]))
