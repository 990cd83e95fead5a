"""What every method must do, a user's own too: a list of checks, each a fact in words.

>>> from metareplay import conformance
>>> for result in conformance.check(MyMethod):
...     print(result)

A check drives the method over a stream that takes milliseconds, on a learner that watches which slots are named.
"""

from __future__ import annotations

import io
import json
import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from metareplay.errors import BadInput
from metareplay.learners.base import Diverged, Loss, Rows
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.base import Method
from metareplay.networks.perceptron import Perceptron
from metareplay.settings import Hyperparameter, Interval, hyperparameters

Factory = Callable[..., Method]
"""A method class, or anything else that makes a method from hyper-parameters given by name."""


class Fault(AssertionError):
    """A method does not do what a check says; the message is for its author."""


class DoesNotApply(Exception):
    """The check is about something that this method does not have."""


@dataclass(frozen=True)
class Result:
    """What one check found.

    Parameters
    ----------
    check
        Its name.
    fact
        What must be true, in words.
    outcome
        Whether it is.
    message
        What is wrong and what to look at, or why the check does not apply; else empty.
    """

    check: str
    fact: str
    outcome: Literal["holds", "fails", "does not apply"]
    message: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}: {self.fact}" + (f"\n    {self.message}" if self.message else "")


def check(method: Factory) -> list[Result]:
    """Put a method through every check.

    Parameters
    ----------
    method
        Its class, or a factory: ``functools.partial(MyMethod, lr=0.1)`` has other settings than its defaults checked.
    """
    return [check_one(method, checked) for checked in CHECKS]


def check_one(method: Factory, checked: Callable[[Factory], None]) -> Result:
    """Put a method through one of ``CHECKS``."""
    fact = (checked.__doc__ or "").partition("\n")[0]
    name = checked.__name__.removeprefix("check_")
    try:
        with threadpool_limits(1):
            checked(method)
    except DoesNotApply as reason:
        return Result(name, fact, "does not apply", str(reason))
    except Fault as fault:
        return Result(name, fact, "fails", str(fault))
    except Exception as error:  # whatever the author's code raises is a finding
        return Result(name, fact, "fails", _in_words(error))
    return Result(name, fact, "holds")


def _in_words(error: Exception) -> str:
    first_line, *_ = str(error).splitlines() or [""]
    ours = str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(ours) and "site-packages" not in f.filename]
    where = f", at {Path(theirs[-1].filename).name}:{theirs[-1].lineno} in {theirs[-1].name}" if theirs else ""
    return f"{type(error).__name__}: {first_line}{where}"


# A stream of milliseconds, and a life on it

INPUTS, CLASSES = 64, 3


@dataclass(frozen=True)
class Batch:
    """Some examples of one task, ``x (n, 64)`` and ``y (n,)``; ``first`` if the task begins with them."""

    task: int
    first: bool
    x: NDArray[np.float32]
    y: NDArray[np.int64]


def batches(
    visits: Sequence[int] = (0, 1, 2), examples: int = 13, batch_size: int = 1, labels: Sequence[int] = (0, 1, 2)
) -> list[Batch]:
    """A little stream: noisy 8×8 pictures of a few classes, which each task shows with its pixels in another order.

    Parameters
    ----------
    visits
        The tasks in their order.
    examples
        Of each visit, cut into batches; the last one is shorter where they do not divide.
    labels
        The classes that occur.
    """
    rng = np.random.default_rng(0)
    pictures = rng.random((CLASSES, INPUTS)) * (rng.random((CLASSES, INPUTS)) < 0.3)
    orders = [np.random.default_rng(task).permutation(INPUTS) for task in range(max(visits) + 1)]
    stream: list[Batch] = []
    for task in visits:
        y = rng.choice(labels, examples)
        x = np.where(pictures[y] > 0, np.clip(pictures[y] + rng.normal(0, 0.1, (examples, INPUTS)), 0, 1), 0)
        x = x[:, orders[task]].astype(np.float32)
        stream += [
            Batch(task, begin == 0, x[begin : begin + batch_size], y[begin : begin + batch_size])
            for begin in range(0, examples, batch_size)
        ]
    return stream


class WatchedPerceptron(FusedPerceptron):
    """A learner that says so if a slot is named that is not there or holds no example."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.holding = np.zeros(self.slots, bool)

    def look_at(self, rows: ArrayLike, what: str) -> None:
        """Raise a Fault if not all of these slots hold an example."""
        rows = np.asarray(rows)
        if rows.dtype.kind not in "iu":
            raise Fault(f"{what} was given slots of type {rows.dtype}; slots are whole numbers")
        for row in rows.ravel():
            if not 0 <= row < self.slots:
                raise Fault(
                    f"{what} was given slot {row}, but the table has slots 0 … {self.slots - 1}: the batch's "
                    f"{self.batch_size}, then as many as the method's capacity() asks for"
                )
            if not self.holding[row]:
                raise Fault(f"{what} was given slot {row}, which holds no example: nothing was copied there yet")

    def put(self, rows: Rows, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        self.holding[: self.batch_size] = False  # what an earlier batch left behind is not to be used
        self.holding[rows] = True
        super().put(rows, x, y, task)

    def copy(self, source: int, target: int) -> None:
        self.look_at(source, "copy")
        if not self.batch_size <= target < self.slots:
            raise Fault(
                f"an example was copied to slot {target}, but a method's own slots are {self.batch_size} … "
                f"{self.slots - 1}: behind the batch's, as many as its capacity() asks for"
            )
        self.holding[target] = True
        super().copy(source, target)

    def forward(self, rows: Rows) -> NDArray[np.float32]:
        self.look_at(rows, "forward")
        return super().forward(rows)

    def sgd(self, rows: Rows, lr: float, weights: ArrayLike | None = None, loss: Loss | None = None) -> None:
        self.look_at(rows, "sgd")
        super().sgd(rows, lr, weights, loss)

    def sgd_each(self, rows: Rows, lr: ArrayLike, loss: Loss | None = None) -> None:
        self.look_at(rows, "sgd_each")
        super().sgd_each(rows, lr, loss)

    def reptile(self, rows: Rows, lr: ArrayLike, rate: float, loss: Loss | None = None) -> None:
        self.look_at(rows, "reptile")
        super().reptile(rows, lr, rate, loss)

    def gradients(self, groups: Sequence[Rows], loss: Loss | None = None) -> NDArray[np.float32]:
        for group in groups:
            self.look_at(group, "gradients")
        return super().gradients(groups, loss)

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Loss | None = None) -> NDArray[np.floating[Any]]:
        for group in (rows, *groups):
            self.look_at(group, "dots")
        return super().dots(rows, groups, loss)

    def state(self) -> dict[str, NDArray[Any]]:
        return super().state() | {"holding": self.holding.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        super().load_state(state)
        self.holding[:] = state["holding"]


def network_of(method: Method, widths: tuple[int, ...], tasks: int) -> Perceptron:
    """The perceptron that a method trains."""
    network = method.network(Perceptron(widths), tasks)
    if not isinstance(network, Perceptron):
        raise Fault(f"network() made a {type(network).__name__} of a Perceptron; it must return a Perceptron")
    return network


class Life:
    """One method with its learner, at the beginning or somewhere on the way."""

    def __init__(
        self, method: Method, tasks: int = 3, batch_size: int = 1, hidden: Sequence[int] = (12, 9), seed: int = 0
    ) -> None:
        weights, own = np.random.SeedSequence(seed).spawn(2)
        network = network_of(method, (INPUTS, *hidden, CLASSES), tasks)
        capacity = method.capacity(tasks, batch_size)
        if not hasattr(capacity, "__index__") or capacity < 0:
            raise Fault(f"capacity() gave {capacity!r}, but must give a whole number of slots, at least 0")
        self.method = method
        self.learner = WatchedPerceptron(network, batch_size + capacity, batch_size, np.random.default_rng(weights))
        self.initial = self.learner.parameters()
        self.method.start(self.learner, np.random.default_rng(own), tasks)
        self.previous: int | None = None

    def learn(self, stream: Sequence[Batch]) -> Life:
        """Go on with these batches."""
        for batch in stream:
            rows = np.arange(len(batch.y))
            with np.errstate(over="ignore", invalid="ignore"):  # as in an Experiment
                if batch.first:
                    self.method.begin_task(batch.task, self.previous)
                    self.previous = batch.task
                self.learner.put(rows, batch.x, batch.y, batch.task)
                self.method.observe(rows)
            if not np.array_equal(rows, np.arange(len(batch.y))):
                raise Fault("observe changed the array of rows that it was given; make a copy and change that")
            if not np.isfinite(self.learner.parameters()).all():
                raise Fault(f"after {self.learner.steps} SGD steps some parameters are not finite numbers")
        return self

    def state(self) -> dict[str, Any]:
        """All of it: what a checkpoint would hold."""
        return {"learner": self.learner.state(), "method": self.method.state(), "previous": self.previous}

    def load_state(self, state: Mapping[str, Any]) -> Life:
        """Go on from a ``state()``."""
        self.learner.load_state(state["learner"])
        self.method.load_state(state["method"])
        self.previous = state["previous"]
        return self


def through_files(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a checkpoint: plain values as JSON, arrays as an .npz archive."""
    arrays: dict[str, NDArray[Any]] = {}

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            for name in value:
                if not isinstance(name, str):
                    raise Fault(f"the state's {path} has the key {name!r}; keys must be strings")
            return {name: plain(inner, f"{path}/{name}") for name, inner in value.items()}
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise Fault(f"the state's {path} is an array of Python objects, which cannot be saved safely")
            arrays[path] = value
            return {"array": path}
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, list):
            return [plain(inner, f"{path}/{number}") for number, inner in enumerate(value)]
        raise Fault(
            f"the state's {path} is {value!r} ({type(value).__name__}), which cannot be saved: "
            "only numbers, strings, None, arrays, and dictionaries of those can"
        )

    text = json.dumps(plain(state, "state"))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:

        def again(value: Any) -> Any:
            if isinstance(value, list):
                return [again(part) for part in value]
            if not isinstance(value, dict):
                return value
            return saved[value["array"]] if set(value) == {"array"} else {k: again(v) for k, v in value.items()}

        restored: dict[str, Any] = again(json.loads(text))
    return restored


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same, bit for bit."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return bool(one == other)


def _parameters(method: Factory) -> tuple[Hyperparameter, ...]:
    return hyperparameters(type(method()))


def _with(method: Factory, **settings: Any) -> Method:
    names = {parameter.name for parameter in _parameters(method)}
    for name in settings:
        if name not in names:
            raise DoesNotApply(f"it has no setting {name}")
    return method(**settings)


def _memory(method: Factory) -> str:
    """The name of the setting that says how many examples are kept."""
    names = {parameter.name for parameter in _parameters(method)}
    for name in ("memories", "n_memories"):
        if name in names:
            return name
    raise DoesNotApply("it keeps no memories: it has no setting memories or n_memories")


# The checks. The first line of each docstring is what a user reads.


def check_every_setting_is_documented_and_in_its_own_range(method: Factory) -> None:
    """Every setting has a meaning in words, and a default within its own range."""
    for parameter in _parameters(method):
        if not parameter.help:
            raise Fault(f"the setting {parameter.name} says nothing of what it means: setting(…, help='…')")
        if parameter.type in (int, float) and not parameter.valid:
            raise Fault(f"the setting {parameter.name} says nothing of its range: setting(…, '(0, inf)', …)")
        try:
            parameter.check(parameter.default)
        except BadInput as error:
            raise Fault(f"a default is refused by its own range: {error}") from None


def check_settings_out_of_range_are_refused(method: Factory) -> None:
    """A setting out of its range, not a number, or of another type is refused."""
    if not _parameters(method):
        raise DoesNotApply("it has no settings")
    for parameter in _parameters(method):
        for value in _wrong_values(parameter):
            try:
                method(**{parameter.name: value})
            except BadInput:
                continue
            raise Fault(
                f"{parameter.name} = {value!r} was taken, though its range is {parameter.valid or 'not numeric'}; "
                "does the class replace __post_init__ without calling super().__post_init__()?"
            )


def _wrong_values(parameter: Hyperparameter) -> Iterator[Any]:
    yield "a word"
    yield None
    if parameter.type is bool:
        yield 2
    if not parameter.valid:
        return
    if parameter.type is int:
        yield 1.5
    if parameter.type is float:
        yield from (float("nan"), float("inf"), float("-inf"))
    low, high = (float(end) for end in parameter.valid[1:-1].split(","))
    for candidate in (low - 1, low, high, high + 1):
        if np.isfinite(candidate) and candidate not in Interval(parameter.valid):
            yield parameter.type(candidate)


def check_it_takes_every_example(method: Factory) -> None:
    """It learns: SGD steps are taken and the parameters move."""
    life = Life(method()).learn(batches())
    if life.learner.steps == 0:
        raise Fault("not one SGD step was taken over 39 examples; does observe() call one of the learner's steps?")
    if same(life.learner.parameters(), life.initial):
        raise Fault("the parameters are the same after 39 examples as before the first")


def check_the_same_seed_gives_the_same_result(method: Factory) -> None:
    """The same seed gives the same result, bit for bit."""
    first, second = (Life(method()).learn(batches()).state() for _ in range(2))
    if not same(first, second):
        raise Fault(
            "two lives with the same seed ended differently: is chance taken from elsewhere than the rng that "
            "start() is given, or is something kept on the class and not on the object?"
        )


def check_another_seed_gives_another_result(method: Factory) -> None:
    """Another seed gives another result."""
    first, second = (Life(method(), seed=seed).learn(batches()).learner.parameters() for seed in (0, 1))
    if same(first, second):
        raise Fault("two lives with different seeds ended with the same parameters")


def check_it_leaves_global_random_states_alone(method: Factory) -> None:
    """NumPy's and Python's global random states neither matter to it nor change."""
    before = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    try:
        results = []
        for seed in (0, 1):
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            untouched = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
            results.append(Life(method()).learn(batches()).state())
            if not same(np.random.get_state(legacy=False), untouched[0]) or random.getstate() != untouched[1]:  # noqa: NPY002
                raise Fault("it draws from np.random or random; draw from the rng that start() is given")
        if not same(*results):
            raise Fault("np.random.seed or random.seed changes its result; draw from the rng that start() is given")
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])


def check_batches_of_any_size_are_taken(method: Factory) -> None:
    """Batches of 1, 4 or 7 examples are taken, and a shorter last one."""
    for size in (1, 4, 7, 50):
        life = Life(method(), batch_size=size).learn(batches(batch_size=size))
        if life.learner.steps == 0:
            raise Fault(f"not one SGD step was taken in batches of {size}")


def check_one_task_is_enough(method: Factory) -> None:
    """A stream may have a single task."""
    Life(method(), tasks=1).learn(batches((0,)))


def check_101_tasks_are_not_too_many(method: Factory) -> None:
    """A stream may have 101 tasks."""
    Life(method(), tasks=101, hidden=(101,)).learn(batches(range(101), examples=2))


def check_a_linear_model_can_be_trained(method: Factory) -> None:
    """The network may have no hidden layer."""
    Life(method(), hidden=()).learn(batches())


def check_a_task_may_return(method: Factory) -> None:
    """A task may come back later, and may follow on itself."""
    Life(method()).learn(batches((0, 1, 0, 2, 1, 1), examples=5))


def check_tasks_may_come_in_any_order(method: Factory) -> None:
    """Tasks may come in any order, and some not at all."""
    Life(method(), tasks=5).learn(batches((3, 0, 4), examples=5))


def check_a_single_class_is_enough(method: Factory) -> None:
    """All examples may be of one class."""
    Life(method()).learn(batches(labels=(1,)))


def check_black_pictures_are_taken(method: Factory) -> None:
    """Inputs may all be zero, and all examples the same."""
    black = [Batch(b.task, b.first, np.zeros_like(b.x), b.y) for b in batches()]
    alike = [Batch(b.task, b.first, np.ones_like(b.x), b.y) for b in batches()]
    Life(method()).learn(black)
    Life(method()).learn(alike)


def check_it_works_without_memories(method: Factory) -> None:
    """It works with no memory at all."""
    name = _memory(method)
    life = Life(_with(method, **{name: 0})).learn(batches())
    if life.learner.steps == 0:
        raise Fault(f"with {name} = 0 not one SGD step was taken; the new example itself can still be learned")


def check_it_works_with_a_tiny_memory(method: Factory) -> None:
    """It works with a memory of one example, and with one of as many as there are tasks."""
    name = _memory(method)
    for size in (1, 3):
        Life(_with(method, **{name: size})).learn(batches())


def check_it_works_with_a_memory_that_never_fills(method: Factory) -> None:
    """It works with a memory larger than the stream, in batches too."""
    name = _memory(method)
    for batch_size in (1, 4):
        Life(_with(method, **{name: 200}), batch_size=batch_size).learn(batches(batch_size=batch_size))


def check_what_it_keeps_can_be_saved(method: Factory) -> None:
    """Whatever it keeps can be saved at any time: before the first example, and on the way."""
    life = Life(method())
    for part in ([], batches((0,)), batches((1, 0), examples=3)):
        life.learn(part)
        state = life.state()
        if not same(state, through_files(state)):
            raise Fault("its state is another one when it comes back from a file")


def check_a_saved_state_does_not_change(method: Factory) -> None:
    """A state that was saved stays as it was while learning goes on, and can be loaded more than once."""
    stream = batches((0, 1, 2, 0), examples=5)
    life = Life(method()).learn(stream[:8])
    state = life.state()
    saved = through_files(state)
    life.learn(stream[8:])
    if not same(state, saved):
        raise Fault("state() changed after it was taken: it must hold copies, not the arrays that are worked on")
    Life(method()).load_state(state).learn(stream[8:])
    if not same(state, saved):
        raise Fault("load_state() works on the arrays that it was given: it must copy them")


def check_it_resumes_exactly(method: Factory) -> None:
    """Saved and loaded on the way, it ends as if it had never been interrupted, bit for bit."""
    for batch_size in (1, 3):
        stream = batches((0, 1, 0, 2, 1), examples=5, batch_size=batch_size)
        through = Life(method(), batch_size=batch_size).learn(stream).state()
        for stop in sorted({0, 1, len(stream) // 5, len(stream) // 2, len(stream) - 1}):
            state = through_files(Life(method(), batch_size=batch_size).learn(stream[:stop]).state())
            resumed = Life(method(), batch_size=batch_size, seed=1).load_state(state).learn(stream[stop:]).state()
            if not same(through, resumed):
                parts = [part for part in ("learner", "method") if not same(through[part], resumed[part])]
                raise Fault(
                    f"saved and loaded before batch {stop} of {len(stream)}, it ended with another state of the "
                    f"{' and the '.join(parts)}: whatever it keeps between examples must be an attribute that can "
                    "be saved, or be in its state(); generators that it spawns later than in start() are not"
                )


def check_it_says_whether_it_must_be_told_the_task(method: Factory) -> None:
    """If its network has parts private to a task, it says that it needs the task in training and in testing."""
    made = method()
    network = network_of(made, (INPUTS, 12, CLASSES), 3)
    if not any(network.private):
        raise DoesNotApply("its network is shared by all tasks")
    if not (made.needs_task_in_training and made.needs_task_in_testing):
        raise Fault("give the class needs_task_in_training = True and needs_task_in_testing = True")


def check_a_learning_rate_that_is_too_high_is_noticed(method: Factory) -> None:
    """With a learning rate far too high it ends in Diverged, not in numbers that are none."""
    life = Life(_with(method, lr=1e30))
    try:
        life.learn(batches((0, 1, 2, 0)))
    except Diverged:
        return
    except Fault as fault:
        raise Fault(f"with lr = 1e30 {fault}; do not go on after a learner's Diverged") from None
    raise Fault("with lr = 1e30 no step met a loss that is not finite; is the setting used?")


CHECKS: tuple[Callable[[Factory], None], ...] = tuple(
    function for name, function in list(globals().items()) if name.startswith("check_") and name != "check_one"
)
"""All checks, in order; each takes a method's factory and raises if the fact in its docstring is not true."""
