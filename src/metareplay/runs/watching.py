"""A method's run over a stream that takes milliseconds, on a learner that watches which slots are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.learners.base import Learner, Rows
from metareplay.methods.base import Method
from metareplay.networks.perceptron import Perceptron
from metareplay.runs.checkpoint import State, pack, unpack
from metareplay.runs.experiment import Experiment
from metareplay.runs.trainer import Trainer
from metareplay.streams.stream import Stream

INPUTS, CLASSES, EXAMPLES = 64, 3, 13


def little_stream(tasks: int = 3, examples: int = EXAMPLES, labels: Sequence[int] = (0, 1, 2)) -> Stream:
    """Noisy 8×8 pictures of a few classes, which each task shows with its pixels in another order."""
    rng = np.random.default_rng(0)
    pictures = rng.random((CLASSES, INPUTS)) * (rng.random((CLASSES, INPUTS)) < 0.3)
    parts = []
    for task in range(tasks):
        y = rng.choice(labels, examples)
        x = np.where(pictures[y] > 0, np.clip(pictures[y] + rng.normal(0, 0.1, (examples, INPUTS)), 0, 1), 0)
        x = x[:, np.random.default_rng(task).permutation(INPUTS)].astype(np.float32)
        parts.append((x, y, x[:2], y[:2]))
    return Stream.from_arrays("little", parts, classes=CLASSES)


class Fault(AssertionError):
    """A method does not do what a check says; the message is for its author."""


class Watching(Learner):
    """Has a learner say so if a slot is named that is not there or holds no example."""

    holding: NDArray[np.bool_]
    given: Rows | None

    def look_at(self, rows: ArrayLike, what: str) -> None:
        """Raise a Fault if not all of these slots hold an example."""
        rows = np.asarray(rows)
        if rows.dtype.kind not in "iu" and rows.size:
            raise Fault(f"{what} was given slots of type {rows.dtype}; slots are whole numbers")
        for row in rows.ravel():
            if not 0 <= row < self.slots:
                raise Fault(
                    f"{what} was given slot {row}, but the table has slots 0 … {self.slots - 1}: the batch's "
                    f"{self.batch_size}, then as many as the method's capacity() asks for"
                )
            if not self.holding[row]:
                raise Fault(f"{what} was given slot {row}, which holds no example: nothing was copied there yet")

    def look_around(self) -> None:
        """Raise a Fault if the last batch was not left alone, or the parameters are not finite."""
        if self.given is not None and not np.array_equal(self.given, np.arange(len(self.given))):
            raise Fault("observe changed the array of rows that it was given; make a copy and change that")
        if not np.isfinite(np.asarray(self.parameters())).all():
            raise Fault(f"after {self.steps} SGD steps some parameters are not finite numbers")

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        self.look_around()
        self.given = rows
        self.holding[: self.batch_size] = False  # what an earlier batch left behind is not to be used
        self.holding[rows] = True
        super().put(rows, x, y, task)  # type: ignore[safe-super]

    def copy(self, source: int, target: int) -> None:
        self.look_at(source, "copy")
        if not self.batch_size <= target < self.slots:
            raise Fault(
                f"an example was copied to slot {target}, but a method's own slots are {self.batch_size} … "
                f"{self.slots - 1}: behind the batch's, as many as its capacity() asks for"
            )
        self.holding[target] = True
        super().copy(source, target)  # type: ignore[safe-super]

    def state(self) -> dict[str, NDArray[Any]]:
        return super().state() | {"holding": self.holding.copy()}  # type: ignore[safe-super]

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        super().load_state(state)  # type: ignore[safe-super]
        self.holding[:] = state["holding"]


def _watched(name: str) -> Callable[..., Any]:
    """A primitive that looks at the rows, or groups of rows, which it is given first."""

    def primitive(self: Watching, rows: Any, *arguments: Any, **named: Any) -> Any:
        for group in (rows, *arguments[0]) if name == "dots" else rows if name == "gradients" else (rows,):
            self.look_at(group, name)
        return getattr(super(Watching, self), name)(rows, *arguments, **named)

    return primitive


for _name in ("forward", "activations", "inputs", "sgd", "sgd_each", "reptile", "gradient", "gradients", "dots"):
    setattr(Watching, _name, _watched(_name))


def trainer(method: Method, stream: Stream | None = None, hidden: Sequence[int] = (12, 9), **options: Any) -> Trainer:
    """A method's run over a stream, the little one by default, on a watched learner."""
    stream = stream or little_stream()
    network = method.network(Perceptron((INPUTS, *hidden, CLASSES)), len(stream.tasks))
    if not isinstance(network, Perceptron):
        raise Fault(f"network() made a {type(network).__name__} of a Perceptron; it must return a Perceptron")
    capacity = method.capacity(len(stream.tasks), options.get("batch_size", 1))
    if not hasattr(capacity, "__index__") or capacity < 0:
        raise Fault(f"capacity() gave {capacity!r}, but must give a whole number of slots, at least 0")
    options = {"engine": "fused", "samples_per_task": 0, "hidden": tuple(hidden), **options}
    made = Trainer(Experiment(stream=stream, method=method, **options))
    learner: Any = made.learner
    learner.__class__ = type("Watched", (Watching, type(learner)), {})
    learner.holding, learner.given = np.zeros(learner.slots, bool), None
    return made


def trained(method: Method, stream: Stream | None = None, checkpoints: Any = None, **options: Any) -> Trainer:
    """The same at its end."""
    made = trainer(method, stream, **options)
    made.train(checkpoints=checkpoints)
    made.learner.look_around()  # type: ignore[attr-defined]
    return made


def ended(made: Trainer) -> State:
    """What a learner and a method have become."""
    return {"learner": made.learner.state(), "method": made.method.state()}


class Interrupted(Exception):
    """The run is stopped on purpose."""


class Saved:
    """A place for checkpoints that holds the ``at``-th one, and may stop the run there."""

    def __init__(self, at: int, stop: bool) -> None:
        self.at, self.stop = at, stop
        self.state: State = {}
        self.content = b""

    def load(self) -> None:
        """There is none to begin with."""

    def due(self, border: bool) -> bool:
        return True

    def save(self, state: State) -> None:
        self.at -= 1
        if self.at == 0:
            self.state, self.content = state, pack(state)
            if self.stop:
                raise Interrupted

    def clear(self) -> None:
        """Nothing is on a disk."""

    def unchanged(self) -> bool:
        """Whether the learner's and the method's state are still what they were when they were saved."""
        before = unpack(self.content)
        return all(same(self.state[part], before[part]) for part in ("learner", "method"))


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same, bit for bit."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return bool(one == other)
