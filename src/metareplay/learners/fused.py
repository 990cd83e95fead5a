"""The default learner: a perceptron whose steps are compiled and take one example at a time."""

# mypy: disable-error-code="override"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.learners import kernels
from metareplay.learners.base import EXCLUDED, Diverged, Learner, Rows, check_restriction
from metareplay.networks.perceptron import Layer, Perceptron
from metareplay.streams.stream import Images

Vector = NDArray[np.float32]

GROUP = 64
"""Images that are evaluated together."""


def _aligned(size: int) -> Vector:
    """Zeros that begin at a cache line."""
    lanes = kernels.LINE // 4
    room = np.zeros(size + lanes, np.float32)
    begin = -(room.ctypes.data // 4) % lanes
    return room[begin : begin + size]


class FusedPerceptron(Learner):
    """A multi-layer perceptron (float32) on compiled kernels.

    Vectors are flat arrays in the parameters' own layout, padding included; padding is always zero.

    Parameters
    ----------
    network
        Widths, and which layers are private to a task.
    slots
        Size of the table of examples; of these the first ``batch_size`` take the incoming batch.
    batch_size
        The largest batch that will come.
    rng
        Decides the initial weights.
    """

    network: Perceptron

    def __init__(self, network: Perceptron, slots: int, batch_size: int, rng: np.random.Generator) -> None:
        self.network = network
        self.slots = slots
        self.batch_size = batch_size
        self.steps = 0
        self._lay_out()
        self.set_layers(network.initial_layers(rng))

        index_type = np.uint16 if max(network.widths) <= 65536 else np.int32
        try:
            self._index = np.zeros((slots, network.widths[0]), index_type)
            self._value = np.zeros((slots, network.widths[0]), np.float32)
            self._examples = np.zeros((slots, 3), np.int64)
        except ValueError as error:  # what no array can hold
            raise MemoryError(f"a table of {slots} examples with {network.widths[0]} inputs") from error
        self.labels = self._examples[:, kernels.LABEL]
        self.tasks = self._examples[:, kernels.TASK]
        self._table = (self._parameters, self._layers, self._examples, self._index, self._value)

        self._allowed: NDArray[np.bool_] | None = None
        self._workspace = self._make_workspace(2)
        self._many = self._workspace
        self._outputs_of_group = np.empty((GROUP, self._layers[0, kernels.STRIDE]), np.float32)
        self._dense = np.zeros(sum(network.widths[:-1]), np.float32)
        self._undo = np.empty(len(self._parameters), np.float32)
        first_rows = (network.widths[0] + 1) * network.copies(0)
        self._rate = np.empty(1, np.float32)
        self._touched = np.empty(first_rows, np.int64)
        self._stamps = np.zeros(first_rows, np.uint8)

    def _lay_out(self) -> None:
        rows, begin, outputs = [], 0, 0
        for number, (fan_in, fan_out) in enumerate(zip(self.network.widths, self.network.widths[1:], strict=False)):
            stride = -(-fan_out // kernels.LANES) * kernels.LANES
            block = (fan_in + 1) * stride
            task_stride = block if self.network.private[number] else 0
            rows.append((fan_in, fan_out, stride, begin, begin + fan_in * stride, task_stride, outputs))
            begin += block * self.network.copies(number)
            outputs += stride
        self._layers = np.array(rows, np.int64)
        self._outputs = outputs
        self._parameters = _aligned(begin)

    def _make_workspace(self, rows: int) -> tuple[NDArray[Any], ...]:
        tasks = 0 if self._allowed is None else len(self._allowed)
        delta = _aligned((rows + tasks) * self._outputs).reshape(-1, self._outputs)
        if self._allowed is not None:
            begin = self._layers[-1, kernels.OUTPUTS]
            delta[rows:, begin : begin + self._allowed.shape[1]][~self._allowed] = EXCLUDED
        return (
            np.zeros((rows, self._outputs), np.uint16 if max(self.network.widths) <= 65536 else np.int32),
            np.zeros((rows, self._outputs), np.float32),
            np.zeros((rows, len(self._layers)), np.int64),
            delta,
        )

    def _room_for(self, rows: int) -> tuple[NDArray[Any], ...]:
        if len(self._many[0]) < rows:
            self._many = self._make_workspace(rows)
        return self._many

    def _blocks(self, vector: Vector) -> list[list[Vector]]:
        """Views of a vector: for each layer, for each copy, ``(fan_in + 1, stride)``, the last row the biases."""
        blocks = []
        for number, (fan_in, _, stride, begin, *_) in enumerate(self._layers):
            copies = self.network.copies(number)
            size = (fan_in + 1) * stride
            blocks.append(list(vector[begin : begin + copies * size].reshape(copies, fan_in + 1, stride)))
        return blocks

    def layers(self, vector: Vector | None = None) -> list[list[Layer]]:
        """Copies of a vector's weights ``(in, out)`` and biases, by layer and copy; the parameters' own by default."""
        blocks = self._blocks(self._parameters if vector is None else vector)
        widths = self.network.widths[1:]
        return [
            [(block[:-1, :width].copy(), block[-1, :width].copy()) for block in copies]
            for width, copies in zip(widths, blocks, strict=True)
        ]

    def set_layers(self, layers: Sequence[Sequence[Layer]]) -> None:
        """Take over weights and biases, as ``layers()`` or ``Perceptron.initial_layers`` gives them."""
        for copies, blocks in zip(layers, self._blocks(self._parameters), strict=True):
            for (weights, biases), block in zip(copies, blocks, strict=True):
                block[:-1, : weights.shape[1]] = weights
                block[-1, : len(biases)] = biases

    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        check_restriction(allowed, self.network.widths[-1])
        if allowed is None and self._allowed is None:
            return
        self._allowed = None if allowed is None else allowed.copy()
        self._workspace = self._make_workspace(2)
        self._many = self._workspace

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        kernels.put(self._examples, self._index, self._value, rows, x, y, task)

    def copy(self, source: int, target: int) -> None:
        kernels.copy(self._examples, self._index, self._value, source, target)

    def scores(self, images: Images, task: int) -> NDArray[np.float32]:
        block = self._blocks(self._parameters)[0][task if self.network.private[0] else 0]
        index_map = np.arange(images.base.width) if images.index_map is None else images.index_map
        folded = np.empty((images.base.width + 1, block.shape[1]), np.float32)
        kernels.fold(block, index_map, folded)
        rows = np.arange(len(images)) if images.rows is None else images.rows
        out = np.empty((len(images), self.network.widths[-1]), np.float32)
        kernels.scores(
            folded.ravel(), self._parameters, self._layers, task, *images.base.strips, rows, *self._workspace,
            self._outputs_of_group, out,
        )  # fmt: skip
        if self._allowed is not None:
            out[:, ~self._allowed[task]] += np.float32(EXCLUDED)
        return out

    def forward(self, rows: Rows) -> NDArray[np.float32]:
        out = np.empty((len(rows), self.network.widths[-1]), np.float32)
        kernels.forward(*self._table, rows, *self._workspace, out)
        return out

    def sgd(self, rows: Rows, lr: float, weights: NDArray[np.float32] | None = None) -> None:
        if len(rows) == 1:
            self.sgd_each(rows, lr if weights is None else lr * weights[0])
            return
        workspace = self._room_for(len(rows))
        done = kernels.backward(*self._table, rows, *workspace)
        if done < len(rows):
            raise Diverged(self.steps, int(rows[done]))
        scaled = np.full(len(rows), -lr / len(rows), np.float32) if weights is None else np.float32(-lr) * weights
        kernels.add_gradients(self._parameters, *self._table[1:], rows, scaled, *workspace)
        self.steps += 1

    def sgd_each(self, rows: Rows, lr: ArrayLike) -> None:
        done = kernels.sgd_each(*self._table, rows, self._rates(lr), *self._workspace)
        self._count_steps(rows, done)

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float) -> None:
        done = kernels.reptile(
            *self._table, rows, self._rates(lr), np.float32(rate), *self._workspace,
            self._undo, self._touched, self._stamps,
        )  # fmt: skip
        self._count_steps(rows, done)

    def _rates(self, lr: ArrayLike) -> NDArray[np.float32]:
        """Learning rates as the kernels take them: all of them, or one for all."""
        if isinstance(lr, float):
            self._rate[0] = lr
            return self._rate
        return np.asarray(lr, np.float32).reshape(-1)

    def _count_steps(self, rows: Rows, done: int) -> None:
        self.steps += done
        if done < rows.size:
            raise Diverged(self.steps, int(rows.flat[done]))

    def gradient(self, rows: Rows) -> Vector:
        gradient: Vector = self.gradients([rows])[0]
        return gradient

    def gradients(self, groups: Sequence[Rows]) -> Vector:
        gradients = np.zeros((len(groups), len(self._parameters)), np.float32)
        for rows, gradient in zip(groups, gradients, strict=True):
            done = kernels.gradient(gradient, *self._table, rows, np.float32(1 / len(rows)), *self._workspace)
            if done < len(rows):
                raise Diverged(self.steps, int(rows[done]))
        return gradients

    def dots(self, rows: Rows, groups: Sequence[Rows]) -> NDArray[np.float64]:
        others = np.concatenate(groups)
        products = np.zeros(len(others))
        for row in rows:
            done = kernels.dots(*self._table, row, others, *self._workspace, self._dense, products)
            if done <= len(others):
                raise Diverged(self.steps, int(np.append(row, others)[done]))
        sizes = np.array([len(group) for group in groups])
        sums: NDArray[np.float64] = np.add.reduceat(products, np.cumsum(sizes) - sizes)
        return np.asarray(sums / (sizes * len(rows)))

    def descend(self, vector: Vector, lr: float) -> None:
        self._parameters -= np.float32(lr) * vector
        self.steps += 1

    def parameters(self) -> Vector:
        return self._parameters.copy()

    def interpolate(self, start: Vector, rate: float) -> None:
        self._parameters -= start
        self._parameters *= np.float32(rate)
        self._parameters += start

    def copy_task(self, source: int, target: int) -> None:
        for number, blocks in enumerate(self._blocks(self._parameters)):
            if self.network.private[number]:
                blocks[target][:] = blocks[source]

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "parameters": self._parameters.copy(),
            "examples": self._examples.copy(),
            "index": self._index.copy(),
            "value": self._value.copy(),
            "steps": np.array(self.steps),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._parameters[:] = state["parameters"]
        self._examples[:] = state["examples"]
        self._index[:] = state["index"]
        self._value[:] = state["value"]
        self.steps = int(state["steps"])

    @property
    def parameter_bytes(self) -> int:
        return sum(
            self.network.copies(number) * (fan_in + 1) * fan_out * 4
            for number, (fan_in, fan_out) in enumerate(zip(self.network.widths, self.network.widths[1:], strict=False))
        )

    @property
    def table_bytes(self) -> int:
        return self._examples.nbytes + self._index.nbytes + self._value.nbytes
