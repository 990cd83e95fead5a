"""The primitives that every learner has, whatever it is made of, and the checks that all engines share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.data.images import Images
from metareplay.errors import BadInput, RunFailed
from metareplay.networks import Network

Rows = NDArray[np.int64]
"""Slots of the learner's table: ``(n,)`` is one batch, ``(b, n)`` is b batches. Lists of whole numbers do too."""

Vector = Any
"""The engine's own flat array of one number for each parameter: NumPy's, or PyTorch's on the learner's device."""

Loss = Callable[[NDArray[np.float32], Rows], ArrayLike]
"""``loss(scores (n, classes), rows (n,)) -> (n, classes)``: the gradient of the batch's loss by the scores."""

Rule = Callable[..., Any]
"""``rule(theta, g, *state, **numbers) -> theta``, or ``(theta, new values of the first state vectors …)``."""

EXCLUDED = -1e30  # the score of a class that is not allowed: its exponential, and so its gradient, is exactly zero


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

    Examples
    --------
    >>> metareplay.run(stream, metareplay.Online(lr=1e20))
    Traceback (most recent call last):
    metareplay.learners.base.Diverged: the loss is not finite at example ..., in task 0: lower lr (it is 1e+20)
    """

    def __init__(self, step: int, row: int, message: str = "") -> None:
        super().__init__(step, row, message)  # all of them, so that the error survives the way from another process
        self.step, self.row = step, row
        self.message = message or f"the loss of the example in slot {row} is not finite after {step} SGD steps"

    @property
    def flagged(self) -> str:
        return self.message


class Learner(ABC):
    """Parameters, a bounded table of examples, and the arithmetic that joins them.

    An example is named by its slot in the table. Slots 0 … batch-1 take the incoming batch; the others belong
    to the method's memory.

    Where no ``loss`` is given, it is the mean cross-entropy of the labels among the allowed classes.
    ``methods.losses`` has others.

    All methods raise IndexError for a slot outside the table and BadInput for anything else that does not fit. What
    takes a loss raises Diverged if it is not finite: that step is not taken; in ``sgd_each`` and ``reptile`` the steps
    before it stay taken.

    Attributes
    ----------
    slots
        Size of the table; of these ``batch_size`` take the incoming batch.
    labels, tasks
        ``(slots,)`` int64: class and task of the example in each slot.
    steps
        SGD steps taken so far.
    gradients_taken, forward_passes
        What it computed so far, in examples: those whose gradient was taken, and those that were only passed forward
        (by ``forward`` and ``activations``). What is undone later counts too; ``scores``, with which runs are
        evaluated, does not. No part of ``state()``.
    network
        What was asked to be built.

    Examples
    --------
    >>> from metareplay.learners.engines import learner
    >>> from metareplay.networks import Perceptron
    >>> rng = np.random.default_rng(0)
    >>> it = learner(Perceptron((4, 8, 3)), slots=10, batch_size=2, rng=rng)
    >>> it.put(np.arange(2), np.ones((2, 4), np.float32), np.array([0, 2]), task=0)
    >>> it.sgd([0, 1], lr=0.1)
    >>> it.sgd([0, 1], lr=0.1, loss=lambda scores, rows: 2 * scores / scores.size)  # towards scores of zero
    >>> it.forward([0, 1]).shape, it.steps
    ((2, 3), 2)
    """

    slots: int
    batch_size: int
    labels: NDArray[np.int64]
    tasks: NDArray[np.int64]
    steps: int
    gradients_taken: int = 0
    forward_passes: int = 0
    network: Network
    _restriction: NDArray[np.bool_] | None = None

    @property
    def classes(self) -> int:
        """How many scores there are."""
        return self.network.classes

    @abstractmethod
    def restrict(self, allowed: NDArray[np.bool_] | None) -> None:
        """Exclude classes from the scores, from now on; None: all classes count, as at the start.

        An excluded class's score is about −1e30: it has no part in the softmax, nothing flows back from it, and it is
        never the answer where another class is allowed. Each row and image, replayed ones too, is restricted as its
        own task is: ``allowed (tasks, classes)`` has a row for every task that is in the table or will be. When an
        example is learned its label must be allowed. A restriction is no part of ``state()``.
        """

    def allowed(self, rows: Rows) -> NDArray[np.bool_]:
        """Which classes count for each of ``rows (n,)``: ``(n, classes)``."""
        rows = as_rows(rows, slots=self.slots)
        if self._restriction is None:
            return np.ones((len(rows), self.classes), bool)
        return self._restriction[self._tasks_of(rows)]

    def _tasks_of(self, rows: Rows) -> NDArray[np.int64]:
        """The task of each row, which has private layers and a restriction if any task has."""
        tasks: NDArray[np.int64] = self.tasks[rows]
        check_range("task", tasks, rows, self._task_count())
        return tasks

    def _task_count(self) -> int | None:
        """How many tasks there are private layers and restrictions for; None where there are none of either."""
        counts = [self.network.tasks] if np.any(self.network.private) else []
        return min(counts + ([] if self._restriction is None else [len(self._restriction)]), default=None)

    @abstractmethod
    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        """Write examples ``x (n, inputs)`` with classes ``y (n,)`` of one task into slots ``rows (n,)``."""

    @abstractmethod
    def copy(self, source: int, target: int) -> None:
        """Keep an example: copy slot ``source`` to slot ``target``."""

    def inputs(self, rows: Rows) -> NDArray[np.float32]:
        """The inputs ``(n, inputs)`` of slots ``rows (n,)``."""
        raise NotImplementedError

    @abstractmethod
    def scores(self, images: Images, task: int) -> NDArray[np.float32]:
        """Scores (logits) ``(len(images), classes)`` of data outside the table."""

    @abstractmethod
    def forward(self, rows: Rows, theta: Vector | None = None) -> NDArray[np.float32]:
        """Scores (logits) ``(n, classes)`` of slots ``rows (n,)``; about −1e30 where a class is excluded.

        With other parameters ``theta``, what a network with those gives, and for all classes.
        """

    def activations(self, rows: Rows) -> list[NDArray[np.float32]]:
        """The outputs ``(n, units)`` of each hidden layer for ``rows (n,)``, after its ReLU; the last are the features.

        Of a module only the features, if it ends in a linear layer; else BadInput.
        """
        raise NotImplementedError

    def weight_sizes(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Of each hidden layer's units, the mean abs weight that comes in and the sum of those that go out."""
        sizes = [np.abs(weights) for weights, _ in self.layers()]
        return [(np.asarray(a.mean(-2)), np.asarray(b.sum(-1))) for a, b in pairwise(sizes)]

    @abstractmethod
    def sgd(self, rows: Rows, lr: float, weights: ArrayLike | None = None, loss: Loss | None = None) -> None:
        """One SGD step on ``Σ weights[i] · cross-entropy(rows[i])``; without weights, on the mean; or on ``loss``."""

    def sgd_each(self, rows: Rows, lr: ArrayLike, loss: Loss | None = None) -> None:
        """One SGD step on each row alone, in order; ``lr`` is one number or ``(n,)``, ``loss`` sees one at a time."""
        rows = as_rows(rows, slots=self.slots)
        for place, rate in enumerate(as_rates(lr, rows.shape)):
            self.sgd(rows[place : place + 1], float(rate), loss=loss)

    def sgd_pulled(self, rows: Rows, lr: float, decay: float, towards: Vector | None = None) -> None:
        """``sgd`` with θ ← θ − lr·(g + decay·(θ − towards)); ``towards``, to be left unchanged, or None for zero."""
        if decay == 0:
            self.sgd(rows, lr)
        else:
            rule, state = (decayed, ()) if towards is None else (pulled, (towards,))
            self.sgd_by(rule, rows, *state, lr=lr, decay=decay)

    def predict_and_learn(
        self, x: NDArray[np.float32], y: Rows, task: int, lr: float, decay: float = 0.0, towards: Vector | None = None
    ) -> Rows:
        """For each example in turn: ``put`` it into slot 0, predict, ``sgd_pulled``; the predictions ``(n,)``.

        What prequential evaluation of online learning does, in one call.
        """
        predicted, slot = np.empty(len(y), np.int64), np.zeros(1, np.int64)
        for i in range(len(y)):
            self.put(slot, x[i : i + 1], y[i : i + 1], task)
            predicted[i] = self.forward(slot).argmax()
            self.sgd_pulled(slot, lr, decay, towards)
        return predicted

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float, loss: Loss | None = None) -> None:
        """For each batch of ``rows (b, n)``: ``sgd_each``, then θ ← θ₀ + rate·(θ − θ₀), θ₀ as before the batch.

        ``lr`` is one number or ``(b, n)``.
        The inner loop of Reptile (Nichol, Achiam and Schulman 2018) and of MER (Algorithm 1, lines 8–13).
        """
        rows = as_rows(rows, 2, self.slots)
        for batch, rates in zip(rows, as_rates(lr, rows.shape), strict=True):
            start = self.parameters()
            self.sgd_each(batch, rates, loss)
            self.interpolate(start, rate)

    @abstractmethod
    def gradient(self, rows: Rows, loss: Loss | None = None) -> Vector:
        """The gradient of the loss of ``rows (n,)``."""

    def gradients(self, groups: Sequence[Rows], loss: Loss | None = None) -> Vector:
        """The gradient of the loss of each group of rows: ``(len(groups), parameters)``."""
        return np.stack([self.gradient(group, loss) for group in groups])

    def jacobian(self, groups: Sequence[Rows], loss: Loss | None = None) -> Any:
        """``gradients(groups)`` for ``@`` and ``[which]`` alone, formed or not; it holds until the table is written."""
        return self.gradients(groups, loss)

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Loss | None = None) -> NDArray[np.floating[Any]]:
        """⟨gradient(rows), gradient(group)⟩ for each group: ``(len(groups),)``."""
        return np.asarray(self.gradients(groups, loss) @ self.gradient(rows, loss))

    def look_ahead(self, rows: Rows, judges: Rows, rates: Vector) -> tuple[Vector, Vector]:
        """Σ m_i and Σ m_i ∘ Σ_{j ≤ i} g_j, of fast weights that begin at θ, which is as before afterwards.

        θ_i = θ_{i−1} − max(rates, 0) ∘ g_i, g_i the gradient of the i-th of ``rows`` at θ_{i−1}; m_i is the gradient of
        the mean loss of ``judges`` at θ_i. What look-ahead meta-learning steps along (Gupta et al. 2020, equation 5).
        """
        start, moved = self.parameters(), 0 * rates
        meta, slope = moved.copy(), moved.copy()
        try:
            for row in as_rows(rows)[:, None]:
                self.update(fast_weights, self.gradient(row), moved, rates)
                judged = self.gradient(judges)
                meta += judged
                slope += judged * moved
        finally:
            self.load(start)
        return meta, slope

    def update(self, rule: Rule, gradient: Vector, *state: Vector, **numbers: float) -> None:
        """Let θ be what ``rule`` makes of it, parameter by parameter; counts as one step.

        Parameters
        ----------
        rule
            Written for one parameter: ``rule(theta, gradient, *state, **numbers)`` returns the new θ, or a tuple of it
            and the new values of the first state vectors. It may use arithmetic, comparisons and NumPy's elementwise
            functions. Put it at the top of a file: engines compile each function once.
        state
            Vectors, made as ``0 * learner.parameters()``; those that the rule returns are written in place.

        Examples
        --------
        >>> def momentum(theta, g, velocity, lr, decay):  # learner.update(momentum, g, velocity, lr=0.1, decay=0.9)
        ...     velocity = decay * velocity + g
        ...     return theta - lr * velocity, velocity
        """
        raise NotImplementedError

    def sgd_by(self, rule: Rule, rows: Rows, *state: Vector, loss: Loss | None = None, **numbers: float) -> None:
        """``update`` by the gradient of the loss of ``rows (n,)``."""
        self.update(rule, self.gradient(rows, loss), *state, **numbers)

    def noise(self, rng: np.random.Generator) -> Vector:
        """Draw a standard normal number for each parameter, in the order of ``layers``: the same on every engine."""
        raise NotImplementedError

    def descend(self, vector: Vector, lr: float) -> None:
        """θ ← θ − lr·vector; counts as one step."""
        self.update(descend, vector, lr=lr)

    def interpolate(self, start: Vector, rate: float) -> None:
        """θ ← start + rate·(θ − start)."""
        self.update(interpolate, start, rate=rate)
        self.steps -= 1  # it is no SGD step

    @abstractmethod
    def parameters(self) -> Vector:
        """A copy of θ."""

    def load(self, vector: Vector) -> None:
        """θ ← vector."""
        raise NotImplementedError

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Restore θ, steps, buffers and random state at the end of the block, also after an error; not the table.

        ``with learner.trial(): learner.sgd(rows, lr); after = learner.forward(memories)``  # as they are one step on
        """
        before, steps = self.parameters(), self.steps
        try:
            yield
        finally:
            self.load(before)
            self.steps = steps

    def layers(self, vector: Vector | None = None) -> list[tuple[Any, Any]]:
        """Views of each layer's weights ``(in, out)`` and biases ``(out,)``: writing to them changes θ, or the vector.

        A layer that is private to a task has ``(copies, in, out)`` and ``(copies, out)``. BadInput if the network is a
        module of a user's own.
        """
        raise NotImplementedError

    @abstractmethod
    def copy_task(self, source: int, target: int) -> None:
        """Start task ``target``'s private parameters from task ``source``'s."""

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


def as_rows(rows: ArrayLike, dimensions: int = 1, slots: int | None = None) -> Rows:
    """Slots as contiguous int64, all of which a table of so many has; None: its engine looks."""
    given = np.asarray(rows)
    if given.dtype.kind not in "iu" and given.size:
        raise BadInput(f"rows are {given.dtype}, but must be slots of the table, which are whole numbers")
    if given.ndim != dimensions:
        raise BadInput(f"rows have the shape {given.shape}, but must have {'(n,)' if dimensions == 1 else '(b, n)'}")
    taken = np.ascontiguousarray(given, np.int64)
    if slots is not None and np.maximum.reduce(taken.view(np.uint64), None, initial=0) >= slots:  # negative ones too
        raise IndexError("a row names a slot that the learner's table does not have")
    return taken


def as_weights(weights: ArrayLike, rows: Rows, loss: Loss | None) -> NDArray[np.float32]:
    """One weight for each row, as float32."""
    if loss is not None:
        raise BadInput("weights and a loss are given, but a loss weighs its rows itself")
    given = np.asarray(weights, np.float32)
    if given.shape != rows.shape:
        raise BadInput(f"the weights have the shape {given.shape}, but must be one for each of {len(rows)} rows")
    return given


def as_rates(lr: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Learning rates in the shape of the rows."""
    given = np.asarray(lr, np.float64)
    if given.shape not in ((), shape):
        raise BadInput(f"the learning rates have the shape {given.shape}, but must be one number or have {shape}")
    return np.broadcast_to(given, shape)


def check_examples(rows: Rows, x: NDArray[Any], y: NDArray[Any], inputs: int) -> None:
    """Refuse examples that are not as many, or not as wide, as there is to be put into the table."""
    if x.shape != (len(rows), inputs) or y.shape != rows.shape:
        text = f"{len(rows)} examples have inputs of shape {x.shape} and labels of shape {y.shape}, "
        raise BadInput(f"{text}but must have ({len(rows)}, {inputs}) and ({len(rows)},)")


def check_range(what: str, numbers: NDArray[np.int64], rows: Rows | None, end: int | None) -> None:
    """Refuse labels or tasks ``(n,)`` of rows ``(n,)``, or of images, outside 0 … end − 1; None: any will do."""
    if end is not None and len(numbers) and not 0 <= numbers.min() <= numbers.max() < end:
        place = int(np.flatnonzero((numbers < 0) | (numbers >= end))[0])
        where = "" if rows is None else f" in slot {rows[place]}"
        raise BadInput(f"the {what}{where} is {numbers[place]}, but must lie in 0 … {end - 1}")


def check_state(state: Mapping[str, Any], own: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a ``Learner.state()`` from a file unless its arrays are of the shapes and types of a learner's own."""
    for name, array in own.items():
        given = state.get(name)
        if not isinstance(given, np.ndarray) or (given.shape, given.dtype) != (array.shape, array.dtype):
            was = "missing" if given is None else f"{np.asarray(given).dtype} of shape {np.shape(given)}"
            text = f"the state's {name} are {was}, but must be {array.dtype} of shape {array.shape}: "
            raise BadInput(f"{text}it is another network's or table's")
    if state["steps"] < 0:
        raise BadInput(f"the state has taken {state['steps']} steps: it is damaged")


def require_finite(values: NDArray[Any], rows: Rows, steps: int) -> None:
    """Diverged, after ``steps``, if the scores ``(n, classes)`` of rows, or a loss's gradient by them, are not."""
    finite = np.isfinite(values)
    if not finite.all():
        raise Diverged(steps, int(rows[finite.all(1).argmin()]))


def loss_gradient(loss: Loss, scores: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Ask a loss for its gradient by the scores, in their type."""
    gradient = np.ascontiguousarray(loss(scores, rows), scores.dtype)
    if gradient.shape != scores.shape:
        text = f"the loss gave an array {gradient.shape}, but must give its gradient by the scores {scores.shape}"
        raise BadInput(text)
    return gradient


def check_restriction(allowed: NDArray[np.bool_] | None, classes: int) -> None:
    """Raise BadInput unless ``allowed`` is something that ``Learner.restrict`` takes."""
    if allowed is not None and (allowed.dtype != bool or allowed.ndim != 2 or allowed.shape[1] != classes):
        text = f"the allowed classes are {allowed.dtype} with shape {allowed.shape}, "
        raise BadInput(f"{text}but must be truth values with shape (tasks, {classes})")


def descend(theta: Any, g: Any, lr: float) -> Any:
    """The rule of one SGD step."""
    return theta - lr * g


def decayed(theta: Any, g: Any, lr: float, decay: float) -> Any:
    """The rule of one SGD step with weight decay."""
    return (1 - lr * decay) * theta - lr * g


def pulled(theta: Any, g: Any, towards: Any, lr: float, decay: float) -> Any:
    """The rule of one SGD step with a pull."""
    return theta - lr * (g + decay * (theta - towards))


def fast_weights(theta: Any, g: Any, moved: Any, rates: Any) -> Any:
    """The rule of a step at rates of its own, and of the sum of the gradients that led there."""
    return theta - np.maximum(rates, 0) * g, moved + g


def interpolate(theta: Any, start: Any, rate: float) -> Any:
    """The rule of a step back towards where one came from."""
    return start + rate * (theta - start)
