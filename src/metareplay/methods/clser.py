"""Complementary learning systems with experience replay (Arani, Sarfraz and Zonooz, ICLR 2022)."""

from typing import Any

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.losses import Scores, errors, softmax
from metareplay.methods.online import Online
from metareplay.methods.replay import Replay
from metareplay.settings import setting


class CLSER(Replay):
    """One SGD step on CE(B ∪ M) + λ · mean (z(M) − z_avg(M))²; two slow averages of θ, one of which answers.

    Each average follows with its own probability in a step, θ_avg ← d θ_avg + (1 − d) θ: the plastic one often and
    fast, the stable one seldom and slowly. For each memory z_avg is the scores of the average that gives its label the
    larger probability; only classes that count are compared. When it is tested, the stable average answers.
    """

    id = "clser"
    family = "replay"

    stable_decay: float = setting(0.99, "[0, 1]", help="d of the stable average")
    stable_rate: float = setting(0.5, "[0, 1]", help="the probability that the stable average follows in a step")
    plastic_decay: float = setting(0.9, "[0, 1]", help="d of the plastic average")
    plastic_rate: float = setting(0.9, "[0, 1]", help="the probability that the plastic average follows in a step")
    strength: float = setting(
        0.1, "[0, inf)", search=(0.01, 2, "log"), help="λ, the weight of the squared distance to an average's scores"
    )

    inert = ({"memories": 0, "stable_decay": 0.0, "stable_rate": 1.0}, Online)  # the stable average is then θ

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.chance, memory = rng.spawn(2)
        super().start(learner, memory, tasks)
        self.stable, self.plastic = learner.parameters(), learner.parameters()

    def observe(self, rows: Rows) -> None:
        past, new = self.memory.draw(1, self.replay_batch_size)[0], len(rows)
        batch = np.concatenate([rows, past])
        target = self.remembered(past)

        def loss(z: Scores, batch: Rows) -> Scores:
            allowed = self.learner.allowed(batch)
            g = errors(z, self.learner.labels[batch], allowed) / np.float32(len(z))
            weight = np.float32(2 * self.strength / np.count_nonzero(allowed[new:]))
            g[new:] += weight * np.where(allowed[new:], z[new:] - target, np.float32(0))
            return g

        self.learner.sgd(batch, self.lr, loss=loss if len(past) else None)
        stable, plastic = self.chance.random(2) < (self.stable_rate, self.plastic_rate)
        self.learner.update(
            follow, self.stable, self.stable, self.plastic,
            stable_decay=self.stable_decay if stable else 1.0, plastic_decay=self.plastic_decay if plastic else 1.0,
        )  # fmt: skip
        self.learner.steps -= 1  # it is no SGD step
        self.counters["stable updates"] += int(stable)
        self.counters["plastic updates"] += int(plastic)
        for row in rows:
            self.memory.offer(row)

    def remembered(self, rows: Rows) -> Scores:
        """For each row the scores of the average that gives its label the larger probability."""
        place, allowed = (np.arange(len(rows)), self.learner.labels[rows]), self.learner.allowed(rows)
        scores = [self.learner.forward(rows, average) for average in (self.stable, self.plastic)]
        stable, plastic = (softmax(z, allowed)[place] for z in scores)
        return np.where((stable > plastic)[:, None], *scores)

    def ready(self) -> None:
        self.learner.load(self.stable)


def follow(
    theta: Vector, _: Any, stable: Vector, plastic: Vector, stable_decay: float, plastic_decay: float
) -> tuple[Vector, Vector, Vector]:
    """Let both averages follow θ; with a decay of 1 one stays."""
    return (
        theta,
        stable_decay * stable + (1 - stable_decay) * theta,
        plastic_decay * plastic + (1 - plastic_decay) * theta,
    )
