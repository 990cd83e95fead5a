"""Fast weights that look ahead, in one compiled call."""

from typing import Any

import numpy as np

from metareplay.learners import kernels
from metareplay.learners.arrays import compact, in_a_room
from metareplay.learners.base import Learner, Rows, Vector


def look_ahead(self: Any, rows: Rows, judges: Rows, rates: Vector) -> tuple[Vector, Vector]:
    """What ``Learner.look_ahead`` does, of a fused perceptron."""
    if any(self.network.private) or len(judges) == 0:
        return Learner.look_ahead(self, rows, judges, rates)
    rows, judges, rates = self._slots(rows), self._slots(judges), compact(rates, np.dtype(np.float32))
    self._check_shape(rates)
    (meta, slope, *others), many = in_a_room(self._rooms[1], 4, len(self._parameters)), len(judges)
    weights = np.array([*[1 / many] * many, 1], np.float32)
    given = (rows, judges, rates, weights, *self._room_for(many + 1), *self._undo, meta, slope, *others)
    done = kernels.look_ahead(*self._table, *given)
    self.steps += -(max(done, 0) // -(many + 1))
    self.gradients_taken += max(done, 0)
    if done < len(rows) * (many + 1):
        self._refuse(np.concatenate([np.append(row, judges) for row in rows]), done)
    return meta, slope
