"""An estimator's parameters: how they are checked, and the method that they make."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from metareplay.errors import BadInput
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.settings import hyperparameters

SETTINGS: dict[str, dict[str, Any]] = {
    "online": {"lr": 0.01},
    "taskinput": {"lr": 0.01},
    "independent": {"lr": 0.03},
    "ewc": {"lr": 0.01, "n_memories": 10, "memory_strength": 10.0},
    "gem": {"lr": 0.03, "memory_strength": 0.5},
    "eralg4": {"lr": 0.1, "replay_batch_size": 10},
    "eralg5": {"lr": 0.03, "replay_batch_size": 10},
    "meralg1": {"lr": 0.03, "beta": 0.3, "replay_batch_size": 10, "batches_per_example": 5},
    "meralg6": {"lr": 0.03, "gamma": 0.3, "replay_batch_size": 10, "batches_per_example": 5},
    "meralg7": {"lr": 0.03, "gamma": 0.3, "replay_batch_size": 10, "s": 2.0},
}
"""What an estimator takes where nothing is said, for features of about the same size.

Of the methods that need no task these are the best of what ``python -m benchmarks.estimators --choose`` compares, on
streams that the documentation does not show.
"""

NAMES = ("lr", "beta", "gamma", "s", "batches_per_example", "replay_batch_size", "memory_strength", "n_memories")
"""The methods' settings that are parameters of an estimator, besides the size of the memory."""


def method_class(method: Any) -> type[Method]:
    """The class of a method, by its name or as it is.

    Raises
    ------
    BadInput
        If there is no such method; the message lists those that there are.
    """
    if isinstance(method, type) and issubclass(method, Method):
        return method
    if not isinstance(method, str) or method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1, cutoff=0.5)
        question = f" (did you mean {near[0]}?)" if near else ""
        raise BadInput(
            f"method is {method!r}{question}, but must be one of {', '.join(METHODS)}, "
            "or a subclass of metareplay.Method"
        )
    return METHODS[method]


def make_method(estimator: Any) -> Method:
    """The method that an estimator's parameters ask for, with its settings.

    ``memories`` is not looked at where the method has no memory; another setting that it has not is an error.

    Raises
    ------
    BadInput
        If the method has no such setting, or it is out of its range.
    """
    method = estimator.method
    chosen = method_class(method)
    known = {parameter.name: parameter for parameter in hyperparameters(chosen)}
    settings = {name: getattr(estimator, name) for name in NAMES if getattr(estimator, name) is not None}
    settings |= dict(estimator.settings or {})
    for name in settings:
        if name not in known:
            raise BadInput(f"{name} is given, but {_name(method)} has no such setting; it has {', '.join(known)}")
    if "memories" in known:
        settings = {"memories": estimator.memories} | settings
    if isinstance(method, str):
        settings = SETTINGS[method] | settings
    for name, value in settings.items():
        try:
            known[name].check(value)
        except BadInput as error:
            raise BadInput(str(error).replace(known[name].flag, name, 1)) from None
    return chosen(**settings)


def whole(name: str, value: Any) -> int:
    """A whole number from 1 up, or BadInput."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise BadInput(f"{name} is {value!r}, but must be a whole number from 1 up")
    return int(value)


def hidden(sizes: Any) -> tuple[int, ...]:
    """The units of each hidden layer, or BadInput."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        raise BadInput(f"hidden_layer_sizes is {sizes!r}, but must be the units of each hidden layer, as (100, 100)")
    return tuple(whole("a number of units in hidden_layer_sizes", units) for units in sizes)


def _name(method: str | type[Method]) -> str:
    return method if isinstance(method, str) else method.__name__
