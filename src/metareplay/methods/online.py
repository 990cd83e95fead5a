"""Learning each batch once as it comes, with nothing against forgetting; with a pull to where weights began."""

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.base import Learner, Rows
from metareplay.methods.base import Method
from metareplay.settings import setting


class OneStep(Method):
    """What takes one step on each batch."""

    lr: float = setting(0.001, "(0, inf)", search=(1e-4, 1, "log"), help="the learning rate of every SGD step")

    def steps(self, examples: int, batches: int) -> int | None:
        return batches


class Online(OneStep):
    """One SGD step on each batch as it comes: the baseline that forgets. With a decay: SGDW, θ ← (1 − lr·λ)θ − lr·g.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.Online(lr=0.03))
    Record(online on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "online"
    family = "baseline"

    weight_decay: float = setting(0.0, "[0, inf)", help="λ: a step also takes this, times lr, off every parameter")

    def observe(self, rows: Rows) -> None:
        self.learner.sgd_pulled(rows, self.lr, self.weight_decay)

    def observe_each(self, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        return self.learner.predict_and_learn(x, y, task, self.lr, self.weight_decay)


class Fresh(Online):
    """Online, from the initial weights in each task: what a network that has learned nothing makes of it."""

    id = "fresh"
    family = "baseline"

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.initial = learner.parameters()

    def begin_task(self, task: int, previous: int | None) -> None:
        self.learner.load(self.initial)


class L2Init(OneStep):
    """L2-Init: SGD, pulled to where each parameter began: θ ← θ − lr (g + λ(θ − θ_initial)).

    Regenerative regularisation (Kumar, Marklund and Van Roy 2024), section 3.
    """

    id = "l2init"
    family = "plasticity"
    inert = ({"strength": 0.0}, Online)

    strength: float = setting(
        0.001, "[0, inf)", search=(1e-5, 0.1, "log"), help="λ, how strongly parameters are pulled to where they began"
    )

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.initial = learner.parameters()

    def observe(self, rows: Rows) -> None:
        self.learner.sgd_pulled(rows, self.lr, self.strength, self.initial)

    def observe_each(self, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        return self.learner.predict_and_learn(x, y, task, self.lr, self.strength, self.initial)
