"""The default learner: a perceptron whose steps are compiled and take one example at a time."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.data.images import Images
from metareplay.errors import BadInput
from metareplay.learners import ahead, base, kernels, normal, updates
from metareplay.learners.arrays import SortedInputs, aligned, compact, has_room, in_a_room, read_as
from metareplay.learners.base import EXCLUDED, Diverged, Loss, Rows
from metareplay.learners.decay import LazyDecay
from metareplay.learners.factors import FORMED, factored
from metareplay.networks import Layer, Perceptron

Vector = NDArray[np.float32]

GROUP = 64
"""Images that are evaluated together."""

_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


def _replace(theta: Any, g: Any) -> Any:
    return g


class FusedPerceptron(LazyDecay):
    """A multi-layer perceptron (float32) on compiled kernels.

    Vectors are flat arrays in the parameters' own layout, padding included; padding is always zero.

    Parameters
    ----------
    network, slots, batch_size, rng
        As for every learner.
    room
        How many non-zero inputs of an example the table holds, and one; None for all inputs.
    """

    network: Perceptron

    def __init__(
        self, network: Perceptron, slots: int, batch_size: int, rng: np.random.Generator, room: int | None = None
    ) -> None:
        self.network, self.slots, self.batch_size, self.steps = network, slots, batch_size, 0
        self._inputs, self._classes = network.inputs, network.classes
        self._known: Rows | None = None  # the last rows that were looked at: most come again at once
        self._lay_out()
        for ours, initial in zip(self.layers(), network.initial_layers(rng), strict=True):
            for view, values in zip(ours, initial, strict=True):
                view[...] = values
        self._index, self._value = self._lists(network.inputs if room is None else room)
        self._examples = np.zeros((slots, 3), np.int64)
        self.labels, self.tasks = (self._examples[:, column] for column in (kernels.LABEL, kernels.TASK))
        self._make_workspaces()

    def _lay_out(self) -> None:
        self._unit_type = np.uint16 if max(self.network.widths) <= 65536 else np.int32
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
        self._hidden = [slice(of, of + width) for _, width, *_, of, _ in rows[:-1]]
        self._behind = kernels.LANES * int(self._layers[:, kernels.STRIDE].max())
        self._parameters = aligned(begin, self._behind)
        real = np.zeros(begin, bool)
        for blocks, width in zip(self._blocks(real), self.network.widths[1:], strict=True):
            blocks[..., :width] = True
        self._real = np.packbits(real, bitorder="little").view("<u2")
        self._given_to: dict[int, Any] = {}  # each rule's machine code, by its address

    def _lists(self, room: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """An empty table of so many non-zero inputs for each example: their numbers and their values."""
        try:
            return np.zeros((self.slots, room), self._unit_type), np.zeros((self.slots, room), np.float32)
        except ValueError as error:  # what no array can hold
            raise MemoryError(f"a table of {self.slots} examples with {room} inputs") from error

    def _make_workspaces(self) -> None:
        widths, stride = self.network.widths, int(self._layers[0, kernels.STRIDE])
        self._table = (self._parameters, self._layers, self._examples, self._index, self._value)
        self._workspace = self._many = self._make_workspace(2)
        self._dense = np.zeros(sum(widths[:-1]), np.float32)
        self._rooms: tuple[list[Vector], list[Vector]] = [], []
        self._sorted = SortedInputs(self._unit_type)
        self._unsorted = self._sorted.nothing
        self._change = aligned((kernels.MANY + 1) * stride)
        self._strip = aligned(kernels.RULED * stride + len(self._parameters) - int(self._layers[0, kernels.BIASES]))
        self._no_rule = np.zeros(kernels.GRADIENT + 1, np.int64)
        self._rate = np.empty(1, np.float32)
        first_rows = (widths[0] + 1) * self.network.copies(0)
        places = np.empty(first_rows, np.int64), np.zeros(first_rows, np.uint8)
        self._undo = (aligned(len(self._parameters), self._behind), *places)
        self._in_blocks = not self.network.private[0] and stride >= kernels.NARROWEST
        inputs, block = widths[0] if self._in_blocks else 0, kernels.BLOCK
        self._dual = (
            aligned(inputs * block), np.zeros(inputs, np.uint32), aligned(block * stride), aligned(block * stride),
            aligned(block * block), *np.zeros((2, block), np.int64), np.arange(block, dtype=np.uint16),
        )  # fmt: skip

    def _make_workspace(self, rows: int) -> tuple[NDArray[Any], ...]:
        tasks = 0 if self._restriction is None else len(self._restriction)
        delta = aligned((rows + tasks) * self._outputs).reshape(-1, self._outputs)
        if self._restriction is not None:
            begin = self._layers[-1, kernels.OUTPUTS]
            delta[rows:, begin : begin + self._restriction.shape[1]][~self._restriction] = EXCLUDED
        active, counts = np.zeros_like(delta[:rows], self._unit_type), np.zeros((rows, len(self._layers)), np.int64)
        return active, np.zeros(active.shape, np.float32), counts, delta

    def _room_for(self, rows: int) -> tuple[NDArray[Any], ...]:
        if len(self._many[0]) < rows or sys.getrefcount(self._many) > 2 + (self._many is self._workspace):
            self._many = self._make_workspace(rows)
        return self._many

    def _blocks(self, vector: NDArray[Any]) -> list[NDArray[Any]]:
        """Views of a vector: for each layer ``(copies, fan_in + 1, stride)``, the last row the biases."""
        blocks = []
        for number, (fan_in, _, stride, begin, *_) in enumerate(self._layers):
            copies = self.network.copies(number)
            blocks.append(vector[begin : begin + copies * (fan_in + 1) * stride].reshape(copies, fan_in + 1, stride))
        return blocks

    def layers(self, vector: Vector | None = None) -> list[Layer]:
        flat = self._parameters if vector is None else vector
        self._check_shape(flat)
        if vector is None:
            self.load(flat)  # a step that diverged may have left NaN in the padding, for good if a method then mends θ
        parts = zip(self._blocks(flat), self.network.widths[1:], self.network.private, strict=True)
        blocks = [block[..., :width] if private else block[0, :, :width] for block, width, private in parts]
        return [(block[..., :-1, :], block[..., -1, :]) for block in blocks]

    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        base.check_restriction(allowed, self.classes)
        if allowed is None and self._restriction is None:
            return
        self._restriction = None if allowed is None else allowed.copy()
        self._workspace = self._many = self._make_workspace(2)

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        if rows is not self._known:
            rows = self._slots(rows)
        if type(x) is not np.ndarray or x.dtype is not _FLOAT32 or type(y) is not np.ndarray or y.dtype is not _INT64:
            x, y = compact(x, _FLOAT32), compact(y, _INT64)
        if self._sorted.slots is not None:
            self._sorted.forget(rows)
        table = (self._examples, self._index, self._value)
        if x.ndim != 2 or y.ndim != 1 or not kernels.put(*table, rows, x, y, task, self._inputs):
            base.check_examples(rows, x, y, self._inputs)

    def copy(self, source: int, target: int) -> None:
        self._sorted.forget(target)
        kernels.copy(self._examples, self._index, self._value, operator.index(source), operator.index(target))

    def inputs(self, rows: Rows) -> NDArray[np.float32]:
        rows = base.as_rows(rows, slots=self.slots)
        x = np.zeros((len(rows), self._inputs), np.float32)
        for row, out in zip(rows, x, strict=True):
            count = self._examples[row, kernels.COUNT]
            out[self._index[row, :count]] = self._value[row, :count]
        return x

    def _slots(self, rows: ArrayLike, dimensions: int = 1) -> Rows:
        """Rows as the kernels take them, which look at the numbers themselves."""
        if not (type(rows) is np.ndarray and rows.dtype is _INT64 and rows.flags.carray and rows.ndim == dimensions):
            rows = compact(base.as_rows(rows, dimensions), _INT64)
        if dimensions == 1:
            self._known = rows
        return rows

    def _require(self, rows: Rows, done: int) -> None:
        """Refuse what compiled code stopped at before it had done all of ``rows``."""
        if done < rows.size:
            self._refuse(rows, done)

    def _refuse(self, rows: Rows, done: int) -> NoReturn:
        """Say why compiled code did ``done`` rows and no more; if negative, it names a wrong one."""
        if done < 0:
            wrong = rows.reshape(-1)[-1 - done :][:1]
            base.check_range("task", self.tasks[wrong], wrong, self._task_count())
            base.check_range("label", self.labels[wrong], wrong, self.classes)
        raise Diverged(self.steps, int(rows.flat[done]))

    def scores(self, images: Images, task: int) -> NDArray[np.float32]:
        base.check_range("task", np.array([task]), None, self._task_count())
        index_map, rows = read_as(images, self._inputs)
        block = self._blocks(self._parameters)[0][task if self.network.private[0] else 0]
        folded = aligned((images.base.width + 1) * block.shape[1])
        kernels.fold(block, index_map, folded.reshape(-1, block.shape[1]))
        out = np.empty((len(images), self.classes), np.float32)
        outputs = aligned(GROUP * block.shape[1]).reshape(GROUP, -1)
        kernels.scores(  # with a workspace of its own, since several threads may ask at once
            folded, self._parameters, self._layers, task, *images.base.strips, rows, *self._make_workspace(2), outputs,
            out,
        )  # fmt: skip
        if self._restriction is not None:
            out[:, ~self._restriction[task]] += np.float32(EXCLUDED)
        return out

    def forward(self, rows: Rows, theta: Vector | None = None) -> NDArray[np.float32]:
        if rows is not self._known:
            rows = self._slots(rows)
        out = np.empty((len(rows), self._classes), np.float32)
        self.forward_passes += len(rows)
        table, workspace = self._table, self._room_for(len(rows))
        if theta is not None:
            self._check_shape(theta)
            if not has_room(theta, self._behind):
                self._undo[0][:] = theta
                theta = self._undo[0]
            active, *others, delta = workspace
            table, workspace = (theta, *table[1:]), (active, *others, delta[: len(active)])  # without the masks
        self._require(rows, kernels.forward(*table, rows, *workspace, out))
        return out

    def activations(self, rows: Rows) -> list[NDArray[np.float32]]:
        rows = self._slots(rows)
        workspace = self._room_for(len(rows))
        self.forward_passes += len(rows)
        if (done := kernels.raw(*self._table, rows, *workspace, np.empty((len(rows), self.classes), np.float32))) < 0:
            self._refuse(rows, done)
        return [np.maximum(workspace[3][: len(rows), units], 0) for units in self._hidden]

    def weight_sizes(self) -> list[tuple[Vector, Vector]]:
        if any(self.network.private):
            return super().weight_sizes()
        coming, going = np.zeros((2, self._outputs), np.float32)
        kernels.weight_sizes(self._parameters, self._layers, coming, going)
        return [(coming[units], going[units]) for units in self._hidden]

    def sgd(self, rows: Rows, lr: float, weights: ArrayLike | None = None, loss: Loss | None = None) -> None:
        if rows is not self._known:
            rows = self._slots(rows)
        if weights is not None:
            weights = base.as_weights(weights, rows, loss)
        if len(rows) == 1 and loss is None:
            self._rate[0] = lr if weights is None else lr * weights[0]
            self._require(rows, kernels.sgd_each(*self._table, rows, self._rate, *self._workspace))
            self.gradients_taken += 1
        else:
            self._add_gradient(self._parameters, rows, -lr, weights, loss)
        self.steps += 1

    def _add_gradient(
        self, target: Vector, rows: Rows, scale: float, weights: Vector | None, loss: Loss | None, fresh: bool = False,
        lists: Any = None,
    ) -> None:  # fmt: skip
        """Target += scale · gradient of the mean loss, of the weighted sum of losses, or of ``loss``.

        What is in a ``fresh`` target counts as zero; its inputs may be sorted.
        """
        strips, by_input = lists or (self._unsorted, ())
        workspace, scales = self._back(rows, scale, weights, loss, strips)
        given = (rows, scales, *workspace)
        if by_input:
            kernels.add_sorted_gradients(target, *self._table[1:3], *given, *by_input, self._change)
        else:
            kernels.add_gradients(target, fresh, *self._table[1:], *given, self._dual, 0, self._no_rule)

    def _back(
        self, rows: Rows, scale: float, weights: Vector | None, loss: Loss | None, strips: Any
    ) -> tuple[tuple[NDArray[Any], ...], Vector]:
        """The rows' backward pass, and what each gradient counts in their sum."""
        if len(rows) == 0:
            raise BadInput("a gradient needs at least one row")
        self.gradients_taken += len(rows)
        if loss is None:
            workspace = self._room_for(len(rows))
            self._require(rows, kernels.backward(*self._table, rows, *workspace, *strips))
            scale = scale / len(rows) if weights is None else scale
        else:
            workspace = self._carried_back(rows, loss)
        scales = np.empty(len(rows), np.float32)
        scales[:] = scale if weights is None else np.float32(scale) * weights
        return workspace, scales

    def _carried_back(self, rows: Rows, loss: Loss) -> tuple[NDArray[Any], ...]:
        """A workspace in which a loss's gradient by the scores has been carried back.

        While the loss is asked, which may call this learner, nobody else has the workspace.
        """
        workspace, self._many = self._room_for(len(rows)), self._workspace
        if workspace is self._workspace:
            workspace = self._make_workspace(len(rows))
        (active, _, counts, delta), scores = workspace, np.empty((len(rows), self.classes), np.float32)
        self._require(rows, kernels.raw(*self._table, rows, *workspace, scores))
        gradient = base.loss_gradient(loss, scores, rows)
        self._require(rows, kernels.carry_back(*self._table[:3], rows, gradient, active, counts, delta))
        self._many = workspace
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

    def predict_and_learn(
        self, x: Vector, y: Rows, task: int, lr: float, decay: float = 0.0, towards: Vector | None = None
    ) -> Rows:
        x, y, predicted = compact(x, _FLOAT32), compact(y, _INT64), np.empty(len(y), np.int64)
        if decay:
            return self._predict_and_pull(x, y, task, lr, decay, towards)
        given, done = (x, y, task, np.float32(lr), *self._workspace, predicted), 0
        if x.shape == (len(y), self._inputs) and self._index.shape[1] >= self._inputs:
            done = kernels.predict_and_learn(*self._table, *given)
        self.steps += done
        self.gradients_taken += done
        self.forward_passes += done
        if done < len(y):  # lists that may be too short, or a bad example, which is then refused in words
            predicted[done:] = super().predict_and_learn(x[done:], y[done:], task, lr)
        return predicted

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float, loss: Loss | None = None) -> None:
        if loss is not None:
            super().reptile(rows, lr, rate, loss)
        else:
            self._step_in_batches(self._slots(rows, 2), lr, rate)

    def _step_in_batches(self, rows: Rows, lr: ArrayLike, rate: float) -> None:
        blocks = self._in_blocks and rows.shape[1] >= kernels.FEWEST
        given = (rows, self._rates(lr, rows), np.float32(rate), *self._workspace, *self._undo, blocks, self._dual)
        self._count_steps(rows, kernels.steps(*self._table, *given))

    def _rates(self, lr: ArrayLike, rows: Rows) -> NDArray[np.float32]:
        """Learning rates as the kernels take them: all of them, or one for all."""
        if isinstance(lr, float):
            self._rate[0] = lr
            return self._rate
        return np.ascontiguousarray(base.as_rates(lr, rows.shape), np.float32).reshape(-1)

    def _count_steps(self, rows: Rows, done: int) -> None:
        self.steps += max(done, 0)
        self.gradients_taken += max(done, 0)
        self._require(rows, done)

    # Gradients as vectors

    def gradient(self, rows: Rows, loss: Loss | None = None) -> Vector:
        gradient: Vector = in_a_room(self._rooms[0], 1, len(self._parameters))[0]
        self._add_gradient(gradient, self._slots(rows), 1, None, loss, True)
        return gradient

    def gradients(self, groups: Sequence[Rows], loss: Loss | None = None) -> Vector:
        groups = [self._slots(group) for group in groups]
        gradients = in_a_room(self._rooms[1], len(groups), len(self._parameters))
        for group, gradient, lists in zip(groups, gradients, self._sorted.of(groups, self)[1], strict=True):
            self._add_gradient(gradient, group, 1, None, loss, True, lists)
        return gradients

    def jacobian(self, groups: Sequence[Rows], loss: Loss | None = None) -> Any:
        formed = loss is not None or sum(map(len, groups)) >= FORMED * len(groups)
        return self.gradients(groups, loss) if formed else factored(self, groups)

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Loss | None = None) -> NDArray[np.floating[Any]]:
        if loss is not None or len(groups) == 0:
            return super().dots(rows, groups, loss)
        factors = factored(self, [rows, *groups])
        return np.asarray(factors @ factors[0])[1:]

    look_ahead = ahead.look_ahead

    # Parameters

    def noise(self, rng: np.random.Generator) -> Vector:
        vector: Vector = in_a_room(self._rooms[0], 1, len(self._parameters))[0]
        normal.fill(rng, zip(self._blocks(vector), self.network.widths[1:], strict=True))
        return vector

    update = updates.update
    sgd_by = updates.sgd_by

    def _check_shape(self, vector: Vector) -> None:
        if vector.shape != self._parameters.shape:
            raise BadInput(f"a vector has the shape {vector.shape}, but θ has {self._parameters.shape}")

    def load(self, vector: Vector) -> None:
        self.update(_replace, vector)
        self.steps -= 1  # it is no step

    def parameters(self) -> Vector:
        copy = aligned(len(self._parameters), self._behind, np.empty)
        copy[:] = self._parameters
        return copy

    def copy_task(self, source: int, target: int) -> None:
        for blocks, private in zip(self._blocks(self._parameters), self.network.private, strict=True):
            if private:
                blocks[target] = blocks[source]

    def state(self) -> dict[str, NDArray[Any]]:
        held: tuple[NDArray[Any], ...] = (self._parameters, *self._table[2:])
        names = ("parameters", "examples", "index", "value")
        state = {name: array.copy() for name, array in zip(names, held, strict=True)}
        return state | {"steps": np.array(self.steps)} | super().state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``; BadInput if compiled code would be led astray by it."""
        self._away = None
        base.check_state(state, FusedPerceptron.state(self))
        base.check_range("label", state["examples"][:, kernels.LABEL], np.arange(self.slots), self.classes)
        counts, index = state["examples"][:, kernels.COUNT], state["index"]
        listed = index[np.arange(index.shape[1]) < counts[:, None]]
        for what, numbers, end in (("counts", counts, index.shape[1] + 1), ("index", listed, self._inputs)):
            if np.any((numbers < 0) | (numbers >= end)):
                raise BadInput(f"the state's {what} name inputs that there are not: it is damaged")
        self._sorted = SortedInputs(self._unit_type)
        self.load(state["parameters"])
        self._examples[:], self._index[:], self._value[:] = state["examples"], state["index"], state["value"]
        self.steps = int(state["steps"])
        super().load_state(state)

    @property
    def parameter_bytes(self) -> int:
        return 4 * int(np.bitwise_count(self._real).sum())

    @property
    def table_bytes(self) -> int:
        return self._examples.nbytes + self._index.nbytes + self._value.nbytes
