"""Noise against stiffening: shrink and perturb, and utility-based perturbed gradient descent."""

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class ShrinkPerturb(OneStep):
    """SGD with weight decay and noise: θ ← (1 − lr·λ)θ − lr (g + σε), ε ~ N(0, 1).

    Ash and Adams (2020), at every step, as Elsayed and Mahmood (2024) have it.
    """

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
            self.learner.update(perturb, gradient, noise, lr=self.lr, decay=self.weight_decay, sigma=self.sigma)


def perturb(theta: Vector, g: Vector, noise: Vector, lr: float, decay: float, sigma: float) -> Vector:
    """Shrink, descend and perturb."""
    return (1 - lr * decay) * theta - lr * (g + sigma * noise)


class UPGD(OneStep):
    """Parameters that are of use are held, the others perturbed.

    Elsayed and Mahmood (ICLR 2024), Algorithm 1, with weight decay.

    The utility of each is the running mean U ← β U + (1 − β)(−g∘θ), Û = U / (1 − βᵗ);
    θ ← (1 − lr·λ)θ − lr (g + σε) ∘ (1 − sigmoid(Û / max Û)), one maximum over all parameters, at least a tiny
    one. βᵗ cancels there.
    """

    id = "upgd"
    family = "plasticity"

    lr: float = setting(0.01, "(0, inf)", search=(1e-4, 1, "log"), help="the learning rate of every step")
    beta: float = setting(0.9999, "[0, 1)", search=[0.9, 0.99, 0.999, 0.9999], help="how slowly utilities forget")
    sigma: float = setting(0.1, "[0, inf)", search=(1e-3, 1, "log"), help="the spread of the noise in each step")
    weight_decay: float = setting(0.01, "[0, inf)", search=(1e-4, 0.1, "log"), help="λ, what each step shrinks by")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.rng = learner, rng
        self.utility = 0 * learner.parameters()

    def observe(self, rows: Rows) -> None:
        gradient = self.learner.gradient(rows)
        self.learner.update(follow, gradient, self.utility, beta=self.beta)
        self.learner.steps -= 1  # the step is what comes now
        most = max(float(self.utility.max()), float(np.finfo(np.float32).tiny))
        noise = self.learner.noise(self.rng) if self.sigma else self.utility
        self.learner.update(
            step, gradient, self.utility, noise, lr=self.lr, sigma=self.sigma, decay=self.weight_decay,
            most=most,
        )  # fmt: skip


def follow(theta: Vector, g: Vector, utility: Vector, beta: float) -> tuple[Vector, Vector]:
    """Leave θ, and let the utilities follow."""
    return theta, beta * utility - (1 - beta) * g * theta


def step(
    theta: Vector, g: Vector, utility: Vector, noise: Vector, lr: float, sigma: float, decay: float, most: float
) -> Vector:
    """One step, which those of use take less of; 1 − sigmoid(x) is 1 / (1 + eˣ)."""
    return (1 - lr * decay) * theta - lr * (g + sigma * noise) / (1 + np.exp(utility / most))
