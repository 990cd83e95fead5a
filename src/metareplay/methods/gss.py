"""Gradient-based sample selection (Aljundi et al., NeurIPS 2019)."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class GSS(OneStep):
    """One SGD step on the mean loss of B ∪ M, from a memory whose gradients point many ways (Algorithm 2).

    An example's score is c = 1 + max cos(g, g_i) over a few random memories (1 where there are none yet). While there
    is room it is kept. Then, if c < 1, memory i is picked with probability C_i / ΣC, and is replaced with
    probability C_i / (C_i + c).
    """

    id = "gss"
    family = "replay"

    memories: int = setting(5120, "[0, inf)", help="the examples held, over all tasks")
    replay_batch_size: int = setting(20, "[0, inf)", search=[5, 10, 25, 50], help="the memories replayed in each batch")
    candidates: int = setting(10, "[1, inf)", help="the memories whose gradients each new example's is compared with")

    inert = ({"memories": 0}, Online)

    def capacity(self, tasks: int, batch_size: int) -> int:
        return self.memories

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.keeping, self.replaying = rng.spawn(2)
        self.scores, self.held = np.zeros(learner.slots - learner.batch_size), 0

    def observe(self, rows: Rows) -> None:
        self.learner.sgd(np.concatenate([rows, self.draw(self.replaying, self.replay_batch_size)]), self.lr)
        if len(self.scores):
            for row in rows.tolist():
                self.offer(row)

    def draw(self, rng: np.random.Generator, size: int) -> Rows:
        """Slots of memories, uniformly with replacement."""
        return self.learner.batch_size + (rng.random(min(size, self.held)) * self.held).astype(np.int64)

    def offer(self, row: int) -> None:
        """Keep the example in slot ``row``, or not."""
        c = 1 + self.cosine(row, self.draw(self.keeping, self.candidates))
        if self.held < len(self.scores):
            place, self.held = self.held, self.held + 1
        elif c < 1:
            shares = np.cumsum(self.scores)
            place = min(int(np.searchsorted(shares, self.keeping.random() * shares[-1], "right")), self.held - 1)
            if self.keeping.random() * (self.scores[place] + c) >= self.scores[place]:
                return
            self.counters["replaced"] += 1
        else:
            return
        self.learner.copy(row, self.learner.batch_size + place)
        self.scores[place] = c

    def cosine(self, row: int, others: Rows) -> float:
        """The largest cosine of an example's gradient with one of the others'; 0 without others."""
        alone = list(np.append(row, others)[:, None])
        square, *products = self.learner.dots(alone[0], alone)
        squares = [float(self.learner.dots(other, [other])[0]) for other in alone[1:]]
        lengths = np.sqrt(float(square) * np.maximum(squares, 1e-30) + 1e-30)
        return float(np.max(products / lengths, initial=-1)) if len(others) else 0.0
