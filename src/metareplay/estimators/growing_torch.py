"""The learner on PyTorch, able to take on more inputs and more classes while it learns. Needs the extra ``torch``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metareplay.estimators.growing import GrowingLearner
from metareplay.learners.pytorch import PyTorchLearner
from metareplay.networks import Network


class GrowingTorch(GrowingLearner, PyTorchLearner):
    """A PyTorch learner that grows: each parameter and buffer becomes the first part of that of a new module."""

    def __init__(
        self, network: Network, slots: int, batch_size: int, rng: np.random.Generator, unscaled: bool, device: str
    ) -> None:
        super().__init__(network, slots, batch_size, rng, device)
        self.hold(network.inputs, unscaled)

    def grow(self, network: Network, rng: np.random.Generator) -> Callable[[Any], Any]:
        grown = PyTorchLearner(network, self.slots, self.batch_size, rng, self._device)
        before, sizes, shapes = self._theta, self._sizes, self._shapes

        def write(vector: Any, target: Tensor) -> Tensor:
            old = [part.view(shape) for part, shape in zip(torch.split(vector, sizes), shapes, strict=True)]
            for part, new in zip(old, grown._pieces(target), strict=True):
                _overlay(part, new)
            return target

        write(before, grown._theta)
        grown._table[:, : self._table.shape[1]] = self._table
        if self._modules and grown._modules:
            for name, value in self._modules._fixed.items():
                _overlay(value, grown._modules._fixed[name])
            for own, new in zip(self._modules.moving[0], grown._modules.moving[0], strict=True):
                for name, value in own.items():
                    _overlay(value, new[name])
            grown._modules.moving = (grown._modules.moving[0], self._modules.moving[1])
        vars(self).update(vars(grown) | {name: getattr(self, name) for name in ("labels", "tasks", "steps")})
        self.widen(network.inputs)
        return lambda vector: write(vector, torch.zeros_like(grown._theta)).as_subclass(type(vector))

    def scores_of(self, x: NDArray[np.float32], task: int) -> NDArray[np.float32]:
        out: NDArray[np.float32] = self._read(self._floats(x), np.full(len(x), task))
        return out


def _overlay(part: Tensor, whole: Tensor) -> None:
    whole[tuple(slice(length) for length in part.shape)] = part
