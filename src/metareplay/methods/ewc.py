"""Elastic weight consolidation (Kirkpatrick et al., PNAS 2017)."""

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods.online import OneStep
from metareplay.settings import setting


class EWC(OneStep):
    """Each past task t pulls parameter i towards where it left it: the loss gains λ Σ_t Σ_i F_t,i (θ_i − θ_t,i)².

    The sum over tasks is one quadratic, with gradient 2λ (Σ F_t θ − Σ F_t θ_t), so a step costs the same
    however many tasks are past.

    The published F_t is the square of the mean gradient; the textbook's, an estimate of the Fisher information, is the
    mean of the examples' squared gradients.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.EWC(lr=0.01, memory_strength=10, n_memories=100))
    Record(ewc on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "ewc"
    family = "regularisation"

    memory_strength: float = setting(
        0.0, "[0, inf)", search=(0.1, 1000, "log"), help="λ, how strongly past tasks hold their parameters"
    )
    n_memories: int = setting(
        0, "[0, inf)", search=[10, 100], help="the examples of each task that F is estimated from, at least a batch"
    )
    mean_of_squares: bool = setting(
        False, help="whether F is the mean of the squared gradients (Fisher) instead of the square of the mean gradient"
    )

    needs_task_in_training = True

    def capacity(self, tasks: int, batch_size: int) -> int:
        return max(self.n_memories, batch_size)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.importance = 0 * learner.parameters()  # Σ F_t
        self.pull = self.importance.copy()  # Σ F_t θ_t
        self.past = 0
        self.kept = 0

    def begin_task(self, task: int, previous: int | None) -> None:
        if self.kept and task != previous:
            importance = self.estimate_importance(np.arange(self.kept) + self.learner.batch_size)
            self.importance += importance
            self.pull += importance * self.learner.parameters()
            self.past += 1
            self.kept = 0

    def estimate_importance(self, rows: Rows) -> Vector:
        """F of the task that ended."""
        if self.mean_of_squares:
            return sum(self.learner.gradient(rows[i : i + 1]) ** 2 for i in range(len(rows))) / len(rows)
        return self.learner.gradient(rows) ** 2

    def observe(self, rows: Rows) -> None:
        room = len(rows) if self.kept == 0 else max(0, self.n_memories - self.kept)
        for row in rows[:room]:
            self.learner.copy(row, self.learner.batch_size + self.kept)
            self.kept += 1
        if self.past:
            self.learner.sgd_by(step, rows, self.importance, self.pull, lr=self.lr, strength=self.memory_strength)
        else:
            self.learner.sgd(rows, self.lr)


def step(theta: Vector, g: Vector, importance: Vector, pull: Vector, lr: float, strength: float) -> Vector:
    """One step on the loss with its quadratic, whose gradient is 2λ (Σ F_t θ − Σ F_t θ_t)."""
    return theta - lr * (g + 2 * strength * (importance * theta - pull))
