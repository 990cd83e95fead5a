"""Gradient episodic memory (Lopez-Paz and Ranzato, NeurIPS 2017)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.memory import RingPerTask
from metareplay.methods.online import OneStep
from metareplay.settings import setting


class GEM(OneStep):
    """Each step is turned until it makes no past task's memories worse.

    Where the gradient g of the incoming batch meets a past task's g_t with ⟨g, g_t⟩ < 0, the step is taken along
    Gᵀv + g instead, v the minimum of ½ vᵀGGᵀv + gᵀGᵀv over v ≥ margin (equation 11, and the code published with it).
    With a margin of 0 that is the plain projection. With one, every past gradient has at least that weight once any
    constraint is violated, so that the steps grow with the number of tasks: the published behaviour.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.GEM(lr=0.03, memories=200))
    Record(gem on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "gem"
    family = "projection"

    memory_strength: float = setting(
        0.0,
        "[0, inf)",
        search=(0, 1, "linear"),
        help="the margin: the least weight of past gradients once one is violated",
    )
    memories: int = setting(
        5120, "[0, inf)", help="the examples held, over all tasks: each task has an equal share of them, its newest"
    )

    needs_task_in_training = True

    def capacity(self, tasks: int, batch_size: int) -> int:
        return self.memories // tasks * tasks

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.memory = RingPerTask(learner, tasks)
        self.task = 0

    def begin_task(self, task: int, previous: int | None) -> None:
        self.task = task

    def observe(self, rows: Rows) -> None:
        for row in rows:
            self.memory.offer(row, self.task)
        past = [self.memory.rows(task) for task in self.memory.filled() if task != self.task]
        step = self._turned([rows, *past]) if past else None
        if step is None:
            self.learner.sgd(rows, self.lr)
        else:
            self.learner.descend(step, self.lr)

    def _turned(self, groups: list[Rows]) -> Vector | None:
        gradients = self.learner.jacobian(groups)
        products = np.asarray(gradients @ gradients[0])
        return project(gradients, products, self.memory_strength) if (products[1:] < 0).any() else None


def project(gradients: Any, products: NDArray[np.floating[Any]], margin: float) -> Vector:
    """Gᵀv + g, where v minimises ½ vᵀGGᵀv + gᵀGᵀv subject to v ≥ margin (GEM, equation 11).

    With u = v − margin this is a non-negative least squares problem in the Gram matrix GGᵀ; it always has a solution,
    and Gᵀv + g is unique even where v is not.

    ``gradients`` are g and, below it, G: ``(1 + past tasks, parameters)``, as ``Learner.jacobian`` gives them;
    ``products (1 + past tasks,)`` are their products with g.
    """
    from metareplay.methods.nonnegative_least_squares import nonnegative_least_squares  # Numba, when a step needs it

    weights = np.full(len(products), margin, products.dtype)
    weights[0] = 1
    step = start = weights @ gradients if margin else weights[:1] @ gradients[[0]]  # the same, and one pass less
    slopes = linear = np.asarray(gradients @ step if margin else products)[1:].astype(np.float64)
    # Those that the others do not keep from harm are few: only their rows of GGᵀ are needed.
    pushing, gram = np.empty(0, np.int64), np.empty((0, 0))
    while len(joining := np.setdiff1d(np.flatnonzero(slopes < 0), pushing)):
        pushing = np.append(pushing, joining)
        past = gradients[1 + pushing]
        new = gradients[1 + joining] if len(gram) else past
        columns = np.asarray(past @ new.T).astype(np.float64)
        gram = np.block([[gram, columns[: len(gram)]], [columns.T]])
        u = nonnegative_least_squares(gram, linear[pushing], float(np.finfo(products.dtype).eps))
        step = start + u.astype(products.dtype) @ past
        slopes = np.asarray(gradients @ step)[1:]
    return step
