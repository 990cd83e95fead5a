"""Gradients of groups of examples as the factors that they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.learners import kernels
from metareplay.learners.arrays import aligned, in_a_room
from metareplay.learners.base import Rows, Vector

FORMED = 128
"""Rows in a group, on the mean, from which its gradient is always formed."""
FEW = 16
"""Rows in a group up to which inner products of gradients are sums over pairs of examples: faster than to form them."""


def factored(learner: Any, groups: Sequence[Rows]) -> Factors:
    """The gradients of groups of a `FusedPerceptron`'s rows."""
    sizes = list(map(len, groups))
    if 0 in sizes:
        raise BadInput("a gradient needs at least one row")
    rows = learner._slots(np.concatenate(groups))
    learner.gradients_taken += len(rows)
    strips, lists = learner._sorted.of(groups, learner)
    workspace = learner._room_for(max(len(rows), 3))  # not the one of two rows, which all that is done needs
    factors = Factors(learner, rows, np.array(sizes), workspace, strips, lists)
    for given in factors.parts():
        learner._require(given[0], kernels.backward(*learner._table, *given))
    return factors


class Factors:
    """The gradients of groups of rows as a matrix ``G (groups, parameters)`` that is not formed.

    In each layer an example's gradient is the outer product of its inputs and its delta. So ``G @ vector`` and
    ``weights @ G`` are a pass over the examples, ``G @ G[0]`` products of inputs and of deltas; ``G[which]`` forms
    gradients if that is faster, and else has ``@`` and, for ``G[which] @ G[others].T``, ``T``. Holds until the table
    is written.

    Parameters
    ----------
    learner
        The `FusedPerceptron` whose table has the examples.
    rows, sizes
        The rows of all groups, one after the other, and how many each group has.
    workspace
        Their backward pass: nobody else's as long as this lives.
    strips
        Of all groups but the first, as `SortedInputs` has them, or empty.
    lists
        Each group's, or None.
    """

    __array_ufunc__ = None  # so that NumPy leaves ``weights @ G`` to this class

    def __init__(
        self, learner: Any, rows: Rows, sizes: NDArray[np.int64], workspace: tuple[NDArray[Any], ...],
        strips: tuple[NDArray[Any], ...], lists: Sequence[Any],
    ) -> None:  # fmt: skip
        self._learner, self._rows, self._sizes, self._workspace = learner, rows, sizes, workspace
        self._strips, self._lists = strips, lists
        self._examples, self._begins = learner._table[1:], np.cumsum(sizes) - sizes
        self._known: dict[int, int] = {}  # of each group whose gradient is formed, the row of `self._room` that has it
        self._room: Vector | None = None

    @property
    def T(self) -> Factors:
        """For ``G[which] @ G[others].T`` alone."""
        return self

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, int):
            return _Row(which)
        sizes = self._sizes[which]
        if len(self._rows) > FEW * len(self._sizes):
            return _Formed(self._formed(which))
        rows = np.concatenate([np.arange(len(self._rows))[self._part(place)] for place in which])
        workspace = tuple(array[rows] for array in self._workspace)
        return Factors(self._learner, self._rows[rows], sizes, workspace, self._learner._unsorted, [None] * len(sizes))

    def _formed(self, which: Any) -> Vector:
        """These gradients, each formed once: rows of a room that has one for each group."""
        if self._room is None:
            self._room = self._vectors(1, len(self._sizes))
        for place in map(int, which):
            if place not in self._known:
                self._known[place] = row = len(self._known)
                self._sum(self._room[row], self._part(place), 1 / self._sizes[place], self._lists[place])
        rows = np.array([self._known[int(place)] for place in which])
        return self._room[rows[0] : rows[-1] + 1] if np.all(np.diff(rows) == 1) else self._room[rows]

    def __matmul__(self, other: Any) -> NDArray[Any]:
        """``G @ vector``, ``G @ G[0]``, or ``G[which] @ G[others].T``."""
        if isinstance(other, Factors):
            pairs = np.add.reduceat(np.add.reduceat(self._pairs(other), self._begins), other._begins, 1)
            return pairs / np.outer(self._sizes, other._sizes)
        products = np.zeros(len(self._rows))
        if isinstance(other, _Row):
            part = self._part(other.place)
            for place in range(part.start, part.stop):
                kernels.dots(*self._examples, self._rows, place, *self._workspace, self._learner._dense, products)
            products /= part.stop - part.start
        else:
            return self._along(other)
        return self._means(products)

    def _means(self, products: NDArray[Any]) -> NDArray[np.float32]:
        return (np.add.reduceat(products, self._begins) / self._sizes).astype(np.float32)

    def _along(self, vector: Vector) -> NDArray[np.float32]:
        """``G @ vector``: of the gradients that are formed by themselves, of the others by a forward pass."""
        which, products = list(self._known), np.zeros(len(self._rows))
        wanted, held = np.ones(len(self._sizes), bool), aligned(len(vector), make=np.empty)
        wanted[which], held[:] = False, vector
        at = np.flatnonzero(np.repeat(wanted, self._sizes))
        outputs = self._learner._change.reshape(kernels.MANY + 1, -1)
        first = int(self._sizes[0]) if len(self._strips[0]) else len(self._rows)
        for some, (*strips, images) in ((at[at < first], self._learner._unsorted), (at[at >= first], self._strips)):
            given = (self._rows[some], some, *self._workspace, *strips, images[some - first] if len(images) else images)
            kernels.along(held, *self._examples, *given, outputs, out := np.empty(len(some)))
            products[some] = out
        means = self._means(products)
        if self._room is not None:
            means[which] = self._room[: len(which)] @ vector
        return means

    def parts(self) -> Iterator[tuple[Any, ...]]:
        """Rows, workspace and strips as `kernels.backward` takes them: the sorted rows apart from the first."""
        if not len(self._strips[0]):
            yield self._rows, *self._workspace, *self._strips
            return
        first = int(self._sizes[0])
        for part, strips in ((slice(0, first), self._learner._unsorted), (slice(first, None), self._strips)):
            # Tasks' masks lie behind all rows of the last array.
            yield self._rows[part], *(array[part.start :] for array in self._workspace), *strips

    def _inputs(self) -> NDArray[np.float32]:
        inputs = np.zeros((len(self._rows), len(self._learner._dense)), np.float32)
        kernels.spread(*self._examples, self._rows, *self._workspace[:-1], inputs)
        return inputs

    def _pairs(self, other: Factors) -> NDArray[np.float32]:
        """⟨∇ of row i, ∇ of the other's row j⟩: in each layer (inputs · inputs + 1)(delta · delta)."""
        layers, examples = self._examples[:2]
        both = [it._inputs() for it in dict.fromkeys((self, other))]  # one, if they are the same
        a, b, begin = both[0], both[-1], 0
        pairs = np.zeros((len(a), len(b)), np.float32)
        tasks, others = (examples[it._rows, kernels.TASK] for it in (self, other))
        for fan_in, fan_out, _, _, _, private, of, _ in layers:
            inputs, deltas = slice(begin, begin + fan_in), slice(of, of + fan_out)
            products = (a[:, inputs] @ b[:, inputs].T + 1) * (
                self._workspace[-1][: len(a), deltas] @ other._workspace[-1][: len(b), deltas].T
            )
            pairs += products * (tasks[:, None] == others) if private else products
            begin += fan_in
        return pairs

    def __rmatmul__(self, weights: NDArray[np.floating[Any]]) -> Vector:
        given, target = np.flatnonzero(weights), self._vectors(0, 1)[0]
        if len(given) == 1:
            return self._sum(target, self._part(given[0]), weights[given[0]] / self._sizes[given[0]])
        return self._sum(target, slice(0, len(self._rows)), np.repeat(weights / self._sizes, self._sizes))

    def _vectors(self, room: int, number: int) -> Vector:
        return in_a_room(self._learner._rooms[room], number, len(self._learner._parameters))

    def _part(self, place: int) -> slice:
        return slice(int(self._begins[place]), int(self._begins[place] + self._sizes[place]))

    def _sum(self, target: Vector, part: slice, scales: Any, lists: Any = None) -> Vector:
        """The weighted sum of some rows' gradients, whose inputs may be sorted."""
        rows = self._rows[part]
        weights = np.empty(len(rows), np.float32)
        weights[:] = scales
        workspace = (array[part] for array in self._workspace)
        if lists:
            given = (*workspace, *lists[1], self._learner._change)
            kernels.add_sorted_gradients(target, *self._examples[:2], rows, weights, *given)
        else:
            given = (target, True, *self._examples, rows, weights, *workspace, self._learner._dual)
            kernels.add_gradients(*given, 0, self._learner._no_rule)
        return target


class _Row(NamedTuple):
    place: int


class _Formed:
    """Gradients that are formed: for ``weights @ G``, ``G @ vector`` and ``G @ H.T``."""

    __array_ufunc__ = None

    def __init__(self, vectors: Vector) -> None:
        self.vectors = vectors

    @property
    def T(self) -> _Formed:
        """For ``G @ H.T`` alone."""
        return self

    def __rmatmul__(self, weights: NDArray[np.floating[Any]]) -> Any:
        return weights @ self.vectors

    def __matmul__(self, other: Any) -> Any:
        number, side = len(self.vectors), kernels.SIDE
        if other is not self or number < side:
            return self.vectors @ (other.vectors.T if isinstance(other, _Formed) else other)
        gram, sides = np.empty((number, number), np.float32), -(-number // side)
        kernels.gram(self.vectors, aligned(sides * (sides + 1) // 2 * side * side * kernels.LANES), gram)
        return gram
