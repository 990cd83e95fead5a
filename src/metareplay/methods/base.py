"""What every method is: settings, and what to do with the examples as they come."""

from __future__ import annotations

import dataclasses
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput
from metareplay.learners.base import Learner, Rows
from metareplay.networks import Network, Perceptron
from metareplay.settings import hyperparameters, setting

FAMILIES = (
    "baseline", "isolation", "regularisation", "projection", "replay", "meta-replay", "meta-learning", "plasticity",
)  # fmt: skip
"""What methods are of; they are listed in this order."""

ALL_CLASSES = {"estimators": "all classes must be known from the start"}  # waived by what keeps arrays of them
METHODS: dict[str, type[Method]] = {}  # the package's own methods by id, as they are imported


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
class Method:
    """How to learn from a stream: the paper's pseudocode over a learner's primitives.

    A subclass declares its hyper-parameters as annotated fields, which are checked when it is made, and says in
    ``observe`` what to do with a batch. It becomes a keyword-only dataclass by itself.

    Whatever it keeps between calls can be saved: numbers, text, None, arrays, vectors of the learner's, a
    ``numpy.random.Generator``, objects with ``state()`` and ``load_state()``, and dictionaries, lists and tuples of
    those. Generators and objects are made in ``start``.

    Examples
    --------
    >>> class Patient(metareplay.Method):
    ...     '''Several SGD steps on each batch as it comes.'''
    ...
    ...     lr: float = metareplay.setting(0.01, "(0, inf)", help="the learning rate of every SGD step")
    ...     times: int = metareplay.setting(2, "[1, inf)", help="the steps taken on each batch")
    ...
    ...     def observe(self, rows):
    ...         for _ in range(self.times):
    ...             self.learner.sgd(rows, self.lr)
    >>> Patient(times=3).times
    3

    Attributes
    ----------
    id
        Its name on the command line and in records; a method of a user's own needs none.
    family
        One of ``FAMILIES``.
    needs_task_in_training, needs_task_in_testing
        Whether it uses the task of an example where it learns, and where it answers.
    needs_boundaries
        Whether it needs to know where a task ends and the next begins. Set by itself where there is a ``begin_task``.
    perceptron_for
        What it needs a perceptron for, if it does: other networks are then refused.
    inert
        Settings with which its mechanism does nothing, and the method that it then equals bit for bit:
        ``({"alpha": 0.0}, ER)``. The conformance checks hold it to that.
    waived
        Names of conformance checks that it cannot pass, or ``estimators``, which cannot have it: each with the reason.
    counters
        What its mechanism did, by name, as numbers that ``observe`` adds to: they are in the record.
    """

    id: ClassVar[str] = ""
    family: ClassVar[str] = ""
    needs_task_in_training: ClassVar[bool] = False
    needs_task_in_testing: ClassVar[bool] = False
    needs_boundaries: ClassVar[bool] = False
    perceptron_for: ClassVar[str] = ""
    inert: ClassVar[tuple[dict[str, Any], type[Method]] | None] = None
    waived: ClassVar[Mapping[str, str]] = {}

    learner: Learner
    counters: Counter[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls) -> None:
        if "id" in vars(cls) and cls.__module__.startswith(f"{__package__}."):
            if cls.id in METHODS or cls.family not in FAMILIES:
                raise TypeError(f"the method {cls.id} is there twice, or its family {cls.family!r} is not in FAMILIES")
            METHODS[cls.id] = cls
        if "observe" in vars(cls) and "observe_each" not in vars(cls):  # an inherited one would not do the same
            cls.observe_each = Method.observe_each  # type: ignore[method-assign]
        if "begin_task" in vars(cls) and "needs_boundaries" not in vars(cls):
            cls.needs_boundaries = True
        dataclasses.dataclass(kw_only=True, eq=False)(cls)

    def __post_init__(self) -> None:
        for parameter in hyperparameters(type(self)):
            setattr(self, parameter.name, parameter.check(getattr(self, parameter.name)))
        self.counters = Counter()

    def network(self, network: Network, tasks: int) -> Network:
        """The network that this method trains, given the one that was asked for and the number of tasks."""
        if self.perceptron_for and not isinstance(network, Perceptron):
            raise BadInput(f"{self.id} {self.perceptron_for}, which only a perceptron has: use --network mlp")
        return network

    def capacity(self, tasks: int, batch_size: int) -> int:
        """How many examples its memory holds: slots of the table beyond the incoming batch."""
        return 0

    def start(self, learner: Learner, rng: np.random.Generator, tasks: int) -> None:
        """Begin a run: a fresh learner, this method's own randomness, and the number of tasks to come."""
        self.learner = learner

    def begin_task(self, task: int, previous: int | None) -> None:
        """Prepare for examples from ``task``, after those from ``previous`` (None at the start)."""

    def observe(self, rows: Rows) -> None:
        """Learn the incoming batch, which lies in slots ``rows (n,)`` of the learner's table."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to learn: give it an observe(self, rows)")

    def observe_each(self, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        """Predict and learn ``n`` examples of a task one by one, to the bits of ``observe``; their predicted classes.

        Optional: a method for which a learner's primitive does this in one call has it, and saves Python's time.
        """
        raise NotImplementedError

    def steps(self, examples: int, batches: int) -> int | None:
        """The SGD steps that so many examples, in so many batches, take: what a suite plans with; None if unknown.

        0 for what learns without any.
        """
        return None

    def ready(self) -> None:
        """Prepare the learner for being tested; all that this changes is undone after the evaluation."""

    @contextmanager
    def readied(self) -> Iterator[None]:
        """Be ``ready`` while the block runs; learner and method are then as they were before."""
        if type(self).ready is Method.ready:
            yield
            return
        before = self.learner.state(), self.state()
        try:
            self.ready()
            yield
        finally:
            self.learner.load_state(before[0])
            self.load_state(before[1])

    def state(self) -> dict[str, Any]:
        """Everything that the method keeps, as nested dictionaries and lists of plain values and arrays."""
        ours = {"learner", *(parameter.name for parameter in hyperparameters(type(self)))}
        return {name: _saved(value, name) for name, value in vars(self).items() if name not in ours}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state()``; the method has been started in the same way."""
        for name, value in state.items():
            setattr(self, name, self._restored(value, getattr(self, name, None), name))

    def _restored(self, value: Any, now: Any, name: str) -> Any:
        """What ``_saved`` made ``value`` of; ``now`` is what is there at present."""
        if not isinstance(value, Mapping):
            if hasattr(now, "load_state") or isinstance(now, np.random.Generator):
                raise BadInput(f"{type(self).__name__} keeps an object as {name}, but its saved state has {value!r}")
            # An array without dimensions is a NumPy number.
            return value[()].copy() if isinstance(value, np.ndarray) else value
        ((kind, content),) = value.items()
        if kind == "vector":
            return self.learner.parameters().like(content)
        if kind == "generator":
            now.bit_generator.state = content
            return now
        if kind == "object":
            if not hasattr(now, "load_state"):
                raise BadInput(f"{type(self).__name__} keeps {name}, which has a state of its own: make it in start()")
            now.load_state(content)
            return now
        if kind == "dictionary":
            found = now if isinstance(now, dict) else {}
            pairs = [(self._restored(key, None, name), part) for key, part in content]
            restored = {key: self._restored(part, found.get(key), name) for key, part in pairs}
            return Counter(restored) if isinstance(now, Counter) else restored
        before = list(now) if isinstance(now, list | tuple) and len(now) == len(content) else [None] * len(content)
        parts = [self._restored(part, was, name) for part, was in zip(content, before, strict=True)]
        return tuple(parts) if kind == "tuple" else parts


def _saved(value: Any, name: str) -> Any:
    """A value as a checkpoint can hold it: plain, an array, or a dictionary with one key that says what it is."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.number | np.bool_) and np.asarray(value).dtype != object:
        return np.array(value)
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_saved(part, name) for part in value]}
    if isinstance(value, dict):
        return {"dictionary": [[_saved(key, name), _saved(part, name)] for key, part in value.items()]}
    if hasattr(value, "state") and hasattr(value, "load_state"):
        return {"object": value.state()}
    if hasattr(value, "__array_ufunc__"):
        return {"vector": np.array(value)}
    raise BadInput(
        f"a method keeps {name} = {reprlib.repr(value)}, which cannot be saved; keep numbers, text, arrays, "
        "numpy.random.Generator, objects with state() and load_state(), or dictionaries, lists and tuples of those"
    )
