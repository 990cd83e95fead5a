"""What every method must do, a user's own too: each check runs it over a tiny stream, on a learner that watches."""

import itertools
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from metareplay.errors import BadInput
from metareplay.learners.base import Diverged, Learner, Rows
from metareplay.methods.base import Method
from metareplay.networks import Perceptron, first_line
from metareplay.runs.checkpoint import State, pack, unpack
from metareplay.runs.experiment import Experiment
from metareplay.runs.trainer import Trainer
from metareplay.settings import Hyperparameter, hyperparameters
from metareplay.streams.stream import Stream

Factory = Callable[..., Method]
"""A method class, or anything else that makes a method from hyper-parameters given by name."""
INPUTS, CLASSES, EXAMPLES = 64, 3, 13
WHOSE = "the batch's, then as many as its capacity() asks for"


class DoesNotApply(Exception):
    """The check is about something that this method does not have."""


class Fault(AssertionError):
    """A method does not do what a check says; the message is for its author."""


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
    """Put a method's class through every check; or a factory: ``functools.partial(MyMethod, lr=0.1)``."""
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
    except Exception as error:  # whatever the author's code raises is a finding
        return Result(name, fact, "fails", str(error) if isinstance(error, Fault) else _in_words(error))
    return Result(name, fact, "holds")


def _in_words(error: Exception) -> str:
    ours = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(ours) and "site-packages" not in f.filename]
    where = f", at {Path(theirs[-1].filename).name}:{theirs[-1].lineno} in {theirs[-1].name}" if theirs else ""
    return f"{first_line(error)}{where}"


class Watching(Learner):
    """Has a learner say so if a slot is named that is not there or holds no example."""

    holding: NDArray[np.bool_]
    given: Rows | None

    def look_at(self, rows: ArrayLike, what: str) -> None:
        rows = np.asarray(rows)
        if rows.dtype.kind not in "iu" and rows.size:
            raise Fault(f"{what} was given slots of type {rows.dtype}; slots are whole numbers")
        for row in rows.ravel():
            if not 0 <= row < self.slots:
                raise Fault(f"{what} was given slot {row}, but the table's are 0 … {self.slots - 1}: {WHOSE}")
            if not self.holding[row]:
                raise Fault(f"{what} was given slot {row}, which holds no example: nothing was copied there yet")

    def look_around(self) -> None:
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
            raise Fault(f"an example was copied to slot {target}, which is not the method's own: {WHOSE}")
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
        others = arguments[0] if name == "dots" else arguments[:1] if name == "look_ahead" else ()
        for group in rows if name in ("gradients", "jacobian") else (rows, *others):
            self.look_at(group, name)
        return getattr(super(Watching, self), name)(rows, *arguments, **named)

    return primitive


for _name in ("forward", "activations", "inputs", "sgd", "sgd_each", "reptile", "gradient", "gradients", "dots",
              "jacobian", "look_ahead"):  # fmt: skip
    setattr(Watching, _name, _watched(_name))


def _stream(
    tasks: int = 3, examples: int = EXAMPLES, labels: Sequence[int] = (0, 1, 2), alike: float | None = None
) -> Stream:
    """Noisy 8×8 pictures of a few classes, which each task shows with its pixels in another order; or all ``alike``."""
    rng = np.random.default_rng(0)
    pictures = rng.random((CLASSES, INPUTS)) * (rng.random((CLASSES, INPUTS)) < 0.3)
    parts = []
    for task in range(tasks):
        y = rng.choice(labels, examples)
        x = np.where(pictures[y] > 0, np.clip(pictures[y] + rng.normal(0, 0.1, (examples, INPUTS)), 0, 1), 0)
        x = x[:, np.random.default_rng(task).permutation(INPUTS)] if alike is None else np.full_like(x, alike)
        parts.append((x.astype(np.float32), y, x[:2].astype(np.float32), y[:2]))
    return Stream.from_arrays("little", parts, classes=CLASSES)


def _trainer(
    method: Method, little: Mapping[str, Any] | None = None, hidden: tuple[int, ...] = (12, 9), **options: Any
) -> Trainer:
    """A method's run over a little stream, on a watched learner."""
    stream = _stream(**(little or {}))
    tasks = len(stream.tasks)
    network = method.network(Perceptron((INPUTS, *hidden, CLASSES)), tasks)
    if not isinstance(network, Perceptron):
        raise Fault(f"network() made a {type(network).__name__} of a Perceptron; it must return a Perceptron")
    capacity = method.capacity(tasks, options.get("batch_size", 1))
    if not hasattr(capacity, "__index__") or capacity < 0:
        raise Fault(f"capacity() gave {capacity!r}, but must give a whole number of slots, at least 0")
    options = {"engine": "fused", "samples_per_task": 0, "hidden": hidden, **options}
    trainer = Trainer(Experiment(stream=stream, method=method, **options))
    trainer.one_by_one = False  # what is watched is observe(), and each example has a state behind it
    learner: Any = trainer.learner
    learner.__class__ = type("Watched", (Watching, type(learner)), {})
    learner.holding, learner.given = np.zeros(learner.slots, bool), None
    return trainer


def _trained(method: Method, saved: list[tuple[State, bytes]] | None = None, **options: Any) -> Trainer:
    """The same at its end; ``saved`` gets its state after every batch, and what that was when it was packed at once."""
    trainer, keeps = _trainer(method, **options), [] if saved is None else saved
    checkpoints: Any = SimpleNamespace(
        load=lambda: None, due=lambda border: saved is not None, save=lambda state: keeps.append((state, pack(state)))
    )
    trainer.train(checkpoints=checkpoints)
    trainer.learner.look_around()  # type: ignore[attr-defined]
    return trainer


def _changed(saved: Sequence[tuple[State, bytes]]) -> bool:
    return any(_packed(state) != _packed(unpack(content)) for state, content in saved)


def _packed(state: State) -> dict[str, bytes]:
    return {part: pack(state[part]) for part in ("learner", "method")}


def _parameters(method: Factory) -> tuple[Hyperparameter, ...]:
    return hyperparameters(type(method()))


def _with(method: Factory, **settings: Any) -> Method:
    names = {parameter.name for parameter in _parameters(method)}
    if missing := settings.keys() - names:
        raise DoesNotApply(f"it has no setting {min(missing)}")
    return method(**settings)


def check_every_setting_is_documented_and_in_its_own_range(method: Factory) -> None:
    """Every setting has a meaning in words, and a default within its own range."""
    for parameter in _parameters(method):
        if not parameter.help:
            raise Fault(f"the setting {parameter.name} says nothing of what it means: setting(…, help='…')")
        if parameter.type in (int, float) and not parameter.valid:
            raise Fault(f"the setting {parameter.name} says nothing of its range: setting(…, '(0, inf)', …)")
        if _refused(parameter.check, parameter.default):
            raise Fault(f"{parameter.name} has the default {parameter.default!r}, outside its range {parameter.range}")


def check_settings_out_of_range_are_refused(method: Factory) -> None:
    """A setting out of its range, not a number, or of another type is refused."""
    if not _parameters(method):
        raise DoesNotApply("it has no settings")
    for parameter in _parameters(method):
        for value in ("no such word", None, float("nan"), float("inf"), -float("inf"), -1, 0, 1, 1.5, 2, 10**9):
            if _refused(parameter.check, value) and not _refused(method, **{parameter.name: value}):
                raise Fault(
                    f"{parameter.name} = {value!r} was taken, though its range is {parameter.range or 'not numeric'}; "
                    "does the class replace __post_init__ without calling super().__post_init__()?"
                )


def _refused(take: Callable[..., Any], *given: Any, **named: Any) -> bool:
    try:
        take(*given, **named)
    except BadInput:
        return True
    return False


def check_it_takes_every_example(method: Factory) -> None:
    """It learns: SGD steps are taken and the parameters move."""
    initial = _trainer(method()).learner.parameters()
    learner = _trained(method()).learner
    if learner.steps == 0 and method().steps(39, 39) != 0:  # what says that it takes none writes the parameters
        raise Fault("not one SGD step was taken over 39 examples; does observe() call one of the learner's steps?")
    if np.array_equal(learner.parameters(), initial):
        raise Fault("the parameters are the same after 39 examples as before the first")


def check_the_same_seed_gives_the_same_result(method: Factory) -> None:
    """The same seed gives the same result, bit for bit."""
    first, second = (_packed(_trained(method()).state()) for _ in range(2))
    if first != second:
        text = "two runs with the same seed ended differently: is chance taken from elsewhere than the rng that "
        raise Fault(f"{text}start() is given, or is something kept on the class and not on the object?")


def check_another_seed_gives_another_result(method: Factory) -> None:
    """Another seed gives another result."""
    first, second = (_trained(method(), seed=seed).learner.parameters() for seed in (0, 1))
    if np.array_equal(first, second):
        raise Fault("two runs with different seeds ended with the same parameters")


def check_it_leaves_global_random_states_alone(method: Factory) -> None:
    """NumPy's and Python's global random states neither matter to it nor change."""
    before, results = (np.random.get_state(), random.getstate()), []  # noqa: NPY002
    try:
        for seed in (0, 1):
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            untouched = _global_states()
            results.append(_packed(_trained(method()).state()))
            if _global_states() != untouched:
                raise Fault("it draws from np.random or random; draw from the rng that start() is given")
        if results[0] != results[1]:
            raise Fault("np.random.seed or random.seed changes its result; draw from the rng that start() is given")
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])


def _global_states() -> bytes:
    return pack({"numpy": np.random.get_state(legacy=False), "python": random.getstate()})  # noqa: NPY002


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
        ends = []
        for end in (_trained(one, batch_size=batch_size) for one in (ours, theirs)):
            with end.method.readied():
                ends.append(end.learner.parameters())
        if not np.array_equal(*ends):
            raise Fault(f"with {settings} it is not {type(theirs).__name__} bit for bit, in batches of {batch_size}")


def check_what_it_keeps_can_be_saved(method: Factory) -> None:
    """Whatever it keeps can be saved at any time: before the first example, and on the way."""
    begin = _trainer(method()).state()
    saved = [(begin, pack(begin))]
    _trained(method(), saved, little={"examples": 6})
    if any(pack(unpack(content)) != content for _, content in saved):
        raise Fault("its state is another one when it comes back from a file")


def check_a_saved_state_does_not_change(method: Factory) -> None:
    """A state that was saved stays as it was while learning goes on, and can be loaded more than once."""
    saved, little = list[tuple[State, bytes]](), {"examples": 6}
    _trained(method(), saved, little=little)
    if _changed(saved):
        raise Fault("state() changed after it was taken: it must hold copies, not the arrays that are worked on")
    again = _trainer(method(), little)
    again.load_state(saved[8][0])
    again.train()
    if _changed(saved):
        raise Fault("load_state() works on the arrays that it was given: it must copy them")


def check_it_resumes_exactly(method: Factory) -> None:
    """Saved and loaded on the way, it ends as if it had never been interrupted, bit for bit, on every engine."""
    for engine, batch_size, stops in (("fused", 1, (1, 5, 12, 24)), ("fused", 3, (1, 2, 5)), ("torch", 3, (4,))):
        if engine == "torch" and find_spec("torch") is None:
            continue
        run: dict[str, Any] = {"engine": engine, "batch_size": batch_size, "little": {"examples": 5}}
        run["task_order"] = (0, 1, 0, 2, 1)
        through, saved = _packed(_trained(method(), **run).state()), list[tuple[State, bytes]]()
        _trained(method(), saved, **run)
        for stop in stops:
            resumed = _trainer(method(), **run)
            resumed.load_state(unpack(saved[stop - 1][1]))
            resumed.train()
            if parts := [part for part, state in _packed(resumed.state()).items() if state != through[part]]:
                raise Fault(
                    f"saved and loaded after batch {stop}, it ended with another state of the "
                    f"{' and the '.join(parts)}: whatever it keeps between examples must be an attribute that can "
                    "be saved, or be in its state(); generators that it spawns later than in start() are not"
                )


def check_both_engines_learn_the_same(method: Factory) -> None:
    """On PyTorch it learns what it learns on the compiled engine."""
    if find_spec("torch") is None:
        raise DoesNotApply("PyTorch is not installed")
    ours, theirs = (_trained(method(), engine=engine, batch_size=2).learner for engine in ("fused", "torch"))
    if ours.steps != theirs.steps:
        raise Fault(f"it took {ours.steps} SGD steps on the compiled engine and {theirs.steps} on PyTorch")
    one, other = (np.concatenate([np.ravel(part) for layer in it.layers() for part in layer]) for it in (ours, theirs))
    if not np.linalg.norm(one - other) <= 0.01 * np.linalg.norm(one):
        raise Fault("its parameters on PyTorch are others than on the compiled engine, by more than rounding does")


def check_it_says_whether_it_needs_the_task(method: Factory) -> None:
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
        _trained(_with(method, lr=1e30), task_order=(0, 1, 2, 0))
    except Diverged:
        return
    except Fault as fault:
        raise Fault(f"with lr = 1e30 {fault}; do not go on after a learner's Diverged") from None
    raise Fault("with lr = 1e30 no step met a loss that is not finite; is the setting used?")


def _takes(
    name: str, fact: str, *runs: dict[str, Any], memories: Sequence[int] = (), learns: bool = False
) -> Callable[[Factory], None]:
    """A check that the method, with so many memories, goes through some runs; and that each takes steps."""

    def checked(method: Factory) -> None:
        own = [parameter.name for parameter in _parameters(method) if parameter.name in ("memories", "n_memories")]
        if memories and not own:
            raise DoesNotApply("it keeps no memories: it has no setting memories or n_memories")
        settings = [{own[0]: size} for size in memories] or [{}]
        for run, chosen in itertools.product(runs, settings):
            steps = _trained(made := method(**chosen), **run).learner.steps
            if steps == 0 and learns and made.steps(39, 39) != 0:
                raise Fault(f"with {run | chosen} not one SGD step was taken; the new example itself can be learned")

    checked.__name__, checked.__doc__ = f"check_{name}", fact
    return checked


CHECKS: tuple[Callable[[Factory], None], ...] = (
    *(made for name, made in list(globals().items()) if name.startswith("check_") and name != "check_one"),
    _takes("batches_of_any_size_are_taken", "Batches of 1, 4 or 7 examples are taken, and a shorter last one.",
           *({"batch_size": size} for size in (1, 4, 7, 50)), learns=True),
    _takes("it_works_without_memories", "It works with no memory at all.", {}, memories=(0,), learns=True),
    _takes("it_works_with_a_tiny_memory",
           "It works with a memory of one example, and with one of as many as there are tasks.", {}, memories=(1, 3)),
    _takes("it_works_with_a_memory_that_never_fills", "It works with a memory larger than the stream, in batches too.",
           {}, {"batch_size": 4}, memories=(200,)),
    _takes("one_task_is_enough", "A stream may have a single task.", {"little": {"tasks": 1}}),
    _takes("101_tasks_are_not_too_many", "A stream may have 101 tasks.",
           {"little": {"tasks": 101, "examples": 2}, "hidden": (101,), "evaluate": "end"}),
    _takes("a_linear_model_can_be_trained", "The network may have no hidden layer.", {"hidden": ()}),
    _takes("a_task_may_return", "A task may come back later, and may follow on itself.",
           {"little": {"examples": 5}, "task_order": (0, 1, 0, 2, 1, 1)}),
    _takes("tasks_may_come_in_any_order", "Tasks may come in any order, and some not at all.",
           {"little": {"tasks": 5, "examples": 5}, "task_order": (3, 0, 4)}),
    _takes("a_single_class_is_enough", "All examples may be of one class.", {"little": {"labels": (1,)}}),
    _takes("black_pictures_are_taken", "Inputs may all be zero, and all examples the same.",
           {"little": {"alike": 0.0}}, {"little": {"alike": 1.0}}),
)  # fmt: skip
"""All checks, in order: each takes a method's factory, and raises if its docstring's first line is not a fact."""
