"""What a module has beside the parameters that are trained: buffers, fixed parameters, and what it draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

Moved = tuple[list[Tensor], list[Tensor]]
"""Copies of the buffers, and where the draws are: what a pass through the module moves."""


class BesideParameters:
    """Buffers, parameters that need no gradient, and a module's draws, as an explicit state.

    PyTorch's layers draw from global generators, the CPU's and the device's. Inside ``drawing()`` these are where this
    module left them; afterwards they are where everybody else left them.

    Parameters
    ----------
    device
        Where the module computes.
    seed
        Where its draws begin; None for a module that draws nothing.
    """

    def __init__(self, device: torch.device, seed: int | None) -> None:
        self._generators = [] if seed is None else _generators(device)
        self._draws: list[Tensor] = []
        self._buffers: list[tuple[str, Module, str]] = []
        self._fixed: list[tuple[str, Tensor]] = []
        if seed is not None:
            outside = self._read()
            for generator in self._generators:
                generator.manual_seed(seed)
            self._draws = self._read()
            self._write(outside)

    def belong_to(self, module: Module) -> None:
        """Find the buffers and the fixed parameters; the module has its final device and type."""
        for name, _ in module.named_buffers():
            owner, _, own = name.rpartition(".")
            self._buffers.append((name, module.get_submodule(owner), own))
        self._fixed = [(name, part.detach()) for name, part in module.named_parameters() if not part.requires_grad]

    # Draws

    @contextmanager
    def drawing(self, keep: bool = True) -> Iterator[None]:
        """Let what is drawn from PyTorch's generators be drawn from this module's own sequence.

        Unless ``keep``, the same will be drawn again.
        """
        if not self._generators:
            yield
            return
        outside = self._read()
        self._write(self._draws)
        try:
            yield
        finally:
            if keep:
                self._draws = self._read()
            self._write(outside)

    def _read(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators]

    def _write(self, states: list[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    # Going back

    def moved(self) -> Moved:
        """Remember how things are."""
        return [buffer.clone() for _, buffer in self._now()], self._draws

    def put_back(self, moved: Moved) -> None:
        """Let things be as they were."""
        buffers, self._draws = moved
        with torch.no_grad():
            for (_, now), before in zip(self._now(), buffers, strict=True):
                now.copy_(before)

    def _now(self) -> list[tuple[str, Tensor]]:
        # By name, as a module may put another tensor in a buffer's place.
        return [(name, getattr(owner, own)) for name, owner, own in self._buffers]

    # Keeping

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of all of it, by name."""
        values = [(f"buffer {name}", value) for name, value in self._now()]
        values += [(f"fixed {name}", value) for name, value in self._fixed]
        values += [(f"draws {number}", value) for number, value in enumerate(self._draws)]
        return {name: np.array(value.detach().cpu().numpy()) for name, value in values}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``; what else it holds is left alone."""
        with torch.no_grad():
            for name, value in self._now():
                value.copy_(torch.as_tensor(state[f"buffer {name}"]))
            for name, value in self._fixed:
                value.copy_(torch.as_tensor(state[f"fixed {name}"]))
        self._draws = [torch.tensor(state[f"draws {number}"]) for number in range(len(self._draws))]


def _generators(device: torch.device) -> list[torch.Generator]:
    """The global generators that a module on this device may draw from."""
    torch.empty(0, device=device)  # CUDA has its generators once it is in use
    if device.type == "cuda":
        index: int | None = device.index
        own = torch.cuda.current_device() if index is None else index
        on_device: tuple[torch.Generator, ...] = torch.cuda.default_generators
        return [torch.default_generator, on_device[own]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]
