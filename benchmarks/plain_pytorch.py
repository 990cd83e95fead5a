"""The step loop written plainly and well in PyTorch: lists of parameters, autograd, updates in place, no copies."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

Layers = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


def tensors(layers: Layers) -> list[Tensor]:
    """Parameters, weights before biases, as PyTorch keeps them: ``(out, in)``."""
    arrays = [array for weights, biases in layers for array in (np.ascontiguousarray(weights.T), biases)]
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def forward(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    for weights, biases in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = linear(x, weights, biases).relu()
    return linear(x, parameters[-2], parameters[-1])


def gradient(parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(cross_entropy(forward(parameters, x), y), parameters)


def descend(parameters: Sequence[Tensor], direction: Sequence[Tensor], lr: float) -> None:
    with torch.no_grad():
        torch._foreach_add_(parameters, direction, alpha=-lr)


def steps(parameters: Sequence[Tensor], x: Tensor, y: Tensor, rows: list[int], lr: float) -> None:
    """One SGD step on each of ``rows``: the loop of the step benchmark."""
    for row in rows:
        descend(parameters, gradient(parameters, x[row : row + 1], y[row : row + 1]), lr)


def steps_by_hand(parameters: Sequence[Tensor], x: Tensor, y: Tensor, rows: list[int], lr: float) -> None:
    """The same without autograd: backpropagation written out, for two hidden layers."""
    w1, b1, w2, b2, w3, b3 = parameters
    labels = y.tolist()
    with torch.no_grad():
        for row in rows:
            h1 = torch.addmv(b1, w1, x[row]).relu_()
            h2 = torch.addmv(b2, w2, h1).relu_()
            d3 = torch.softmax(torch.addmv(b3, w3, h2), 0)
            d3[labels[row]] -= 1
            d2 = torch.mv(w3.t(), d3).mul_(h2 > 0)
            d1 = torch.mv(w2.t(), d2).mul_(h1 > 0)
            for weights, biases, delta, before in ((w3, b3, d3, h2), (w2, b2, d2, h1), (w1, b1, d1, x[row])):
                weights.addr_(delta, before, alpha=-lr)
                biases.add_(delta, alpha=-lr)
