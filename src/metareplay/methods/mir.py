"""Maximally interfered retrieval (Aljundi et al., NeurIPS 2019)."""

import numpy as np

from metareplay.learners.base import Rows
from metareplay.methods.losses import cross_entropy_values
from metareplay.methods.online import Online
from metareplay.methods.replay import Replay
from metareplay.settings import setting


class MIR(Replay):
    """What is replayed is what the batch would harm most: one SGD step on the mean loss of B ∪ M (Algorithm 1).

    Of C memories drawn without replacement, M are those whose loss rises most, l(θ′) − l(θ), where θ′ is θ after a step
    on B alone, which is then taken back.
    """

    id = "mir"
    family = "replay"

    candidates: int = setting(50, "[1, inf)", help="the memories among which those to be replayed are chosen")

    inert = ({"memories": 0}, Online)

    def observe(self, rows: Rows) -> None:
        chosen = self.memory.draw_distinct(self.candidates)
        if len(chosen) > self.replay_batch_size > 0:
            scores = [self.learner.forward(chosen)]
            with self.learner.trial():
                self.learner.sgd(rows, self.lr)
                scores.append(self.learner.forward(chosen))
            losses = cross_entropy_values(np.concatenate(scores), np.tile(self.learner.labels[chosen], 2))
            rise = losses[len(chosen) :] - losses[: len(chosen)]
            chosen = chosen[np.argpartition(rise, -self.replay_batch_size)]
        past = chosen[max(0, len(chosen) - self.replay_batch_size) :]
        self.learner.sgd(np.concatenate([rows, past]), self.lr)
        for row in rows:
            self.memory.offer(row)
