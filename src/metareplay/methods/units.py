"""Hidden units that are made anew: what continual backprop and ReDo share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.learners.base import Learner, Vector
from metareplay.networks import Network
from metareplay.networks.perceptron import Perceptron


def with_units(network: Network, method: str) -> Perceptron:
    """The network, if its hidden units are known; else BadInput."""
    if not isinstance(network, Perceptron):
        raise BadInput(f"{method} makes hidden units anew, which only a perceptron has: use --network mlp")
    return network


def reborn(
    learner: Learner, rng: np.random.Generator, layer: int, units: NDArray[np.int64], vectors: Sequence[Vector] = ()
) -> None:
    """Give ``units`` of a hidden layer weights as at the start of all: incoming random, biases and outgoing zero.

    What ``vectors``, as an optimiser's moments, have for these weights becomes zero.
    """
    assert isinstance(learner.network, Perceptron)
    for vector in (None, *vectors):
        layers = learner.layers(vector)
        (incoming, biases), (outgoing, _) = layers[layer], layers[layer + 1]
        bound = learner.network.bound(layer) if vector is None else 0.0
        incoming[:, units] = rng.uniform(-bound, bound, (len(incoming), len(units))) if bound else 0.0
        biases[units], outgoing[units] = 0.0, 0.0
