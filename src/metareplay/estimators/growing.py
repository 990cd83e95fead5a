"""Learners that can take on more inputs and more classes, and whose tables hold what estimators need of an example."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.learners import kernels
from metareplay.learners.base import Learner, Loss, Rows, Vector, as_rows, as_weights, check_range, check_state
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.losses import errors
from metareplay.networks import Perceptron

GROUP = 256  # examples outside the table that are scored together
FEW = 65
"""Non-zero inputs, and one, that the table has room for at first; where an example has more, it gets twice as many."""
HELD = ("weight", "target", "unscaled")  # what the table holds besides what every learner's does


class GrowingLearner(Learner):
    """A learner that can grow, and that weighs examples.

    For each slot it holds in ``weight (slots,)`` what its loss counts, in ``target (slots,)`` a regression's target, in
    ``unscaled (slots, inputs)`` float64 its inputs before scaling, NaN where it has none (no rows where nothing is
    scaled). The first ``used`` slots have been used. Where a method names no loss, ``objective`` is meant: ``(scores,
    rows) -> (n, outputs)``, the gradient of each row's own loss by its scores; None for cross-entropy. ``class_weight
    (classes,)`` multiplies losses besides. ``even``: every weight so far was 1.
    """

    def hold(self, inputs: int, unscaled: bool) -> None:
        self.weight = np.ones(self.slots, np.float32)
        self.target = np.zeros(self.slots)
        self.unscaled = np.zeros((self.slots if unscaled else 0, inputs))
        self.used = self.batch_size
        self.objective: Loss | None = None
        self.class_weight: NDArray[np.float32] | None = None
        self.even = True

    @abstractmethod
    def grow(self, network: Any, rng: np.random.Generator) -> Callable[[Vector], Vector]:
        """Become a network with more inputs or more classes, whose other layers are as before.

        ``rng`` decides the weights of what is new. Returns what takes a vector in the parameters' old layout to the new
        one, zero where the network is new.
        """

    @abstractmethod
    def scores_of(self, x: NDArray[np.float32], task: int) -> NDArray[np.float32]:
        """Scores ``(n, classes)`` of examples ``x (n, inputs)`` outside the table.

        Nothing of the learner is written to, so that any number of threads may ask at once; each example's scores are
        the same whatever others it is asked with.
        """

    def widen(self, inputs: int) -> None:
        if len(self.unscaled) and inputs > self.unscaled.shape[1]:
            before, self.unscaled = self.unscaled, np.zeros((self.slots, inputs))
            self.unscaled[: self.used] = np.nan
            self.unscaled[: self.used, : before.shape[1]] = before[: self.used]

    def copy(self, source: int, target: int) -> None:
        super().copy(source, target)  # type: ignore[safe-super]  # an engine's comes next
        self.weight[target], self.target[target] = self.weight[source], self.target[source]
        if len(self.unscaled):
            self.unscaled[target] = self.unscaled[source]
        self.used = max(self.used, target + 1)

    def weigh(self, rows: Rows, weights: NDArray[np.float32] | None) -> None:
        """Let the losses of ``rows (n,)`` count ``weights (n,)`` from now on; None: 1."""
        if weights is not None:
            self.weight[rows] = weights
            self.even = self.even and bool((weights == 1).all())
        elif not self.even:
            self.weight[rows] = 1

    def hold_unscaled(self, rows: Rows, x: NDArray[np.float64], places: NDArray[np.int64]) -> None:
        """Hold what was scaled into consecutive slots ``rows``: ``x (n, k)``, of the features in ``places (k,)``."""
        held = self.unscaled[rows[0] : rows[-1] + 1]
        held.fill(np.nan)
        held[:, places] = x

    def scale_again(self, scale: Callable[[NDArray[np.float64]], NDArray[np.float32]]) -> None:
        """Scale every example in the table from what it was before."""
        rows = np.arange(self.used)
        tasks = self.tasks[rows]
        self.put(rows, scale(self.unscaled[: self.used]), self.labels[rows], 0)
        self.tasks[rows] = tasks

    def _each(self, scores: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
        """The gradient of each row's own loss, as it weighs."""
        weights = self.weight[rows]
        if self.class_weight is not None:
            weights = weights * self.class_weight[self.labels[rows]]
        gradient: Any = self.objective(scores, rows) if self.objective else errors(scores, self.labels[rows])
        return np.asarray(gradient * weights[:, None])

    def _meant(self, loss: Loss | None) -> Loss | None:
        if loss is not None or (self.objective is None and self.class_weight is None and self.even):
            return loss
        return lambda scores, rows: self._each(scores, rows) / np.float32(len(rows))

    def sgd(self, rows: Rows, lr: float, weights: ArrayLike | None = None, loss: Loss | None = None) -> None:
        meant = self._meant(loss)
        if weights is not None and loss is None and meant is not None:
            shares: Any = as_weights(weights, as_rows(rows), None)[:, None]
            weights, meant = None, lambda scores, rows: self._each(scores, rows) * shares
        super().sgd(rows, lr, weights, meant)  # type: ignore[safe-super]

    sgd_pulled, look_ahead = Learner.sgd_pulled, Learner.look_ahead  # by the gradient of what is meant

    def state(self) -> dict[str, NDArray[Any]]:
        held = {name: getattr(self, name)[: self.used].copy() for name in HELD}
        return super().state() | held | {"used": np.array(self.used), "even": np.array(self.even)}  # type: ignore[safe-super]

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``; raises ValueError or BadInput if it is not of such a learner, or not finite."""
        self.used, self.even = int(state["used"]), bool(state["even"])
        if not self.batch_size <= self.used <= self.slots:
            raise ValueError(f"its table cannot use {self.used} of {self.slots} slots")
        check_state(state, self.state())
        for name, given in state.items():
            if given.dtype.kind == "f" and name != "unscaled" and not np.isfinite(given).all():
                raise ValueError(f"its {name} are not finite")
        for name in HELD:
            getattr(self, name)[: self.used] = state[name]
        super().load_state(state)  # type: ignore[safe-super]
        check_range("task", self.tasks, np.arange(self.slots), self._task_count())


def _as_meant(name: str, place: int) -> Callable[..., Any]:
    """A primitive with what is meant for a loss, its argument at a place, where none is named."""

    def primitive(self: GrowingLearner, *given: Any, loss: Loss | None = None) -> Any:
        meant = self._meant(given[place] if len(given) > place else loss)
        return getattr(super(GrowingLearner, self), name)(*given[:place], loss=meant)

    return primitive


for _name, _place in {"sgd_each": 2, "reptile": 3, "gradient": 1, "gradients": 1, "jacobian": 1, "dots": 2}.items():
    setattr(GrowingLearner, _name, _as_meant(_name, _place))


class GrowingPerceptron(GrowingLearner, FusedPerceptron):
    """A fused perceptron that grows: a class within the padding costs its column; the table widens as needed."""

    def __init__(
        self, network: Perceptron, slots: int, batch_size: int, rng: np.random.Generator, unscaled: bool = False
    ) -> None:
        super().__init__(network, slots, batch_size, rng, room=min(FEW, network.inputs))
        self.hold(network.inputs, unscaled)

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        room = self._index.shape[1]
        if room < self._inputs:
            needed = int(np.count_nonzero(x, axis=1).max(initial=0)) + 1  # one more is written, and not counted
            if needed > room:
                while room < needed:
                    room *= 2
                self._make_room(min(room, self._inputs))
        super().put(rows, x, y, task)

    def _make_room(self, room: int) -> None:
        """Have room for so many non-zero inputs, in the type that their numbers need."""
        index, value = self._lists(room)
        if (index.shape, index.dtype) != (self._index.shape, self._index.dtype):
            width = min(room, self._index.shape[1])
            index[: self.used, :width] = self._index[: self.used, :width]
            value[: self.used, :width] = self._value[: self.used, :width]
            self._index, self._value = index, value
        self._table = (self._parameters, self._layers, self._examples, self._index, self._value)

    def grow(self, network: Perceptron, rng: np.random.Generator) -> Callable[[Vector], Vector]:
        before = copy(self)
        widths, strides = before.network.widths, -(-np.array(network.widths[1:]) // kernels.LANES) * kernels.LANES
        self.network, self._inputs, self._classes, self._known = network, network.inputs, network.classes, None
        if network.inputs == widths[0] and np.array_equal(strides, self._layers[:, kernels.STRIDE]):
            real = np.packbits(np.arange(strides[-1]) < network.classes, bitorder="little").view("<u2")
            self._real[int(self._layers[-1, kernels.WEIGHTS]) // kernels.LANES :].reshape(-1, len(real))[:] = real
            self._layers[-1, kernels.FAN_OUT] = network.classes
            translate: Callable[[Vector], Vector] = np.copy
        else:
            self._lay_out()
            self._make_room(self._index.shape[1])
            self._make_workspaces()
            self.widen(network.inputs)

            def translate(vector: Vector) -> Vector:
                grown = np.zeros_like(self._parameters)
                layers = zip(before._blocks(vector), self._blocks(grown), widths, widths[1:], strict=False)
                for old, new, fan_in, fan_out in layers:
                    for block, was in zip(new, old, strict=True):
                        block[:fan_in, :fan_out], block[-1, :fan_out] = was[:-1, :fan_out], was[-1, :fan_out]
                return grown

            self._parameters[:] = translate(before._parameters)
        wide = network.widths
        layers = zip(self._blocks(self._parameters), widths, widths[1:], wide, wide[1:], strict=False)
        for blocks, fan_in, fan_out, inputs, width in layers:
            bound = np.sqrt(6 / (inputs + width))
            for block in blocks:
                for new in (block[fan_in:-1, :width], block[:fan_in, fan_out:width]):  # inputs, and units
                    new[:] = rng.uniform(-bound, bound, new.shape)
        return translate

    def scores_of(self, x: NDArray[np.float32], task: int) -> NDArray[np.float32]:
        out = np.empty((len(x), self.network.widths[-1]), np.float32)
        rows = np.arange(min(GROUP, len(x)))
        labels = np.zeros(len(rows), np.int64)
        examples = np.zeros((len(rows), self._examples.shape[1]), np.int64)
        index = np.empty((len(rows), x.shape[1]), self._index.dtype)
        value = np.empty(index.shape, np.float32)
        workspace = self._make_workspace(len(rows))
        for begin in range(0, len(x), GROUP):
            part = x[begin : begin + GROUP]
            kernels.put(examples, index, value, rows[: len(part)], part, labels[: len(part)], task, x.shape[1])
            kernels.forward(
                self._parameters, self._layers, examples, index, value, rows[: len(part)], *workspace,
                out[begin : begin + GROUP],
            )  # fmt: skip
        return out

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._make_room(min(self._inputs, max(1, state["index"].shape[-1])))
        super().load_state(state)
        if np.abs(self._parameters - state["parameters"]).max() > np.finfo(np.float32).tiny:
            raise ValueError("its parameters are not zero where the layout has none")
