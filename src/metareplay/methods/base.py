"""What every method is: settings, and what to do with the examples as they come."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any, ClassVar, dataclass_transform

import numpy as np

from metareplay.errors import BadInput
from metareplay.learners.base import Learner, Rows
from metareplay.networks import Network
from metareplay.settings import hyperparameters, setting


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
class Method:
    """How to learn from a stream: the paper's pseudocode over a learner's primitives.

    A subclass declares its hyper-parameters as annotated fields (``lr: float = setting(0.001, "(0, inf)", help=...)``),
    which are checked when it is made, and says in ``observe`` what to do with a batch. It becomes a keyword-only
    dataclass by itself.

    Whatever it keeps between calls is a number, None, an array, a ``numpy.random.Generator``, or has ``state()`` and
    ``load_state()``: so it can be checkpointed. What ``start`` does not set yet may only be a number, None or an array.
    """

    needs_task_in_training: ClassVar[bool] = False
    needs_task_in_testing: ClassVar[bool] = False

    learner: Learner
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        for parameter in hyperparameters(type(self)):
            setattr(self, parameter.name, parameter.check(getattr(self, parameter.name)))

    def network(self, network: Network, tasks: int) -> Network:
        """The network that this method trains, given the one that was asked for and the number of tasks."""
        return network

    def capacity(self, tasks: int, batch_size: int) -> int:
        """How many examples its memory holds: slots of the table beyond the incoming batch."""
        return 0

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        """Begin a life: a fresh learner, this method's own randomness, and the number of tasks to come."""
        self.learner = learner

    def begin_task(self, task: int, previous: int | None) -> None:
        """Be told that the next examples come from ``task``, after ``previous`` (None at the start)."""

    def observe(self, rows: Rows) -> None:
        """Learn the incoming batch, which lies in slots ``rows (n,)`` of the learner's table."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to learn: give it an observe(self, rows)")

    def steps(self, examples: int, batches: int) -> int | None:
        """The SGD steps that so many examples, in so many batches, take: what a suite plans with; None if unknown."""
        return None

    def state(self) -> dict[str, Any]:
        """Everything that the method keeps, as nested dictionaries of numbers and arrays."""
        return {name: _state_of(name, value) for name, value in self._kept().items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state()``; the method has been started in the same way."""
        for name, value in state.items():
            held: Any = getattr(self, name, None)
            if isinstance(held, np.random.Generator):
                held.bit_generator.state = value
            elif hasattr(held, "load_state"):
                held.load_state(value)
            elif isinstance(value, Mapping):
                raise BadInput(f"{type(self).__name__} keeps {name}, which has a state of its own: make it in start()")
            elif isinstance(value, np.ndarray):
                setattr(self, name, value[()].copy())  # an array without dimensions is a NumPy number
            else:
                setattr(self, name, value)

    def _kept(self) -> dict[str, Any]:
        settings = {parameter.name for parameter in hyperparameters(type(self))}
        return {name: value for name, value in vars(self).items() if name not in settings and name != "learner"}


def _state_of(name: str, value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if hasattr(value, "state"):
        return value.state()
    if isinstance(value, np.ndarray | np.number | np.bool_):
        return np.array(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise BadInput(
        f"a method keeps {name} = {reprlib.repr(value)}, which cannot be checkpointed; keep numbers, arrays, "
        "numpy.random.Generator, or objects with state() and load_state()"
    )
