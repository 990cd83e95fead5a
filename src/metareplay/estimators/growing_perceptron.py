"""The compiled perceptron, able to take on more inputs and more classes while it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.learners import kernels
from metareplay.learners.base import Rows
from metareplay.learners.fused import FusedPerceptron, Vector
from metareplay.networks.perceptron import Perceptron

GROUP = 256
"""Examples outside the table that are laid out and scored together."""


class GrowingPerceptron(FusedPerceptron):
    """A fused perceptron that can grow: what it has learned, and the examples in its table, stay as they are.

    Beside the table it can hold the examples as they were before they were scaled, so that they can be scaled anew.

    Parameters
    ----------
    network, slots, batch_size, rng
        As for a fused perceptron.
    unscaled
        Whether it holds those.
    """

    def __init__(
        self, network: Perceptron, slots: int, batch_size: int, rng: np.random.Generator, unscaled: bool = False
    ) -> None:
        super().__init__(network, slots, batch_size, rng)
        self._unscaled = np.full((slots if unscaled else 0, network.widths[0]), np.nan)
        self._used = batch_size

    def grow(self, network: Perceptron, rng: np.random.Generator) -> Callable[[Vector], Vector]:
        """Become a network with more inputs or more classes, whose hidden layers are as before.

        Parameters
        ----------
        network
            What to become.
        rng
            Decides the weights of what is new.

        Returns
        -------
        translate
            Takes a vector in the parameters' old layout to the new one; it is zero where the network is new.
        """
        old = copy(self)
        GrowingPerceptron.__init__(self, network, old.slots, old.batch_size, rng, len(old._unscaled) > 0)
        self.steps, self._used = old.steps, old._used
        self._unscaled[:, : old._unscaled.shape[1]] = old._unscaled
        self._examples[:] = old._examples
        self._index[:, : old._index.shape[1]] = old._index
        self._value[:, : old._value.shape[1]] = old._value

        def write(vector: Vector, target: Vector) -> Vector:
            for width, before, after in zip(
                old.network.widths[1:], old._blocks(vector), self._blocks(target), strict=True
            ):
                for block, grown in zip(before, after, strict=True):
                    grown[: len(block) - 1, :width] = block[:-1, :width]
                    grown[-1, :width] = block[-1, :width]
            return target

        write(old._parameters, self._parameters)
        return lambda vector: write(vector, np.zeros_like(self._parameters))

    def copy(self, source: int, target: int) -> None:
        super().copy(source, target)
        if len(self._unscaled):
            self._unscaled[target] = self._unscaled[source]
            self._used = max(self._used, target + 1)

    def hold_unscaled(self, rows: Rows, x: NDArray[np.float64], places: NDArray[np.int64]) -> None:
        """Keep what was scaled into slots ``rows``, one after another: ``x (n, k)``, of the features in ``places``."""
        for row, values in zip(self._unscaled[rows[0] : rows[-1] + 1], x, strict=True):
            row.fill(np.nan)
            row[places] = values

    def scale_anew(self, scale: Callable[[NDArray[np.float64]], NDArray[np.float32]]) -> None:
        """Scale every example in the table again, from what it was before; NaN where it has no such feature."""
        rows = np.arange(self._used)
        x, labels, tasks = scale(self._unscaled[: self._used]), self.labels[rows], self.tasks[rows]
        kernels.put(self._examples, self._index, self._value, rows, x, labels, 0)
        self.tasks[rows] = tasks

    def scores_of(self, x: NDArray[np.float32], task: int) -> NDArray[np.float32]:
        """Scores ``(n, classes)`` of examples ``x (n, up to inputs)`` that are in no table.

        Nothing of the learner is written to, so that any number of threads may ask at once; each example's scores are
        the same whatever others it is asked with.
        """
        out = np.empty((len(x), self.network.widths[-1]), np.float32)
        rows = np.arange(min(GROUP, len(x)))
        labels = np.zeros(len(rows), np.int64)
        examples = np.zeros((len(rows), self._examples.shape[1]), np.int64)
        index = np.empty((len(rows), self._index.shape[1]), self._index.dtype)
        value = np.empty(index.shape, np.float32)
        workspace = self._make_workspace(1)
        for begin in range(0, len(x), GROUP):
            part = x[begin : begin + GROUP]
            kernels.put(examples, index, value, rows[: len(part)], part, labels, task)
            kernels.forward(
                self._parameters, self._layers, examples, index, value, rows[: len(part)], *workspace,
                out[begin : begin + GROUP],
            )  # fmt: skip
        return out

    def state(self) -> dict[str, NDArray[Any]]:
        return super().state() | {"unscaled": self._unscaled.copy(), "used": np.array(self._used)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``, after a look at what compiled code would follow without one.

        Raises
        ------
        ValueError
            If it is not of this network and table.
        """
        for name, held in self.state().items():
            if state[name].shape != held.shape or state[name].dtype != held.dtype:
                raise ValueError(f"its {name} do not have the shape that its settings ask for")
        counts, labels, tasks = state["examples"].T
        listed = np.arange(state["index"].shape[1]) < counts[:, None]
        for name, numbers, end in (
            ("examples", counts, self.network.widths[0] + 1),
            ("labels", labels, self.network.widths[-1]),
            ("tasks", tasks, self.network.tasks if any(self.network.private) else np.inf),
            ("inputs", state["index"][listed], self.network.widths[0]),
        ):
            if np.any(numbers < 0) or np.any(numbers >= end):
                raise ValueError(f"its table names {name} that there are none of")
        super().load_state(state)
        self._unscaled[:] = state["unscaled"]
        self._used = min(int(state["used"]), self.slots)
