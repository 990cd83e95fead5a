"""What both faces of an estimator stand on: a method and its learner on a stream that may bring anything new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.estimators.growing import GrowingLearner, GrowingPerceptron
from metareplay.estimators.running_scale import RunningScale
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.networks import Network
from metareplay.networks.module import ModuleNetwork
from metareplay.networks.perceptron import Perceptron
from metareplay.runs.experiment import randomness

Inputs = NDArray[Any]
"""``(n, k)``: float64 where they are scaled, else float32."""

ONLY = np.zeros(1, np.int64)
"""The place of a regression's target in its scale."""
MADE = ("inputs", "classes", "tasks", "seed", "loss")
KEPT = ("task", "seen", "class_weight")


@dataclass(frozen=True)
class Build:
    """How a learner is built, for whatever number of inputs and classes.

    Parameters
    ----------
    hidden
        Units of each hidden layer of a perceptron.
    network
        A function of ``(shape, classes)`` that gives a ``torch.nn.Module``, or ``FILE.py:FACTORY``; None: a perceptron.
    engine
        ``fused``, or ``torch`` for any network on any device.
    device
        As PyTorch names it.
    """

    hidden: tuple[int, ...]
    network: str | Callable[..., Any] | None = None
    engine: str = "fused"
    device: str = "cpu"

    @property
    def layered(self) -> bool:
        """Whether its last layer can be reached."""
        return self.network is None

    def describe(self, inputs: int, classes: int) -> Network:
        """The network for so many inputs and classes."""
        if self.network is None:
            return Perceptron((inputs, *self.hidden, classes))
        return ModuleNetwork(self.network, (inputs,), classes)

    def learner(
        self, network: Network, slots: int, batch_size: int, rng: np.random.Generator, unscaled: bool
    ) -> GrowingLearner:
        """A learner of that network."""
        if self.engine == "fused":
            if not isinstance(network, Perceptron):
                raise BadInput(f"the network is {network!r}, but the engine fused computes only perceptrons")
            return GrowingPerceptron(network, slots, batch_size, rng, unscaled)
        from metareplay.estimators.growing_torch import GrowingTorch

        return GrowingTorch(network, slots, batch_size, rng, unscaled, self.device)


class Core:
    """A method and its learner, which take in examples without end.

    Fresh, with all classes known, and without scaling, it comes to the same parameters as an ``Experiment`` of that
    seed, hidden layers and batch size on the same examples in the same order. What it holds is as large after the
    millionth example as when its memory is full.

    Parameters
    ----------
    method
        Its settings; it is started here.
    network
        How the learner is built.
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
    loss
        ``squared`` or ``absolute`` for a regression, which has one output; None: cross-entropy of the classes.

    Attributes
    ----------
    class_weight
        ``balanced``, or the weight of each class by its number, 1 beyond; None: all classes weigh the same.
    """

    def __init__(
        self,
        method: Method,
        network: Build,
        inputs: int,
        classes: int,
        tasks: int,
        scaled: bool,
        batch_size: int,
        seed: int,
        loss: str | None = None,
    ) -> None:
        self.method = method
        self.network = network
        self.tasks = tasks
        self.seed = seed
        self.loss = loss
        self.weights = randomness(seed, "weights")
        slots = batch_size + method.capacity(tasks, batch_size)
        self.learner = network.learner(self._network(inputs, classes), slots, batch_size, self.weights, scaled)
        self.scale = RunningScale(inputs) if scaled else None
        self.target_scale = RunningScale(1) if loss else None
        if loss:
            self.learner.objective = self._residual if loss == "squared" else self._sign
        method.start(self.learner, randomness(seed, "method"), tasks)
        self.class_weight: str | list[float] | None = None
        self.counts = np.zeros(classes, np.int64)
        self.task: int | None = None
        self.seen = 0
        self._rows = np.arange(batch_size)
        self._fitted = (-1, 1.0)

    def _network(self, inputs: int, classes: int) -> Network:
        return self.method.network(self.network.describe(inputs, classes), self.tasks)

    @property
    def inputs(self) -> int:
        """How many numbers an example has at most."""
        return self.learner.network.inputs

    @property
    def classes(self) -> int:
        """How many classes are known; 1 for a regression."""
        return self.learner.network.classes

    def grow(self, inputs: int = 0, classes: int = 0) -> None:
        """Have at least so many inputs and classes. What the method remembers stays, its vectors too."""
        inputs, classes = max(inputs, self.inputs), max(classes, self.classes)
        if (inputs, classes) == (self.inputs, self.classes):
            return
        if self.scale is not None and inputs > self.inputs:
            self.scale.grow(inputs)
        vectors = {name: value for name, value in vars(self.method).items() if hasattr(value, "__array_ufunc__")}
        before = self.learner.parameters() if vectors else None  # which may be large
        translate = self.learner.grow(self._network(inputs, classes), self.weights)
        for name, value in vectors.items():
            if before is not None and value.shape == before.shape:
                setattr(self.method, name, translate(value))

    def learn(
        self,
        x: Inputs,
        y: NDArray[Any],
        task: int,
        places: NDArray[np.int64],
        known: bool = False,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Learn examples of one task in their order, in batches.

        Parameters
        ----------
        x
            ``(n, k)``, what they have in ``places (k,)``: float64 where they are scaled, else float32.
        y
            ``(n,)``: a class that is new has the next number, and its output from its first batch on; float64 targets
            for a regression.
        task
            Their task's number.
        places
            Which inputs these are.
        known
            Whether scale and counts have taken these examples in before.
        weights
            ``(n,)``, what each one's loss counts; None: 1.

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
                    part = slice(begin, end)
                    scaled = self._scaled(x[part], places, known)
                    self._learn(
                        scaled, x[part], y[part], task, places, known, None if weights is None else weights[part]
                    )
                    begin = end
        except Diverged as diverged:
            lower = f"lower lr (it is {self.method.lr:g})" if hasattr(self.method, "lr") else "lower its learning rate"
            also = "" if self.scale else ", or scale the features (scale=True)"
            message = f"the loss is not finite at example {self.seen + 1}: {lower}{also}"
            raise Diverged(diverged.step, diverged.row, message) from None

    def take_in(self, x: Inputs, places: NDArray[np.int64]) -> None:
        """Let the scale know examples that will be learned later as ``known``."""
        if self.scale is not None:
            self.scale.learn(x, places, len(x))
            self.scale.settle()

    def take_in_answers(self, y: NDArray[Any]) -> None:
        """The same of their classes or targets."""
        if self.target_scale is not None:
            self.target_scale.learn(np.asarray(y, np.float64)[:, None], ONLY, len(y))
            self.target_scale.settle()
        elif self.class_weight is not None:
            self._count(y)

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
        self,
        x: NDArray[np.float32],
        unscaled: Inputs,
        y: NDArray[Any],
        task: int,
        places: NDArray[np.int64],
        known: bool,
        weights: NDArray[np.float32] | None,
    ) -> None:
        size, learner = self.learner.batch_size, self.learner
        labels = np.zeros(len(y), np.int64) if self.loss else y
        largest = labels if len(y) == 1 else np.maximum.accumulate(labels)
        for begin in range(0, len(y), size):
            end = min(begin + size, len(y))
            if largest[end - 1] >= self.classes:
                self.grow(classes=int(largest[end - 1]) + 1)
            rows = self._rows[: end - begin]
            learner.put(rows, x[begin:end], labels[begin:end], task)
            if weights is not None:
                learner.weight[rows] = weights[begin:end]
                learner.even = learner.even and bool((weights[begin:end] == 1).all())
            elif not learner.even:
                learner.weight[rows] = 1
            if self.target_scale is not None:
                learner.target[rows] = y[begin:end]
                if not known:
                    self._follow_targets(y[begin:end])
            elif self.class_weight is not None:
                if not known:
                    self._count(y[begin:end])
                learner.class_weight = self._class_weights()
            if self.scale is not None:
                learner.hold_unscaled(rows, unscaled[begin:end], places)
            self.method.observe(rows)
            self.seen += end - begin

    # Classes that weigh differently

    def _count(self, y: NDArray[np.int64]) -> None:
        counts = np.bincount(y, minlength=len(self.counts))
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    def _class_weights(self) -> NDArray[np.float32]:
        """The weight of each class, such that the examples so far weigh 1 on average."""
        counts = np.zeros(self.classes)
        counts[: len(self.counts)] = self.counts[: self.classes]
        weights = 1 / np.maximum(counts, 1)
        if isinstance(self.class_weight, list):
            weights = np.ones(self.classes)
            given = self.class_weight[: self.classes]
            weights[: len(given)] = given
        total = (weights * counts).sum()
        return (weights * (counts.sum() / total if total else 1.0)).astype(np.float32)

    # Regression

    def _follow_targets(self, y: NDArray[np.float64]) -> None:
        """Take in targets. When their scale moves, the last layer is changed such that it answers as before.

        That is Pop-Art (van Hasselt et al. 2016): w ← w·s/s', b ← (s·b + c − c')/s' for centres c and spreads s.
        """
        scale = self.target_scale
        assert scale is not None
        centre, spread = float(scale.centre[0]), float(scale.spread[0])
        scale.learn(y[:, None], ONLY, len(y))
        now, wide = float(scale.centre[0]), float(scale.spread[0])
        if (now, wide) != (centre, spread) and spread > 0 and self.network.layered:
            weights, biases = self.learner.layers()[-1]
            weights *= spread / wide
            biases *= spread / wide
            biases += (centre - now) / wide

    def _residual(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The gradient of half the squared error, of targets as they are scaled now."""
        assert self.target_scale is not None
        return scores - self.target_scale.scale(self.learner.target[rows][:, None], ONLY)

    def _sign(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The gradient of the absolute error."""
        return np.sign(self._residual(scores, rows))

    # Answers

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

    def temperature(self, asked: float | str) -> float:
        """A number as it is; for ``memory`` that under which the labels of what is in the memory are likeliest.

        One number, by golden sections of its logarithm between 1/20 and 20; found anew when something was learned.
        """
        if isinstance(asked, str):
            if self._fitted[0] != self.seen:
                self._fitted = (self.seen, self._likeliest())
            return self._fitted[1]
        return float(asked)

    def _likeliest(self) -> float:
        rows = np.arange(self.learner.batch_size, self.learner.used)
        if not len(rows):
            return 1.0
        tasks, x = self.learner.tasks[rows], self.learner.inputs(rows)
        scores = np.concatenate([self.learner.scores_of(x[tasks == task], int(task)) for task in np.unique(tasks)])
        labels = np.concatenate([self.learner.labels[rows[tasks == task]] for task in np.unique(tasks)])

        def loss(log_temperature: float) -> float:
            logs = log_probabilities(scores, float(np.exp(log_temperature)))
            return -float(logs[np.arange(len(labels)), labels].mean())

        low, high, golden = -3.0, 3.0, (5**0.5 - 1) / 2
        for _ in range(20):
            left, right = high - golden * (high - low), low + golden * (high - low)
            low, high = (low, right) if loss(left) < loss(right) else (left, high)
        return float(np.exp((low + high) / 2))

    def targets(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What a regression predicts ``(n,)`` by its scores ``(n, 1)``."""
        assert self.target_scale is not None
        scaled: NDArray[np.float64] = scores[:, 0].astype(np.float64)
        return scaled * float(self.target_scale.spread[0]) + float(self.target_scale.centre[0])

    # Saving

    def state(self) -> dict[str, Any]:
        """Everything that another process needs to go on from here to the same bits."""
        scales = {name: getattr(self, name) for name in ("scale", "target_scale")}
        return {
            "settings": asdict(self.method),
            "network": asdict(self.network),
            **{name: getattr(self, name) for name in (*MADE, *KEPT)},
            "batch_size": self.learner.batch_size,
            "scaled": self.scale is not None,
            **{name: None if scale is None else scale.state() for name, scale in scales.items()},
            "counts": self.counts.copy(),
            "weights": self.weights.bit_generator.state,
            "learner": self.learner.state(),
            "method": self.method.state(),
        }

    @classmethod
    def of_state(cls, method: type[Method], state: Mapping[str, Any]) -> Core:
        """The one whose ``state()`` this is, with that method; raises ValueError if its parts do not fit together."""
        made = {name: state[name] for name in (*MADE, "batch_size", "scaled")}
        network = Build(**{**state["network"], "hidden": tuple(state["network"]["hidden"])})
        core = cls(method(**state["settings"]), network, **made)
        for scale, held in ((core.scale, state["scale"]), (core.target_scale, state["target_scale"])):
            if scale is not None:
                scale.load_state(held)
        if state["counts"].dtype != np.int64 or state["counts"].ndim != 1 or (state["counts"] < 0).any():
            raise ValueError("its counts of classes are no counts")
        core.counts = state["counts"].copy()
        core.learner.load_state(state["learner"])
        core.method.load_state(state["method"])
        core.weights.bit_generator.state = state["weights"]
        for name in KEPT:
            setattr(core, name, state[name])
        return core


def log_probabilities(scores: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Logarithms of the softmax of scores ``(n, classes)`` divided by the temperature."""
    shifted = scores.astype(np.float64) / temperature
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted
