"""Importances estimated at a task's border: online EWC (Schwarz et al., 2018) and MAS (Aljundi et al., 2018)."""

from typing import ClassVar

import numpy as np

from metareplay.learners.base import Learner, Rows, Vector
from metareplay.methods import losses
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class Consolidation(OneStep):
    """What both share: the loss gains share · strength · Σ Ω (θ − θ*)², θ* the parameters at the last border.

    At a border the first ``n_memories`` examples of the task that ended say how much each parameter matters.
    """

    strength: float = setting(
        1.0, "[0, inf)", search=(0.1, 1000, "log"), help="how strongly past tasks hold their parameters"
    )
    n_memories: int = setting(
        200, "[0, inf)", help="the examples of each task, its first, that its importances are estimated from"
    )

    share: ClassVar[float]
    needs_task_in_training = True

    def capacity(self, tasks: int, batch_size: int) -> int:
        return self.n_memories

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner, self.rng = learner, rng
        self.anchor = learner.parameters()  # θ*
        self.importance = 0 * self.anchor  # Ω
        self.kept = 0

    def begin_task(self, task: int, previous: int | None) -> None:
        if previous in (None, task) or not self.kept:
            return
        with self.learner.trial():  # a look, which leaves a module's running statistics alone
            self.importance = self.consolidated(np.arange(self.kept) + self.learner.batch_size)
        self.anchor = self.learner.parameters()
        self.kept = 0
        self.counters["consolidations"] += 1

    def consolidated(self, rows: Rows) -> Vector:
        """Ω from here on, given examples of the task that ended."""
        raise NotImplementedError

    def observe(self, rows: Rows) -> None:
        for row in rows[: self.n_memories - self.kept]:
            self.learner.copy(row, self.learner.batch_size + self.kept)
            self.kept += 1
        if self.strength and self.counters["consolidations"]:
            slope = 2 * self.share * self.strength
            self.learner.sgd_by(step, rows, self.importance, self.anchor, lr=self.lr, slope=slope)
        else:
            self.learner.sgd(rows, self.lr)


def step(theta: Vector, g: Vector, importance: Vector, anchor: Vector, lr: float, slope: float) -> Vector:
    """One step on the loss with its quadratic."""
    return theta - lr * (g + slope * importance * (theta - anchor))


class OnlineEWC(Consolidation):
    """Elastic weight consolidation with one importance for all past tasks: F ← γ F + F_task, and one θ*.

    The loss gains ½ λ Σ F (θ − θ*)² (Schwarz et al., ICML 2018, equation 9). F_task is the diagonal of the Fisher
    information: the mean of squared gradients of the log-likelihood of labels *drawn from the network's own answer*.
    """

    id = "ewc-online"
    family = "regularisation"

    decay: float = setting(1.0, "[0, 1]", help="γ, what is left of the past importances at each border")
    empirical: bool = setting(
        False, help="whether the examples' own labels are taken instead of drawn ones (the empirical Fisher)"
    )

    share = 0.5
    inert = ({"strength": 0.0}, Online)

    def consolidated(self, rows: Rows) -> Vector:
        labels = self.learner.labels[rows] if self.empirical else self.drawn(rows)

        def loss(z: losses.Scores, row: Rows) -> losses.Scores:
            return losses.cross_entropy(z, labels[row - rows[0]], self.learner.allowed(row))

        found = sum(self.learner.gradient(row, loss) ** 2 for row in rows[:, None]) / len(rows)
        return self.decay * self.importance + found

    def drawn(self, rows: Rows) -> Rows:
        """A label for each row, from what the network answers."""
        up_to = losses.softmax(self.learner.forward(rows)).cumsum(1)
        labels: Rows = (up_to > self.rng.random((len(rows), 1)) * up_to[:, -1:]).argmax(1)
        return labels


class MAS(Consolidation):
    """Memory aware synapses: a parameter matters as much as the answers' length depends on it; no label is read.

    Ω gains the mean over examples of abs(∂‖z‖²/∂θ) (Aljundi et al., ECCV 2018, section 4.1), z the scores of the
    classes that count, and the loss gains λ Σ Ω (θ − θ*)² (equation 4).
    """

    id = "mas"
    family = "regularisation"

    strength: float = setting(
        0.1, "[0, inf)", search=(0.1, 1000, "log"), help="λ, how strongly past tasks hold their parameters"
    )

    share = 1.0
    inert = ({"strength": 0.0}, Online)

    def consolidated(self, rows: Rows) -> Vector:
        def loss(z: losses.Scores, row: Rows) -> losses.Scores:
            return 2 * z * self.learner.allowed(row)

        return self.importance + sum(abs(self.learner.gradient(row, loss)) for row in rows[:, None]) / len(rows)
