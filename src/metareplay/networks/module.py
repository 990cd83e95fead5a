"""The description of a network that is a ``torch.nn.Module``: a small one of ours, or a user's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from metareplay import user_code
from metareplay.errors import BadInput

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True)
class ModuleNetwork:
    """A ``torch.nn.Module``, shared by all tasks or with a copy for each.

    Parameters
    ----------
    name
        ``cnn-small``, ``resnet18-reduced``, ``FILE.py:FACTORY``, or a factory itself.
    shape
        Of an example: ``(channels, height, width)``, or ``(inputs,)`` where it forms no image.
    classes
        How many scores it gives.
    private
        Whether every task has one of its own (PyTorch: a ``ModuleList``).
    tasks
        How many copies it then has.
    share
        Each copy is this many times narrower than the network itself.
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
        return [self._made() for _ in range(self.copies)]

    def _made(self) -> Module:
        from torch.nn import Module

        from metareplay.networks.convolutional import CONVOLUTIONAL

        if self.name in CONVOLUTIONAL:
            return CONVOLUTIONAL[self.name](self.shape, self.classes, self.share)
        factory: Any = user_code.load(self.name, "--network") if isinstance(self.name, str) else self.name
        try:
            narrower = self.share > 1 and "width" in inspect.signature(factory).parameters
            module = factory(self.shape, self.classes, **({"width": 1 / self.share} if narrower else {}))
        except Exception as error:  # a user's code may raise anything
            raise BadInput(
                f"the network {self.name} cannot be made for inputs of shape {self.shape} and {self.classes} classes: "
                f"{first_line(error)}"
            ) from error
        if not isinstance(module, Module):
            raise BadInput(f"the network {self.name} gave {type(module).__name__}, but must give a torch.nn.Module")
        return module


def first_line(error: Exception) -> str:
    """Say in one line what was raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
