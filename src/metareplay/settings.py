"""Hyper-parameters as annotated fields: value, range and meaning in one line, checked when a method is made."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np

from metareplay.errors import BadInput


@dataclass(frozen=True)
class Interval:
    """A range of numbers in the usual notation, such as ``(0, 1]`` or ``[0, inf)``."""

    text: str

    def __contains__(self, value: Any) -> bool:
        low, high = (float(end) for end in self.text[1:-1].split(","))
        above = value >= low if self.text[0] == "[" else value > low
        below = value <= high if self.text[-1] == "]" else value < high
        return above and below and math.isfinite(value)


def setting(default: Any, valid: str = "", *, help: str) -> Any:
    """Declare a hyper-parameter of a method.

    Parameters
    ----------
    default
        Its value unless one is given: the published code's.
    valid
        The numbers it may be, as an interval: ``(0, 1]``. Empty for a truth value.
    help
        What it means, for ``--help`` and for error messages: "the share of each batch's change that is kept".
    """
    return dataclasses.field(default=default, metadata={"valid": valid, "help": help})


@dataclass(frozen=True)
class Hyperparameter:
    """What is known of one hyper-parameter of a method."""

    name: str
    type: type
    default: Any
    valid: str
    help: str

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any) -> Any:
        """Return the value as its type.

        Raises
        ------
        BadInput
            If it has another type or lies outside the valid range.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type:
            kind = {float: "a number", int: "a whole number", bool: "true or false"}.get(self.type, self.type.__name__)
            raise BadInput(f"{self.flag} is {value!r}, but must be {kind}: it is {self.help}")
        if self.valid and value not in Interval(self.valid):
            raise BadInput(f"{self.flag} is {value!r}, but must lie in {self.valid}: it is {self.help}")
        return value


def _declared(method: type) -> tuple[Hyperparameter, ...]:
    """The hyper-parameters of a method class, in the order in which it declares them."""
    types = get_type_hints(method)
    return tuple(
        Hyperparameter(f.name, types[f.name], f.default, f.metadata.get("valid", ""), f.metadata.get("help", ""))
        for f in dataclasses.fields(method)
        if "help" in f.metadata
    )


# Reading annotations takes most of the time that planning a suite of thousands of runs would take.
hyperparameters: Callable[[type], tuple[Hyperparameter, ...]] = functools.cache(_declared)
