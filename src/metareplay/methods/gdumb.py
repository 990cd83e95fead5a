"""Greedy sampler and dumb learner (Prabhu, Torr and Dokania, ECCV 2020)."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.base import Method
from metareplay.settings import setting


class GDumb(Method):
    """A memory balanced over classes; a fresh network is trained on it alone, whenever it is to be tested.

    While there is room an example is kept; then, if its class has fewer than the largest, it replaces a random example
    of the largest (Algorithm 1). The network starts from the initial weights; over the passes the learning rate falls
    from lr to lr / 100 along a cosine. What it would need to continue learning is what it does not do.
    """

    id = "gdumb"
    family = "replay"

    lr: float = setting(
        0.05, "(0, inf)", search=(1e-4, 1, "log"), help="the first pass's learning rate; the last one's is a hundredth"
    )
    memories: int = setting(5120, "[0, inf)", help="the examples held, over all classes")
    passes: int = setting(128, "[1, inf)", help="the passes over the memory before each evaluation")
    fit_batch_size: int = setting(16, "[1, inf)", help="the memories in each of their batches")

    waived = dict.fromkeys(
        ("it_takes_every_example", "batches_of_any_size_are_taken", "it_works_without_memories"),
        "it learns before it is tested, not on the way",
    )

    def capacity(self, tasks: int, batch_size: int) -> int:
        return self.memories

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.keeping, self.fitting = rng.spawn(2)
        self.initial, self.held = learner.parameters(), 0

    @property
    def rows(self) -> Rows:
        """The slots that hold an example."""
        return np.arange(self.held) + self.learner.batch_size

    def observe(self, rows: Rows) -> None:
        for row in rows:
            if self.held < self.learner.slots - self.learner.batch_size:
                self.held += 1
                self.learner.copy(row, int(self.rows[-1]))
            elif self.held:
                labels = self.learner.labels[self.rows]
                counts = np.bincount(labels, minlength=self.learner.classes)
                if counts[self.learner.labels[row]] < counts.max():
                    largest = self.rows[labels == counts.argmax()]
                    self.learner.copy(row, int(largest[int(self.keeping.random() * len(largest))]))
                    self.counters["replaced"] += 1

    def ready(self) -> None:
        self.learner.load(self.initial)
        for lr in np.interp(np.cos(np.linspace(0, np.pi, self.passes)), (-1, 1), (self.lr / 100, self.lr)):
            order = self.fitting.permutation(self.rows)
            for begin in range(0, self.held, self.fit_batch_size):
                self.learner.sgd(order[begin : begin + self.fit_batch_size], float(lr))
