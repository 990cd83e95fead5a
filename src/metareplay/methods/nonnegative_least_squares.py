"""Non-negative least squares by an active set, from the Gram matrix alone: the quadratic programme of GEM."""

# Numba's compiled code has no types that a checker could see.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,type-arg"

import math

import numpy as np

from metareplay.compiled import compiled


@compiled
def nonnegative_least_squares(gram, linear, rounding):
    """The u ≥ 0 that minimises ½ uᵀ·gram·u + linearᵀu: non-negative least squares, in terms of the Gram matrix.

    An active set method (Lawson and Hanson 1974, chapter 23), exact however nearly collinear the vectors are.
    ``gram (t, t)``, G·Gᵀ, and ``linear``, G·g, are float64, computed in a type of the machine epsilon ``rounding``.
    ``gram`` may be singular and, by rounding, even indefinite: what is added to its diagonal lies just above the
    rounding of its entries. A second pass, with the distance from the first one's result held small instead of u, takes
    that addition's effect away again (a proximal point step).
    """
    size = len(linear)
    lengths = np.sqrt(np.diag(gram))
    lengths[lengths == 0] = np.inf
    matrix = gram / lengths.reshape(size, 1) / lengths  # that of the vectors made 1 long
    linear = linear / lengths
    ridge = size * rounding
    for i in range(size):
        matrix[i, i] = 1 + ridge
    tolerance = 1e-14 * np.abs(linear).max()
    u = np.zeros(size)
    for _ in range(2):
        _descend_to_minimum(matrix, linear - ridge * u, u, tolerance)
    return u / lengths


@compiled
def _descend_to_minimum(matrix, linear, u, tolerance):
    """Move ``u ≥ 0`` to the minimum of ½ uᵀ·matrix·u + linearᵀu over u ≥ 0, the matrix positive definite.

    All but the free coordinates are 0. Time and again the one whose slope is most negative becomes free, and u goes
    towards the minimum over all that are; what reaches 0 before it gets there is free no more.
    """
    size = len(u)
    factor = np.empty((size, size))  # Cholesky's, over the free coordinates
    target = np.empty(size)
    free = np.empty(size, np.int64)
    count = factored = 0
    for i in range(size):
        if u[i] > 0:
            free[count] = i
            count += 1
    barred = np.zeros(size, np.bool_)  # those that rounding has made useless
    for _ in range(10 * size):
        while True:
            share, first = 1.0, -1
            while first < 0 and factored < count:
                if _factor_row(matrix, factor, free, factored):
                    factored += 1
                else:
                    share, first = 0.0, factored
            if first < 0:
                _solve(factor, linear, free, count, target)
                for a in range(count):
                    if target[a] <= 0 and u[free[a]] <= share * (u[free[a]] - target[a]):
                        first = a
                        share = u[free[a]] / (u[free[a]] - target[a]) if u[free[a]] > 0 else 0.0
            if share > 0:
                for a in range(count):
                    u[free[a]] += share * (target[a] - u[free[a]])
            if first < 0:
                break
            u[free[first]] = 0
            barred[free[first]] = share == 0
            factored = first
            count -= 1
            free[first:count] = free[first + 1 : count + 1]
        steepest, joining = -tolerance, -1
        slopes = linear + matrix @ u
        for i in range(size):
            if slopes[i] < steepest and u[i] == 0 and not barred[i]:
                steepest, joining = slopes[i], i
        if joining < 0:
            return
        free[count] = joining
        count += 1


@compiled
def _factor_row(matrix, factor, free, row):
    """The next row of Cholesky's factor over the free coordinates. False if that one depends on those before it."""
    rest = matrix[free[row], free[row]]
    for b in range(row):
        entry = matrix[free[row], free[b]]
        for c in range(b):
            entry -= factor[row, c] * factor[b, c]
        factor[row, b] = entry / factor[b, b]
        rest -= factor[row, b] ** 2
    if not rest > 0:
        return False
    factor[row, row] = math.sqrt(rest)
    return True


@compiled
def _solve(factor, linear, free, count, target):
    """The minimum over the free coordinates: factor·factorᵀ·target = −linear."""
    for a in range(count):
        target[a] = -linear[free[a]]
        for b in range(a):
            target[a] -= factor[a, b] * target[b]
        target[a] /= factor[a, a]
    for a in range(count - 1, -1, -1):
        for b in range(a + 1, count):
            target[a] -= factor[b, a] * target[b]
        target[a] /= factor[a, a]
