"""Shrink and perturb (Ash and Adams 2020), at every step, as Elsayed and Mahmood (2024) have it."""

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class ShrinkPerturb(OneStep):
    """SGD with weight decay and noise: θ ← (1 − lr·λ)θ − lr (g + σε), ε ~ N(0, 1)."""

    id = "shrink-perturb"
    family = "plasticity"
    inert = ({"sigma": 0.0, "weight_decay": 0.0}, Online)

    weight_decay: float = setting(0.01, "[0, inf)", search=(1e-4, 0.1, "log"), help="λ, what each step shrinks by")
    sigma: float = setting(0.1, "[0, inf)", search=(1e-3, 1, "log"), help="the spread of the noise in each step")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.rng = learner, rng

    def observe(self, rows: Rows) -> None:
        if self.sigma == 0:
            self.learner.sgd_pulled(rows, self.lr, self.weight_decay)
        else:
            gradient, noise = self.learner.gradient(rows), self.learner.noise(self.rng)
            self.learner.update(step, gradient, noise, lr=self.lr, decay=self.weight_decay, sigma=self.sigma)


def step(theta: Vector, g: Vector, noise: Vector, lr: float, decay: float, sigma: float) -> Vector:
    """Shrink, descend and perturb."""
    return (1 - lr * decay) * theta - lr * (g + sigma * noise)
