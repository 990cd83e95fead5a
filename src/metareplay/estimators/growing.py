"""The compiled perceptron, able to take on more inputs and more classes while it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.learners import kernels
from metareplay.learners.base import Rows
from metareplay.learners.fused import FusedPerceptron, Vector
from metareplay.networks.perceptron import Perceptron

GROUP = 256
"""Examples outside the table that are scored together."""


class GrowingPerceptron(FusedPerceptron):
    """A fused perceptron that can grow: its parameters, and the examples in its table, stay as they are.

    Beside the table it can hold examples unscaled, so that they can be scaled again.

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
        widths, blocks, old = self.network.widths[1:], self._blocks, vars(self).copy()
        layers = [[tuple(block.shape) for block in copies] for copies in blocks(self._parameters)]
        GrowingPerceptron.__init__(self, network, self.slots, self.batch_size, rng, len(self._unscaled) > 0)
        self.steps, self._used = old["steps"], old["_used"]
        self._examples[:] = old["_examples"]
        for name in ("_unscaled", "_index", "_value"):
            getattr(self, name)[:, : old[name].shape[1]] = old[name]

        def write(vector: Vector, target: Vector) -> Vector:
            begin = 0
            for width, shapes, copies in zip(widths, layers, self._blocks(target), strict=True):
                for (rows, stride), grown in zip(shapes, copies, strict=True):
                    block = vector[begin : begin + rows * stride].reshape(rows, stride)
                    grown[: rows - 1, :width] = block[:-1, :width]
                    grown[-1, :width] = block[-1, :width]
                    begin += rows * stride
            return target

        write(old["_parameters"], self._parameters)
        return lambda vector: write(vector, np.zeros_like(self._parameters))

    def copy(self, source: int, target: int) -> None:
        super().copy(source, target)
        if len(self._unscaled):
            self._unscaled[target] = self._unscaled[source]
            self._used = max(self._used, target + 1)

    def hold_unscaled(self, rows: Rows, x: NDArray[np.float64], places: NDArray[np.int64]) -> None:
        """Keep what was scaled into consecutive slots ``rows``: ``x (n, k)``, of the features in ``places (k,)``."""
        held = self._unscaled[rows[0] : rows[-1] + 1]
        held.fill(np.nan)
        held[:, places] = x

    def scale_again(self, scale: Callable[[NDArray[np.float64]], NDArray[np.float32]]) -> None:
        """Scale every example in the table from what it was before; NaN where it has no such feature."""
        rows = np.arange(self._used)
        tasks = self.tasks[rows]
        self.put(rows, scale(self._unscaled[: self._used]), self.labels[rows], 0)
        self.tasks[rows] = tasks

    def scores_of(self, x: NDArray[np.float32], task: int) -> NDArray[np.float32]:
        """Scores ``(n, classes)`` of examples ``x (n, inputs)`` outside the table.

        Nothing of the learner is written to, so that any number of threads may ask at once; each example's scores are
        the same whatever others it is asked with.
        """
        out = np.empty((len(x), self.network.widths[-1]), np.float32)
        rows = np.arange(min(GROUP, len(x)))
        labels = np.zeros(len(rows), np.int64)
        examples = np.zeros((len(rows), self._examples.shape[1]), np.int64)
        index = np.empty((len(rows), x.shape[1]), self._index.dtype)
        value = np.empty(index.shape, np.float32)
        workspace = self._make_workspace(1)
        for begin in range(0, len(x), GROUP):
            part = x[begin : begin + GROUP]
            kernels.put(examples, index, value, rows[: len(part)], part, labels[: len(part)], task)
            kernels.forward(
                self._parameters, self._layers, examples, index, value, rows[: len(part)], *workspace,
                out[begin : begin + GROUP],
            )  # fmt: skip
        return out

    def state(self) -> dict[str, NDArray[Any]]:
        return super().state() | {"unscaled": self._unscaled.copy(), "used": np.array(self._used)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()``, once it is sure that no compiled code would be led astray by it.

        Raises
        ------
        ValueError
            If it is not of this network and table.
        """
        for name, held in self.state().items():
            if state[name].shape != held.shape or state[name].dtype != held.dtype:
                raise ValueError(f"its {name} do not have the shape and type that its settings ask for")
        counts, labels, tasks = state["examples"].T
        listed = np.arange(state["index"].shape[1]) < counts[:, None]
        for name, numbers, end in (
            ("examples", counts, self.network.widths[0] + 1),
            ("labels", labels, self.network.widths[-1]),
            ("tasks", tasks, self.network.tasks if any(self.network.private) else np.inf),
            ("inputs", state["index"][listed], self.network.widths[0]),
            ("used slots", state["used"], self.slots + 1),
        ):
            if np.any(numbers < 0) or np.any(numbers >= end):
                raise ValueError(f"its {name} are out of range")
        padded = zip(self.network.widths[1:], self._blocks(state["parameters"]), strict=True)
        if any(block[:, width:].any() for width, copies in padded for block in copies):
            raise ValueError("its parameters are not zero where the layout has none")
        if not np.isfinite(state["parameters"]).all() or not np.isfinite(state["value"][listed]).all():
            raise ValueError("its parameters or examples are not finite")
        super().load_state(state)
        self._unscaled[:] = state["unscaled"]
        self._used = int(state["used"])
