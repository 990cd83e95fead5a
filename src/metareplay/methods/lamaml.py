"""Look-ahead meta-learning for continual learning (Gupta, Yadav and Paull, NeurIPS 2020), to first order."""

from typing import Any

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.replay import Replay
from metareplay.settings import setting


class MetaLearner(Replay):
    """What the three share: fast weights learn a batch example by example, and are judged on it and on memories.

    For each glance at a batch, with memories M drawn anew and θ_0 = θ (Algorithm 1):
    θ_i = θ_{i−1} − max(α, 0) ∘ g_i, g_i the gradient of example i at θ_{i−1}; m_i the gradient of the mean loss of the
    batch and M at θ_i. To first order g_meta = mean of m_i, and g_α = −mean of m_i ∘ Σ_{j ≤ i} g_j (equation 5).
    """

    lr: float = setting(
        0.1, "(0, inf)", search=(1e-3, 1, "log"), help="α, the fast weights' learning rate; or, if learned, its start"
    )
    memories: int = setting(200, "[0, inf)", help="the examples that the reservoir holds, over all tasks")
    replay_batch_size: int = setting(10, "[0, inf)", help="the memories drawn beside each batch")
    glances: int = setting(5, "[1, inf)", help="how often each batch is gone through")
    clip: float = setting(2.0, "[0, inf)", help="the greatest length of each of the two meta-gradients; 0: any")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        super().start(learner, rng, tasks)
        self.rates = 0 * learner.parameters() + np.float32(self.lr)  # α

    def observe(self, rows: Rows) -> None:
        for glance in range(self.glances):
            batch = np.concatenate([rows, self.memory.draw(1, self.replay_batch_size)[0]])
            meta, slope = self.learner.look_ahead(rows, batch, self.rates)
            self.outer_step(meta, slope, len(rows))
            if glance == 0:
                for row in rows:
                    self.memory.offer(row)

    def outer_step(self, meta: Vector, slope: Vector, n: int) -> None:
        """Take θ, and the rates where they are learned, along the means of n gradients."""
        raise NotImplementedError

    def share_of(self, total: Vector, n: int) -> float:
        """What a sum of n gradients is multiplied by: their mean is not to be longer than ``clip``."""
        length = float(np.sqrt(total @ total)) / n
        if not self.clip or not length > self.clip:
            return 1 / n
        self.counters["clipped"] += 1
        return self.clip / length / n

    def steps(self, examples: int, batches: int) -> int:
        return self.glances * (examples + batches)


class CMAML(MetaLearner):
    """C-MAML: α is a fixed number, and θ ← θ_0 − outer_lr · g_meta."""

    id = "cmaml"
    family = "meta-learning"

    outer_lr: float = setting(
        0.1, "(0, inf)", search=(1e-3, 1, "log"), help="the learning rate of θ along its meta-gradient"
    )

    def outer_step(self, meta: Vector, slope: Vector, n: int) -> None:
        self.learner.update(follow, meta, outer_lr=self.outer_lr, share=self.share_of(meta, n))


def follow(theta: Vector, meta: Vector, outer_lr: float, share: float) -> Any:
    """C-MAML's step."""
    return theta - outer_lr * (share * meta)


class SyncMAML(CMAML):
    """Sync: C-MAML with a rate α for each parameter, which is learned at the same time: α ← α − η g_α."""

    id = "sync"
    family = "meta-learning"

    lr_of_lr: float = setting(
        0.1, "[0, inf)", search=(1e-3, 1, "log"), help="η, the learning rate of the learning rates"
    )

    inert = ({"lr_of_lr": 0.0}, CMAML)

    def outer_step(self, meta: Vector, slope: Vector, n: int) -> None:
        self.rates += np.float32(self.lr_of_lr * self.share_of(slope, n)) * slope
        super().outer_step(meta, slope, n)


class LaMAML(MetaLearner):
    """La-MAML: the rates α ← α − η g_α are learned first, and are then θ's own: θ ← θ_0 − max(α, 0) ∘ g_meta."""

    id = "lamaml"
    family = "meta-learning"

    lr_of_lr: float = setting(
        0.3, "[0, inf)", search=(1e-3, 1, "log"), help="η, the learning rate of the learning rates"
    )

    inert = ({"lr_of_lr": 0.0, "lr": 0.1}, CMAML)  # whose outer_lr then is the α of every parameter

    def outer_step(self, meta: Vector, slope: Vector, n: int) -> None:
        up = self.lr_of_lr * self.share_of(slope, n)
        self.learner.update(step, meta, self.rates, slope, share=self.share_of(meta, n), up=up)


def step(theta: Vector, meta: Vector, rates: Vector, slope: Vector, share: float, up: float) -> Any:
    """La-MAML's step, and the new rates."""
    rates = rates + up * slope
    return theta - np.maximum(rates, 0) * (share * meta), rates
