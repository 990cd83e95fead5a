"""Losses as learners take them: the gradient of a batch's loss by its scores, and values where they are of use.

In all of them ``z (n, classes)`` are raw scores, and ``allowed (n, classes)`` is what ``Learner.allowed`` gives: the
classes that count for each row; None for all. A gradient is zero where a class does not count.

>>> from metareplay.methods.losses import cross_entropy, cross_entropy_values, softmax
>>> z = np.array([[2.0, 1.0, 0.0]], np.float32)
>>> softmax(z).round(2)
array([[0.67, 0.24, 0.09]], dtype=float32)
>>> cross_entropy(z, np.array([1])).round(2)
array([[ 0.67, -0.76,  0.09]], dtype=float32)
>>> cross_entropy_values(z, np.array([1])).round(2)
array([1.41], dtype=float32)
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Allowed = NDArray[np.bool_] | None


def log_softmax(z: Scores, allowed: Allowed = None) -> Scores:
    """Log-probabilities ``(n, classes)`` among the allowed classes; −inf for the others."""
    if allowed is not None:
        z = np.where(allowed, z, np.float32(-np.inf))
    shifted: Scores = z - np.maximum.reduce(z, -1, keepdims=True)
    shifted -= np.log(np.add.reduce(np.exp(shifted), -1, keepdims=True))  # of at least 1
    return shifted


def softmax(z: Scores, allowed: Allowed = None) -> Scores:
    """Probabilities ``(n, classes)`` among the allowed classes; 0 for the others."""
    if allowed is not None and not np.logical_and.reduce(allowed, None):
        z = np.where(allowed, z, np.float32(-np.inf))
    p: Scores = np.exp(z - np.maximum.reduce(z, -1, keepdims=True))  # such calls cost little: most of a small batch's
    p /= np.add.reduce(p, -1, keepdims=True)
    return p


def errors(z: Scores, labels: NDArray[np.int64], allowed: Allowed = None) -> Scores:
    """Softmax less one-hot: the gradient ``(n, classes)`` of each row's own cross-entropy, not divided by n."""
    g = softmax(z, allowed)
    g[np.arange(len(g)), labels] -= 1
    return g


def cross_entropy(z: Scores, labels: NDArray[np.int64], allowed: Allowed = None) -> Scores:
    """The gradient of the mean cross-entropy of ``labels (n,)``, each allowed to its row."""
    return errors(z, labels, allowed) / np.float32(len(z))


def cross_entropy_values(z: Scores, labels: NDArray[np.int64], allowed: Allowed = None) -> Scores:
    """The cross-entropy of each row ``(n,)``."""
    values: Scores = -log_softmax(z, allowed)[np.arange(len(z)), labels]
    return values


def mse_to(z: Scores, target: Scores) -> Scores:
    """The gradient of the mean, over rows and classes, of (z − target)²; ``target (n, classes)``."""
    return 2 * (z - target) / np.float32(z.size)


def distillation(z: Scores, target: Scores, temperature: float = 1.0, allowed: Allowed = None) -> Scores:
    """The gradient of T² times the mean cross-entropy of softmax(z / T) against softmax(target / T).

    The square of the temperature T keeps the gradient's size as T grows (Hinton, Vinyals and Dean 2015).
    """
    t = np.float32(temperature)
    p, wanted = softmax(np.array([z, target], z.dtype) / t, allowed)
    gradient: Scores = (p - wanted) * (t / np.float32(len(z)))
    return gradient
