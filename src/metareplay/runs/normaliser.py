"""Inputs less their running mean, over their running spread: an option of every run."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.images import BaseImages, Images

EPSILON, PART = 1e-8, 1000
TINY = 1e-150
"""Means below this become zero: an input that is black from some task on would slow every pass down by subnormals."""


class Normaliser:
    """x ← (x − μ) / (√v + 1e-8), for each input, v being the mean of x² − μ².

    Both means are exponential: a training example is first taken into them, with the weight 1 − decay, and they count
    divided by 1 − decay^t after t examples. Test examples move nothing, and are limited to what a training example can
    become, since an input that has not varied yet has v = 0. All in float64.
    """

    def __init__(self, inputs: int, decay: float) -> None:
        self.decay, self.seen, self.means = decay, 0, np.zeros((2, inputs))

    def learn(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take in training examples ``(n, inputs)`` one by one, and normalise each by what is known with it."""
        normalised = np.empty(x.shape, np.float32)
        _learn()(x, self.decay, self.seen, self.means, normalised)
        self.seen += len(x)
        return normalised

    def apply(self, images: Images) -> Iterator[Images]:
        """Test images, normalised, a thousand at a time; before the first training example as they are."""
        centre, spread, limit = self.moments()
        for which in np.array_split(np.arange(len(images)), range(PART, len(images), PART)):
            x = np.clip((images.inputs(which) - centre) / spread, -limit, limit).astype(np.float32)
            yield Images(BaseImages(x, shape=images.base.shape), images.labels[which])

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """μ and √v + 1e-8, ``(inputs,)``, and the limit: √((1 − w) / w), w the weight of the newest example."""
        if not self.seen:
            return np.zeros_like(self.means[0]), np.ones_like(self.means[0]), np.inf
        whole = 1 - self.decay**self.seen
        mean, square = self.means / whole
        weight = (1 - self.decay) / whole
        return mean, np.sqrt(np.maximum(square - mean * mean, 0)) + EPSILON, np.sqrt(1 / weight - 1)

    def state(self) -> dict[str, Any]:
        return {"decay": self.decay, "seen": self.seen, "means": self.means.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a ``state()``; ValueError if it does not fit."""
        if state["means"].shape != self.means.shape or not np.isfinite(state["means"]).all() or state["seen"] < 0:
            raise ValueError("the running means of the inputs do not fit")
        self.seen, self.means[:] = state["seen"], state["means"]
        if self.seen and state["decay"] != self.decay:  # what is known is to stay: it is divided by 1 − decay^t
            self.means *= (1 - self.decay**self.seen) / (1 - state["decay"] ** self.seen)


def parts(images: Images, normaliser: Normaliser | None) -> Iterable[Images]:
    """Test images as a network is shown them, in one part or several."""
    return [images] if normaliser is None else normaliser.apply(images)


@cache
def _learn() -> Any:
    from metareplay.compiled import compiled  # Numba, once a run begins

    @compiled
    def learn(x: Any, decay: Any, seen: Any, means: Any, normalised: Any) -> None:
        for i in range(len(x)):
            weight = 1 / (1 - decay ** (seen + i + 1))
            for j in range(x.shape[1]):
                value = np.float64(x[i, j])
                mean = decay * means[0, j] + (1 - decay) * value
                square = decay * means[1, j] + (1 - decay) * value * value
                means[0, j] = mean if abs(mean) > TINY else 0
                means[1, j] = square if square > TINY else 0
                mean, square = mean * weight, square * weight
                spread = np.sqrt(max(square - mean * mean, 0.0)) + EPSILON
                normalised[i, j] = (value - mean) / spread

    return learn
