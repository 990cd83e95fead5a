"""The modules that the PyTorch learner trains: all take examples and, for private parts, the task of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Linear, Module, ModuleList
from torch.nn.functional import relu

from metareplay.networks.perceptron import Layer, Perceptron


class Private(Module):
    """A part of a network of which every task has a copy of its own; each row goes through its task's."""

    def __init__(self, copies: Iterable[Module]) -> None:
        super().__init__()
        self.copies = ModuleList(copies)

    def forward(self, x: Tensor, tasks: NDArray[np.int64]) -> Tensor:
        if (tasks == tasks[0]).all():
            return self._through(tasks[0], x)
        present, counts = np.unique(tasks, return_counts=True)
        by_task = np.argsort(tasks, kind="stable")
        groups = torch.split(x[torch.as_tensor(by_task, device=x.device)], counts.tolist())
        y = torch.cat([self._through(task, group) for task, group in zip(present, groups, strict=True)])
        return y[torch.as_tensor(np.argsort(by_task), device=x.device)]

    def copy(self, source: int, target: int) -> None:
        """Start task ``target``'s copy from task ``source``'s: parameters and buffers."""
        ours, theirs = self.copies[target], self.copies[source]
        with torch.no_grad():
            for parts in (ours.parameters(), theirs.parameters()), (ours.buffers(), theirs.buffers()):
                for part, other in zip(*parts, strict=True):
                    part.copy_(other)

    def _through(self, task: int, x: Tensor) -> Tensor:
        y: Tensor = self.copies[task](x)
        return y


class Shaped(Module):
    """A module of one's own kind behind the table of examples, whose rows it takes in their shape.

    Parameters
    ----------
    copies
        The module that all tasks share, or one for each task.
    private
        Which of the two.
    shape
        Of an example, without the batch.
    """

    def __init__(self, copies: list[Module], private: bool, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = Private(copies) if private else copies[0]
        self.shape = shape

    def forward(self, x: Tensor, tasks: NDArray[np.int64]) -> Tensor:
        x = x.view(-1, *self.shape)
        y: Tensor = self.network(x, tasks) if isinstance(self.network, Private) else self.network(x)
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

    def set_layers(self, layers: Sequence[Sequence[Layer]]) -> None:
        """Take the parameters from ``layers``, nested as in :meth:`Perceptron.initial_layers`."""
        with torch.no_grad():
            for ours, theirs in zip(self.linears(), layers, strict=True):
                for linear, (weights, biases) in zip(ours, theirs, strict=True):
                    linear.weight.copy_(torch.as_tensor(weights).T)
                    linear.bias.copy_(torch.as_tensor(biases))
