"""Averaged gradient episodic memory (Chaudhry et al., ICLR 2019)."""

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.memory import RingPerTask
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class AGEM(OneStep):
    """No step may raise the mean loss of a few memories of past tasks, to first order.

    Where the gradient g of the batch meets that of the memories with ⟨g, g_ref⟩ < 0, the step is taken along
    g − (⟨g, g_ref⟩ / ⟨g_ref, g_ref⟩) g_ref instead (equation 11). Until a past task has memories it is plain SGD.
    """

    id = "agem"
    family = "projection"

    memories: int = setting(
        5120, "[0, inf)", help="the examples held, over all tasks: each task has an equal share of them, its newest"
    )
    replay_batch_size: int = setting(
        20, "[0, inf)", search=[5, 10, 25, 50], help="the memories of past tasks that g_ref is the gradient of"
    )

    needs_task_in_training = True
    inert = ({"memories": 0}, Online)

    def capacity(self, tasks: int, batch_size: int) -> int:
        return self.memories // tasks * tasks

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.replaying = learner, rng
        self.memory = RingPerTask(learner, tasks)
        self.begin_task(0, None)

    def begin_task(self, task: int, previous: int | None) -> None:
        self.task = task
        past = [self.memory.rows(other) for other in self.memory.filled() if other != task]
        self.past = np.concatenate([np.zeros(0, np.int64), *past])

    def observe(self, rows: Rows) -> None:
        size = min(self.replay_batch_size, len(self.past))
        if size:
            drawn = self.past[(self.replaying.random(size) * len(self.past)).astype(np.int64)]
            g, reference = self.learner.gradient(rows), self.learner.gradient(drawn)
            product = float(g @ reference)
            if product < 0:
                share = product / float(reference @ reference)
                self.learner.update(project, g, reference, lr=self.lr, share=share)
                self.counters["projections"] += 1
            else:
                self.learner.descend(g, self.lr)
        else:
            self.learner.sgd(rows, self.lr)
        for row in rows:
            self.memory.offer(row, self.task)


def project(theta: Vector, g: Vector, reference: Vector, lr: float, share: float) -> Vector:
    """One step along g without its share of the reference."""
    return theta - lr * (g - share * reference)
