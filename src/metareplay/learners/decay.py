"""Weight decay, and pulls to a vector, at the price of plain SGD: rows whose input is zero are left alone.

Parameters are kept as θ = towards + s·d, s one number for all of them. The step θ ← θ − lr·(g + decay·(θ − towards))
is then s ← (1 − lr·decay)·s, and d ← d − (lr / s)·g in the rows whose input is not zero: k steps that leave a row alone
are one power, in s. Whoever reads θ sees what it stands for, since each call ends by writing that down.
"""

import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from metareplay.compiled import compiled
from metareplay.learners import base, kernels
from metareplay.learners.arrays import aligned
from metareplay.learners.base import Learner, Rows, Vector

LEAST = 2.0**-20  # below this s becomes 1 again and d takes it over, so that neither leaves the range of its type
TINY = np.finfo(np.float32).tiny


class LazyDecay(Learner):
    """What a fused perceptron has for ``sgd_pulled``: steps on one example that leave the other rows alone."""

    _parameters: NDArray[np.float32]
    _real: NDArray[np.uint16]
    _behind: int
    _table: tuple[NDArray[Any], ...]
    _workspace: tuple[NDArray[Any], ...]
    _check_shape: Callable[[Vector], None]
    _refuse: Callable[[Rows, int], NoReturn]
    _given: Vector = None  # what θ is pulled to
    _towards: NDArray[np.float32] | None = None  # the same without what it has in the padding; empty for zero
    _away: NDArray[np.float32] | None = None  # d
    _scale = np.ones(1)  # s
    _settled: NDArray[np.float32]  # θ as these make it

    def sgd_pulled(self, rows: Rows, lr: float, decay: float, towards: Vector | None = None) -> None:
        if len(rows) != 1 or not _gentle(lr, decay):
            super().sgd_pulled(rows, lr, decay, towards)
            return
        rows = np.require(base.as_rows(rows, slots=self.slots), np.int64, "C")
        row, nothing = int(rows[0]), np.empty((0, self.network.inputs), np.float32)
        labels, answer = self.labels[rows], np.empty(1, np.int64)
        if (done := self._step_lazily(nothing, labels, row, self.tasks[row], lr, decay, towards, answer)) < 1:
            self._refuse(rows, done)

    def _predict_and_pull(
        self, x: NDArray[np.float32], y: Rows, task: int, lr: float, decay: float, towards: Vector | None
    ) -> Rows:
        """What ``predict_and_learn`` does where there is a decay."""
        predicted, done = np.empty(len(y), np.int64), 0
        if x.shape == (len(y), self.network.inputs) and self._table[3].shape[1] >= x.shape[1] and _gentle(lr, decay):
            done = max(0, self._step_lazily(x, y, 0, task, lr, decay, towards, predicted))
        if done < len(y):  # the next is refused in words
            predicted[done:] = Learner.predict_and_learn(self, x[done:], y[done:], task, lr, decay, towards)
        return predicted

    def _step_lazily(
        self, x: NDArray[np.float32], y: Rows, row: int, task: int, lr: float, decay: float, towards: Any, answers: Rows
    ) -> int:
        """Step on each example, which is put into slot ``row`` first if there are ``x``; how many before a bad one."""
        self._follow(towards)
        numbers = (np.float32(lr), self._scale, 1 - lr * decay)
        examples = (*self._table[1:], x, y, row, task)
        done = int(_pulled_steps(self._towards, self._away, *examples, *numbers, *self._workspace, answers))
        anchor = (self._towards,) if len(self._towards) else ()  # type: ignore[arg-type]  # there is one now
        self.update(_moved if anchor else _scaled, self._away, *anchor, scale=self._scale[0])
        self.steps += max(done, 0) - 1  # that was no step
        self.gradients_taken += max(done, 0)
        self.forward_passes += max(done, 0) if len(x) else 0
        self._settled[:] = self._parameters
        return done

    def _follow(self, towards: Vector | None) -> None:
        """Have d and what θ is pulled to; d anew where θ is not as the last call left it."""
        if self._towards is None or towards is not self._given:
            if self._towards is not None:
                self._away = None
            self._given, self._towards = towards, aligned(0) if towards is None else self._clean(towards)
        if not self._unmoved():
            away = self._parameters - self._towards if len(self._towards) else self._parameters
            self._away, self._scale, self._settled = self._clean(away), np.ones(1), np.empty_like(self._parameters)

    def _clean(self, vector: Vector) -> NDArray[np.float32]:
        """A copy of a vector as the kernels need it: aligned, with nothing in the padding and with room behind."""
        self._check_shape(vector)
        copy = aligned(len(self._parameters), self._behind)
        real = np.unpackbits(self._real.view(np.uint8), bitorder="little").view(bool)
        np.copyto(copy, vector, where=real)
        return copy

    def _unmoved(self) -> bool:
        return self._away is not None and np.array_equal(self._settled, self._parameters)

    def state(self) -> dict[str, NDArray[Any]]:
        return {"away": self._away.copy(), "scale": self._scale.copy()} if self._unmoved() else {}  # type: ignore[union-attr]

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Be as after ``state()``; θ has been loaded."""
        self._away = self._towards = None
        if "away" in state:
            base.check_state(state, {"away": self._parameters, "scale": self._scale})
            self._scale, self._settled = state["scale"].copy(), self._parameters.copy()
            self._away = self._clean(state["away"])


def _gentle(lr: float, decay: float) -> bool:
    """Whether a step leaves at least half of the way to what it pulls to; else a pass over all parameters does it."""
    return 0.5 <= 1 - lr * decay < 1


def _scaled(theta: Vector, away: Vector, scale: float) -> Vector:
    return scale * away


def _moved(theta: Vector, away: Vector, towards: Vector, scale: float) -> Vector:
    return towards + scale * away


@kernels._inlined
def _affine(away, towards, scale, stride, weights, biases, units, values, count, out):  # type: ignore[no-untyped-def]
    """out = s·(d's rows and biases) + those of ``towards``."""
    kernels._sum_rows(stride, away, weights, away, biases, units, values, count, out)
    for k in range(stride):
        out[k] *= scale
    if len(towards) > 0:
        for k in range(stride):
            out[k] += towards[biases + k]
        kernels._sum_rows(stride, towards, weights, out, np.int64(0), units, values, count, out)


def _made(source: int) -> Callable[..., int]:
    """The compiled code. Numba's cache heeds what a function closes over: here the source of what is called.

    Nothing else: of a compiled function each process has another one, and would compile this anew.
    """

    @compiled
    def steps(  # type: ignore[no-untyped-def]
        towards, away, layers, examples, index, value, x, y, row, task, lr, scale, keep,
        active, activation, counts, delta, predicted,
    ):  # fmt: skip
        """Each step as `kernels.predict_and_learn`'s; −1 where the first is of no class or task that there is."""
        masks, last, slot = kernels._masks(active, delta), len(layers) - 1 + (source & 0), np.full(1, row, np.int64)
        workspace, active, activation, counts, delta = (active, delta), active[0], activation[0], counts[0], delta[0]
        scores, classes, s = layers[last, kernels.OUTPUTS], layers[last, kernels.FAN_OUT], scale[0]
        for i in range(len(y)):
            if len(x) > 0:
                kernels._put(examples[row], index[row], value[row], x[i], y[i], task)
            if kernels._first_wrong(slot, examples, layers, *workspace, True) >= 0:
                scale[0] = s
                return i if i > 0 else -1
            units, values, count = index[row], value[row], examples[row, kernels.COUNT]
            for layer in range(last + 1):
                of, stride = layers[layer, kernels.OUTPUTS], layers[layer, kernels.STRIDE]
                if layer > 0:
                    before = layers[layer - 1, kernels.OUTPUTS]
                    units, values = active[before:], activation[before:]
                    count = kernels._rectify(delta[before:], layers[layer - 1, kernels.STRIDE], units, values)
                    counts[layer - 1] = count
                own = task * layers[layer, kernels.TASK_STRIDE]
                _affine(
                    away, towards, np.float32(s), stride, layers[layer, kernels.WEIGHTS] + own,
                    layers[layer, kernels.BIASES] + own, units, values, count, delta[of : of + stride],
                )  # fmt: skip
            kernels._mask(layers, task, delta, masks)
            best = 0
            for c in range(1, classes):
                if delta[scores + c] > delta[scores + best]:
                    best = c
            predicted[i] = best
            if not kernels._loss_gradient(delta[scores:], layers[last, kernels.STRIDE], classes, y[i]):
                scale[0] = s
                return i
            now, s = np.float32(s), s * keep
            rate = np.float32(-lr / s)
            for layer in range(last, -1, -1):
                stride, own = layers[layer, kernels.STRIDE], task * layers[layer, kernels.TASK_STRIDE]
                weights, biases = layers[layer, kernels.WEIGHTS] + own, layers[layer, kernels.BIASES] + own
                back = delta[layers[layer, kernels.OUTPUTS] :]
                if layer == 0:
                    units, values, count = index[row], value[row], examples[row, kernels.COUNT]
                    kernels._add_to_rows(stride, away, weights, biases, units, values, count, rate, back)
                else:
                    before = layers[layer - 1, kernels.OUTPUTS]
                    units, values, count = active[before:], activation[before:], counts[layer - 1]
                    out = delta[before : before + layers[layer - 1, kernels.STRIDE]]
                    out[:] = np.float32(0)
                    kernels._dot_and_add_to_rows(
                        stride, away, weights, biases, units, values, count, rate, back, out
                    )  # fmt: skip
                    for k in range(len(out)):
                        out[k] *= now
                    if len(towards) > 0:
                        kernels._dot_rows(stride, towards, weights, units, count, back, out)
            if s < LEAST:
                for k in range(len(away)):
                    kept = away[k] * np.float32(s)
                    away[k] = kept if abs(kept) >= TINY else np.float32(0)
                s = 1.0
        scale[0] = s
        return len(y)

    return steps


_pulled_steps = _made(zlib.crc32(inspect.getsource(kernels).encode()))
