"""Features brought to the same size by their mean and spread so far, while examples come one after another."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.compiled import compiled

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
LIMIT = 10.0  # standard deviations: a reading that lies farther from its feature's mean counts as lying this far
SETTLED = 20  # readings of a feature after which the next ones are limited before they move its mean and spread
FEWEST = 5  # readings of a feature from which on the farthest of them is limited by the others, until it is settled
LARGEST = 1e150  # magnitudes are limited to this, so that their squares are finite
FULL_SIZE = 64
"""With more inputs than this all are made smaller, so that an example is about as long whatever their number is."""
MORE = 10  # what scales a feature is renewed whenever it has been seen a tenth more often


class RunningScale:
    """Each of ``inputs`` features less its mean, divided by its standard deviation: over the examples that have it.

    Mean and sum of squared deviations follow Welford's recurrence (1962) in float64, so that large offsets (years,
    pressures in pascals) do no harm, and examples given at once or one by one come to the same bits. What scales,
    ``centre`` and ``spread``, is renewed after every one of the first twenty examples, then after a tenth more each
    time: so examples in a memory can be scaled again whenever that happens, at a cost that does not grow with the
    stream. A feature that has never varied is zero.

    From its 21st reading on, a feature's reading beyond ten standard deviations moves mean and spread as one at ten
    would: one multiplies the spread by sqrt(1 + 100 / n) at most. Of five to twenty the farthest from their mean counts
    as lying ten deviations of the others from theirs at most. More than 64 inputs are divided by sqrt(inputs / 64) too,
    since a step of gradient descent changes a layer's outputs in proportion to its input's squared length.

    So many ``examples`` have come; when ``renewal`` have, those in a memory are to be scaled again. ``clipped``
    readings were limited.
    """

    def __init__(self, inputs: int) -> None:
        self.examples, self.renewal, self.clipped = 0, 1, 0
        self._hold(np.zeros((6 + SETTLED, inputs)))

    def _hold(self, features: Floats) -> None:
        self._features = features
        self.counts, self.mean, self.deviations, self.due, self.centre, self.spread = features[:6]
        self._unit = max(1.0, math.sqrt(features.shape[1] / FULL_SIZE))

    def grow(self, inputs: int) -> None:
        self._hold(np.pad(self._features, ((0, 0), (0, inputs - self._features.shape[1]))))

    def undisturbed(self, size: int) -> int:
        """How many examples can come in whole batches before a renewal."""
        return max(0, self.renewal - self.examples - 1) // size * size

    def learn(self, x: Floats, places: Places, size: int) -> NDArray[np.float32]:
        """Take in ``x (n, k)``, of features ``places (k,)``, NaN: missing; gives it scaled, ``(n, inputs)``."""
        scaled = np.zeros((len(x), self._features.shape[1]), np.float32)
        self.clipped += take_in(x, places, size, self._features, self._unit, scaled)
        self.examples += len(x)
        return scaled

    def renew(self) -> bool:
        """Whether examples in a memory are to be scaled again, now that these have come."""
        due = self.examples >= self.renewal
        if due:
            self.renewal = self.examples + max(1, self.examples // MORE)
        return due

    def settle(self) -> None:
        """Bring what scales up to date, due or not."""
        self.renew()
        seen = self.counts > 0
        self.centre[seen] = self.mean[seen]
        self.spread[seen] = np.sqrt(self.deviations[seen] / self.counts[seen])

    def scale(self, x: Floats, places: Places) -> NDArray[np.float32]:
        """Scale examples, given as to ``learn``, and take nothing in."""
        scaled = np.zeros((len(x), self._features.shape[1]), np.float32)
        scale_rows(x, places, self.centre, self.spread, self._unit, scaled)
        return scaled

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("examples", "renewal", "clipped")}
        return kept | {"features": self._features.copy()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state()``; raises ValueError if it is not of as many features, or not finite."""
        given, held = state["features"], self._features
        if (given.shape, given.dtype) != (held.shape, held.dtype) or not np.isfinite(given).all():
            raise ValueError(f"its scale is not of finite numbers of {held.shape[1]} features")
        held[:] = given
        self.examples, self.renewal, self.clipped = (int(state[name]) for name in ("examples", "renewal", "clipped"))


@compiled
def moved(mean: float, deviations: float, count: float, reading: float) -> tuple[float, float]:
    """Mean and sum of squared deviations of so many readings, this one with them."""
    difference = reading - mean
    return mean + difference / count, deviations + difference * difference * ((count - 1) / count)


@compiled
def of_few(readings: Floats) -> tuple[float, float, bool]:
    """Mean and sum of squared deviations of the first readings, the farthest limited; whether it was."""
    n = len(readings)
    mean, deviations = 0.0, 0.0
    for i in range(n):
        mean, deviations = moved(mean, deviations, i + 1, readings[i])
    if n < FEWEST:
        return mean, deviations, False
    far = np.argmax(np.abs(readings - mean))
    among, squares, count = 0.0, 0.0, 0
    for i in range(n):
        if i != far:
            count += 1
            among, squares = moved(among, squares, count, readings[i])
    farthest = LIMIT * math.sqrt(squares / count)
    if squares == 0 or abs(readings[far] - among) <= farthest:
        return mean, deviations, False
    mean, deviations = moved(among, squares, n, min(max(readings[far], among - farthest), among + farthest))
    return mean, deviations, True


@compiled
def take_in(x: Floats, places: Places, size: int, features: Floats, unit: float, scaled: NDArray[np.float32]) -> int:
    """Batch after batch: take in every row, then scale every row. Returns how many readings were limited."""
    counts, mean, deviations, due = features[0], features[1], features[2], features[3]
    centre, spread, first = features[4], features[5], features[6:]
    clipped = 0
    for begin in range(0, len(x), size):
        batch = x[begin : begin + size]
        for i in range(len(batch)):
            for j in range(len(places)):
                place, reading = places[j], batch[i, j]
                if math.isnan(reading):
                    continue
                if counts[place] < SETTLED:
                    first[int(counts[place]), place] = min(max(reading, -LARGEST), LARGEST)
                    counts[place] += 1
                    few = first[: int(counts[place]), place]
                    mean[place], deviations[place], limited = of_few(few)
                    clipped += limited and len(few) == SETTLED
                else:
                    limit = LIMIT * math.sqrt(deviations[place] / counts[place]) if deviations[place] > 0 else LARGEST
                    clipped += abs(reading - mean[place]) > limit
                    counts[place] += 1
                    held = min(max(reading, mean[place] - limit), mean[place] + limit)
                    mean[place], deviations[place] = moved(mean[place], deviations[place], counts[place], held)
                if counts[place] >= due[place]:
                    due[place] = counts[place] + max(1, counts[place] // MORE)
                    centre[place] = mean[place]
                    spread[place] = math.sqrt(deviations[place] / counts[place])
        scale_rows(batch, places, centre, spread, unit, scaled[begin : begin + size])
    return clipped


@compiled
def scale_rows(
    x: Floats, places: Places, centre: Floats, spread: Floats, unit: float, scaled: NDArray[np.float32]
) -> None:
    """Scale every row."""
    for i in range(len(x)):
        for j in range(len(places)):
            place = places[j]
            if spread[place] > 0 and not math.isnan(x[i, j]):
                away = (x[i, j] - centre[place]) / spread[place]
                scaled[i, place] = min(max(away, -LIMIT), LIMIT) / unit
