"""Update rules on a fused perceptron: one compiled pass writes θ and the first vectors of the state."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.learners import kernels, rules
from metareplay.learners.arrays import address, compact
from metareplay.learners.base import Learner, Loss, Rows, Rule, Vector

_FLOAT32 = np.dtype(np.float32)
_NUMBERS = (int, float, np.number, np.bool_)


def update(self: Any, rule: Rule, gradient: Vector, *state: Vector, **numbers: float) -> None:
    """What ``Learner.update`` does; padding becomes zero."""
    run, given, _held = _prepared(self, rule, state, numbers)
    gradient = compact(gradient, _FLOAT32)
    self._check_shape(gradient)
    given[kernels.GRADIENT] = address(gradient)
    run(0, len(self._real), address(given))
    self.steps += 1


def sgd_by(self: Any, rule: Rule, rows: Rows, *state: Vector, loss: Loss | None = None, **numbers: float) -> None:
    """What ``Learner.sgd_by`` does: a gradient's part is in the nearest cache until the rule has taken it."""
    rows = self._slots(rows)
    if not 0 < len(rows) <= kernels.BLOCK or any(self.network.private):
        Learner.sgd_by(self, rule, rows, *state, loss=loss, **numbers)
        return
    workspace, scales = self._back(rows, 1, None, loss, self._unsorted)
    run, given, _held = _prepared(self, rule, state, numbers)
    given[kernels.GRADIENT] = address(self._strip)
    examples = (*self._table[1:], rows, scales, *workspace)
    kernels.add_gradients(self._strip, True, *examples, self._dual, run.address, given)
    self.steps += 1


def _prepared(
    self: Any, rule: Rule, state: Sequence[Vector], numbers: Mapping[str, float]
) -> tuple[Any, NDArray[np.int64], Any]:
    """A rule's machine code, what is given to it but the gradient, and what must be held until it has run."""
    written, run = rules.compiled(rule, 2 + len(state), tuple(numbers))
    if run.address not in self._given_to:
        values = np.zeros(len(numbers) + 1)
        addresses = [*map(address, (self._real, values, self._parameters)), *[0] * (1 + len(state))]
        self._given_to[run.address] = np.array(addresses), values, [lambda: None] * len(state)
    given, values, known = self._given_to[run.address]
    held = []
    for place, vector in enumerate(state):
        if known[place]() is not vector:
            held.append(own := compact(vector, _FLOAT32))
            self._check_shape(own)
            if own is not vector and place < written - 1:
                raise BadInput(
                    f"the rule {rule.__qualname__} writes to state vector {place}, which must then be a float32 "
                    "array in one piece, as 0 * learner.parameters() is"
                )
            given[kernels.GRADIENT + 1 + place], known[place] = address(own), weakref.ref(own)
    for place, (name, number) in enumerate(numbers.items()):
        if not isinstance(number, _NUMBERS):
            raise BadInput(f"{name} is {number!r}, but must be one number; vectors are given as state")
        values[place] = number
    return run, given, held
