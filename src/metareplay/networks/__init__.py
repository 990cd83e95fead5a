"""Networks by name: what ``--network`` takes, described so that importing this needs no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metareplay import user_code
from metareplay.errors import BadInput
from metareplay.networks.module import ModuleNetwork
from metareplay.networks.perceptron import Perceptron
from metareplay.settings import nearest

Network = Perceptron | ModuleNetwork
"""What a learner is built from, and what a method may change before: :meth:`metareplay.Method.network`."""

NETWORKS = {
    "mlp": "a perceptron: linear layers with ReLU between them (--layers, --hiddens)",
    "cnn-small": "two 3×3 convolutions with 32 and 64 maps, each with ReLU and 2×2 maximum; 128 units; the classes",
    "resnet18-reduced": "ResNet-18 with 20, 40, 80 and 160 maps, as GEM's authors have it for CIFAR-100",
}


def check(name: str) -> None:
    """Refuse with BadInput what is neither a network's name nor a ``FILE.py:FACTORY`` that is there to be called."""
    if name in NETWORKS:
        return
    if user_code.split(name) is None:
        raise BadInput(
            f"--network is {name!r}{nearest(name, NETWORKS) or ';'} it must be one of {', '.join(NETWORKS)}, or "
            "FILE.py:FACTORY: a function of yours that takes (shape, classes) and returns a torch.nn.Module"
        )
    if not callable(user_code.load(name, "--network")):
        raise BadInput(f"--network is {name}, which cannot be called; it must be a function of (shape, classes)")


def describe(name: str, shape: Sequence[int], classes: int, hidden: Sequence[int] = ()) -> Network:
    """Describe one of ``NETWORKS``, or ``FILE.py:FACTORY``, for examples of a ``shape``, and so many ``classes``.

    The shape is ``(inputs,)``, ``(height, width)`` or ``(channels, height, width)``; ``hidden`` are the units of each
    hidden layer (``mlp`` only). BadInput if there is no such network, or it does not take inputs of this shape.
    """
    check(name)
    if name == "mlp":
        return Perceptron((math.prod(shape), *hidden, classes))
    shape = (1, *shape) if len(shape) == 2 else tuple(shape)
    if name in NETWORKS and len(shape) != 3:
        raise BadInput(
            f"the network {name} is for images, but the stream's examples are {math.prod(shape)} numbers "
            "that form none: use --network mlp"
        )
    return ModuleNetwork(name, shape, classes)
