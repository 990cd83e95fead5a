"""Standard normal numbers for every parameter, ten times as fast as NumPy draws them."""

import math
from collections.abc import Iterable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from metareplay.compiled import compiled

LANES, ROW = 16, 512  # numbers that are computed together, and that are at hand together
FAR = np.float32(5)


def normal(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Draw ``(count,)`` numbers by ``rng``: the i-th is a function of i and of 64 bits that are drawn once.

    Two rounds of a 32-bit hash give 2²³ values evenly spread over (0, 1), of which the normal distribution's quantiles
    are taken (Giles 2010, whose error is below 1e-6): so none is beyond 5.3.
    """
    out = np.empty((1, -(-count // ROW), ROW), np.float32)
    fill(rng, [(out, ROW)])
    return out.reshape(-1)[:count]


def fill(rng: np.random.Generator, blocks: Iterable[tuple[NDArray[np.float32], int]]) -> None:
    """Draw as `normal` into blocks ``(copies, rows, stride)``, of whose rows so many columns count; the others are 0.

    The last row of each copy, its biases, comes behind all others of the block.
    """
    (one, two), begin = rng.integers(2**32, size=2, dtype=np.uint32), 0
    for block, width in blocks:
        _fill(block, width, begin, one, two)
        begin += block.shape[0] * block.shape[1] * width


_CENTRE = tuple(map(np.float32, (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                                 -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)))  # fmt: skip
_TAILS = tuple(map(np.float32, (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                                -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)))  # fmt: skip
"""Giles's polynomials, the highest power first."""


@njit(forceinline=True)
def _mixed(h):  # type: ignore[no-untyped-def]
    """A round of the hash (Wellons 2018, lowbias32)."""
    h = np.uint32(h ^ (h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(0x7FEB352D))
    h = np.uint32(h ^ (h >> np.uint32(15)))
    h = np.uint32(h * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@njit(forceinline=True)
def _power_series(c, x):  # type: ignore[no-untyped-def]
    return ((((((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]) * x + c[6]) * x + c[7]) * x) + c[8]


@compiled
def _fill(block, width, begin, one, two):  # type: ignore[no-untyped-def]
    copies, rows, stride = block.shape
    xs, ws = np.empty(stride, np.float32), np.empty(stride, np.float32)
    for row in range(copies * rows):
        copy, place = row // rows, row % rows
        out, before = block[copy, place], copy * (rows - 1) + place if place < rows - 1 else copies * (rows - 1) + copy
        first = np.uint32(begin + before * width)
        for j in range(stride):  # without a branch, so that vector registers take it
            h = _mixed(np.uint32(_mixed(np.uint32(np.uint32(first + np.uint32(j)) ^ one)) ^ two))
            x = (np.float32(np.int32(h >> np.uint32(9))) + np.float32(0.5)) * np.float32(2.0**-22) - np.float32(1)
            # ln((1 − x)(1 + x)), of exponent and mantissa m in [√½, √2): ln m = 2 artanh t, t = (m − 1) / (m + 1)
            bits = np.float32((np.float32(1) - x) * (np.float32(1) + x)).view(np.int32)
            exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
            m = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)
            t = np.divide(m - np.float32(1), m + np.float32(1))  # which, unlike /, has no branch
            s = t * t
            series = ((np.float32(2 / 9) * s + np.float32(2 / 7)) * s + np.float32(2 / 5)) * s + np.float32(2 / 3)
            w = -(np.float32(exponent) * np.float32(math.log(2)) + t * (series * s + np.float32(2)))
            xs[j], ws[j] = np.float32(math.sqrt(2)) * x, w
        for j in range(stride):
            out[j] = xs[j] * _power_series(_CENTRE, ws[j] - np.float32(2.5))
        for column in range(0, stride, LANES):
            part, far = ws[column : column + LANES], np.int32(0)
            for j in range(LANES):
                far += np.int32(part[j] >= FAR)
            if far > 0:
                for j in range(column, column + LANES):
                    if ws[j] >= FAR:
                        out[j] = xs[j] * _power_series(_TAILS, np.sqrt(ws[j]) - np.float32(3))
        for j in range(width, stride):
            out[j] = np.float32(0)
