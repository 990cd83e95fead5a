"""Every method takes the same steps on the compiled float32 learner as on PyTorch in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from metareplay.learners.base import Rows
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.networks.perceptron import Perceptron
from metareplay.settings import hyperparameters

torch = pytest.importorskip("torch")

from metareplay.learners.pytorch import PyTorchLearner

INPUTS, HIDDEN, CLASSES, TASKS = 60, (20, 20), 5, 4
VISITS = (0, 1, 2, 3, 1)  # a task that returns is remembered in another way than a new one
EXAMPLES_PER_VISIT = 30

SETTINGS: dict[str, Any] = {
    "lr": 0.05,
    "eps": 0.01,  # less would make steps of rounding where a gradient is zero but for that
    "beta": 0.3,
    "gamma": 0.5,
    "s": 4.0,
    "memories": 40,
    "replay_batch_size": 4,
    "batches_per_example": 2,
    "n_memories": 6,
    "memory_strength": 0.5,
    "glances": 2,
    "shrinkage": 0.1,  # with less, an inverse covariance makes more of float32's rounding than of the data
}
"""What every method gets of these: values that leave no part of it unused."""

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS),
    ("gem", {"memory_strength": 0.0}),
    ("ewc", {"memory_strength": 10.0}),
    ("ewc", {"mean_of_squares": True, "memory_strength": 10.0}),
    ("eralg5", {"mean_over_tasks": True}),
    ("independent", {"finetune": False}),
    ("meralg1", {"gamma": 1.0}),
]


def make(name: str, changed: dict[str, Any]) -> Method:
    kind = METHODS[name]
    known = {parameter.name for parameter in hyperparameters(kind)}
    return kind(**{name: value for name, value in (SETTINGS | changed).items() if name in known})


class WatchedPerceptron(PyTorchLearner):
    """A float64 learner that notes how near it came to a choice that rounding may turn.

    That is a ReLU's kink, and the sign of a dot product of gradients. ``nearest`` is the least of the distances,
    each as a share of what float32's rounding there is a share of.
    """

    def __init__(self, network: Perceptron, slots: int, batch_size: int, rng: np.random.Generator) -> None:
        super().__init__(network, slots, batch_size, rng, dtype=torch.float64)
        self.nearest = np.inf
        self.descents = 0

    def _through(self, x: Any, tasks: Any, learning: bool, hidden: Any = None) -> Any:
        pieces, z = [leaf.detach() for leaf in self._leaves], x
        for weights, biases in zip(pieces[:-2:2], pieces[1:-2:2], strict=True):
            own = (weights, biases) if weights.ndim == 2 else (weights[tasks[0]], biases[tasks[0]])
            if weights.ndim == 2 or (tasks == tasks[0]).all():
                z = torch.addmm(own[1], z, own[0])
            else:
                z = torch.stack([row @ weights[i] + biases[i] for row, i in zip(z, tasks, strict=True)])
            sizes = z.abs()
            self.nearest = min(self.nearest, float((sizes[sizes > 0] / sizes.max()).min()) if sizes.any() else np.inf)
            z = z.relu()
        return super()._through(x, tasks, learning, hidden)

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Any = None) -> NDArray[Any]:
        dots = super().dots(rows, groups)
        taken = self.gradients_taken  # what follows is the test's, not the method's
        lengths = np.linalg.norm(self.gradients(groups), axis=1) * np.linalg.norm(self.gradient(rows))
        self.nearest = min(self.nearest, float(np.abs(dots / lengths).min()))
        self.gradients_taken = taken
        return dots

    def descend(self, vector: NDArray[Any], lr: float) -> None:
        super().descend(vector, lr)
        self.descents += 1


def batches(batch_size: int, rng: np.random.Generator) -> list[list[tuple[NDArray[np.float32], NDArray[np.int64]]]]:
    """For each visit, batches of sparse inputs: noisy prototypes of the classes, permuted in each task's own way."""
    prototypes = rng.random((CLASSES, INPUTS)) * (rng.random((CLASSES, INPUTS)) < 0.3)
    orders = [rng.permutation(INPUTS) for _ in range(TASKS)]
    visits = []
    for task in VISITS:
        y = rng.integers(CLASSES, size=(EXAMPLES_PER_VISIT // batch_size, batch_size))
        x = (prototypes[y] * rng.uniform(0.5, 1.5, (*y.shape, INPUTS)))[..., orders[task]]
        visits.append(list(zip(x.astype(np.float32), y, strict=True)))
    return visits


def flat(layers: list[tuple[Any, Any]]) -> NDArray[np.float64]:
    """All parameters in one float64 vector."""
    return np.concatenate([np.asarray(part).ravel() for pair in layers for part in pair]).astype(np.float64)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(("name", "changed"), VARIANTS)
def test_a_method_takes_the_same_steps_on_both_learners(name: str, changed: dict[str, Any], batch_size: int) -> None:
    ours, theirs = make(name, changed), make(name, changed)
    network = ours.network(Perceptron((INPUTS, *HIDDEN, CLASSES)), TASKS)
    slots = batch_size + ours.capacity(TASKS, batch_size)
    fused = FusedPerceptron(network, slots, batch_size, np.random.default_rng(0))
    watched = WatchedPerceptron(network, slots, batch_size, np.random.default_rng(0))
    ours.start(fused, np.random.default_rng(1), TASKS)
    theirs.start(watched, np.random.default_rng(1), TASKS)
    rows = np.arange(batch_size)

    compared = unclear = 0
    previous = None
    for task, visit in zip(VISITS, batches(batch_size, np.random.default_rng(2)), strict=True):
        ours.begin_task(task, previous)
        theirs.begin_task(task, previous)
        previous = task
        assert np.array_equal(flat(fused.layers()), flat(watched.layers()))
        for x, y in visit:
            for learner in (fused, watched):
                learner.put(rows, x, y, task)
            before, watched.nearest = flat(fused.layers()), np.inf
            ours.observe(rows)
            theirs.observe(rows)
            assert fused.steps == watched.steps
            if watched.nearest > 3e-6:
                assert fused.gradients_taken == watched.gradients_taken
                assert fused.forward_passes == watched.forward_passes
                compared += 1
                after, expected = flat(fused.layers()), flat(watched.layers())
                change = np.linalg.norm(expected - before)
                rounding = 2.0**-22 * np.linalg.norm(before)  # every step rounds the parameters
                assert np.linalg.norm(after - expected) <= 1e-5 * change + rounding
            else:
                unclear += 1
            for views, values in zip(watched.layers(), fused.layers(), strict=True):
                for view, value in zip(views, values, strict=True):
                    view[...] = value
    assert compared > 10 * unclear
    assert np.array_equal(fused.labels, watched.labels)
    assert np.array_equal(fused.tasks, watched.tasks)
    if name == "gem":
        assert 0 < watched.descents < compared, "some steps must be turned, and some not"
