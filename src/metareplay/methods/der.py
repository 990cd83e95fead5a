"""Dark experience replay (Buzzega et al., NeurIPS 2020): memories keep the scores that they had."""

from typing import Any, ClassVar

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.base import ALL_CLASSES
from metareplay.methods.losses import Scores, errors
from metareplay.methods.online import Online
from metareplay.methods.replay import Replay
from metareplay.settings import setting


class DER(Replay):
    """One SGD step on CE(B) + α · mean (z(M) − z_M)² (equation 5).

    z_M are the raw scores that the memories M had when they were learned, before that step; all outputs are compared,
    those of classes not met yet too.
    """

    id = "der"
    family = "replay"
    waived = ALL_CLASSES

    alpha: float = setting(
        0.2, "[0, inf)", search=(0.01, 2, "log"), help="α, the weight of memories' squared distance to their old scores"
    )

    inert: ClassVar[Any] = ({"alpha": 0.0}, Online)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        super().start(learner, rng, tasks)
        self.scores = np.zeros((learner.slots, learner.classes), np.float32)  # of the example in each slot

    def observe(self, rows: Rows) -> None:
        past = self.memory.draw(1, self.replay_batch_size if self.alpha else 0)[0]
        self.learn(rows, past, past[:0], 0.0)

    def learn(self, rows: Rows, past: Rows, again: Rows, beta: float) -> None:
        """Step on B, on M as it was, and on β · CE(M′), M′ in the slots ``again``."""
        new, old = len(rows), len(rows) + len(past)

        def loss(z: Scores, batch: Rows) -> Scores:
            self.scores[rows] = z[:new]
            g = errors(z, self.learner.labels[batch], self.learner.allowed(batch))
            g[:new] /= new
            np.multiply(z[new:old] - self.scores[past], 2 * self.alpha / max(1, z[new:old].size), out=g[new:old])
            g[old:] *= beta / max(1, len(again))
            return g

        if self.alpha or beta:
            self.learner.sgd(np.concatenate([rows, past, again]), self.lr, loss=loss)
        else:
            self.learner.sgd(rows, self.lr)
        for row in rows:
            slot = self.memory.offer(row)
            if slot is not None:
                self.scores[slot] = self.scores[row]


class DERPP(DER):
    """DER, whose loss gains β · CE(M′) for a second, independent draw M′ of memories (equation 6)."""

    id = "derpp"
    family = "replay"

    beta: float = setting(
        0.5, "[0, inf)", search=(0.1, 2, "log"), help="β, the weight of the cross-entropy of a second draw of memories"
    )

    inert = ({"beta": 0.0}, DER)

    def observe(self, rows: Rows) -> None:
        past = self.memory.draw(1, self.replay_batch_size if self.alpha else 0)[0]
        self.learn(rows, past, self.memory.draw(1, self.replay_batch_size if self.beta else 0)[0], self.beta)
