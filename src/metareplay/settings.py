"""Settings of methods, runs, streams and networks: default, range and meaning in one declaration, checked once."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from metareplay.errors import BadInput


def within(value: Any, interval: str) -> bool:
    """Whether a number lies in an interval in the usual notation, such as ``(0, 1]`` or ``[0, inf)``, and is finite."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return bool(above and below and (isinstance(value, int) or math.isfinite(value)))


class Range(NamedTuple):
    """Where a search looks for a number: between both ends, each value or each order of magnitude as likely."""

    low: float
    high: float
    scale: Literal["log", "linear"]


def setting(default: Any, valid: str | tuple[str, ...] = "", *, help: str, search: Sequence[Any] = ()) -> Any:
    """Declare a setting: as a field of a dataclass, or as the default of a function's parameter.

    Parameters
    ----------
    default
        Its value unless one is given: for a method the published code's.
    valid
        The numbers that it may be, as an interval: ``(0, 1]``; or its words: ``("sgd", "adamw")``. Empty for any.
    help
        What it means, for ``--help`` and for error messages: "the share of each batch's change that is kept".
    search
        Where ``metareplay tune`` looks unless told otherwise: ``(low, high, "log")`` or ``(low, high, "linear")`` for a
        range, a list ``[5, 10, 25]`` for some values. Leave it out where it is not tuned, as for ``memories``.

    Examples
    --------
    >>> class MyMethod(metareplay.Method):
    ...     lr: float = metareplay.setting(0.01, "(0, inf)", search=(1e-3, 1, "log"), help="the learning rate")
    ...     decay: float | None = metareplay.setting(None, "[0, 1)", help="the weight decay; none for none")
    """
    searched = tuple(search) if isinstance(search, list) else Range(*search) if search else ()
    return dataclasses.field(default=default, metadata={"valid": valid, "help": help, "search": searched})


@dataclass(frozen=True)
class Hyperparameter:
    """A setting as it was declared; ``optional`` where it may be None, which a text spells ``none``."""

    name: str
    type: type
    default: Any
    valid: str
    help: str
    words: tuple[str, ...] = ()
    optional: bool = False
    search: Range | tuple[Any, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.removesuffix("_").replace("_", "-")  # ``from_``: Python keeps ``from`` for itself

    @property
    def range(self) -> str:
        """The values that it may have, for people; empty for any of its type."""
        text = ", ".join(self.words) or self.valid.replace("(-inf, inf)", "")
        return f"{text} or none" if text and self.optional else text

    def check(self, value: Any) -> Any:
        """The value as its type; BadInput if it has another type or lies outside the valid range."""
        if self.optional and (value is None or value == "none"):
            return None
        if getattr(value, "ndim", None) == 0:  # of NumPy's
            value = value.item()
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 1 << 1023 else math.inf
        if type(value) is not self.type:
            kind = {float: "a number", int: "a whole number", bool: "true or false"}.get(self.type, self.type.__name__)
            raise BadInput(f"{self.flag} is {brief(value)}, but must be {kind}: it is {self.help}")
        if self.words and value not in self.words:
            hint = nearest(str(value), self.words) or f": it is {self.help}"
            raise BadInput(f"{self.flag} is {brief(value)}, but must be one of {', '.join(self.words)}{hint}")
        if self.valid and not within(value, self.valid):
            raise BadInput(f"{self.flag} is {brief(value)}, but must lie in {self.valid}: it is {self.help}")
        return value


def checked(given: Mapping[str, Any], options: Iterable[Hyperparameter], whose: str) -> dict[str, Any]:
    """The given values, each as its type; BadInput if one is out of its range, or no option ``whose``."""
    known = {option.name: option for option in options}
    for name in (name for name in given if name not in known):
        hint = nearest(name, known) or f"; there are {', '.join(known) or 'none'}"
        raise BadInput(f"{name} is no option {whose}{hint}")
    return {name: known[name].check(value) for name, value in given.items()}


def _declared(owner: Callable[..., Any]) -> tuple[Hyperparameter, ...]:
    """The settings that a dataclass or a function declares, in their order."""
    hints = get_type_hints(owner)
    if isinstance(owner, type):
        fields = {field.name: field for field in dataclasses.fields(owner)}
    else:
        fields = {name: parameter.default for name, parameter in inspect.signature(owner).parameters.items()}
    made = []
    for name, field in fields.items():
        if "help" in getattr(field, "metadata", {}):
            kinds = [kind for kind in get_args(hints[name]) if kind is not NoneType] or [hints[name]]
            valid, help = field.metadata["valid"], field.metadata["help"]
            interval, words = (valid, ()) if isinstance(valid, str) else ("", tuple(valid))
            optional = len(get_args(hints[name])) > len(kinds)
            search = field.metadata["search"]
            made.append(Hyperparameter(name, kinds[0], field.default, interval, help, words, optional, search))
    return tuple(made)


# Reading annotations takes most of the time that planning a suite of thousands of runs would take.
hyperparameters: Callable[[Callable[..., Any]], tuple[Hyperparameter, ...]] = functools.cache(_declared)


def brief(value: Any) -> str:
    """A value in a message: what would fill the screen is cut."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        text = f"a number of about {int(value.bit_length() * 0.30103)} digits"
    return text if len(text) <= 100 else f"{text[:60]} … {text[-20:]}"


def nearest(word: str, names: Iterable[str]) -> str:
    """``; did you mean NAME?``, whatever the case, for part or beginning of a name too; empty if none is like it."""

    def likeness(name: str) -> float:
        low = name.lower()
        parts = [low[: len(wanted)], *low.split("-"), *low.split("_")]
        whole = SequenceMatcher(None, wanted, low).ratio()
        return max([whole, *(0.95 * SequenceMatcher(None, wanted, part).ratio() for part in parts)]) + 0.01 * whole

    wanted = word.lower()[:100]
    best = max(names, key=likeness, default="")
    return f"; did you mean {best}?" if wanted and best and likeness(best) >= 0.6 else ""
