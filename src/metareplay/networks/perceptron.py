"""The description of a multi-layer perceptron, some of whose layers may be private to a task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Perceptron:
    """Linear layers with ReLU between them.

    Parameters
    ----------
    widths
        ``(inputs, hidden …, classes)``: at least two; with two the model is linear.
    private
        For each of the ``len(widths) - 1`` layers, whether every task has one of its own (PyTorch: a ``ModuleList``).
        Empty for none.
    tasks
        How many copies a private layer has.
    initial
        How weights start; biases start at zero. ``glorot``: uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio
        2010); ``fan-in``: uniform in ±1 / sqrt(fan_in), PyTorch's default for ``Linear``.
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
            raise BadInput(
                f"independent shares {min(hidden)} hidden units out among {tasks} tasks, but each needs one; "
                f"give at least {tasks} units a layer (--hiddens {tasks})"
            )
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
