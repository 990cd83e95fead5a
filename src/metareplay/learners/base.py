"""The primitives that every learner has, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.errors import BadInput, RunFailed
from metareplay.streams.stream import Images

Rows = NDArray[np.int64]
"""Slots of the learner's table: ``(n,)`` is one batch, ``(b, n)`` is b batches."""

Vector = Any
"""The engine's own flat array of all parameters, or of a gradient: methods only add, scale and multiply it."""

EXCLUDED = -1e30
"""What is added to the score of a class that is not allowed: its exponential, and so its gradient, is exactly zero."""


class Diverged(RunFailed):
    """A step met a loss that is not finite; nothing of that step was applied.

    Parameters
    ----------
    step
        SGD steps that the learner had taken before it.
    row
        The slot of the example whose loss it was.
    message
        What to tell the user, where more is known than this.
    """

    def __init__(self, step: int, row: int, message: str = "") -> None:
        super().__init__(step, row, message)  # all of them, so that the error survives the way from another process
        self.step = step
        self.row = row
        self.message = message or f"the loss of the example in slot {row} is not finite after {step} SGD steps"

    def __str__(self) -> str:
        return self.message


class Learner(ABC):
    """Parameters, a bounded table of examples, and the arithmetic that joins them.

    An example is named by its slot in the table. Slots 0 … batch-1 take the incoming batch; the others belong
    to the method's memory. A learner knows nothing of the order of tasks, of memories, or of meta-learning.

    Attributes
    ----------
    slots
        Size of the table; of these ``batch_size`` take the incoming batch.
    labels, tasks
        ``(slots,)`` int64: class and task of the example in each slot.
    steps
        SGD steps taken so far.
    """

    slots: int
    batch_size: int
    labels: NDArray[np.int64]
    tasks: NDArray[np.int64]
    steps: int

    # Scenarios

    @abstractmethod
    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        """Exclude classes from the scores, from now on; None: all classes count, as at the start.

        An excluded class's score is about −1e30: it has no part in the softmax, nothing flows back from it, and it is
        never the answer where another class is allowed. Each row and image is restricted as its own task is, replayed
        ones too. A restriction is no part of ``state()``.

        Parameters
        ----------
        allowed
            ``(tasks, classes)``; a row for every task that is in the table or will be. A row's label must be among
            the classes that are allowed to its task when it is learned.

        Raises
        ------
        BadInput
            If it is no array of truth values, ``classes`` wide.
        """

    # The table

    @abstractmethod
    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        """Write examples ``x (n, inputs)`` with classes ``y (n,)`` of one task into slots ``rows (n,)``."""

    @abstractmethod
    def copy(self, source: int, target: int) -> None:
        """Keep an example: copy slot ``source`` to slot ``target``."""

    # Reading

    @abstractmethod
    def scores(self, images: Images, task: int) -> NDArray[np.float32]:
        """Scores (logits) ``(len(images), classes)`` of data outside the table."""

    @abstractmethod
    def forward(self, rows: Rows) -> NDArray[np.float32]:
        """Scores (logits) ``(n, classes)`` of slots ``rows (n,)``."""

    # Stepping

    @abstractmethod
    def sgd(self, rows: Rows, lr: float, weights: NDArray[np.float32] | None = None) -> None:
        """One SGD step on ``Σ weights[i] · loss(rows[i])``; without weights, on the mean loss.

        Raises
        ------
        Diverged
            If a loss is not finite. This step is then not taken; in ``sgd_each`` and ``reptile``, which raise it too,
            the steps before it stay taken.
        """

    @abstractmethod
    def sgd_each(self, rows: Rows, lr: ArrayLike) -> None:
        """One SGD step on each row alone, in order; ``lr`` is one number, or one for each row."""

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float) -> None:
        """For each batch of ``rows (b, n)``: ``sgd_each``, then θ ← θ₀ + rate·(θ − θ₀), θ₀ as before the batch.

        ``lr`` is one number, or ``(b, n)``: one for each step.
        The inner loop of Reptile (Nichol, Achiam and Schulman 2018) and of MER (Algorithm 1, lines 8–13).
        """
        for batch, batch_lr in zip(rows, np.broadcast_to(lr, rows.shape), strict=True):
            start = self.parameters()
            self.sgd_each(batch, batch_lr)
            self.interpolate(start, rate)

    # Gradients as vectors

    @abstractmethod
    def gradient(self, rows: Rows) -> Vector:
        """The gradient of the mean loss over ``rows (n,)``."""

    def gradients(self, groups: Sequence[Rows]) -> Vector:
        """The gradient of the mean loss over each group of rows: ``(len(groups), parameters)``."""
        return np.stack([self.gradient(group) for group in groups])

    def dots(self, rows: Rows, groups: Sequence[Rows]) -> NDArray[np.floating[Any]]:
        """⟨gradient(rows), gradient(group)⟩ for each group: ``(len(groups),)``."""
        return np.asarray(self.gradients(groups) @ self.gradient(rows))

    # Parameters

    @abstractmethod
    def descend(self, vector: Vector, lr: float) -> None:
        """θ ← θ − lr·vector; counts as one step."""

    @abstractmethod
    def parameters(self) -> Vector:
        """A copy of θ."""

    @abstractmethod
    def interpolate(self, start: Vector, rate: float) -> None:
        """θ ← start + rate·(θ − start)."""

    @abstractmethod
    def copy_task(self, source: int, target: int) -> None:
        """Start task ``target``'s private parameters from task ``source``'s."""

    # Keeping

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """All that a later ``load_state`` needs to go on exactly from here."""

    @abstractmethod
    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a ``state()`` of a learner built the same way."""

    @property
    @abstractmethod
    def parameter_bytes(self) -> int:
        """Bytes that the parameters take."""

    @property
    @abstractmethod
    def table_bytes(self) -> int:
        """Bytes that the table of examples takes."""


def check_restriction(allowed: NDArray[np.bool_] | None, classes: int) -> None:
    """Raise BadInput unless ``allowed`` is something that ``Learner.restrict`` takes."""
    if allowed is not None and (allowed.dtype != bool or allowed.ndim != 2 or allowed.shape[1] != classes):
        raise BadInput(
            f"the allowed classes are {allowed.dtype} with shape {allowed.shape}, "
            f"but must be truth values with shape (tasks, {classes})"
        )
