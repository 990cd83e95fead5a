"""The default learner: a perceptron whose steps are compiled and take one example at a time."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.errors import BadInput
from metareplay.learners import kernels, rules
from metareplay.learners.base import (
    EXCLUDED,
    Diverged,
    Learner,
    Loss,
    Rows,
    Rule,
    as_rates,
    as_rows,
    as_slots,
    as_weights,
    check_examples,
    check_labels,
    check_restriction,
    check_state,
    check_tasks,
    loss_gradient,
)
from metareplay.networks.perceptron import Layer, Perceptron
from metareplay.streams.stream import Images

Vector = NDArray[np.float32]

GROUP = 64
"""Images that are evaluated together."""


_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


def _aligned(size: int, behind: int = 0) -> Vector:
    """Zeros that begin at a cache line, and room ``behind`` them that may be read."""
    lanes = kernels.LINE // 4
    room = np.zeros(size + lanes + behind, np.float32)
    begin = -(room.ctypes.data // 4) % lanes
    return room[begin : begin + size]


def _compact(array: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The same numbers as the kernels are compiled for: those of another type or layout would be compiled anew."""
    if type(array) is np.ndarray and array.dtype is dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C", "A", "W"])


def _replace(theta: Any, g: Any) -> Any:
    return g


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
    room
        How many non-zero inputs of an example the table holds, and one; None for all inputs.
    """

    network: Perceptron

    def __init__(
        self, network: Perceptron, slots: int, batch_size: int, rng: np.random.Generator, room: int | None = None
    ) -> None:
        self.network = network
        self._inputs, self._classes = network.inputs, network.classes
        self.slots = slots
        self.batch_size = batch_size
        self.steps = 0
        self._known: Rows | None = None  # the last rows that were looked at: most come again at once
        self._lay_out()
        for ours, initial in zip(self.layers(), network.initial_layers(rng), strict=True):
            for view, values in zip(ours, initial, strict=True):
                view[...] = values
        self._index, self._value = self._lists(network.inputs if room is None else room)
        self._examples = np.zeros((slots, 3), np.int64)
        self.labels = self._examples[:, kernels.LABEL]
        self.tasks = self._examples[:, kernels.TASK]
        self._make_workspaces()

    def _lists(self, room: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """An empty table of so many non-zero inputs for each example: their numbers and their values."""
        index_type = np.uint16 if max(self.network.widths) <= 65536 else np.int32
        try:
            return np.zeros((self.slots, room), index_type), np.zeros((self.slots, room), np.float32)
        except ValueError as error:  # what no array can hold
            raise MemoryError(f"a table of {self.slots} examples with {room} inputs") from error

    def _make_workspaces(self) -> None:
        network = self.network
        self._table = (self._parameters, self._layers, self._examples, self._index, self._value)
        self._workspace = self._make_workspace(2)
        self._many = self._workspace
        self._opened = self._workspace
        self._outputs_of_group = np.empty((GROUP, self._layers[0, kernels.STRIDE]), np.float32)
        self._dense = np.zeros(sum(network.widths[:-1]), np.float32)
        self._gradient = np.empty((1, len(self._parameters)), np.float32)
        self._undo = np.empty(len(self._parameters), np.float32)
        first_rows = (network.widths[0] + 1) * network.copies(0)
        self._rate = np.empty(1, np.float32)
        self._touched = np.empty(first_rows, np.int64)
        self._stamps = np.zeros(first_rows, np.uint8)
        stride = int(self._layers[0, kernels.STRIDE])
        self._in_blocks = not network.private[0] and stride >= kernels.NARROWEST
        inputs = network.widths[0] if self._in_blocks else 0
        self._dual = (
            _aligned(inputs * kernels.BLOCK),
            np.zeros(inputs, np.uint16),
            _aligned(kernels.BLOCK * stride),
            _aligned(kernels.BLOCK * stride),
            _aligned(kernels.BLOCK * kernels.BLOCK),
            *(np.zeros(kernels.BLOCK, np.int64) for _ in range(3)),
            np.arange(kernels.BLOCK, dtype=np.uint16),
        )

    def _lay_out(self) -> None:
        rows, begin, outputs = [], 0, 0
        for number, (fan_in, fan_out) in enumerate(zip(self.network.widths, self.network.widths[1:], strict=False)):
            stride = -(-fan_out // kernels.LANES) * kernels.LANES
            block = (fan_in + 1) * stride
            task_stride, copies = (block, self.network.tasks) if self.network.private[number] else (0, 0)
            rows.append((fan_in, fan_out, stride, begin, begin + fan_in * stride, task_stride, outputs, copies))
            begin += block * self.network.copies(number)
            outputs += stride
        self._layers = np.array(rows, np.int64)
        self._outputs = outputs
        self._parameters = _aligned(begin, kernels.LANES * int(self._layers[:, kernels.STRIDE].max()))
        real = np.zeros(begin, bool)
        for blocks, width in zip(self._blocks(real), self.network.widths[1:], strict=True):
            for copy in blocks:
                copy[:, :width] = True
        self._real = np.packbits(real, bitorder="little").view("<u2")

    def _make_workspace(self, rows: int) -> tuple[NDArray[Any], ...]:
        tasks = 0 if self._restriction is None else len(self._restriction)
        delta = _aligned((rows + tasks) * self._outputs).reshape(-1, self._outputs)
        if self._restriction is not None:
            begin = self._layers[-1, kernels.OUTPUTS]
            delta[rows:, begin : begin + self._restriction.shape[1]][~self._restriction] = EXCLUDED
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

    def layers(self, vector: Vector | None = None) -> list[Layer]:
        flat = self._parameters if vector is None else vector
        if flat.shape != self._parameters.shape:
            raise BadInput(f"a vector has the shape {flat.shape}, but θ has {self._parameters.shape}")
        if vector is None:
            self.load(flat)  # a step that diverged may have left NaN in the padding, for good if a method then mends θ
        layers = []
        for number, (fan_in, fan_out, stride, begin, *_) in enumerate(self._layers):
            copies = self.network.copies(number)
            block = flat[begin : begin + copies * (fan_in + 1) * stride].reshape(copies, fan_in + 1, stride)
            block = block[..., :fan_out] if self.network.private[number] else block[0, :, :fan_out]
            layers.append((block[..., :-1, :], block[..., -1, :]))
        return layers

    # Scenarios

    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        check_restriction(allowed, self.classes)
        if allowed is None and self._restriction is None:
            return
        self._restriction = None if allowed is None else allowed.copy()
        self._workspace = self._many = self._opened = self._make_workspace(2)

    # The table

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        if rows is not self._known:
            rows = self._slots(rows)
        if type(x) is not np.ndarray or x.dtype is not _FLOAT32 or type(y) is not np.ndarray or y.dtype is not _INT64:
            x, y = _compact(x, _FLOAT32), _compact(y, _INT64)
        table = (self._examples, self._index, self._value)
        if x.ndim != 2 or y.ndim != 1 or not kernels.put(*table, rows, x, y, task, self._inputs):
            check_examples(rows, x, y, self._inputs)

    def copy(self, source: int, target: int) -> None:
        kernels.copy(self._examples, self._index, self._value, operator.index(source), operator.index(target))

    def inputs(self, rows: Rows) -> NDArray[np.float32]:
        rows = as_slots(rows, self.slots)
        x = np.zeros((len(rows), self._inputs), np.float32)
        for row, out in zip(rows, x, strict=True):
            count = self._examples[row, kernels.COUNT]
            out[self._index[row, :count]] = self._value[row, :count]
        return x

    def _slots(self, rows: ArrayLike, dimensions: int = 1) -> Rows:
        """Rows as the kernels take them, which look at the numbers themselves."""
        if not (type(rows) is np.ndarray and rows.dtype is _INT64 and rows.flags.carray and rows.ndim == dimensions):
            rows = _compact(as_rows(rows, dimensions), _INT64)
        if dimensions == 1:
            self._known = rows
        return rows

    def _there(self, rows: ArrayLike, labelled: bool = False) -> Rows:
        """Rows, each of which names a slot and a task, and if it is to be learned a class, that there is."""
        rows = self._slots(rows)
        active, _, _, delta = self._workspace
        wrong = kernels.first_wrong(self._layers, self._examples, rows, active, delta, labelled)
        if wrong >= 0:
            self._refuse(rows, -1 - wrong)
        return rows

    def _refuse(self, rows: Rows, done: int) -> NoReturn:
        """Say why compiled code did ``done`` rows and no more; if negative, it names a wrong one."""
        if done < 0:
            wrong = rows.reshape(-1)[-1 - done :][:1]
            check_tasks(self.tasks[wrong], wrong, self._task_count())
            check_labels(self.labels[wrong], wrong, self.classes)
        raise Diverged(self.steps, int(rows.flat[done]))

    # Reading

    def scores(self, images: Images, task: int) -> NDArray[np.float32]:
        check_tasks(np.array([task]), None, self._task_count())
        index_map = np.arange(images.base.width) if images.index_map is None else images.index_map
        rows = np.arange(len(images)) if images.rows is None else images.rows
        for what, numbers, end in (("inputs", index_map, images.base.width), ("images", rows, len(images.base))):
            if len(numbers) and not -1 <= numbers.min() <= numbers.max() < end:
                raise BadInput(f"the images read base {what} up to {numbers.max()}, but there are {end}")
        if len(index_map) != self._inputs:
            raise BadInput(f"the images have {len(index_map)} inputs, but the network has {self._inputs}")
        block = self._blocks(self._parameters)[0][task if self.network.private[0] else 0]
        folded = np.empty((images.base.width + 1, block.shape[1]), np.float32)
        kernels.fold(block, index_map, folded)
        out = np.empty((len(images), self.classes), np.float32)
        kernels.scores(
            folded.ravel(), self._parameters, self._layers, task, *images.base.strips, rows, *self._workspace,
            self._outputs_of_group, out,
        )  # fmt: skip
        if self._restriction is not None:
            out[:, ~self._restriction[task]] += np.float32(EXCLUDED)
        return out

    def forward(self, rows: Rows) -> NDArray[np.float32]:
        if rows is not self._known:
            rows = self._slots(rows)
        out = np.empty((len(rows), self._classes), np.float32)
        done = kernels.forward(*self._table, rows, *self._workspace, out)
        if done < len(rows):
            self._refuse(rows, done)
        return out

    def activations(self, rows: Rows) -> list[NDArray[np.float32]]:
        rows = self._there(rows)
        workspace = self._room_for(len(rows))
        kernels.raw(*self._table, rows, *workspace)
        outputs = workspace[3][: len(rows)]
        begins = self._layers[:, kernels.OUTPUTS]
        return [
            np.maximum(outputs[:, begin : begin + width], 0)
            for begin, width in zip(begins, self.network.widths[1:-1], strict=False)
        ]

    # Stepping

    def sgd(self, rows: Rows, lr: float, weights: ArrayLike | None = None, loss: Loss | None = None) -> None:
        if rows is not self._known:
            rows = self._slots(rows)
        if weights is not None:
            weights = as_weights(weights, rows, loss)
        if len(rows) == 1 and loss is None:
            self._rate[0] = lr if weights is None else lr * weights[0]
            done = kernels.sgd_each(*self._table, rows, self._rate, *self._workspace)
            if done < 1:
                self._refuse(rows, done)
            self.steps += 1
            return
        self._add_gradient(self._parameters, rows, -lr, weights, loss)
        self.steps += 1

    def _add_gradient(
        self, target: Vector, rows: Rows, scale: float, weights: NDArray[np.float32] | None, loss: Loss | None
    ) -> None:
        """Target += scale · gradient of the mean loss, of the weighted sum of losses, or of ``loss``."""
        if len(rows) == 0:
            raise BadInput("a gradient needs at least one row")
        if loss is None:
            workspace = self._room_for(len(rows))
            done = kernels.backward(*self._table, rows, *workspace)
            if done < len(rows):
                self._refuse(rows, done)
            scale = scale / len(rows) if weights is None else scale
        else:
            workspace = self._carried_back(rows, loss)
        scales = np.full(len(rows), scale, np.float32) if weights is None else np.float32(scale) * weights
        kernels.add_gradients(target, *self._table[1:], rows, scales, *workspace)

    def _carried_back(self, rows: Rows, loss: Loss) -> tuple[NDArray[Any], ...]:
        """A workspace in which a loss's gradient by the scores has been carried back.

        While the loss is asked, which may call this learner, nobody else has the workspace.
        """
        workspace, self._opened = self._opened, self._workspace
        if workspace is self._workspace or len(workspace[0]) < len(rows):
            workspace = self._make_workspace(len(rows))
        active, _, counts, delta = workspace
        done = kernels.raw(*self._table, rows, *workspace)
        if done < len(rows):
            self._refuse(rows, done)
        outputs = delta[: len(rows), self._layers[-1, kernels.OUTPUTS] :]
        gradient = loss_gradient(loss, outputs[:, : self.classes].copy(), rows, self.steps)
        outputs[:] = 0
        outputs[:, : self.classes] = gradient
        done = kernels.carry_back(self._parameters, self._layers, self._examples, rows, active, counts, delta)
        if done < len(rows):
            self._refuse(rows, done)
        self._opened = workspace
        return workspace

    def sgd_each(self, rows: Rows, lr: ArrayLike, loss: Loss | None = None) -> None:
        if loss is not None:
            super().sgd_each(rows, lr, loss)
            return
        rows = self._slots(rows)
        if self._in_blocks and len(rows) >= kernels.FEWEST_WITHOUT_REPTILE:
            self._step_in_batches(rows[np.newaxis], lr, 1)
        else:
            self._count_steps(rows, kernels.sgd_each(*self._table, rows, self._rates(lr, rows), *self._workspace))

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float, loss: Loss | None = None) -> None:
        if loss is not None:
            super().reptile(rows, lr, rate, loss)
            return
        self._step_in_batches(self._slots(rows, 2), lr, rate)

    def _step_in_batches(self, rows: Rows, lr: ArrayLike, rate: float) -> None:
        blocks = self._in_blocks and rows.shape[1] >= kernels.FEWEST
        done = kernels.steps(
            *self._table, rows, self._rates(lr, rows), np.float32(rate), *self._workspace,
            self._undo, self._touched, self._stamps, blocks, self._dual,
        )  # fmt: skip
        self._count_steps(rows, done)

    def _rates(self, lr: ArrayLike, rows: Rows) -> NDArray[np.float32]:
        """Learning rates as the kernels take them: all of them, or one for all."""
        if isinstance(lr, float):
            self._rate[0] = lr
            return self._rate
        return np.ascontiguousarray(as_rates(lr, rows.shape), np.float32).reshape(-1)

    def _count_steps(self, rows: Rows, done: int) -> None:
        self.steps += max(done, 0)
        if done < rows.size:
            self._refuse(rows, done)

    # Gradients as vectors

    def gradient(self, rows: Rows, loss: Loss | None = None) -> Vector:
        # Fresh pages from the system cost several times the arithmetic, so memory that nobody else holds is used again.
        if sys.getrefcount(self._gradient) > 2:
            self._gradient = np.empty((1, len(self._parameters)), np.float32)
        gradient: Vector = self._gradients([rows], loss, self._gradient)[0]
        return gradient

    def gradients(self, groups: Sequence[Rows], loss: Loss | None = None) -> Vector:
        return self._gradients(groups, loss, np.empty((len(groups), len(self._parameters)), np.float32))

    def _gradients(self, groups: Sequence[Rows], loss: Loss | None, gradients: Vector) -> Vector:
        gradients[:] = 0
        for group, gradient in zip(groups, gradients, strict=True):
            self._add_gradient(gradient, self._slots(group), 1, None, loss)
        return gradients

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Loss | None = None) -> NDArray[np.floating[Any]]:
        if loss is not None or len(groups) == 0:
            return super().dots(rows, groups, loss)
        sizes = np.array([len(group) for group in groups])
        if len(rows) == 0 or sizes.min() == 0:
            raise BadInput("a gradient needs at least one row")
        rows, others = self._there(rows, labelled=True), self._there(np.concatenate(groups), labelled=True)
        products = np.zeros(len(others))
        for row in rows:
            done = kernels.dots(*self._table, row, others, *self._workspace, self._dense, products)
            if done <= len(others):
                raise Diverged(self.steps, int(np.append(row, others)[done]))
        sums: NDArray[np.float64] = np.add.reduceat(products, np.cumsum(sizes) - sizes)
        return np.asarray(sums / (sizes * len(rows)))

    # Parameters

    def update(self, rule: Rule, gradient: Vector, *state: Vector, **numbers: float) -> None:
        self._apply(rule, (gradient, *state), numbers)
        self.steps += 1

    def load(self, vector: Vector) -> None:
        self._apply(_replace, (vector,), {})

    def _apply(self, rule: Rule, vectors: Sequence[Vector], numbers: Mapping[str, float]) -> None:
        """Let one compiled pass write θ and the first vectors behind the gradient, and zeros into their padding."""
        written, run = rules.compiled(rule, 1 + len(vectors), tuple(numbers))
        given = [self._parameters]
        for place, vector in enumerate(vectors):
            compact = _compact(vector, _FLOAT32)
            if compact.shape != self._parameters.shape:
                raise BadInput(f"a vector has the shape {compact.shape}, but θ has {self._parameters.shape}")
            if 0 < place < written and compact is not vector:
                raise BadInput(
                    f"the rule {rule.__qualname__} writes to state vector {place - 1}, which must then be a float32 "
                    "array in one piece, as 0 * learner.parameters() is"
                )
            given.append(compact)
        for name, number in numbers.items():
            if not isinstance(number, int | float | np.number | np.bool_):
                raise BadInput(f"{name} is {number!r}, but must be one number; vectors are given as state")
        addresses = [vector.__array_interface__["data"][0] for vector in given]
        run(len(self._real), self._real.ctypes.data, *addresses, *numbers.values())

    def parameters(self) -> Vector:
        return self._parameters.copy()

    def copy_task(self, source: int, target: int) -> None:
        for number, blocks in enumerate(self._blocks(self._parameters)):
            if self.network.private[number]:
                blocks[target][:] = blocks[source]

    # Saving

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "parameters": self._parameters.copy(),
            "examples": self._examples.copy(),
            "index": self._index.copy(),
            "value": self._value.copy(),
            "steps": np.array(self.steps),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``, after a look at what compiled code would follow without one.

        Raises
        ------
        BadInput
            If it is not of a learner built in this way.
        """
        check_state(state, FusedPerceptron.state(self))
        counts, index = state["examples"][:, kernels.COUNT], state["index"]
        listed = index[np.arange(index.shape[1]) < counts[:, None]]
        for what, numbers, end in (("counts", counts, self._inputs + 1), ("index", listed, self._inputs)):
            if np.any((numbers < 0) | (numbers >= end)):
                raise BadInput(f"the state's {what} name inputs that there are not: it is damaged")
        self.load(state["parameters"])
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
