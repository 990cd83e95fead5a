"""Experience replay with asymmetric cross-entropy (Caccia et al., ICLR 2022)."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.base import ALL_CLASSES
from metareplay.methods.losses import Scores, errors
from metareplay.methods.replay import Replay


class ERACE(Replay):
    """One SGD step on CE(B; classes in B and those not met yet) + CE(M; all classes met) (section 4).

    So that new classes do not push away those met before, whose place the memories hold. In batches of one the first
    term is zero once all classes are met: an example is then learned only when it is replayed.
    """

    id = "erace"
    family = "replay"
    waived = ALL_CLASSES

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        super().start(learner, rng, tasks)
        self.met = np.zeros(learner.classes, bool)

    def observe(self, rows: Rows) -> None:
        past, new = self.memory.draw(1, self.replay_batch_size)[0], len(rows)
        here = ~self.met
        here[self.learner.labels[rows]] = True
        self.met[self.learner.labels[rows]] = True

        def loss(z: Scores, batch: Rows) -> Scores:
            counting = self.learner.allowed(batch)
            counting[:new] &= here
            counting[new:] &= self.met
            g = errors(z, self.learner.labels[batch], counting)
            g[:new] /= new
            g[new:] /= max(1, len(past))
            return g

        self.learner.sgd(np.concatenate([rows, past]), self.lr, loss=loss)
        for row in rows:
            self.memory.offer(row)
