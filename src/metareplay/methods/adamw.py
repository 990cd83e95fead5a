"""Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019)."""

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.online import OneStep
from metareplay.settings import setting


class AdamW(OneStep):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← (1 − lr·λ)θ − lr m̂ / (√v̂ + ε); m̂ is m / (1 − β₁ᵗ), v̂ likewise."""

    id = "adamw"
    family = "plasticity"

    lr: float = setting(0.001, "(0, inf)", search=(1e-5, 0.1, "log"), help="the learning rate of every step")
    beta1: float = setting(0.9, "[0, 1)", help="how slowly the mean of gradients forgets")
    beta2: float = setting(0.999, "[0, 1)", help="how slowly the mean of their squares forgets")
    eps: float = setting(1e-8, "(0, inf)", help="what is added to the root of that mean")
    weight_decay: float = setting(0.0, "[0, inf)", help="λ: a step also takes this, times lr, off every parameter")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.mean = 0 * learner.parameters()
        self.squares = self.mean.copy()
        self.taken = 0

    def observe(self, rows: Rows) -> None:
        self.taken += 1
        self.learner.sgd_by(
            step, rows, self.mean, self.squares, lr=self.lr, beta1=self.beta1, beta2=self.beta2, eps=self.eps,
            decay=self.weight_decay, met1=1 - self.beta1**self.taken, met2=1 - self.beta2**self.taken,
        )  # fmt: skip


def step(
    theta: Vector, g: Vector, mean: Vector, squares: Vector,
    lr: float, beta1: float, beta2: float, eps: float, decay: float, met1: float, met2: float,
) -> tuple[Vector, ...]:  # fmt: skip
    """The rule of AdamW; ``met`` are what the means have met of their full weight."""
    mean = beta1 * mean + (1 - beta1) * g
    squares = beta2 * squares + (1 - beta2) * g * g
    return (1 - lr * decay) * theta - lr / met1 * mean / (np.sqrt(squares / met2) + eps), mean, squares
