"""Experience replay that watches the gap between what is new and what it remembers. Ours."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.losses import cross_entropy_values
from metareplay.methods.replay import ER
from metareplay.settings import setting

WINDOW = 50  # examples over which the gap is averaged
LARGEST = 5.0  # what one example's loss counts at most
NEW = 0.3  # the new example's part in a batch's loss once there are ``few`` memories
PACE = 0.02
"""The share of the memories that goes with each example, for every unit by which the gap exceeds ``conflict``."""
ODD = 1.0  # an example's own gap is odd beyond this and twice the gap
NEAR = 0.9  # the share of memories that lie as near to another one as a familiar example does to one of them, or nearer


class GapER(ER):
    """Experience replay with as many steps, and as long a memory, as the gap allows.

    The gap is how much worse a new example is known, before it is learned, than the memories of its own class among
    those drawn beside it: g ← g + (ℓ(new) − mean ℓ(memories) − g) / 50, with ℓ the cross-entropy, at most 5.

    - Up to ``calm``, memories are not known by heart. Then, while there are fewer than ``few`` of them, each example is
      learned in several batches. Wrong labels can only be learned by heart: g rises, and one batch is what remains.
    - Beyond ``conflict``, what is new is another world. Where it looks familiar, as near to its nearest memory as nine
      tenths of some memories are to theirs, memories say what is no longer true: each goes with probability
      (g − conflict) / 50. Where it does not, as in a new cluster of an old class, all stay.
    - An odd example, whose own gap ℓ(new) − mean ℓ(memories) exceeds 1 + 2 max(g, 0), has a wrong label, or is the
      first of a change. It is learned in one batch, as one of it.

    With ``few`` memories or more, a new example that is not odd counts three tenths of a batch's loss. As it is
    compared with its own class alone, a class that is new is neither odd nor a conflict.
    """

    id = "ergap"
    family = "replay"

    batches_per_example: int = setting(5, "[1, inf)", help="the most batches that each new example is learned in")
    few: int = setting(1000, "[0, inf)", help="the memories from which on one batch is enough")
    calm: float = setting(0.12, "[0, inf)", help="the gap up to which an example is learned in more than one batch")
    conflict: float = setting(1.0, "[0, inf)", help="the gap beyond which memories are forgotten; 0: never")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        super().start(learner, rng, tasks)
        self.gap = 0.0

    def observe(self, rows: Rows) -> None:
        for row in rows:
            batches = self.memory.draw_beside(row, self.batches_per_example, self.replay_batch_size)
            odd = self.watch(batches[0]) > ODD + 2 * max(self.gap, 0)
            few, conflict = self.memory.held < self.few, self.gap > self.conflict > 0
            for batch in batches if few and self.gap <= self.calm and not odd else batches[:1]:
                self.learner.sgd(batch, self.lr, None if few or odd else self.weights(batch))
            if conflict and self.familiar(batches[:2]):
                self.counters["forgotten"] += self.memory.forget(PACE * (self.gap - self.conflict))
            self.memory.offer(row)

    def weights(self, batch: Rows) -> np.typing.NDArray[np.float32] | None:
        return np.array(
            [NEW, *[(1 - NEW) / (len(batch) - 1)] * (len(batch) - 1)] if len(batch) > 1 else [1], np.float32
        )

    def watch(self, batch: Rows) -> float:
        """Follow the gap by a new example, which comes first, and memories; its own gap, 0 if none is of its class."""
        labels = self.learner.labels[batch]
        alike = batch[labels == labels[0]]
        if len(alike) == 1:
            return 0.0
        scores, allowed = self.learner.forward(alike), self.learner.allowed(alike)
        losses = np.minimum(cross_entropy_values(scores, self.learner.labels[alike], allowed), LARGEST)
        own = float(losses[0] - losses[1:].mean())
        self.gap += (own - self.gap) / WINDOW
        return own

    def familiar(self, batches: Rows) -> bool:
        """Whether the new example, whose slot is before all others, lies as near to memories as they to each other."""
        x = self.learner.inputs(np.unique(batches))
        if len(x) < 3:
            return True
        squares = np.square(x).sum(1)
        distances = squares[:, None] + squares - 2 * x @ x.T
        np.fill_diagonal(distances, np.inf)
        return bool(distances[0].min() <= np.quantile(distances[1:, 1:].min(1), NEAR))

    def steps(self, examples: int, batches: int) -> int | None:
        return None
