"""From the raw record of a run to the numbers that papers give.

R[i, j] is the test accuracy on the task of visit j when visit i ends, b[j] that before any training; T visits.
All are fractions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def retained_accuracy(matrix: Matrix) -> float:
    """RA: mean over j of R[T−1, j] (MER, section 4)."""
    return float(matrix[-1].mean())


def learning_accuracy(matrix: Matrix) -> float:
    """LA: mean over j of R[j, j] (MER, section 4)."""
    return float(matrix.diagonal().mean())


def backward_transfer(matrix: Matrix) -> float:
    """BTI, backward transfer and interference: mean over all T of R[T−1, j] − R[j, j] (MER, section 4)."""
    return float((matrix[-1] - matrix.diagonal()).mean())


def forward_transfer(matrix: Matrix, baseline: NDArray[np.float64]) -> float:
    """FT: mean over all T of R[j−1, j] − b[j], the first taken as zero (GEM, equation 4, which divides by T − 1)."""
    return float((matrix.diagonal(1) - baseline[1:]).sum() / len(baseline))
