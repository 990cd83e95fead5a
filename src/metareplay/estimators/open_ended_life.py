"""A method and its learner on a stream whose inputs, classes and end are not known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.estimators.growing_perceptron import GrowingPerceptron
from metareplay.estimators.running_scale import RunningScale
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.networks.perceptron import Perceptron
from metareplay.runs.trainer import randomness

Inputs = NDArray[Any]
"""``(n, k)``: float64 where they are to be scaled, else float32."""


class OpenEndedLife:
    """A learner and its method, which take in examples without end.

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
        return self.learner.network.widths[0]

    @property
    def classes(self) -> int:
        """How many classes are known."""
        return self.learner.network.widths[-1]

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
            ``(n, k)``, what they have in ``places (k,)``: float64 where they are to be scaled, else float32.
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
            # An overflow is noticed by the loss that follows from it, and told in words.
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
            self.learner.scale_anew(lambda held: scale.scale(held, everywhere))
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
            "kept": self.method.state(),
        }

    @classmethod
    def of_state(cls, method: type[Method], state: Mapping[str, Any]) -> OpenEndedLife:
        """The life whose ``state()`` this is, lived by that method."""
        made = {name: state[name] for name in ("inputs", "classes", "tasks", "batch_size", "seed")}
        scaled = state["scale"] is not None
        life = cls(method(**state["settings"]), tuple(state["hidden"]), scaled=scaled, **made)
        if scaled:
            life.scale = RunningScale.of_state(state["scale"], life.inputs)
        life.learner.load_state(state["learner"])
        life.method.load_state(state["kept"])
        life.weights.bit_generator.state = state["weights"]
        life.task = state["task"]
        life.seen = state["seen"]
        return life


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of scores ``(n, classes)``, by rows."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted
