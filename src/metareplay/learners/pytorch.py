"""The learner on PyTorch: autograd, any device, float32 or float64. Needs the extra ``torch``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.errors import BadInput
from metareplay.learners.base import Diverged, Learner, Rows
from metareplay.learners.perceptron import Perceptron
from metareplay.streams.base import Images

try:
    import torch
except ImportError as error:
    raise BadInput('the PyTorch learner needs PyTorch; install it with: pip install "metareplay[torch]"') from error

from torch import Tensor
from torch.nn import Linear, Module, ModuleList
from torch.nn.functional import cross_entropy, relu

Floats = NDArray[np.floating[Any]]
"""An array of the learner's own floating-point type."""

IMAGES_AT_ONCE = 4096
"""Evaluation goes through this many images at a time, which bounds the memory that it takes."""


class Private(Module):
    """A part of a network of which every task has a copy of its own; each row goes through its task's."""

    def __init__(self, copies: Iterable[Module]) -> None:
        super().__init__()
        self.copies = ModuleList(copies)

    def forward(self, x: Tensor, tasks: NDArray[np.int64]) -> Tensor:
        present, counts = np.unique(tasks, return_counts=True)
        if len(present) == 1:
            return self._through(present[0], x)
        by_task = np.argsort(tasks, kind="stable")
        groups = torch.split(x[torch.as_tensor(by_task, device=x.device)], counts.tolist())
        y = torch.cat([self._through(task, group) for task, group in zip(present, groups, strict=True)])
        return y[torch.as_tensor(np.argsort(by_task), device=x.device)]

    def copy(self, source: int, target: int) -> None:
        """Start task ``target``'s copy from task ``source``'s."""
        with torch.no_grad():
            for theirs, ours in zip(self.copies[source].parameters(), self.copies[target].parameters(), strict=True):
                ours.copy_(theirs)

    def _through(self, task: int, x: Tensor) -> Tensor:
        y: Tensor = self.copies[task](x)
        return y


class PerceptronModule(Module):
    """The ``torch.nn.Module`` of a :class:`Perceptron`: its layers in order with ReLU between them.

    It is made on the ``meta`` device, without storage: ``to_empty`` gives it some, still without values. So nothing is
    drawn from PyTorch's global generator, as ``Linear`` does for its own initial weights.
    """

    def __init__(self, network: Perceptron) -> None:
        super().__init__()
        self.layers = ModuleList()
        for number, (fan_in, fan_out) in enumerate(zip(network.widths, network.widths[1:], strict=False)):
            copies = [Linear(fan_in, fan_out, device="meta") for _ in range(network.copies(number))]
            self.layers.append(Private(copies) if network.private[number] else copies[0])

    def forward(self, x: Tensor, tasks: NDArray[np.int64]) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number:
                x = relu(x)
            x = layer(x, tasks) if isinstance(layer, Private) else layer(x)
        return x

    def linears(self) -> list[list[Linear]]:
        """Every copy of every layer, nested as in :meth:`Perceptron.initial_layers`."""
        return [[part for part in layer.modules() if isinstance(part, Linear)] for layer in self.layers]


class PyTorchPerceptron(Learner):
    """A perceptron with shared and private layers, differentiated by PyTorch.

    The module's parameters are views of one flat tensor, and their gradients of another, so that a step on all of
    them is one operation. A ``Vector`` is a NumPy array of the learner's own floating-point type, in the order of the
    module's ``parameters()``.

    Parameters
    ----------
    network
        The layers.
    slots, batch_size
        Size of the table of examples, and how many of its slots take the incoming batch.
    rng
        Draws the initial weights (:meth:`Perceptron.initial_layers`).
    device
        Where parameters and table live, as PyTorch names it: ``cpu``, ``cuda``, ``cuda:1`` …
    dtype
        ``torch.float32`` or ``torch.float64``; scores have it too.

    Attributes
    ----------
    module
        The :class:`PerceptronModule`.
    """

    def __init__(
        self,
        network: Perceptron,
        slots: int,
        batch_size: int,
        rng: np.random.Generator,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise BadInput(f"a PyTorch learner computes in torch.float32 or torch.float64, not in {dtype}")
        self.slots = slots
        self.batch_size = batch_size
        self.labels = np.zeros(slots, np.int64)
        self.tasks = np.zeros(slots, np.int64)
        self.steps = 0
        self.module = PerceptronModule(network).to(dtype).to_empty(device=device)
        self._parameters, self._gradient = flatten(self.module)
        self._table = torch.zeros(slots, network.widths[0], device=device, dtype=dtype)
        self.set_layers(network.initial_layers(rng))

    # The table

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        self._table[self._indices(rows)] = self._floats(x)
        self.labels[rows] = y
        self.tasks[rows] = task

    def copy(self, source: int, target: int) -> None:
        self._table[target] = self._table[source]
        self.labels[target] = self.labels[source]
        self.tasks[target] = self.tasks[source]

    # Reading

    def scores(self, images: Images, task: int) -> Floats:
        parts = []
        for begin in range(0, len(images), IMAGES_AT_ONCE):
            which = np.arange(begin, min(begin + IMAGES_AT_ONCE, len(images)))
            parts.append(self._scores(self._floats(images.inputs(which)), np.full(len(which), task)))
        return np.concatenate(parts)

    def forward(self, rows: Rows) -> Floats:
        return self._scores(self._table[self._indices(rows)], self.tasks[rows])

    def _scores(self, x: Tensor, tasks: NDArray[np.int64]) -> Floats:
        with torch.no_grad():
            return on_host(self.module(x, tasks))

    # Stepping

    def sgd(self, rows: Rows, lr: float, weights: NDArray[np.float32] | None = None) -> None:
        self._differentiate(rows, weights)
        self._parameters.sub_(self._gradient, alpha=lr)
        self.steps += 1

    def sgd_each(self, rows: Rows, lr: ArrayLike) -> None:
        rates = np.broadcast_to(np.asarray(lr, np.float64), len(rows))
        for place, rate in enumerate(rates.tolist()):
            self.sgd(rows[place : place + 1], rate)

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float) -> None:
        # As the base class does it, but θ₀ never leaves the device.
        for batch, batch_lr in zip(rows, np.broadcast_to(lr, rows.shape), strict=True):
            start = self._parameters.clone()
            self.sgd_each(batch, batch_lr)
            self._interpolate(start, rate)

    def _differentiate(self, rows: Rows, weights: NDArray[np.float32] | None = None) -> None:
        """Let ``_gradient`` be the gradient of the weighted sum of the rows' losses, by default of their mean."""
        scores = self.module(self._table[self._indices(rows)], self.tasks[rows])
        losses = cross_entropy(scores, self._indices(self.labels[rows]), reduction="none")
        finite = losses.detach().isfinite()
        if not finite.all():
            raise Diverged(self.steps, int(rows[int(finite.int().argmin())]))
        loss = losses.mean() if weights is None else losses @ self._floats(weights)
        self._gradient.zero_()  # backward() adds to it, and leaves out private parts of tasks that are not in the batch
        torch.autograd.backward(loss)

    # Gradients as vectors

    def gradient(self, rows: Rows) -> Floats:
        """Differentiate the mean loss over ``rows (n,)``.

        Raises
        ------
        Diverged
            If a loss is not finite.
        """
        self._differentiate(rows)
        return on_host(self._gradient)

    # Parameters

    def descend(self, vector: Floats, lr: float) -> None:
        self._parameters.sub_(self._floats(vector), alpha=lr)
        self.steps += 1

    def parameters(self) -> Floats:
        return on_host(self._parameters)

    def interpolate(self, start: Floats, rate: float) -> None:
        self._interpolate(self._floats(start), rate)

    def _interpolate(self, start: Tensor, rate: float) -> None:
        torch.lerp(start, self._parameters, rate, out=self._parameters)

    def copy_task(self, source: int, target: int) -> None:
        for part in self.module.modules():
            if isinstance(part, Private):
                part.copy(source, target)

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
            for copies in self.module.linears()
        ]

    def set_layers(self, layers: Sequence[Sequence[tuple[Floats, Floats]]]) -> None:
        """Take the parameters from ``layers``, nested as :meth:`layers` gives them."""
        with torch.no_grad():
            for ours, theirs in zip(self.module.linears(), layers, strict=True):
                for linear, (weights, biases) in zip(ours, theirs, strict=True):
                    linear.weight.copy_(self._floats(weights).T)
                    linear.bias.copy_(self._floats(biases))

    # Keeping

    def state(self) -> dict[str, NDArray[Any]]:
        return {
            "parameters": on_host(self._parameters),
            "table": on_host(self._table),
            "labels": self.labels.copy(),
            "tasks": self.tasks.copy(),
            "steps": np.array(self.steps),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._parameters.copy_(self._floats(state["parameters"]))
        self._table.copy_(self._floats(state["table"]))
        self.labels[:] = state["labels"]
        self.tasks[:] = state["tasks"]
        self.steps = int(state["steps"])

    @property
    def parameter_bytes(self) -> int:
        return self._parameters.nbytes

    @property
    def table_bytes(self) -> int:
        return self._table.nbytes + self.labels.nbytes + self.tasks.nbytes

    # Between NumPy and the device

    def _floats(self, values: ArrayLike) -> Tensor:
        return torch.as_tensor(values, dtype=self._parameters.dtype, device=self._parameters.device)

    def _indices(self, values: NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(values, device=self._parameters.device)


def flatten(module: Module) -> tuple[Tensor, Tensor]:
    """Lay a module's parameters into one flat tensor and their gradients into another.

    Returns
    -------
    parameters, gradient : Tensor
        ``(p,)`` each, in the order of ``module.parameters()``. The module's parameters and their ``grad`` become
        views of them; so the module must not be moved to another device or dtype afterwards.
    """
    parts = list(module.parameters())
    parameters = torch.cat([part.detach().reshape(-1) for part in parts])
    gradient = torch.zeros_like(parameters)
    sizes = [part.numel() for part in parts]
    views = zip(parts, torch.split(parameters, sizes), torch.split(gradient, sizes), strict=True)
    for part, value, slope in views:
        part.data = value.view_as(part)
        part.grad = slope.view_as(part)
    return parameters, gradient


def on_host(tensor: Tensor) -> Floats:
    """Copy a tensor into a NumPy array."""
    return np.array(tensor.detach().cpu().numpy())
