"""Which slots of the learner's table hold what: the memories that methods replay from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metareplay.errors import BadInput
from metareplay.learners.base import Learner, Rows


class Reservoir:
    """A uniform sample, in ``capacity`` slots, of every example offered so far.

    After n offers each example is held with probability min(1, capacity / n)
    (Vitter 1985, Algorithm R).

    With a ``recency`` it forgets: from the recency-th offer on, an example offered a ago is held with probability
    min(1, capacity / recency) · (1 − 1 / recency)^a, so that the mean age is about ``recency``
    (Aggarwal 2006, the biased reservoir). Of a capacity that is larger only ``recency`` slots are used.

    Parameters
    ----------
    learner
        Whose table it lives in: in the slots behind those of the incoming batch.
    rng
        Two children of it decide what is kept and what is replayed, so that drawing more does not change what is kept.
    capacity
        How many of those slots it takes; None: all. BadInput if there are not so many.
    recency
        A number of examples; 0: all since the start count alike.

    Examples
    --------
    >>> from metareplay.learners.engines import learner
    >>> from metareplay.networks import Perceptron
    >>> it = learner(Perceptron((4, 3)), slots=12, batch_size=2, rng=np.random.default_rng(0))
    >>> memory = metareplay.Reservoir(it, np.random.default_rng(1))
    >>> it.put(np.arange(2), np.ones((2, 4), np.float32), np.array([0, 2]), task=0)
    >>> memory.offer(0), memory.offer(1), memory.held
    (2, 3, 2)
    >>> memory.draw_beside(0, batches=3, size=2).shape
    (3, 3)
    """

    def __init__(
        self, learner: Learner, rng: np.random.Generator, capacity: int | None = None, recency: int = 0
    ) -> None:
        self.learner = learner
        self.first = learner.batch_size
        room = learner.slots - learner.batch_size
        if capacity is not None and not 0 <= capacity <= room:
            raise BadInput(f"a memory of {capacity} examples needs as many slots, but the table has {room} for it")
        self.capacity = room if capacity is None else capacity
        self.recency = recency
        if recency:
            self.capacity = min(self.capacity, recency)
        self.offered = 0
        self.keeping, self.replaying = rng.spawn(2)

    @property
    def held(self) -> int:
        """How many examples are held."""
        return min(self.offered, self.capacity)

    def offer(self, row: int) -> int | None:
        """Offer the example in slot ``row``: kept while there is room, then with probability capacity / offered.

        Returns the slot that it was copied to; None if it was not kept.
        """
        place = self.offered
        self.offered += 1
        if place >= self.capacity:
            place = int(self.keeping.random() * min(self.offered, self.recency or self.offered))
        if place >= self.capacity:
            return None
        self.learner.copy(row, self.first + place)
        return self.first + place

    def forget(self, share: float) -> int:
        """Let each memory go with probability ``share``, as if fewer had been offered; how many went."""
        going = int(self.keeping.binomial(self.held, share))
        for last in range(self.held - 1, self.held - 1 - going, -1):
            place = int(self.keeping.random() * (last + 1))
            if place < last:
                self.learner.copy(self.first + last, self.first + place)
        if going:
            self.offered = self.held - going
        return going

    def draw(self, batches: int, size: int) -> Rows:
        """Slots of ``min(size, held)`` memories for each batch, uniformly with replacement: ``(batches, that)``."""
        return self._draw(batches, min(size, self.held))

    def draw_beside(self, row: int, batches: int, size: int, place: int = 0) -> Rows:
        """Memories for each batch as ``draw`` gives them, with slot ``row`` at ``place``: ``(batches, that + 1)``."""
        rows = self._draw(batches, min(size, self.held) + 1)
        rows[:, place] = row
        return rows

    def draw_distinct(self, size: int) -> Rows:
        """Slots of ``min(size, held)`` memories ``(that,)``, uniformly without replacement."""
        size = min(size, self.held)
        return self.first + self.replaying.choice(self.held, size, replace=False, shuffle=False)

    def _draw(self, batches: int, size: int) -> Rows:
        # Of a few numbers, NumPy draws fractions in a third of the time that it takes for integers.
        rows = (self.replaying.random((batches, size)) * self.held).astype(np.int64)
        rows += self.first
        return rows

    def state(self) -> dict[str, Any]:
        """What is kept besides the table itself."""
        return {
            "offered": self.offered,
            "keeping": self.keeping.bit_generator.state,
            "replaying": self.replaying.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state()``."""
        self.offered = state["offered"]
        self.keeping.bit_generator.state = state["keeping"]
        self.replaying.bit_generator.state = state["replaying"]


class RingPerTask:
    """The newest examples of each task, ``per_task`` slots each, filled in turn and then overwritten from the start.

    The memory of GEM (Lopez-Paz and Ranzato 2017, section 3). A task that returns goes on filling its ring.

    Examples
    --------
    >>> from metareplay.learners.engines import learner
    >>> from metareplay.networks import Perceptron
    >>> it = learner(Perceptron((4, 3)), slots=12, batch_size=2, rng=np.random.default_rng(0))
    >>> it.put(np.arange(2), np.ones((2, 4), np.float32), np.array([0, 2]), task=0)
    >>> memory = metareplay.RingPerTask(it, tasks=2)
    >>> memory.offer(0, task=1), memory.filled(), memory.rows(1).tolist()
    (7, [1], [7])
    """

    def __init__(self, learner: Learner, tasks: int) -> None:
        self.learner = learner
        self.first = learner.batch_size
        self.per_task = (learner.slots - learner.batch_size) // tasks
        self.offered = np.zeros(tasks, np.int64)

    def offer(self, row: int, task: int) -> int | None:
        """Keep the example in slot ``row``, over the oldest of its task if the ring is full; returns its slot there."""
        place = int(self.offered[task])
        self.offered[task] += 1
        if not self.per_task:
            return None
        slot = self.first + task * self.per_task + place % self.per_task
        self.learner.copy(row, slot)
        return slot

    def filled(self) -> list[int]:
        """The tasks of which anything is held."""
        return [int(task) for task in np.flatnonzero(self.offered)] if self.per_task else []

    def rows(self, task: int) -> Rows:
        """The filled slots of a task."""
        begin = self.first + task * self.per_task
        return np.arange(begin, begin + min(int(self.offered[task]), self.per_task))

    def state(self) -> dict[str, Any]:
        """What is kept besides the table itself."""
        return {"offered": self.offered.copy()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state()``."""
        self.offered[:] = state["offered"]
