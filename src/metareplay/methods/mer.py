"""Meta-experience replay (Riemer et al., ICLR 2019): replay joined with a Reptile meta-update."""

import numpy as np

from metareplay.learners.base import Learner, Rows
from metareplay.methods.replay import Replay
from metareplay.settings import setting


class MER(Replay):
    """MER with Reptile steps within each batch and across an example's batches (Algorithm 1).

    Every batch is the current example and then memories drawn anew; each of them is one SGD step.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.MER(lr=0.03, beta=0.1, memories=200))
    Record(meralg1 on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "meralg1"
    family = "meta-replay"

    beta: float = setting(
        1.0, "(0, 1]", search=(0.01, 1, "log"), help="the share of each batch's change that is kept (MER, Algorithm 1)"
    )
    gamma: float = setting(
        1.0, "(0, 1]", help="the share of an example's change, over all its batches, that is kept (MER, Algorithm 1)"
    )
    batches_per_example: int = setting(1, "[1, inf)", help="the batches that each new example is learned in")

    def observe(self, rows: Rows) -> None:
        for row in rows:
            batches = self.memory.draw_beside(row, self.batches_per_example, self.replay_batch_size)
            if self.gamma == 1:
                self.learner.reptile(batches, self.lr, self.beta)
            else:
                start = self.learner.parameters()
                self.learner.reptile(batches, self.lr, self.beta)
                self.learner.interpolate(start, self.gamma)
            self.memory.offer(row)

    def steps(self, examples: int, batches: int) -> int:
        return self.batches_per_example * (examples + self.replayed(examples))


class MEROneBigBatch(Replay):
    """MER with one big batch: the memories, then the current example, then one Reptile step (Algorithm 6).

    Examples
    --------
    >>> metareplay.run(stream, metareplay.MEROneBigBatch(lr=0.03, gamma=0.1, memories=200))
    Record(meralg6 on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "meralg6"
    family = "meta-replay"

    gamma: float = setting(
        1.0, "(0, 1]", search=(0.01, 1, "log"), help="the share of each batch's change that is kept (MER, Algorithm 6)"
    )
    batches_per_example: int = setting(
        1, "[1, inf)", help="the batches that each new example is learned in (the paper has one)"
    )

    def observe(self, rows: Rows) -> None:
        for row in rows:
            batches = self.memory.draw_beside(row, self.batches_per_example, self.replay_batch_size, place=-1)
            self.learner.reptile(batches, self.lr, self.gamma)
            self.memory.offer(row)

    def steps(self, examples: int, batches: int) -> int:
        return self.batches_per_example * (examples + self.replayed(examples))


class MERCurrentExampleLearningRate(Replay):
    """MER with one batch in random order and a higher learning rate for the current example (Algorithm 7).

    The very first example is only stored.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.MERCurrentExampleLearningRate(s=5, gamma=0.3, memories=200))
    Record(meralg7 on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "meralg7"
    family = "meta-replay"

    s: float = setting(
        1.0, "(0, inf)", search=[1.0, 2.0, 5.0, 10.0], help="what the current example's learning rate is multiplied by"
    )
    gamma: float = setting(
        1.0, "(0, 1]", search=(0.01, 1, "log"), help="the share of each batch's change that is kept (MER, Algorithm 7)"
    )

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.order, memory = rng.spawn(2)
        super().start(learner, memory, tasks)

    def observe(self, rows: Rows) -> None:
        for row in rows:
            if self.memory.offered:
                batch = self.memory.draw_beside(row, 1, self.replay_batch_size)
                # The memories are drawn independently, so only the current example's place needs to be random.
                place = int(self.order.random() * batch.size)
                batch[0, 0], batch[0, place] = batch[0, place], row
                lr = np.full(batch.shape, self.lr, np.float32)
                lr[0, place] *= self.s
                self.learner.reptile(batch, lr, self.gamma)
            self.memory.offer(row)

    def steps(self, examples: int, batches: int) -> int:
        return examples - 1 + self.replayed(examples)
