"""Features brought to the same size by their mean and spread so far, while examples come one after another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.compiled import compiled

Floats = NDArray[np.float64]

LIMIT = 10.0
"""Standard deviations: a feature that lies farther from its mean counts as lying this far."""
FULL_SIZE = 64
"""With more inputs than this all are made smaller, so that an example is about as long whatever their number is."""
MORE = 10
"""What scales a feature is renewed whenever it has been seen a tenth more often."""

ARRAYS = ("counts", "mean", "deviations", "due", "centre", "spread")


class RunningScale:
    """Each feature less its mean, divided by its standard deviation: over the examples so far that have it.

    Mean and sum of squared deviations are updated by Welford's recurrence (1962), in float64, so that large offsets
    (years, pressures in pascals) do no harm, and examples given at once or one by one come to the same bits. What
    scales, ``centre`` and ``spread``, stands still for a while and is then brought up to date: after every one of the
    first twenty examples, then after a tenth more each time. So examples that are kept can be scaled anew whenever
    that happens, at a cost for each that does not grow with the stream. A feature that has never varied is zero.

    As a step of gradient descent changes a layer's outputs in proportion to its input's squared length, inputs that
    are more than 64 are also divided by sqrt(inputs / 64): so one learning rate does for few and many.

    Parameters
    ----------
    inputs
        How many features there may be.

    Attributes
    ----------
    examples, renewal
        How many have come, and how many will have when examples that are kept are to be scaled anew.
    """

    def __init__(self, inputs: int) -> None:
        self.examples = 0
        self.renewal = 1
        self.counts = np.zeros(inputs, np.int64)
        self.mean = np.zeros(inputs)
        self.deviations = np.zeros(inputs)
        self.due = np.ones(inputs, np.int64)
        self.centre = np.zeros(inputs)
        self.spread = np.zeros(inputs)

    def grow(self, inputs: int) -> None:
        """Make room for more features."""
        fresh = RunningScale(inputs)
        for name in ARRAYS:
            getattr(fresh, name)[: len(self.mean)] = getattr(self, name)
        vars(self).update({name: getattr(fresh, name) for name in ARRAYS})

    def undisturbed(self, size: int) -> int:
        """How many examples can come in whole batches before a renewal."""
        return max(0, self.renewal - self.examples - 1) // size * size

    def learn(self, x: Floats, places: NDArray[np.int64], size: int) -> NDArray[np.float32]:
        """Take in examples, and scale each batch of ``size`` by what is known with it.

        Parameters
        ----------
        x
            ``(n, k)``, of the features in ``places (k,)``.
        size
            Of a batch.

        Returns
        -------
        scaled
            ``(n, inputs)``; features that are missing are 0, their mean.
        """
        scaled = self._empty(x)
        take_in(x, places, size, *(getattr(self, name) for name in ARRAYS), self._unit, scaled)
        self.examples += len(x)
        return scaled

    def renew(self) -> bool:
        """Whether examples that are kept are to be scaled anew, now that these have come."""
        due = self.examples >= self.renewal
        if due:
            self.renewal = self.examples + max(1, self.examples // MORE)
        return due

    def settle(self) -> None:
        """Bring what scales up to date, due or not: all that will be kept is scaled by it."""
        self.renew()
        seen = self.counts > 0
        self.centre[seen] = self.mean[seen]
        self.spread[seen] = np.sqrt(self.deviations[seen] / self.counts[seen])

    def scale(self, x: Floats, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scale examples, given as to ``learn``, and take nothing in. NaN is a feature that is missing."""
        scaled = self._empty(x)
        scale_rows(x, places, self.centre, self.spread, self._unit, scaled)
        return scaled

    @property
    def _unit(self) -> float:
        return max(1.0, math.sqrt(len(self.mean) / FULL_SIZE))

    def _empty(self, x: Floats) -> NDArray[np.float32]:
        return np.zeros((len(x), len(self.mean)), np.float32)

    def state(self) -> dict[str, Any]:
        """All that is kept."""
        arrays = {name: getattr(self, name).copy() for name in ARRAYS}
        return {"examples": self.examples, "renewal": self.renewal, **arrays}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], inputs: int) -> RunningScale:
        """One that goes on from a ``state()``."""
        scale = cls(inputs)
        scale.examples, scale.renewal = state["examples"], state["renewal"]
        for name in ARRAYS:
            if state[name].shape != (inputs,):
                raise ValueError(f"its {name} are not those of {inputs} features")
            getattr(scale, name)[:] = state[name]
        return scale


@compiled
def take_in(
    x: Floats,
    places: NDArray[np.int64],
    size: int,
    counts: NDArray[np.int64],
    mean: Floats,
    deviations: Floats,
    due: NDArray[np.int64],
    centre: Floats,
    spread: Floats,
    unit: float,
    scaled: NDArray[np.float32],
) -> None:
    """Batch after batch: take in every row, then scale every row."""
    for begin in range(0, len(x), size):
        batch = x[begin : begin + size]
        for i in range(len(batch)):
            for j in range(len(places)):
                place = places[j]
                counts[place] += 1
                difference = batch[i, j] - mean[place]
                mean[place] += difference / counts[place]
                deviations[place] += difference * (batch[i, j] - mean[place])
                if counts[place] >= due[place]:
                    due[place] = counts[place] + max(1, counts[place] // MORE)
                    centre[place] = mean[place]
                    spread[place] = math.sqrt(deviations[place] / counts[place])
        scale_rows(batch, places, centre, spread, unit, scaled[begin : begin + size])


@compiled
def scale_rows(
    x: Floats, places: NDArray[np.int64], centre: Floats, spread: Floats, unit: float, scaled: NDArray[np.float32]
) -> None:
    """Scale every row."""
    for i in range(len(x)):
        for j in range(len(places)):
            place = places[j]
            if spread[place] > 0 and not math.isnan(x[i, j]):
                away = (x[i, j] - centre[place]) / spread[place]
                scaled[i, place] = min(max(away, -LIMIT), LIMIT) / unit
