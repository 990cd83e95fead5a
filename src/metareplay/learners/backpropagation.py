"""Backpropagation through linear layers with ReLU between them, written out.

For a perceptron, PyTorch's own bookkeeping costs several times the arithmetic. This is the same arithmetic without it;
tests hold it against autograd.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

EXCLUDED = -1e30
"""The score of a class that is excluded."""

Layers = Sequence[tuple[Tensor, Tensor]]
"""For each layer weights ``(out, in)`` and biases ``(out,)``, or their gradients."""


def backpropagate(
    layers: Layers, x: Tensor, labels: Tensor, excluded: Tensor | None = None, weights: Tensor | float = 1.0
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Differentiate the weighted sum of cross-entropies with respect to every layer's output.

    Parameters
    ----------
    layers
        The parameters.
    x, labels
        Examples ``(n, inputs)`` and their classes ``(n,)``.
    excluded
        ``(n, classes)``: the classes that have no part; None for none.
    weights
        What each example's loss counts: ``(n, 1)``, or one number for all.

    Returns
    -------
    losses
        ``(n,)``.
    inputs, deltas
        Of each layer, what goes in, ``(n, in)``, and the derivative with respect to what comes out, ``(n, out)``. The
        gradient of its weights is ``delta.T @ input``, of its biases ``delta.sum(0)``.
    """
    inputs = [x]
    for weight, bias in layers[:-1]:
        inputs.append(torch.addmm(bias, inputs[-1], weight.t()).relu_())
    weight, bias = layers[-1]
    scores = torch.addmm(bias, inputs[-1], weight.t())
    if excluded is not None:
        scores.masked_fill_(excluded, EXCLUDED)
    log_probabilities = torch.log_softmax(scores, 1)
    losses = nll_loss(log_probabilities, labels, reduction="none")
    delta = log_probabilities.exp_().sub_(one_hot(labels, len(bias)))
    if not isinstance(weights, float) or weights != 1:
        delta.mul_(weights)
    deltas = [delta]
    for (weight, _), output in zip(reversed(layers[1:]), reversed(inputs[1:]), strict=True):
        delta = torch.mm(delta, weight).masked_fill_(output <= 0, 0)
        deltas.append(delta)
    return losses, inputs, deltas[::-1]
