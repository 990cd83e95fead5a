"""What both faces of an estimator stand on: a method and its learner on a stream that may bring anything new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from threading import Condition, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.estimators.growing import GrowingPerceptron
from metareplay.estimators.running_scale import RunningScale
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.networks.perceptron import Perceptron
from metareplay.runs.experiment import randomness

Inputs = NDArray[Any]
"""``(n, k)``: float64 where they are scaled, else float32."""


class Core:
    """A method and its learner, which take in examples without end.

    Fresh, with all classes known, and without scaling, it comes to the same parameters as an ``Experiment`` of that
    seed, hidden layers and batch size on the same examples in the same order. What it holds is as large after the
    millionth example as when its memory is full.

    Parameters
    ----------
    method
        Its settings; it is started here.
    hidden
        Units of each hidden layer.
    inputs, classes
        How many of them there are at first; more can come.
    tasks
        The most tasks that will come.
    scaled
        Whether features are brought to the same size first, those in the memory again and again.
    batch_size
        The largest batch that is learned at once.
    seed
        Decides the weights, also those of units that come later, the memory and the replay.
    """

    def __init__(
        self,
        method: Method,
        hidden: tuple[int, ...],
        inputs: int,
        classes: int,
        tasks: int,
        scaled: bool,
        batch_size: int,
        seed: int,
    ) -> None:
        self.method = method
        self.hidden = hidden
        self.tasks = tasks
        self.seed = seed
        self.weights = randomness(seed, "weights")
        slots = batch_size + method.capacity(tasks, batch_size)
        self.learner = GrowingPerceptron(self._network(inputs, classes), slots, batch_size, self.weights, scaled)
        self.scale = RunningScale(inputs) if scaled else None
        method.start(self.learner, randomness(seed, "method"), tasks)
        self.task: int | None = None
        self.seen = 0
        self._rows = np.arange(batch_size)

    def _network(self, inputs: int, classes: int) -> Perceptron:
        network = self.method.network(Perceptron((inputs, *self.hidden, classes)), self.tasks)
        if not isinstance(network, Perceptron):
            raise BadInput(f"{type(self.method).__name__} asks for {network!r}, but only a perceptron can grow")
        return network

    @property
    def inputs(self) -> int:
        """How many numbers an example has at most."""
        return self.learner.network.inputs

    @property
    def classes(self) -> int:
        """How many classes are known."""
        return self.learner.network.classes

    def grow(self, inputs: int = 0, classes: int = 0) -> None:
        """Have at least so many inputs and classes. What the method remembers stays, its vectors too."""
        inputs, classes = max(inputs, self.inputs), max(classes, self.classes)
        if (inputs, classes) == (self.inputs, self.classes):
            return
        if self.scale is not None and inputs > self.inputs:
            self.scale.grow(inputs)
        before = self.learner.parameters().shape
        translate = self.learner.grow(self._network(inputs, classes), self.weights)
        for name, value in vars(self.method).items():
            if isinstance(value, np.ndarray) and value.shape == before:
                setattr(self.method, name, translate(value))

    def learn(self, x: Inputs, y: NDArray[np.int64], task: int, places: NDArray[np.int64], known: bool = False) -> None:
        """Learn examples of one task in their order, in batches.

        Parameters
        ----------
        x
            ``(n, k)``, what they have in ``places (k,)``: float64 where they are scaled, else float32.
        y
            ``(n,)``: a class that is new has the next number. It has its output from its first batch on.
        task
            Their task's number.
        places
            Which inputs these are.
        known
            Whether the scale has taken these examples in before.

        Raises
        ------
        Diverged
            If a loss is not finite; what was learned before stays.
        """
        try:
            # An overflow is noticed by the loss that follows from it, and reported in words.
            with np.errstate(over="ignore", invalid="ignore"):
                if task != self.task:
                    self.method.begin_task(task, self.task)
                    self.task = task
                begin = 0
                while begin < len(y):
                    end = len(y)
                    if self.scale is not None and not known:
                        end = begin + (self.scale.undisturbed(self.learner.batch_size) or self.learner.batch_size)
                    part = x[begin:end]
                    self._learn(self._scaled(part, places, known), part, y[begin:end], task, places)
                    begin = end
        except Diverged as diverged:
            lower = f"lower lr (it is {self.method.lr:g})" if hasattr(self.method, "lr") else "lower its learning rate"
            also = "" if self.scale else ", or scale the features (scale=True)"
            message = f"the loss is not finite at example {self.seen + 1}: {lower}{also}"
            raise Diverged(diverged.step, diverged.row, message) from None

    def _scaled(self, x: Inputs, places: NDArray[np.int64], known: bool) -> NDArray[np.float32]:
        """Inputs ``(n, inputs)``; where that renews the scale, the table follows it."""
        if self.scale is None:
            return self._placed(x, places)
        if known:
            return self.scale.scale(x, places)
        scaled = self.scale.learn(x, places, self.learner.batch_size)
        if self.scale.renew():
            scale, everywhere = self.scale, np.arange(self.inputs)
            self.learner.scale_again(lambda held: scale.scale(held, everywhere))
        return scaled

    def _placed(self, x: Inputs, places: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(places) == self.inputs and (places[1:] > places[:-1]).all():  # all of them, in order
            return np.asarray(x, np.float32)
        placed = np.zeros((len(x), self.inputs), np.float32)
        placed[:, places] = x
        return placed

    def _learn(
        self, x: NDArray[np.float32], unscaled: Inputs, y: NDArray[np.int64], task: int, places: NDArray[np.int64]
    ) -> None:
        size, known = self.learner.batch_size, self.classes
        largest = y if len(y) == 1 else np.maximum.accumulate(y)
        for begin in range(0, len(y), size):
            end = min(begin + size, len(y))
            if largest[end - 1] >= known:
                self.grow(classes=int(largest[end - 1]) + 1)
                known = self.classes
            rows = self._rows[: end - begin]
            self.learner.put(rows, x[begin:end], y[begin:end], task)
            if self.scale is not None:
                self.learner.hold_unscaled(rows, unscaled[begin:end], places)
            self.method.observe(rows)
            self.seen += end - begin

    def scores(self, x: Inputs, task: int, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores ``(n, classes)`` of examples given as to ``learn``; nothing is changed.

        Raises
        ------
        BadInput
            If one is not finite.
        """
        x = self._placed(x, places) if self.scale is None else self.scale.scale(x, places)
        scores = self.learner.scores_of(x, task)
        if not np.isfinite(scores).all():
            raise BadInput("the network has no finite score for Input X: its values are too large, or lr was too high")
        return scores

    def state(self) -> dict[str, Any]:
        """Everything that another process needs to go on from here to the same bits."""
        return {
            "settings": asdict(self.method),
            "hidden": list(self.hidden),
            "inputs": self.inputs,
            "classes": self.classes,
            "tasks": self.tasks,
            "batch_size": self.learner.batch_size,
            "seed": self.seed,
            "task": self.task,
            "seen": self.seen,
            "scale": None if self.scale is None else self.scale.state(),
            "weights": self.weights.bit_generator.state,
            "learner": self.learner.state(),
            "method": self.method.state(),
        }

    @classmethod
    def of_state(cls, method: type[Method], state: Mapping[str, Any]) -> Core:
        """The one whose ``state()`` this is, with that method; raises ValueError if its parts do not fit together."""
        made = {name: state[name] for name in ("inputs", "classes", "tasks", "batch_size", "seed")}
        core = cls(method(**state["settings"]), tuple(state["hidden"]), scaled=state["scale"] is not None, **made)
        if core.scale is not None:
            core.scale.load_state(state["scale"])
        core.learner.load_state(state["learner"])
        core.method.load_state(state["method"])
        core.weights.bit_generator.state = state["weights"]
        core.task = state["task"]
        core.seen = state["seen"]
        return core


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of scores ``(n, classes)``, by rows."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


class Numbers(dict[Any, int]):
    """Labels, or the names of tasks, by their number: the order in which they were met."""

    def of(self, names: Iterable[Any]) -> NDArray[np.int64]:
        """The number of each; new ones get the next."""
        return np.array([self.setdefault(name, len(self)) for name in names], np.int64)

    def of_tasks(self, names: list[Any] | None, most: int, method: str, call: str) -> NDArray[np.int64]:
        """The number of each example's task where a method needs it to learn; new ones get the next.

        Raises
        ------
        BadInput
            If there are none, or they become more than ``most``.
        """
        if names is None:
            raise BadInput(f"{method} needs the task of each example: {call}")
        new = [name for name in dict.fromkeys(names) if name not in self]
        if len(self) + len(new) > most:
            raise BadInput(
                f"task {new[most - len(self)]!r} would be one more than the {most} that tasks={most} allows; "
                "give the number that will come"
            )
        return self.of(names)

    def of_known_tasks(self, names: list[Any] | None, method: str, call: str) -> NDArray[np.int64]:
        """The number of each example's task where a method needs it to answer.

        Raises
        ------
        BadInput
            If there are none, or nothing was learned of one.
        """
        if names is None:
            raise BadInput(f"{method} needs the task of each example to predict too: {call}")
        for name in names:
            if name not in self:
                raise BadInput(f"nothing was learned of task {name!r}; known are {list(self)}: {call}")
        return self.of(names)


class Guard:
    """Lets one thread write, or any number read, in about the order in which they come."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._left = Condition()
        self._readers = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Exclude writers while the block runs."""
        with self._turn, self._left:
            self._readers += 1
        try:
            yield
        finally:
            with self._left:
                self._readers -= 1
                self._left.notify()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude everybody else while the block runs."""
        with self._turn:
            with self._left:
                self._left.wait_for(lambda: not self._readers)
            yield
