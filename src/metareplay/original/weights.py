"""A network's weights under the names that the original's PyTorch modules gave them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.networks.perceptron import Layer

State = dict[str, NDArray[np.float32]]
"""Weights ``(out, in)`` and biases ``(out,)``, as PyTorch's ``Linear`` has them, by name."""


def state(model: str, layers: Sequence[Layer]) -> State:
    """The state of the original's model, from the layers that a learner's ``layers()`` gives.

    Parameters
    ----------
    model
        Its name: ``taskinput`` and ``independent`` have private layers, and names of their own for them.
    layers
        For each layer weights ``(in, out)`` and biases; of a private one, those of all its copies.
    """
    named: State = {}
    for name, (weights, biases) in _named(model, layers):
        named[f"{name}.weight"] = np.ascontiguousarray(weights.T, np.float32)
        named[f"{name}.bias"] = np.asarray(biases, np.float32)
    return named


def _named(model: str, layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    if model == "taskinput":
        first, *shared = layers
        yield from ((f"i_layer.{task}", layer) for task, layer in enumerate(zip(*first, strict=True)))
        yield from ((f"h_layer.0.{number}", layer) for number, layer in enumerate(shared[:-1]))
        yield from (("o_layer.0", layer) for layer in shared[-1:])
    elif model == "independent":
        for number, layer in enumerate(layers):
            # Every second number is a ReLU, which has no weights.
            yield from ((f"nets.{task}.net.{2 * number}", own) for task, own in enumerate(zip(*layer, strict=True)))
    else:
        yield from ((f"net.net.{2 * number}", layer) for number, layer in enumerate(layers))
