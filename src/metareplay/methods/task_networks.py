"""Online learning on networks with parts of their own for each task."""

import numpy as np

from metareplay.learners.base import Learner
from metareplay.methods.online import Online
from metareplay.networks import Network, Perceptron
from metareplay.settings import setting


class TaskInput(Online):
    """Online, with an input layer for each task; all other layers are shared.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.TaskInput(lr=0.03))
    Record(taskinput on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "taskinput"
    family = "isolation"
    perceptron_for = "has an input layer for each task"

    needs_task_in_training = True
    needs_task_in_testing = True

    def network(self, network: Network, tasks: int) -> Network:
        super().network(network, tasks)
        assert isinstance(network, Perceptron)
        private = (True,) + (False,) * (len(network.widths) - 2)
        return Perceptron(network.widths, private, tasks, initial="fan-in")


class Independent(Online):
    """Online, with a narrower network for each task: as many hidden units as the others have, shared out.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.Independent(lr=0.03))
    Record(independent on digits-rotations, seed 0: retained accuracy ... %)
    """

    id = "independent"
    family = "isolation"

    finetune: bool = setting(True, help="whether a task's network starts as a copy of the previous task's")

    needs_task_in_training = True
    needs_task_in_testing = True

    def network(self, network: Network, tasks: int) -> Network:
        return network.for_each_task(tasks)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.visited = np.zeros(tasks, bool)

    def begin_task(self, task: int, previous: int | None) -> None:
        if self.finetune and previous is not None and task != 0 and not self.visited[task]:
            self.learner.copy_task(previous, task)
        self.visited[task] = True
