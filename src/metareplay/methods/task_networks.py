"""Online learning on networks with parts of their own for each task."""

from __future__ import annotations

import numpy as np

from metareplay.errors import BadInput
from metareplay.learners.base import Learner
from metareplay.learners.perceptron import Perceptron
from metareplay.methods.online import Online
from metareplay.settings import setting


class TaskInput(Online):
    """Online, with an input layer for each task; all other layers are shared."""

    needs_task_in_training = True
    needs_task_in_testing = True

    def network(self, widths: tuple[int, ...], tasks: int) -> Perceptron:
        private = (True,) + (False,) * (len(widths) - 2)
        return Perceptron(widths, private, tasks, initial="fan-in")


class Independent(Online):
    """Online, with a narrower network for each task: as many hidden units as the others have, shared out."""

    finetune: bool = setting(True, help="whether a task's network starts as a copy of the previous task's")

    needs_task_in_training = True
    needs_task_in_testing = True

    def network(self, widths: tuple[int, ...], tasks: int) -> Perceptron:
        hidden = tuple(width // tasks for width in widths[1:-1])
        if 0 in hidden:
            raise BadInput(
                f"independent shares {min(widths[1:-1])} hidden units out among {tasks} tasks, but each needs one; "
                f"give at least {tasks} units a layer (--hiddens {tasks})"
            )
        return Perceptron((widths[0], *hidden, widths[-1]), (True,) * (len(widths) - 1), tasks)

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        self.visited = np.zeros(tasks, bool)

    def begin_task(self, task: int, previous: int | None) -> None:
        if self.finetune and previous is not None and task != 0 and not self.visited[task]:
            self.learner.copy_task(previous, task)
        self.visited[task] = True
