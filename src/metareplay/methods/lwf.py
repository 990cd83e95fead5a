"""Learning without forgetting (Li and Hoiem, ECCV 2016)."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods import losses
from metareplay.methods.base import ALL_CLASSES
from metareplay.methods.online import OneStep, Online
from metareplay.settings import setting


class LwF(OneStep):
    """New examples are to be answered, among the classes met before, as the network answered at the last border.

    The loss gains strength · T² · CE(softmax(z_old / T), softmax(z / T)) (equations 2 to 4), z_old the scores of the
    network as it was at the last border, both softmaxes over the classes met by then. No example is kept.
    """

    id = "lwf"
    family = "regularisation"
    waived = ALL_CLASSES

    strength: float = setting(
        1.0, "[0, inf)", search=(0.1, 10, "log"), help="λ, what the old answers count beside the labels"
    )
    temperature: float = setting(2.0, "(0, inf)", help="T: the higher, the more the less likely classes count")

    needs_task_in_training = True
    inert = ({"strength": 0.0}, Online)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.old = learner.parameters()
        self.seen, self.met = np.zeros((2, learner.classes), bool)  # so far, and by the last border

    def begin_task(self, task: int, previous: int | None) -> None:
        if previous not in (None, task):
            self.old, self.met = self.learner.parameters(), self.seen.copy()

    def observe(self, rows: Rows) -> None:
        self.seen[self.learner.labels[rows]] = True
        if not self.strength or not self.met.any():
            self.learner.sgd(rows, self.lr)
            return
        labels, allowed = self.learner.labels[rows], self.learner.allowed(rows)
        target = self.learner.forward(rows, self.old)

        def loss(z: losses.Scores, rows: Rows) -> losses.Scores:
            kept = losses.distillation(z, target, self.temperature, self.met)
            return losses.cross_entropy(z, labels, allowed) + np.float32(self.strength) * kept

        self.learner.sgd(rows, self.lr, loss=loss)
        self.counters["examples distilled"] += len(rows)
