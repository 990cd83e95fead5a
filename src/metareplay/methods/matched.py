"""Plain replay with as much compute as another method has: the control that shows what the rest of that method adds."""

from __future__ import annotations

from metareplay.learners.base import Rows
from metareplay.methods.replay import ER, Replay
from metareplay.settings import setting


class ERMatched(Replay):
    """Experience replay whose steps are repeated, each on memories drawn anew: a control of any number of gradients.

    A new example is learned in so many batches, each one SGD step on the mean loss, as plain replay (MER, Algorithm 4)
    learns it in one. ``controls = ["er-matched"]`` in a suite chooses how many.
    """

    id = "er-matched"
    family = "replay"

    batches_per_example: int = setting(1, "[1, inf)", help="the batches that each new example is learned in")

    inert = ({"batches_per_example": 1}, ER)

    def observe(self, rows: Rows) -> None:
        for row in rows:
            for batch in self.memory.draw_beside(row, self.batches_per_example, self.replay_batch_size):
                self.learner.sgd(batch, self.lr)
            self.memory.offer(row)

    def steps(self, examples: int, batches: int) -> int:
        return self.batches_per_example * examples
