"""Networks by name: what ``--network`` takes, described so that importing this needs no PyTorch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from metareplay import user_code
from metareplay.errors import BadInput
from metareplay.settings import nearest

if TYPE_CHECKING:
    from torch.nn import Module

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Perceptron:
    """Linear layers with ReLU between them.

    ``widths`` are ``(inputs, hidden …, classes)``, at least two; with two the model is linear. ``private`` says of each
    of the ``len(widths) - 1`` layers whether every task has one of its own (PyTorch: a ``ModuleList``), empty for none;
    such a layer has ``tasks`` copies. ``initial`` says how weights start, biases being zero: ``glorot`` is uniform in
    ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010), ``fan-in`` in ±1 / sqrt(fan_in), as PyTorch's ``Linear``.
    """

    widths: tuple[int, ...]
    private: tuple[bool, ...] = ()
    tasks: int = 1
    initial: Literal["glorot", "fan-in"] = "glorot"

    def __post_init__(self) -> None:
        if not self.private:
            object.__setattr__(self, "private", (False,) * (len(self.widths) - 1))
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise BadInput(f"a perceptron needs at least one input, class and unit in each layer, not {self.widths}")
        if len(self.private) != len(self.widths) - 1:
            raise BadInput(f"{len(self.widths) - 1} layers need as many private flags, not {len(self.private)}")

    @property
    def inputs(self) -> int:
        """How many numbers an example has."""
        return self.widths[0]

    @property
    def classes(self) -> int:
        """How many scores it gives."""
        return self.widths[-1]

    def for_each_task(self, tasks: int) -> Perceptron:
        """Give every task a network of its own, narrower: each layer's hidden units are shared out."""
        inputs, *hidden, classes = self.widths
        if tasks > min(hidden, default=tasks):
            text = f"independent shares {min(hidden)} hidden units out among {tasks} tasks, but each needs one; "
            raise BadInput(f"{text}give at least {tasks} units a layer (--hiddens {tasks})")
        widths = (inputs, *(units // tasks for units in hidden), classes)
        return replace(self, widths=widths, private=(True,) * (len(widths) - 1), tasks=tasks)

    def copies(self, layer: int) -> int:
        """How many copies layer ``layer`` has: one, or one per task."""
        return self.tasks if self.private[layer] else 1

    def bound(self, layer: int) -> float:
        """Weights of layer ``layer`` start uniform in ± this."""
        fan_in, fan_out = self.widths[layer : layer + 2]
        return float((6 / (fan_in + fan_out)) ** 0.5 if self.initial == "glorot" else fan_in**-0.5)

    def initial_layers(self, rng: np.random.Generator) -> list[Layer]:
        """Draw fresh parameters, as ``Learner.layers`` has them; of a private layer for each copy."""
        layers = []
        for number, (fan_in, fan_out) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            bound = self.bound(number)
            copies = (self.tasks,) if self.private[number] else ()
            weights = rng.uniform(-bound, bound, (*copies, fan_in, fan_out)).astype(np.float32)
            layers.append((weights, np.zeros((*copies, fan_out), np.float32)))
        return layers


@dataclass(frozen=True)
class ModuleNetwork:
    """A ``torch.nn.Module``, shared by all tasks or with a copy for each.

    ``name`` is ``cnn-small``, ``resnet18-reduced``, ``FILE.py:FACTORY``, or a factory itself; ``shape`` that of an
    example, ``(channels, height, width)``, or ``(inputs,)`` where it forms no image. A ``private`` one has ``tasks``
    copies (PyTorch: a ``ModuleList``), each ``share`` times narrower than the network itself.
    """

    name: str | Callable[..., Module]
    shape: tuple[int, ...]
    classes: int
    private: bool = False
    tasks: int = 1
    share: int = 1

    @property
    def inputs(self) -> int:
        """How many numbers an example has."""
        return math.prod(self.shape)

    @property
    def copies(self) -> int:
        """How many modules it is made of: one, or one per task."""
        return self.tasks if self.private else 1

    def for_each_task(self, tasks: int) -> ModuleNetwork:
        """Give every task a network of its own, narrower: together about as wide as this one.

        A user's factory is asked for ``width=1/tasks`` if it has that keyword; else every task has the whole network.
        """
        return replace(self, private=True, tasks=tasks, share=tasks)

    def modules(self) -> list[Module]:
        """Make its copies, with fresh weights from PyTorch's generators; BadInput if a user's factory makes none."""
        from torch.nn import Module

        from metareplay.networks.convolutional import CONVOLUTIONAL

        if self.name in CONVOLUTIONAL:
            return [CONVOLUTIONAL[self.name](self.shape, self.classes, self.share) for _ in range(self.copies)]
        factory: Any = user_code.load(self.name, "--network") if isinstance(self.name, str) else self.name
        try:
            narrower = self.share > 1 and "width" in inspect.signature(factory).parameters
            width = {"width": 1 / self.share} if narrower else {}
            made = [factory(self.shape, self.classes, **width) for _ in range(self.copies)]
        except Exception as error:  # a user's code may raise anything
            what = f"for inputs of shape {self.shape} and {self.classes} classes: {first_line(error)}"
            raise BadInput(f"the network {self.name} cannot be made {what}") from error
        for module in made:
            if not isinstance(module, Module):
                raise BadInput(f"the network {self.name} gave {type(module).__name__}, but must give a torch.nn.Module")
        return made


def first_line(error: Exception) -> str:
    """Say in one line what was raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


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
        text = f"the network {name} is for images, but the stream's examples are {math.prod(shape)} numbers "
        raise BadInput(f"{text}that form none: use --network mlp")
    return ModuleNetwork(name, shape, classes)
