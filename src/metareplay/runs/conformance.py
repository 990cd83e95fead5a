"""What every method must do, a user's own too: a list of checks, each a fact in words.

>>> from metareplay.methods.online import Online
>>> result = check_one(Online, check_a_task_may_return)
>>> print(result)
holds: A task may come back later, and may follow on itself.

A check runs the method over a stream that takes milliseconds, on a learner that watches which slots are named
(``watching.py``).
"""

from __future__ import annotations

import contextlib
import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from metareplay.errors import BadInput
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.networks.perceptron import Perceptron
from metareplay.runs.checkpoint import pack, unpack
from metareplay.runs.watching import (
    CLASSES,
    EXAMPLES,
    INPUTS,
    Fault,
    Interrupted,
    Saved,
    ended,
    little_stream,
    same,
    trained,
    trainer,
)  # fmt: skip
from metareplay.settings import Hyperparameter, hyperparameters, within
from metareplay.streams.stream import Stream

Factory = Callable[..., Method]
"""A method class, or anything else that makes a method from hyper-parameters given by name."""


class DoesNotApply(Exception):
    """The check is about something that this method does not have."""


@dataclass(frozen=True)
class Result:
    """What one check found; the message says what is wrong and what to look at, or why there is nothing to check."""

    check: str
    fact: str
    outcome: Literal["holds", "fails", "does not apply", "waived"]
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
    waived = getattr(getattr(method, "func", method), "waived", {})
    if name in waived:
        return Result(name, fact, "waived", waived[name])
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
    ours = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(ours) and "site-packages" not in f.filename]
    where = f", at {Path(theirs[-1].filename).name}:{theirs[-1].lineno} in {theirs[-1].name}" if theirs else ""
    return f"{type(error).__name__}: {first_line}{where}"


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
                f"{parameter.name} = {value!r} was taken, though its range is {parameter.range or 'not numeric'}; "
                "does the class replace __post_init__ without calling super().__post_init__()?"
            )


def _wrong_values(parameter: Hyperparameter) -> Iterator[Any]:
    yield from ([] if parameter.type is str and not parameter.words else ["no such word"])
    yield from ([] if parameter.optional else [None])
    yield from ([2] if parameter.type is bool else [])
    if not parameter.valid:
        return
    yield from {int: [1.5], float: [float("nan"), float("inf"), float("-inf")]}.get(parameter.type, [])
    low, high = (float(end) for end in parameter.valid[1:-1].split(","))
    for candidate in (low - 1, low, high, high + 1):
        if np.isfinite(candidate) and not within(candidate, parameter.valid):
            yield parameter.type(candidate)


def check_it_takes_every_example(method: Factory) -> None:
    """It learns: SGD steps are taken and the parameters move."""
    made = trainer(method())
    initial = made.learner.parameters()
    made = trained(method())
    if made.learner.steps == 0:
        raise Fault("not one SGD step was taken over 39 examples; does observe() call one of the learner's steps?")
    if np.array_equal(made.learner.parameters(), initial):
        raise Fault("the parameters are the same after 39 examples as before the first")


def check_the_same_seed_gives_the_same_result(method: Factory) -> None:
    """The same seed gives the same result, bit for bit."""
    first, second = (ended(trained(method())) for _ in range(2))
    if not same(first, second):
        raise Fault(
            "two runs with the same seed ended differently: is chance taken from elsewhere than the rng that "
            "start() is given, or is something kept on the class and not on the object?"
        )


def check_another_seed_gives_another_result(method: Factory) -> None:
    """Another seed gives another result."""
    first, second = (trained(method(), seed=seed).learner.parameters() for seed in (0, 1))
    if np.array_equal(first, second):
        raise Fault("two runs with different seeds ended with the same parameters")


def check_it_leaves_global_random_states_alone(method: Factory) -> None:
    """NumPy's and Python's global random states neither matter to it nor change."""
    before = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    try:
        results = []
        for seed in (0, 1):
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            untouched = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
            results.append(ended(trained(method())))
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
        if trained(method(), batch_size=size).learner.steps == 0:
            raise Fault(f"not one SGD step was taken in batches of {size}")


def _takes(name: str, fact: str, *runs: dict[str, Any]) -> Callable[[Factory], None]:
    """A check that the method goes through some runs."""

    def checked(method: Factory) -> None:
        for run in runs:
            trained(method(), **{key: part() if callable(part) else part for key, part in run.items()})

    checked.__name__, checked.__doc__ = f"check_{name}", fact
    return checked


def _alike(value: float) -> Stream:
    x, y = np.full((EXAMPLES, INPUTS), value, np.float32), np.arange(EXAMPLES) % CLASSES
    return Stream.from_arrays("alike", [(x, y, x, y)] * 3)


check_one_task_is_enough = _takes(
    "one_task_is_enough", "A stream may have a single task.", {"stream": partial(little_stream, 1)}
)
check_101_tasks_are_not_too_many = _takes(
    "101_tasks_are_not_too_many",
    "A stream may have 101 tasks.",
    {"stream": partial(little_stream, 101, examples=2), "hidden": (101,)},
)
check_a_linear_model_can_be_trained = _takes(
    "a_linear_model_can_be_trained", "The network may have no hidden layer.", {"hidden": ()}
)
check_a_task_may_return = _takes(
    "a_task_may_return",
    "A task may come back later, and may follow on itself.",
    {"stream": partial(little_stream, examples=5), "task_order": (0, 1, 0, 2, 1, 1)},
)
check_tasks_may_come_in_any_order = _takes(
    "tasks_may_come_in_any_order",
    "Tasks may come in any order, and some not at all.",
    {"stream": partial(little_stream, 5, examples=5), "task_order": (3, 0, 4)},
)
check_a_single_class_is_enough = _takes(
    "a_single_class_is_enough", "All examples may be of one class.", {"stream": partial(little_stream, labels=(1,))}
)
check_black_pictures_are_taken = _takes(
    "black_pictures_are_taken",
    "Inputs may all be zero, and all examples the same.",
    {"stream": partial(_alike, 0)},
    {"stream": partial(_alike, 1)},
)


def check_it_works_without_memories(method: Factory) -> None:
    """It works with no memory at all."""
    name = _memory(method)
    if trained(_with(method, **{name: 0})).learner.steps == 0:
        raise Fault(f"with {name} = 0 not one SGD step was taken; the new example itself can still be learned")


def check_it_works_with_a_tiny_memory(method: Factory) -> None:
    """It works with a memory of one example, and with one of as many as there are tasks."""
    name = _memory(method)
    for size in (1, 3):
        trained(_with(method, **{name: size}))


def check_it_works_with_a_memory_that_never_fills(method: Factory) -> None:
    """It works with a memory larger than the stream, in batches too."""
    name = _memory(method)
    for batch_size in (1, 4):
        trained(_with(method, **{name: 200}), batch_size=batch_size)


def check_with_its_constant_inert_it_is_its_base(method: Factory) -> None:
    """Where its own constant does nothing, it is the method that it builds on, bit for bit."""
    made = method()
    if made.inert is None:
        raise DoesNotApply("it names no settings with which it does nothing: inert = ({'alpha': 0.0}, ER)")
    settings, base = made.inert
    alike = {parameter.name for parameter in _parameters(base)} & {parameter.name for parameter in _parameters(method)}
    ours = _with(method, **settings)
    theirs = base(**{name: getattr(ours, name) for name in alike})
    for batch_size in (1, 4):
        ends = [trained(one, batch_size=batch_size).learner.parameters() for one in (ours, theirs)]
        if not np.array_equal(*ends):
            raise Fault(f"with {settings} it is not {type(theirs).__name__} bit for bit, in batches of {batch_size}")


def check_what_it_keeps_can_be_saved(method: Factory) -> None:
    """Whatever it keeps can be saved at any time: before the first example, and on the way."""
    made = trainer(method())
    states = [ended(made)]
    for at in (1, EXAMPLES, 2 * EXAMPLES + 3):
        saved = Saved(at, stop=False)
        trained(method(), checkpoints=saved)
        states.append(saved.state)
    for state in states:
        if not same(unpack(pack(state)), state):
            raise Fault("its state is another one when it comes back from a file")


def check_a_saved_state_does_not_change(method: Factory) -> None:
    """A state that was saved stays as it was while learning goes on, and can be loaded more than once."""
    saved = Saved(EXAMPLES + 3, stop=False)
    trained(method(), checkpoints=saved)
    if not saved.unchanged():
        raise Fault("state() changed after it was taken: it must hold copies, not the arrays that are worked on")
    again = trainer(method())
    again.load_state(saved.state)
    again.train()
    if not saved.unchanged():
        raise Fault("load_state() works on the arrays that it was given: it must copy them")


def check_it_resumes_exactly(method: Factory) -> None:
    """Saved and loaded on the way, it ends as if it had never been interrupted, bit for bit, on every engine."""
    stream = little_stream(examples=5)
    for engine, batch_size, stops in (("fused", 1, (1, 5, 12, 24)), ("fused", 3, (1, 2, 5)), ("torch", 3, (4,))):
        if engine == "torch" and find_spec("torch") is None:
            continue
        options: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "task_order": (0, 1, 0, 2, 1)}
        through = ended(trained(method(), stream, **options))
        for stop in stops:
            saved = Saved(stop, stop=True)
            with contextlib.suppress(Interrupted):
                trained(method(), stream, saved, **options)
            resumed = trainer(method(), stream, **options)
            resumed.load_state(unpack(saved.content))
            resumed.train()
            parts = [part for part, state in ended(resumed).items() if not same(through[part], state)]
            if parts:
                raise Fault(
                    f"saved and loaded after batch {stop}, it ended with another state of the "
                    f"{' and the '.join(parts)}: whatever it keeps between examples must be an attribute that can "
                    "be saved, or be in its state(); generators that it spawns later than in start() are not"
                )


def check_both_engines_learn_the_same(method: Factory) -> None:
    """On PyTorch it learns what it learns on the compiled engine."""
    if find_spec("torch") is None:
        raise DoesNotApply("PyTorch is not installed")
    ends = []
    for engine in ("fused", "torch"):
        made = trained(method(), engine=engine, batch_size=2)
        parts = [np.asarray(part).ravel() for layer in made.learner.layers() for part in layer]
        ends.append((made.learner.steps, np.concatenate(parts)))
    (steps, ours), (others, theirs) = ends
    if steps != others:
        raise Fault(f"it took {steps} SGD steps on the compiled engine and {others} on PyTorch")
    if not np.linalg.norm(ours - theirs) <= 0.01 * np.linalg.norm(ours):
        raise Fault("its parameters on PyTorch are others than on the compiled engine, by more than rounding does")


def check_it_says_whether_it_must_be_told_the_task(method: Factory) -> None:
    """If its network has parts private to a task, it says that it needs the task in training and in testing."""
    made = method()
    network = made.network(Perceptron((INPUTS, 12, CLASSES)), 3)
    if not (isinstance(network, Perceptron) and any(network.private)):
        raise DoesNotApply("its network is shared by all tasks")
    if not (made.needs_task_in_training and made.needs_task_in_testing):
        raise Fault("give the class needs_task_in_training = True and needs_task_in_testing = True")


def check_a_learning_rate_that_is_too_high_is_noticed(method: Factory) -> None:
    """With a learning rate far too high it ends in Diverged, not in numbers that mean nothing."""
    try:
        trained(_with(method, lr=1e30), task_order=(0, 1, 2, 0))
    except Diverged:
        return
    except Fault as fault:
        raise Fault(f"with lr = 1e30 {fault}; do not go on after a learner's Diverged") from None
    raise Fault("with lr = 1e30 no step met a loss that is not finite; is the setting used?")


CHECKS: tuple[Callable[[Factory], None], ...] = tuple(
    function for name, function in list(globals().items()) if name.startswith("check_") and name != "check_one"
)
"""All checks, in order; each takes a method's factory and raises if the fact in its docstring is not true."""
