"""What a few seeds can tell: means with intervals, and exact tests of differences that are paired by seed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.errors import BadInput

Values = NDArray[np.float64]
CONFIDENCE = 0.95
LEVEL = 0.05  # a difference is established where its p-value, corrected for all that are looked at, is at most this
EXACT = 36  # pairs up to which all 2ⁿ signs are counted; for more, ``DRAWS`` of them are drawn
DRAWS, BLOCK = 1_000_000, 10_000
ROUNDING = 1e-12
"""Sums of signed differences that are as near as this to each other, relative to the sum of all sizes, are equal."""
POWER = 0.8  # a number of seeds is enough where this share of simulated studies establishes the difference
MOST, STUDIES = 100, 400  # seeds beyond which none are looked for; studies that are simulated
Progress = Callable[[int, int], None]  # called with how many are done, of how many


@dataclass(frozen=True)
class Estimate:
    """The mean of ``n`` values, and half the width of its 95 % interval; that is None where there is one value."""

    mean: float
    half_width: float | None
    n: int

    @property
    def ends(self) -> tuple[float | None, float | None]:
        return (None, None) if (half := self.half_width) is None else (self.mean - half, self.mean + half)


def estimate(values: ArrayLike) -> Estimate:
    """The mean over seeds, with Student's interval: mean ± t(0.975; n − 1)·s/√n; BadInput if none or not finite."""
    given = _finite(values)
    half = half_widths(given[:, None])
    return Estimate(float(given.mean()), None if half is None else float(half[0]), len(given))


def half_widths(values: Values) -> Values | None:
    """Half the widths ``(points,)`` of the 95 % t-intervals of the means of ``(seeds, points)``; None with one seed."""
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # imported when used: it takes longer than all of this package

    return np.asarray(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(axis=0, ddof=1) / math.sqrt(n))


def sign_flip_test(differences: ArrayLike) -> float:
    """The two-sided p-value of paired differences, by exact permutation.

    p is the share of all 2ⁿ choices of signs that make the sum of the differences at least as far from zero as it is
    (Fisher 1935, The Design of Experiments, section 21). Up to 36 differences all choices are counted, by halves
    (Horowitz and Sahni 1974). Above, a million are drawn, with a fixed generator, and the signs given are counted in
    (Phipson and Smyth 2010), so that p is not too small. BadInput if there are none, or one is not finite.

    Examples
    --------
    >>> sign_flip_test([0.06, 0.07, 0.05, 0.08, 0.06, 0.07])
    0.03125
    """
    given = _finite(differences)
    given = given[given != 0] / (np.abs(given).sum() or 1)  # either sign of zero gives the same sum
    least = abs(float(given.sum())) - ROUNDING
    if least <= 0:
        return 1.0
    if len(given) > EXACT:
        far = sum(int((np.abs(signs @ given) >= least).sum()) for signs in _drawn(len(given)))
        return (far + 1) / (DRAWS + 1)
    half = (len(given) + 1) // 2
    # Choices that differ in every sign have opposite sums: those that leave the first sign as it is are enough.
    one, other = given[0] + _signed_sums(given[1:half]), _signed_sums(given[half:])
    one.sort()  # neighbours are then looked up near each other
    other.sort()
    above = len(other) - np.searchsorted(other, least - one, side="left")
    below = np.searchsorted(other, -least - one, side="right")
    return int((above + below).sum()) / (len(one) * len(other))


def _signed_sums(values: Values) -> Values:
    """The sums of the values with all choices of their signs; ``(2 ** len(values),)``."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@lru_cache(maxsize=1)
def _drawn(n: int) -> list[NDArray[np.int8]]:
    """``DRAWS`` times ``n`` signs, in blocks, the same for all samples of that size."""
    rng = np.random.default_rng(0)
    return [(2 * rng.integers(0, 2, (BLOCK, n)) - 1).astype(np.int8) for _ in range(DRAWS // BLOCK)]


def holm(p_values: ArrayLike) -> Values:
    """The p-values of several tests, corrected: calling all up to α real is wrong anywhere with probability α at most.

    Holm 1979: the i-th smallest of m is multiplied by m − i + 1; none becomes smaller than that before it, or larger
    than 1. BadInput if one is not between 0 and 1.
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise BadInput(f"p-values must be numbers between 0 and 1, not {p_values!r}")
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    return np.minimum(corrected, 1)


def smallest_p(pairs: int) -> float:
    """The smallest p-value that so many pairs can have: that of differences with the same sign, 2/2ⁿ."""
    return min(1.0, 2.0 ** (1 - pairs))


def seeds_needed(tests: int = 1) -> int:
    """How many seeds let each of so many tests, corrected by Holm's method, reach the level at all; 6 for one test."""
    return max(1, 1 + math.ceil(math.log2(tests / LEVEL)))


def seeds_for(sample: ArrayLike, tests: int = 1) -> int | None:
    """How many seeds, in all, would probably establish a difference of the size seen, among so many tests.

    Studies are simulated: differences drawn from the normal distribution with the sample's mean and standard deviation,
    and tested at the level of Bonferroni's correction: by Student's t, to which a sign-flip test of such differences is
    near, with no p below ``smallest_p``. The answer is the least number with which 80 % of studies establish it; None
    if 100 seeds are too few, or there are not two to tell how much seeds differ. It is always the same.

    Examples
    --------
    >>> seeds_for([0.02, 0.01, -0.01, 0.02, 0.01])
    15
    """
    given = _finite(sample)
    if len(given) < 2 or not given.any():
        return None
    from scipy.special import stdtr

    drawn = given.mean() + given.std(ddof=1) * np.random.default_rng(0).standard_normal((STUDIES, MOST))

    def enough(n: int) -> bool:
        with np.errstate(divide="ignore"):
            t = drawn[:, :n].mean(axis=1) / (drawn[:, :n].std(axis=1, ddof=1) / math.sqrt(n))
        p = np.maximum(2 * stdtr(n - 1, -np.abs(t)), smallest_p(n))
        return bool(np.mean(p <= LEVEL / tests) >= POWER)

    low, high = max(len(given), seeds_needed(tests) - 1), MOST
    if low >= high or not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def spending(n: int, most: int, spent: float) -> float:
    """The level of a look at ``n`` of at most so many seeds, where ``spent`` went to earlier looks.

    That of all looks together is 0.05, spent evenly along the seeds (Lan and DeMets 1983; the levels add up): however
    often one looks, what is not there is established in one of 20 studies at most.
    """
    return max(0.0, LEVEL * min(n, most) / most - spent)


def next_look(n: int, most: int) -> int:
    """With how many seeds to look again: half as many more, since each look costs a part of the level."""
    return min(most, math.ceil(1.5 * n))


@dataclass(frozen=True)
class Difference:
    """One of several differences that are judged together.

    Its mean over the pairs, with an interval of its own; its p-value, also corrected by Holm's method for all of them;
    and the seeds without which none could be established, None where there are enough. Where seeds were added by
    looking, ``by_looks`` says what was found then, since a p-value knows nothing of looks.
    """

    estimate: Estimate
    p: float
    corrected: float
    needed: int | None
    by_looks: bool | None = None

    @property
    def established(self) -> bool:
        """Whether the corrected p-value is at most 0.05, or the looks say so."""
        return self.corrected <= LEVEL if self.by_looks is None else self.by_looks

    @property
    def verdict(self) -> str:
        if self.by_looks is not None:
            return "established, by looks" if self.by_looks else "not established, by looks"
        if self.established:
            return "established"
        return f"too few seeds to tell (needs at least {self.needed})" if self.needed else "not established"


def differences(pairs: Sequence[ArrayLike]) -> list[Difference]:
    """Judge comparisons together, each by its differences by seed; BadInput if one has none or is not finite."""
    estimates, p = [estimate(given) for given in pairs], [sign_flip_test(given) for given in pairs]
    # Larger p-values never make a corrected one smaller: with the smallest possible ones it is as small as it can be.
    possible = holm([smallest_p(one.n) for one in estimates]) > LEVEL
    return [
        Difference(one, own, float(corrected), seeds_needed(len(pairs)) if too_few else None)
        for one, own, corrected, too_few in zip(estimates, p, holm(p), possible, strict=True)
    ]


def _finite(values: ArrayLike) -> Values:
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not len(given):
        raise BadInput(f"a statistic needs a list of numbers, one for each seed, not {values!r}")
    if not np.isfinite(given).all():
        raise BadInput(f"a statistic needs finite numbers, but among those given is {given[~np.isfinite(given)][0]}")
    return given
