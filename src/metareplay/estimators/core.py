"""What all estimators stand on: a method and its learner on a stream that may bring anything new."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.estimators.growing import GrowingLearner, GrowingPerceptron
from metareplay.estimators.running_scale import LIMIT, Places, RunningScale
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.methods.losses import log_softmax
from metareplay.methods.memory import Reservoir
from metareplay.networks import ModuleNetwork, Network, Perceptron
from metareplay.runs.experiment import randomness

Weights = NDArray[np.float32] | None
Inputs = NDArray[Any]  # ``(n, k)``: float64 where they are scaled, else float32
ONLY = np.zeros(1, np.int64)  # the place of a regression's target in its scale
KEPT = ("task", "seen", "class_weight")


@dataclass(frozen=True)
class Build:
    """How a core is made: ``inputs``, ``classes`` are how many there are at first, ``tasks`` the most that will come.

    ``seed`` decides the weights, also those of units that come later, the memory and the replay. ``loss`` is
    ``squared`` or ``absolute`` for a regression, which has one output; None: cross-entropy of the classes. ``network``
    is what makes a module of PyTorch's; None: a perceptron with layers of ``hidden`` units.
    """

    inputs: int
    classes: int
    tasks: int
    scaled: bool
    batch_size: int
    seed: int
    hidden: Sequence[int]
    loss: str | None = None
    network: str | Callable[..., Any] | None = None
    engine: str = "fused"
    device: str = "cpu"


class Core:
    """A method, which is started here, and its learner, which take in examples without end.

    Fresh, with all classes known, and without scaling, it comes to the same parameters as an ``Experiment`` of that
    seed, hidden layers and batch size on the same examples in the same order.

    ``class_weight`` is ``balanced``, or the weight of each class by its number; None: all weigh the same. ``seen`` are
    the examples so far.
    """

    def __init__(self, method: Method, build: Build) -> None:
        self.method, self.build = method, build
        self.weights = randomness(build.seed, "weights")
        network = self._network(build.inputs, build.classes)
        slots = build.batch_size + method.capacity(build.tasks, build.batch_size)
        self.learner: GrowingLearner
        if build.engine == "fused" and isinstance(network, Perceptron):
            self.learner = GrowingPerceptron(network, slots, build.batch_size, self.weights, build.scaled)
        else:
            from metareplay.estimators.growing_torch import GrowingTorch

            self.learner = GrowingTorch(network, slots, build.batch_size, self.weights, build.scaled, build.device)
        if build.loss:
            squared = build.loss == "squared"
            self.learner.objective = self._residual if squared else lambda *given: np.sign(self._residual(*given))
        self.scale = RunningScale(build.inputs) if build.scaled else None
        self.target_scale = RunningScale(1)
        method.start(self.learner, randomness(build.seed, "method"), build.tasks)
        self.class_weight: str | list[float] | None = None
        self.counts = np.zeros(build.classes, np.int64)
        self.task: int | None = None
        self.seen = 0
        self._rows = np.arange(build.batch_size)
        self._fitted = (-1, 1.0)

    def _network(self, inputs: int, classes: int) -> Network:
        own, perceptron = self.build.network, Perceptron((inputs, *self.build.hidden, classes))
        network: Network = perceptron if own is None else ModuleNetwork(own, (inputs,), classes)
        return self.method.network(network, self.build.tasks)

    @property
    def inputs(self) -> int:
        return self.learner.network.inputs

    @property
    def classes(self) -> int:
        """How many classes are known; 1 for a regression."""
        return self.learner.network.classes

    @property
    def places(self) -> NDArray[np.int64]:
        return np.arange(self.inputs)

    def grow(self, inputs: int = 0, classes: int = 0) -> None:
        """Have at least so many inputs and classes. What the method remembers stays, its vectors too."""
        inputs, classes = max(inputs, self.inputs), max(classes, self.classes)
        if (inputs, classes) == (self.inputs, self.classes):
            return
        if self.scale is not None and inputs > self.inputs:
            self.scale.grow(inputs)
        self.counts = np.pad(self.counts, (0, classes - len(self.counts)))
        vectors = {name: value for name, value in vars(self.method).items() if hasattr(value, "__array_ufunc__")}
        before = self.learner.parameters() if vectors else None  # which may be large
        translate = self.learner.grow(self._network(inputs, classes), self.weights)
        for name, value in vectors.items():
            if before is not None and value.shape == before.shape:
                setattr(self.method, name, translate(value))

    def learn(
        self, x: Inputs, y: NDArray[Any], task: int, places: Places, known: bool = False, weights: Weights = None
    ) -> None:
        """Learn examples of one task in their order, in batches; Diverged if a loss is not finite.

        ``x (n, k)`` are what they have in ``places (k,)`` of the inputs; ``y (n,)`` their classes, of which a new one
        has the next number, or float64 targets; ``weights (n,)`` what each one's loss counts. Those that are ``known``
        have been taken in by scale and counts before.
        """
        size, begin = self.learner.batch_size, 0
        labels = np.zeros(len(y), np.int64) if self.build.loss else y
        largest = labels if len(y) == 1 else np.maximum.accumulate(labels)
        try:
            # An overflow is noticed by the loss that follows from it, and reported in words.
            with np.errstate(over="ignore", invalid="ignore"):
                if task != self.task:
                    self.method.begin_task(task, self.task)
                    self.task = task
                while begin < len(y):
                    end = len(y)
                    if self.scale is not None and not known:
                        end = min(end, begin + (self.scale.undisturbed(size) or size))
                    scaled, first = self._scaled(x[begin:end], places, known), begin
                    for begin in range(first, end, size):
                        now = slice(begin, min(begin + size, end))
                        if largest[now.stop - 1] >= self.classes:
                            self.grow(classes=int(largest[now.stop - 1]) + 1)
                        rows = self._rows[: now.stop - begin]
                        self.learner.put(rows, scaled[begin - first : now.stop - first], labels[now], task)
                        self.learner.weigh(rows, None if weights is None else weights[now])
                        if self.scale is not None:
                            self.learner.hold_unscaled(rows, x[now], places)
                        self._answer(rows, y[now], known)
                        self.method.observe(rows)
                        self.seen += len(rows)
                    begin = end
        except Diverged as diverged:
            lower = f"lr (it is {self.method.lr:g})" if hasattr(self.method, "lr") else "its learning rate"
            also = "" if self.scale else ", or scale the features (scale=True)"
            message = f"the loss is not finite at example {self.seen + 1}: lower {lower}{also}"
            raise Diverged(diverged.step, diverged.row, message) from None

    def take_in(self, x: Inputs, places: NDArray[np.int64]) -> None:
        """Let the scale know examples that will be learned later as ``known``."""
        if self.scale is not None:
            self.scale.learn(x, places, len(x))
            self.scale.settle()

    def take_in_answers(self, y: NDArray[Any]) -> None:
        """The same of their classes or targets."""
        if self.build.loss:
            self.target_scale.learn(np.asarray(y, np.float64)[:, None], ONLY, len(y))
            self.target_scale.settle()
        else:
            self.counts += np.bincount(y, minlength=self.classes)

    def _scaled(self, x: Inputs, places: NDArray[np.int64], known: bool) -> NDArray[np.float32]:
        """Inputs ``(n, inputs)``; where that renews the scale, the table follows it."""
        if self.scale is None:
            return self._placed(x, places)
        if known:
            return self.scale.scale(x, places)
        scaled = self.scale.learn(x, places, self.learner.batch_size)
        if self.scale.renew():
            scale, everywhere = self.scale, self.places
            self.learner.scale_again(lambda held: scale.scale(held, everywhere))
        return scaled

    def _placed(self, x: Inputs, places: NDArray[np.int64]) -> NDArray[np.float32]:
        if len(places) == self.inputs and (places[1:] > places[:-1]).all():  # all of them, in order
            return np.asarray(x, np.float32)
        placed = np.zeros((len(x), self.inputs), np.float32)
        placed[:, places] = x
        return placed

    def _answer(self, rows: NDArray[np.int64], y: NDArray[Any], known: bool) -> None:
        if self.build.loss:
            self.learner.target[rows] = y
            if not known:
                self._follow_targets(y)
        elif self.class_weight is not None:
            if not known:
                self.take_in_answers(y)
            balanced = isinstance(self.class_weight, str)
            weights = 1 / np.maximum(self.counts, 1) if balanced else np.array(self.class_weight[: self.classes])
            # Such that the examples so far weigh 1 on average:
            weights *= self.counts.sum() / (weights * self.counts).sum()
            self.learner.class_weight = weights.astype(np.float32)

    def _follow_targets(self, y: NDArray[np.float64]) -> None:
        """Take in targets. When their scale moves, the last layer is changed such that it answers as before.

        That is Pop-Art (van Hasselt et al. 2016): w ← w·s/s', b ← (s·b + c − c')/s' for centres c and spreads s.
        """
        scale = self.target_scale
        centre, spread = float(scale.centre[0]), float(scale.spread[0])
        scale.learn(y[:, None], ONLY, len(y))
        now, wide = float(scale.centre[0]), float(scale.spread[0])
        absurd = spread > LIMIT * wide  # by a target that is recognised as such: there is nothing to keep
        if (now, wide) != (centre, spread) and spread > 0 and not absurd and self.build.network is None:
            weights, biases = self.learner.layers()[-1]
            weights *= spread / wide
            biases *= spread / wide
            biases += (centre - now) / wide

    def _residual(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The gradient of half the squared error, of targets as they are scaled now."""
        return scores - self.target_scale.scale(self.learner.target[rows][:, None], ONLY)

    def scores(self, x: Inputs, task: int, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores ``(n, classes)`` of examples given as to ``learn``; BadInput if one is not finite."""
        x = self._placed(x, places) if self.scale is None else self.scale.scale(x, places)
        scores = self.learner.scores_of(x, task)
        if not np.isfinite(scores).all():
            raise BadInput("the network has no finite score for Input X: its values are too large, or lr was too high")
        return scores

    def targets(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What a regression predicts ``(n,)`` by its scores ``(n, 1)``."""
        scaled: NDArray[np.float64] = scores[:, 0].astype(np.float64)
        return scaled * float(self.target_scale.spread[0]) + float(self.target_scale.centre[0])

    def log_probabilities(self, scores: NDArray[np.float32], temperature: float | str) -> NDArray[np.float64]:
        """Logarithms of the softmax of scores ``(n, classes)`` divided by the temperature, or by ``memory``."""
        divisor = self.temperature() if temperature == "memory" else float(temperature)
        divided: Any = scores.astype(np.float64) / divisor
        return np.asarray(log_softmax(divided), np.float64)

    def temperature(self) -> float:
        """The temperature, 1/20 to 20, that makes the memory's labels likeliest (by golden sections of its log)."""
        if self._fitted[0] != self.seen:
            self._fitted = (self.seen, self._likeliest())
        return self._fitted[1]

    def _likeliest(self) -> float:
        memory = getattr(self.method, "memory", None)  # which may have forgotten
        end = memory.first + memory.held if isinstance(memory, Reservoir) else self.learner.used
        rows = np.arange(self.learner.batch_size, end)
        if not len(rows):
            return 1.0
        tasks, x = self.learner.tasks[rows], self.learner.inputs(rows)
        scores = np.empty((len(rows), self.classes), np.float32)
        for task in np.unique(tasks):
            scores[tasks == task] = self.learner.scores_of(x[tasks == task], int(task))
        labels = self.learner.labels[rows]

        def loss(log_temperature: float) -> float:
            logs = self.log_probabilities(scores, math.exp(log_temperature))
            return -float(logs[np.arange(len(labels)), labels].mean())

        low, high, golden = -3.0, 3.0, (5**0.5 - 1) / 2
        for _ in range(20):
            left, right = high - golden * (high - low), low + golden * (high - low)
            low, high = (low, right) if loss(left) < loss(right) else (left, high)
        return math.exp((low + high) / 2)

    def state(self) -> dict[str, Any]:
        """Everything that another process needs to go on from here to the same bits."""
        parts = {"scale": self.scale, "target_scale": self.target_scale, "learner": self.learner, "method": self.method}
        kept = {name: getattr(self, name) for name in KEPT} | {"settings": asdict(self.method)}
        kept |= {"build": dict(vars(replace(self.build, inputs=self.inputs, classes=self.classes)))}
        kept |= {"counts": self.counts.copy(), "weights": self.weights.bit_generator.state}
        return kept | {name: None if part is None else part.state() for name, part in parts.items()}

    @classmethod
    def of_state(cls, method: type[Method], state: Mapping[str, Any]) -> Self:
        """The one whose ``state()`` this is, with that method; raises ValueError if its parts do not fit together."""
        core, counts = cls(method(**state["settings"]), Build(**state["build"])), state["counts"]
        if (counts.dtype, counts.shape) != (core.counts.dtype, core.counts.shape) or (counts < 0).any():
            raise ValueError("its counts of classes are no counts")
        core.counts = counts.copy()
        for name in ("scale", "target_scale", "learner", "method"):
            if (part := getattr(core, name)) is not None:
                part.load_state(state[name])
        core.weights.bit_generator.state = state["weights"]
        for name in KEPT:
            setattr(core, name, state[name])
        return core
