"""Vectors on a device, which NumPy's functions take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class DeviceVector(Tensor):
    """A tensor that NumPy's functions take, so that a method or a rule reads the same on every engine.

    >>> vector = torch.ones(3).as_subclass(DeviceVector)
    >>> np.sqrt(np.maximum(4 * vector, 0.5)) + np.float32(1)
    DeviceVector([3., 3., 3.])
    """

    def __array_ufunc__(self, function: Any, method: str, *given: Any, **named: Any) -> Any:
        """Elementwise functions and ``@``, on the device."""
        if method != "__call__" or named:
            return getattr(function, method)(*(_array(part) for part in given), **named)
        name = {"power": "pow", "equal": "eq"}.get(function.__name__, function.__name__)
        return getattr(torch, name)(*(self._taken(part) for part in given))

    def __array_function__(self, function: Any, types: Any, given: Any, named: Any) -> Any:
        """Other functions: on the device where PyTorch's are the same, else on the host."""
        if function.__name__ in ("where", "clip", "zeros_like", "ones_like"):
            return getattr(torch, function.__name__)(*(self._taken(part) for part in given), **named)
        return function(*(_array(part) for part in given), **named)

    def _taken(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic | int | float) and not isinstance(value, bool):
            array = np.asarray(value)
            kind = self.dtype if array.dtype.kind == "f" else None
            return torch.as_tensor(array, dtype=kind, device=self.device)
        return value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(on_host(self), dtype)

    def like(self, values: NDArray[Any]) -> DeviceVector:
        """An array of NumPy's as a vector like this one."""
        return torch.as_tensor(values, dtype=self.dtype, device=self.device).clone().as_subclass(DeviceVector)

    def __setitem__(self, place: Any, value: Any) -> None:
        super().__setitem__(place, self._taken(value))

    def copy(self) -> DeviceVector:
        """A copy, as NumPy's arrays have it."""
        return self.clone()  # type: ignore[return-value]


def _array(value: Any) -> Any:
    """What NumPy's own functions take."""
    if isinstance(value, list | tuple):
        return [_array(part) for part in value]
    return on_host(value) if isinstance(value, Tensor) else value


def on_host(tensor: Tensor) -> NDArray[np.floating[Any]]:
    """Copy a tensor into a NumPy array."""
    return np.array(tensor.detach().as_subclass(Tensor).cpu().numpy())
