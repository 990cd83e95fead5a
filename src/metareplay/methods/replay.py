"""Experience replay with a reservoir: each new example is learned together with memories drawn anew."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.memory import Reservoir
from metareplay.methods.online import OneStep
from metareplay.settings import setting


class Replay(OneStep):
    """What all methods with a reservoir share: the reservoir, and how much is replayed from it."""

    memories: int = setting(5120, "[0, inf)", help="the examples that the reservoir holds, over all tasks")
    replay_batch_size: int = setting(
        20, "[0, inf)", search=[5, 10, 25, 50], help="the memories replayed in each batch, beside the new example"
    )
    recency: int = setting(0, "[0, inf)", help="about how many of the newest examples the reservoir samples; 0: all")

    def capacity(self, tasks: int, batch_size: int) -> int:
        return self.memories

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.memory = Reservoir(learner, rng, recency=self.recency)

    def replayed(self, examples: int) -> int:
        """All that is replayed beside so many examples, once each: min(replay batch, memories, i) beside the i-th."""
        most = min(self.replay_batch_size, self.memories)
        growing = min(most, examples)
        return growing * (growing - 1) // 2 + most * (examples - growing)


class ER(Replay):
    """Experience replay: one SGD step on the mean loss of the current example and the memories (MER, Algorithm 4).

    With ``interpolate_every`` it is the lighter MER of Abbes et al. (2025, arXiv:2508.01908): a Reptile step over so
    many batches, θ ← θ_before + rate · (θ − θ_before).

    Examples
    --------
    >>> metareplay.run(stream, metareplay.ER(lr=0.03, memories=200))
    Record(eralg4 on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "eralg4"
    family = "replay"

    interpolate_every: int = setting(
        0, "[0, inf)", help="the batches after which only a share of the change since the last time is kept; 0: never"
    )
    rate: float = setting(0.1, "(0, 1]", help="the share of the change that is kept then")

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        super().start(learner, rng, tasks)
        self.before = learner.parameters() if self.interpolate_every else None
        self.batches = 0

    def observe(self, rows: Rows) -> None:
        for row in rows:
            batch = self.memory.draw_beside(row, 1, self.replay_batch_size)[0]
            self.learner.sgd(batch, self.lr, self.weights(batch))
            self.memory.offer(row)
            self.batches += 1
            if self.interpolate_every and self.batches % self.interpolate_every == 0:
                self.learner.interpolate(self.before, self.rate)
                self.before = self.learner.parameters()
                self.counters["interpolations"] += 1

    def steps(self, examples: int, batches: int) -> int | None:
        return examples

    def weights(self, batch: Rows) -> np.typing.NDArray[np.float32] | None:
        """What each example's loss counts in the step: the same for all."""
        return None


class ERWithTasks(ER):
    """Experience replay whose loss is the sum, over the tasks in the batch, of each one's mean loss (MER, Algorithm 5).

    Its steps grow with the number of tasks in the batch; that is the published behaviour. The mean over the tasks
    keeps them as long as those of plain replay.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.ERWithTasks(lr=0.01, memories=200))
    Record(eralg5 on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "eralg5"
    family = "replay"

    mean_over_tasks: bool = setting(False, help="whether the mean over the batch's tasks is taken instead of the sum")

    needs_task_in_training = True

    def weights(self, batch: Rows) -> np.typing.NDArray[np.float32] | None:
        tasks = self.learner.tasks[batch]
        counts = np.bincount(tasks)
        weights = (1 / counts[tasks]).astype(np.float32)
        return weights / np.float32(np.count_nonzero(counts)) if self.mean_over_tasks else weights


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
