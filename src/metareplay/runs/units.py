"""What has become of a perceptron's hidden units: what signs of lost plasticity are read from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.base import Learner
from metareplay.runs.normaliser import Normaliser, parts
from metareplay.streams.stream import Images

WATCHED = 2000  # at most so many images are shown to the units


def watch(learner: Learner, test: Images, normaliser: Normaliser | None) -> NDArray[np.float64]:
    """``unit_measures`` of a learner, by what its units give for the first test images of a task."""
    test = test.only(np.arange(min(WATCHED, len(test))))
    x = np.concatenate([part.inputs(np.arange(len(part))) for part in parts(test, normaliser)])
    return unit_measures(learner.layers(learner.parameters()), x)


def dead_units(h: NDArray[np.floating[Any]]) -> float:
    """The share of a layer's units that are never on, of outputs ``h (n, units)`` (Dohare et al. 2024)."""
    return float((h <= 0).all(0).mean())


def effective_rank(h: NDArray[np.floating[Any]]) -> float:
    """e to the entropy of the normalised singular values of ``h (n, units)`` (Roy and Vetterli 2007); 0 if h is 0."""
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(h.T.astype(np.float64) @ h), 0))
    shares = values[values > 1e-9 * values.max()] / values.sum() if values.any() else np.ones(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def unit_measures(layers: Sequence[tuple[Any, Any]], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each layer: dead units, effective rank over units, mean abs weight ``(layers, 3)``; the last has no units."""
    measures = np.full((len(layers), 3), np.nan)
    for number, (weights, biases) in enumerate(layers):
        measures[number, 2] = np.abs(weights).mean()
        if number + 1 < len(layers):
            x = np.maximum(x @ np.asarray(weights) + np.asarray(biases), 0)
            measures[number, :2] = dead_units(x), effective_rank(x) / x.shape[1]
    return measures
