"""The learner on PyTorch: any network, any device, float32 or float64. Needs the extra ``torch``."""

# mypy: disable-error-code="override"

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.errors import BadInput, RunFailed
from metareplay.learners.base import Diverged, Learner, Rows, check_restriction
from metareplay.networks import Network
from metareplay.networks.perceptron import Layer, Perceptron
from metareplay.streams.stream import Images

try:
    import torch
except ImportError as error:
    raise BadInput('the PyTorch learner needs PyTorch; install it with: pip install "metareplay[torch]"') from error

from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import cross_entropy

from metareplay.learners.backpropagation import EXCLUDED, Layers, backpropagate
from metareplay.learners.building import build, does_not_take, flatten
from metareplay.learners.modules import PerceptronModule, Private

Floats = NDArray[np.floating[Any]]
"""An array of the learner's own floating-point type."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples, on the device.

    Parameters
    ----------
    x
        ``(n, inputs)``.
    labels
        ``(n,)``.
    tasks
        ``(n,)``, on the host: they choose among modules.
    excluded
        ``(n, classes)``, the classes that have no part; None for none.
    """

    x: Tensor
    labels: Tensor
    tasks: NDArray[np.int64]
    excluded: Tensor | None

    def each(self) -> Iterator[Batch]:
        """One example after another, as a batch of its own."""
        excluded = [None] * len(self.tasks) if self.excluded is None else self.excluded[:, None].unbind()
        for place, (x, label, out) in enumerate(
            zip(self.x[:, None].unbind(), self.labels[:, None].unbind(), excluded, strict=True)
        ):
            yield Batch(x, label, self.tasks[place : place + 1], out)


class PyTorchLearner(Learner):
    """Any ``torch.nn.Module``, differentiated by PyTorch.

    The module's parameters are views of one flat tensor, and their gradients of another, so that a step on all of
    them is one operation. A ``Vector`` is a NumPy array of the learner's own floating-point type, in the order of the
    module's ``parameters()``; those that need no gradient are left out, and stay as they are.

    **Buffers**, such as the running statistics of batch normalisation, are no parameters: a Reptile step or any other
    interpolation leaves them alone. They follow what is *learned*: ``sgd``, ``sgd_each``, ``reptile`` and ``gradient``
    move them, once for each batch that passes. ``gradients`` and ``dots``, which *compare*, leave them as they were,
    and so does a step that was not taken. ``forward`` and ``scores`` have the module in evaluation mode, where it reads
    the running statistics and moves nothing.

    **What the module draws**, as dropout does, comes from a sequence of this learner's own, which ``rng`` decides. It
    is part of ``state()``. PyTorch's global generators are left as they were.

    Parameters
    ----------
    network
        What to build.
    slots, batch_size
        Size of the table of examples, and how many of its slots take the incoming batch.
    rng
        Decides the initial weights, and what the module draws.
    device
        Where parameters and table live, as PyTorch names it: ``cpu``, ``cuda``, ``cuda:1`` …
    dtype
        ``torch.float32`` or ``torch.float64``; the module is converted, and scores have it too.

    Attributes
    ----------
    module
        What is trained; it takes examples ``(n, inputs)`` and the task of each, ``(n,)``.

    Raises
    ------
    BadInput
        If the network cannot be made, or not be trained, or does not give one score for each class.
    """

    images_at_once = 256
    """Evaluation lays out so many at a time, which bounds the memory that it takes."""

    def __init__(
        self,
        network: Network,
        slots: int,
        batch_size: int,
        rng: np.random.Generator,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise BadInput(f"a PyTorch learner computes in torch.float32 or torch.float64, not in {dtype}")
        self.network = network
        self.slots = slots
        self.batch_size = batch_size
        self.labels = np.zeros(slots, np.int64)
        self.tasks = np.zeros(slots, np.int64)
        self.steps = 0
        self._device = torch.device(device)
        self.module, self._beside = build(network, batch_size, rng, self._device, dtype)
        self._parameters, self._gradient = flatten(self.module)
        self._table = torch.zeros(slots, network.inputs, device=self._device, dtype=dtype)
        self._excluded: Tensor | None = None

    # Scenarios

    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        check_restriction(allowed, self.network.classes)
        self._excluded = None if allowed is None else torch.as_tensor(~allowed, device=self._device)

    # The table

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        self._table[self._indices(rows)] = self._floats(x)
        self.labels[rows] = y
        self.tasks[rows] = task

    def copy(self, source: int, target: int) -> None:
        self._table[target] = self._table[source]
        self.labels[target] = self.labels[source]
        self.tasks[target] = self.tasks[source]

    def _batch(self, rows: Rows) -> Batch:
        tasks = self.tasks[rows]
        excluded = None if self._excluded is None else self._excluded[self._indices(tasks)]
        x = self._table.index_select(0, self._indices(rows))
        return Batch(x, self._indices(self.labels[rows]), tasks, excluded)

    # Reading

    def scores(self, images: Images, task: int) -> Floats:
        excluded = None if self._excluded is None else self._excluded[task]
        parts = []
        for begin in range(0, len(images), self.images_at_once):
            which = np.arange(begin, min(begin + self.images_at_once, len(images)))
            parts.append(self._read(self._floats(images.inputs(which)), np.full(len(which), task), excluded))
        return np.concatenate(parts)

    def forward(self, rows: Rows) -> Floats:
        batch = self._batch(rows)
        return self._read(batch.x, batch.tasks, batch.excluded)

    def _read(self, x: Tensor, tasks: NDArray[np.int64], excluded: Tensor | None) -> Floats:
        self._be_learning(False)
        with self._beside.drawing(keep=False), torch.no_grad():
            return on_host(self._through(x, tasks, excluded))

    def _through(self, x: Tensor, tasks: NDArray[np.int64], excluded: Tensor | None) -> Tensor:
        try:
            scores: Tensor = self.module(x, tasks)
        except Exception as error:  # a user's code may raise anything
            name = getattr(self.network, "name", "mlp")
            shape = getattr(self.network, "shape", (self.network.inputs,))
            raise RunFailed(does_not_take(name, shape, len(x), error)) from error
        return scores if excluded is None else scores.masked_fill(excluded, EXCLUDED)

    def _be_learning(self, learning: bool) -> None:
        if self.module.training is not learning:
            self.module.train(learning)

    # Stepping

    def sgd(self, rows: Rows, lr: float, weights: NDArray[np.float32] | None = None) -> None:
        self._differentiate(rows, weights)
        self._parameters.sub_(self._gradient, alpha=lr)
        self.steps += 1

    def sgd_each(self, rows: Rows, lr: ArrayLike) -> None:
        rates = np.broadcast_to(np.asarray(lr, np.float64), len(rows))
        self._sgd_each(rows, rates.tolist(), self._parameters.clone())

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float) -> None:
        # As the base class does it, but θ₀ never leaves the device.
        for batch, rates in zip(rows, np.broadcast_to(np.asarray(lr, np.float64), rows.shape), strict=True):
            start = self._parameters.clone()
            self._sgd_each(batch, rates.tolist(), start)
            torch.lerp(start, self._parameters, rate, out=self._parameters)

    def _sgd_each(self, rows: Rows, rates: list[float], start: Tensor) -> None:
        """Take all steps before any loss is looked at, since looking makes the device wait.

        ``start`` is a copy of θ. If a loss was not finite, the steps before it are taken again from there.
        """
        before = self._beside.moved()
        batch = self._batch(rows)
        finite = np.isfinite(on_host(self._steps(batch, rates)))
        if finite.all():
            self.steps += len(rows)
            return
        taken = int(finite.argmin())
        self._parameters.copy_(start)
        self._beside.put_back(before)
        self._steps(batch, rates[:taken])
        self.steps += taken
        raise Diverged(self.steps, int(rows[taken]))

    def _steps(self, batch: Batch, rates: list[float]) -> Tensor:
        """As many steps as there are rates, each on one example of the batch; returns their losses."""
        losses = [self._parameters.new_empty(0)]
        with self._beside.drawing():
            for one, rate in zip(batch.each(), rates, strict=False):
                losses.append(self._backward(one))
                self._parameters.sub_(self._gradient, alpha=rate)
        return torch.cat(losses)

    def _differentiate(self, rows: Rows, weights: NDArray[np.float32] | None = None) -> None:
        """Let ``_gradient`` be the gradient of the weighted sum of the rows' losses, by default of their mean."""
        before = self._beside.moved()
        with self._beside.drawing():
            losses = self._backward(self._batch(rows), weights)
        try:
            self._look_at(losses, rows)
        except Diverged:
            self._beside.put_back(before)
            raise

    def _backward(self, batch: Batch, weights: NDArray[np.float32] | None = None) -> Tensor:
        """As ``_differentiate``, but nobody has looked at the losses ``(n,)``, which are returned."""
        self._be_learning(True)
        losses = cross_entropy(self._through(batch.x, batch.tasks, batch.excluded), batch.labels, reduction="none")
        self._gradient.zero_()  # backward() adds to it, and leaves out private parts of tasks that are not in the batch
        torch.autograd.backward(losses.mean() if weights is None else losses @ self._floats(weights))
        return losses.detach()

    def _look_at(self, losses: Tensor, rows: Rows) -> None:
        finite = np.isfinite(on_host(losses))
        if not finite.all():
            raise Diverged(self.steps, int(rows[finite.argmin()]))

    # Gradients as vectors

    def gradient(self, rows: Rows) -> Floats:
        """Differentiate the mean loss over ``rows (n,)``; buffers follow, as in a step.

        Raises
        ------
        Diverged
            If a loss is not finite.
        """
        self._differentiate(rows)
        return on_host(self._gradient)

    def gradients(self, groups: Sequence[Rows]) -> Floats:
        return on_host(self._gradients(groups))

    def dots(self, rows: Rows, groups: Sequence[Rows]) -> Floats:
        gradients = self._gradients([rows, *groups])
        return on_host(gradients[1:] @ gradients[0])

    def _gradients(self, groups: Sequence[Rows]) -> Tensor:
        gradients = self._parameters.new_empty(len(groups), len(self._parameters))
        before = self._beside.moved()
        losses = []
        with self._beside.drawing():
            for group, gradient in zip(groups, gradients, strict=True):
                losses.append(self._backward(self._batch(group)))
                gradient.copy_(self._gradient)
        self._beside.put_back(before)
        self._look_at(torch.cat(losses), np.concatenate(groups))
        return gradients

    # Parameters

    def descend(self, vector: Floats, lr: float) -> None:
        self._parameters.sub_(self._floats(vector), alpha=lr)
        self.steps += 1

    def parameters(self) -> Floats:
        return on_host(self._parameters)

    def interpolate(self, start: Floats, rate: float) -> None:
        torch.lerp(self._floats(start), self._parameters, rate, out=self._parameters)

    def copy_task(self, source: int, target: int) -> None:
        """Start task ``target``'s private parts, their buffers too, from task ``source``'s."""
        for part in self.module.modules():
            if isinstance(part, Private):
                part.copy(source, target)

    # Keeping

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "parameters": on_host(self._parameters),
            "table": on_host(self._table),
            "labels": self.labels.copy(),
            "tasks": self.tasks.copy(),
            "steps": np.array(self.steps),
        } | self._beside.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._parameters.copy_(self._floats(state["parameters"]))
        self._table.copy_(self._floats(state["table"]))
        self.labels[:] = state["labels"]
        self.tasks[:] = state["tasks"]
        self.steps = int(state["steps"])
        self._beside.load_state(state)

    @property
    def parameter_bytes(self) -> int:
        return self._parameters.nbytes

    @property
    def table_bytes(self) -> int:
        return self._table.nbytes + self.labels.nbytes + self.tasks.nbytes

    # Between NumPy and the device

    def _floats(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(_writable(values), dtype=self._parameters.dtype, device=self._device)

    def _indices(self, values: NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(_writable(values), device=self._device)


class PyTorchPerceptron(PyTorchLearner):
    """A perceptron with shared and private layers, its backpropagation written out (``backpropagation.py``).

    It starts with the :meth:`Perceptron.initial_layers` of ``rng``.
    """

    network: Perceptron
    images_at_once = 4096
    by_hand: ClassVar[bool] = True
    """Tests turn it off, to hold the written-out arithmetic against PyTorch's own."""

    def __init__(
        self,
        network: Perceptron,
        slots: int,
        batch_size: int,
        rng: np.random.Generator,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(network, slots, batch_size, rng, device, dtype)
        self._shared = not any(network.private)
        self._layers: list[Layers] = []  # by task: the parameters, and their gradients
        self._slopes: list[Layers] = []
        for task in range(1 if self._shared else network.tasks):
            own = [copies[task if len(copies) > 1 else 0] for copies in self._linears()]
            self._layers.append([(linear.weight.detach(), linear.bias.detach()) for linear in own])
            self._slopes.append([(cast(Tensor, linear.weight.grad), cast(Tensor, linear.bias.grad)) for linear in own])

    def _linears(self) -> list[list[Linear]]:
        return cast(PerceptronModule, self.module).linears()

    def _steps(self, batch: Batch, rates: list[float]) -> Tensor:
        if not self.by_hand:
            return super()._steps(batch, rates)
        losses = [self._parameters.new_empty(0)]
        for one, rate in zip(batch.each(), rates, strict=False):
            layers = self._layers[0 if self._shared else one.tasks[0]]
            loss, inputs, deltas = backpropagate(layers, one.x, one.labels, one.excluded)
            losses.append(loss)
            for (weight, bias), before, delta in zip(layers, inputs, deltas, strict=True):
                weight.addmm_(delta.t(), before, alpha=-rate)
                bias.sub_(delta[0], alpha=rate)
        return torch.cat(losses)

    def _backward(self, batch: Batch, weights: NDArray[np.float32] | None = None) -> Tensor:
        task = 0 if self._shared else int(batch.tasks[0])
        if not self.by_hand or not (self._shared or (batch.tasks == task).all()):
            return super()._backward(batch, weights)
        shares = 1 / len(batch.tasks) if weights is None else self._floats(weights)[:, None]
        losses, inputs, deltas = backpropagate(self._layers[task], batch.x, batch.labels, batch.excluded, shares)
        if not self._shared:
            self._gradient.zero_()
        for (weight, bias), before, delta in zip(self._slopes[task], inputs, deltas, strict=True):
            torch.mm(delta.t(), before, out=weight)
            torch.sum(delta, 0, out=bias)
        return losses

    def layers(self, vector: Floats | None = None) -> list[list[tuple[Floats, Floats]]]:
        """Copy the parameters, or the parts of any ``Vector``, nested as in :meth:`Perceptron.initial_layers`.

        Returns
        -------
        list
            For each layer, for each of its copies, weights ``(in, out)`` and biases ``(out,)``.
        """
        flat = self.parameters() if vector is None else vector
        sizes = [parameter.numel() for parameter in self.module.parameters()]
        pieces: Iterator[Floats] = iter(np.split(flat, np.cumsum(sizes)[:-1]))
        return [
            [(next(pieces).reshape(linear.weight.shape).T.copy(), next(pieces).copy()) for linear in copies]
            for copies in self._linears()
        ]

    def set_layers(self, layers: Sequence[Sequence[Layer]]) -> None:
        """Take the parameters from ``layers``, nested as :meth:`layers` gives them."""
        cast(PerceptronModule, self.module).set_layers(layers)


def _writable(values: ArrayLike) -> NDArray[Any]:
    """The same array, or a copy of one that cannot be written: tensors share memory, and always can."""
    array = np.asarray(values)
    return array if array.flags.writeable else array.copy()


def on_host(tensor: Tensor) -> Floats:
    """Copy a tensor into a NumPy array."""
    return np.array(tensor.detach().cpu().numpy())
