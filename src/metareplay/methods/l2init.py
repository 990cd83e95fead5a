"""Regenerative regularisation (Kumar, Marklund and Van Roy 2024)."""

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.base import Learner, Rows
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class L2Init(OneStep):
    """L2-Init: SGD, pulled to where each parameter began: θ ← θ − lr (g + λ(θ − θ_initial)), section 3."""

    id = "l2init"
    family = "plasticity"
    inert = ({"strength": 0.0}, Online)

    strength: float = setting(
        0.001, "[0, inf)", search=(1e-5, 0.1, "log"), help="λ, how strongly parameters are pulled to where they began"
    )

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.initial = learner.parameters()

    def observe(self, rows: Rows) -> None:
        self.learner.sgd_pulled(rows, self.lr, self.strength, self.initial)

    def observe_each(self, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        return self.learner.predict_and_learn(x, y, task, self.lr, self.strength, self.initial)
