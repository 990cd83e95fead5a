"""Synaptic intelligence (Zenke, Poole and Ganguli, ICML 2017)."""

from typing import Any

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class SI(OneStep):
    """Each parameter is held where a task left it by what its way there did for the loss.

    Along the way ω += −g·Δθ (equation 3), g the gradient of the unregularised loss. At a task's end
    Ω += ω / ((θ − θ*)² + ξ) (equation 5), ω ← 0, θ* ← θ. The loss gains c Σ Ω (θ − θ*)² (equation 4).

    The counter ``share within xi`` is the share of parameters with (θ − θ*)² < ξ, the mean over the borders: where
    it is 1, ξ stands for the denominator everywhere.
    """

    id = "si"
    family = "regularisation"

    c: float = setting(
        0.1, "[0, inf)", search=(1e-3, 10, "log"), help="how strongly past tasks hold their parameters (SI, equation 4)"
    )
    xi: float = setting(0.1, "(0, inf)", help="ξ, which keeps importances finite where a parameter hardly moved")

    needs_task_in_training = True
    inert = ({"c": 0.0}, Online)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.anchor = learner.parameters()  # θ*
        self.path, self.importance = 0 * self.anchor, 0 * self.anchor  # ω, Ω
        self.borders = 0

    def begin_task(self, task: int, previous: int | None) -> None:
        if previous in (None, task) or not self.c:
            return
        theta = self.learner.parameters()
        moved = (theta - self.anchor) ** 2
        self.importance += self.path / (moved + self.xi)
        self.path, self.anchor = 0 * theta, theta
        self.borders += 1
        size = self.learner.parameter_bytes // theta.itemsize
        within = 1 - np.count_nonzero(moved >= self.xi) / size  # vectors may be padded with zeros
        self.counters["share within xi"] += (within - self.counters["share within xi"]) / self.borders

    def observe(self, rows: Rows) -> None:
        if self.c:
            self.learner.sgd_by(step, rows, self.path, self.importance, self.anchor, lr=self.lr, c=self.c)
        else:
            self.learner.sgd(rows, self.lr)


def step(theta: Vector, g: Vector, path: Vector, importance: Vector, anchor: Vector, lr: float, c: float) -> Any:
    """One step on the loss with its quadratic, and what it did for the loss without."""
    change = -lr * (g + 2 * c * importance * (theta - anchor))
    return theta + change, path - g * change
