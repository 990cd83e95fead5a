"""Classifiers without gradients, on the features of the initial network: nearest class mean, and streaming LDA."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.learners.base import EXCLUDED, Learner, Rows
from metareplay.methods.base import ALL_CLASSES, Method
from metareplay.networks import Perceptron
from metareplay.settings import setting


class NCM(Method):
    """The nearest class mean, in features f that are never learned: what needs no learning at all.

    argmin ‖f − μ_c‖² is argmax μ_c·f − ½ ‖μ_c‖², which is a last layer with weights μ_c and such biases. A class that
    was not met is never the answer.
    """

    id = "ncm"
    family = "baseline"
    perceptron_for = "writes the last layer of a network"
    waived = ALL_CLASSES

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        self.learner = learner
        assert isinstance(learner.network, Perceptron)
        self.means = np.zeros((learner.classes, learner.network.widths[-2]))
        self.counts = np.zeros(learner.classes, np.int64)

    def observe(self, rows: Rows) -> None:
        features = (self.learner.activations(rows) or [self.learner.inputs(rows)])[-1]
        for f, label in zip(features.astype(np.float64), self.learner.labels[rows], strict=True):
            self.counts[label] += 1
            self.follow(f - self.means[label], int(label))
        directions = self.directions()
        weights, biases = self.learner.layers()[-1]
        weights[...] = directions
        biases[...] = np.where(self.counts, -0.5 * (self.means * directions.T).sum(1), EXCLUDED)

    def follow(self, deviation: NDArray[np.float64], label: int) -> None:
        """Move a class's mean by an example's deviation from it."""
        self.means[label] += deviation / self.counts[label]

    def directions(self) -> NDArray[np.floating[Any]]:
        """The last layer's weights ``(features, classes)``."""
        return self.means.T

    def steps(self, examples: int, batches: int) -> int:
        return 0


class SLDA(NCM):
    """Linear discriminant analysis as a stream: class means μ_c, and one covariance Σ for all classes.

    A score is μ_cᵀΛf − ½ μ_cᵀΛμ_c with Λ = ((1 − ε) Σ + ε I)⁻¹; the t-th example changes Σ by
    Σ ← ((t − 1) Σ + Δ) / t, Δ = (t − 1)/t · (f − μ_y)(f − μ_y)ᵀ, with μ_y as before it
    (Hayes and Kanan 2020, equations 2 to 5). A class's first example has no deviation.
    """

    id = "slda"
    family = "baseline"

    shrinkage: float = setting(
        1e-4, "(0, 1]", search=(1e-6, 0.1, "log"), help="ε, how much of the identity is in the covariance"
    )

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        super().start(learner, rng, tasks)
        self.covariance = np.zeros((self.means.shape[1],) * 2)

    def follow(self, deviation: NDArray[np.float64], label: int) -> None:
        t = self.counts.sum()
        delta = (t - 1) / t * np.outer(deviation, deviation) * (self.counts[label] > 1)
        self.covariance += (delta - self.covariance) / t
        super().follow(deviation, label)

    def directions(self) -> NDArray[np.floating[Any]]:
        shrunk = (1 - self.shrinkage) * self.covariance + self.shrinkage * np.eye(len(self.covariance))
        return np.linalg.solve(shrunk, self.means.T)
