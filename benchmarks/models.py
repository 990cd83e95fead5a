"""Every model: microseconds per example with the published settings, beside the naive loops of the tests in PyTorch."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import data, steps
from benchmarks.baselines import through
from benchmarks.timing import Work, beside, in_turns, median, ratio, table
from metareplay import METHODS, Images, Stream
from metareplay.data.images import ImageSet
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.base import Method
from metareplay.methods.memory import RingPerTask
from metareplay.networks import Perceptron
from metareplay.runs import recipes
from metareplay.settings import hyperparameters
from metareplay.streams import catalogue as benchmarks
from naive import Example, Naive, published

EXAMPLES = 1000
"""Of each task, as in the published runs."""
FEW = 10
"""Of each task, where a method has no memory that would have to be full."""
STEPS_BEFORE, LR_BEFORE = 20_000, 0.01
"""Steps on the memory, before anything is timed: a network in the middle of its life."""


@dataclass(frozen=True)
class Case:
    """One row of the table: a model at the last of so many tasks."""

    model: str
    memories: int | None = None
    tasks: int = 20
    benchmark: str = "mnist-rotations"

    @property
    def settings(self) -> dict[str, Any]:
        return recipes.settings(self.benchmark, self.model, self.memories)[0]

    @property
    def name(self) -> str:
        if self.memories:
            return f"{self.model}, {self.memories} memories"
        return f"{self.model}, task {self.tasks}" if self.model == "ewc" else self.model

    @property
    def gradients(self) -> int | None:
        """Of how many examples a replay method takes the gradient, for each new one."""
        if "replay_batch_size" not in self.settings:
            return None
        return self.settings.get("batches_per_example", 1) * (self.settings["replay_batch_size"] + 1)

    @property
    def most_steps(self) -> float:
        """As how many steps of the step benchmark each of those may count."""
        return 1.5 if self.settings["replay_batch_size"] + 1 >= 50 else 2.5


CASES = (
    Case("online"),
    Case("taskinput"),
    Case("independent"),
    Case("ewc", tasks=2),
    Case("ewc", tasks=100),
    *(
        Case(model, memories)
        for memories in (5120, 200)
        for model in ("gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7")
    ),
)


class Ours:
    """A method of ours, driven as a run drives it."""

    def __init__(self, case: Case, stream: Stream) -> None:
        rng = np.random.default_rng(0)
        self.method = METHODS[case.model](**case.settings)
        network = self.method.network(Perceptron((stream.inputs, *steps.HIDDEN, stream.classes)), case.tasks)
        self.learner = FusedPerceptron(network, 1 + self.method.capacity(case.tasks, 1), 1, rng)
        self.method.start(self.learner, rng, case.tasks)
        self.memory = getattr(self.method, "memory", None)
        self.row = np.zeros(1, np.int64)

    def begin_task(self, task: int) -> None:
        self.method.begin_task(task, task - 1 if task else None)

    def put(self, x: NDArray[np.float32], y: NDArray[np.int64], task: int) -> None:
        self.learner.put(self.row, x, y, task)

    def keep(self) -> None:
        if isinstance(self.memory, RingPerTask):
            self.memory.offer(0, int(self.learner.tasks[0]))
        else:
            self.memory.offer(0)

    def observe(self) -> None:
        self.method.observe(self.row)


def lived(case: Case, base: ImageSet) -> tuple[Ours, list[Images]]:
    """Ours, with the memory of a run that has come to the last task; and every task's examples."""
    stream = benchmarks.find(case.benchmark).stream(tasks=case.tasks, images=base)
    ours, images = Ours(case, stream), [task.train for task in stream.tasks]
    for task, past in enumerate(images[:-1]):
        ours.begin_task(task)
        for x, y in _examples(past, EXAMPLES if ours.memory else FEW)[0]:
            ours.put(x, y, task)
            if ours.memory:
                ours.keep()
            else:
                ours.observe()
    ours.begin_task(case.tasks - 1)
    if ours.memory:
        memory = np.random.default_rng(1).integers(1, ours.learner.slots, STEPS_BEFORE)
        ours.learner.sgd_each(memory, LR_BEFORE)
    return ours, images


LOOPS: dict[str, type[Naive]] = {
    **dict.fromkeys(("online", "taskinput", "independent"), published.Online),
    "ewc": published.EWC,
    "gem": published.GEM,
    "eralg4": published.Replaying,
    "eralg5": published.Algorithm5,
    "meralg1": published.Algorithm1,
    "meralg6": published.Algorithm6,
    "meralg7": published.Algorithm7,
}


def in_pytorch(case: Case, ours: Ours, past: list[Images]) -> Naive:
    """The naive loop with the same parameters, those of the last task where each has its own, and a past like ours."""
    parts = [torch.tensor(own[-1] if w.ndim == 3 else own) for w, b in ours.learner.layers() for own in (w, b)]
    settings = {one.name: getattr(ours.method, one.name) for one in hyperparameters(type(ours.method))}
    loop = LOOPS[case.model](through, parts, np.random.default_rng(0), case.tasks, settings)
    for task, images in enumerate(past):
        loop.begin_task(task, task - 1 if task else None)
        for x, y in _examples(images, EXAMPLES if ours.memory else FEW)[1]:
            example = Example(x, y, task)
            if isinstance(loop, published.GEM):
                loop.rings[task].append(example)
            elif ours.memory:
                loop.memory.offer([example])
            else:
                loop.observe([example])
    loop.begin_task(len(past), len(past) - 1)
    return loop


def _examples(images: Images, number: int) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Examples as ours takes them, a batch of one each, and as PyTorch does."""
    which = np.random.default_rng(2).integers(0, len(images), number)
    x, y = images.inputs(which), images.labels[which]
    batches = [(x[i : i + 1], y[i : i + 1]) for i in range(number)]
    return batches, list(zip(torch.from_numpy(x), y.tolist(), strict=True))


def measure_one(case: Case, base: ImageSet, step: Work, seconds: float, rounds: int) -> dict[str, Any]:
    """Time one model's learning of one example, and in the same rounds the step of the step benchmark."""
    ours, (*past, images) = lived(case, base)
    plain = in_pytorch(case, ours, past)
    batches, tensors = _examples(images, EXAMPLES)
    numbers = itertools.count(), itertools.count()

    def one_by_one(units: int) -> None:
        for number in itertools.islice(numbers[0], units):
            ours.put(*batches[number % EXAMPLES], case.tasks - 1)
            ours.observe()

    def naive(units: int) -> None:
        for number in itertools.islice(numbers[1], units):
            plain.observe([Example(*tensors[number % EXAMPLES], case.tasks - 1)])

    def at_once(units: int) -> None:
        """As a run has it where the method learns many examples in one call."""
        for begin in range(0, units, EXAMPLES):
            ours.method.observe_each(x[: units - begin], y[: units - begin], case.tasks - 1)

    in_one_call = type(ours.method).observe_each is not Method.observe_each
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    competitors = {"ours": at_once if in_one_call else one_by_one, "PyTorch": naive}
    if case.gradients:
        competitors["step"] = step
    times = in_turns(competitors, seconds, rounds)
    result: dict[str, Any] = {
        "microseconds": {name: median(times, name) for name in ("ours", "PyTorch")},
        "times_as_fast": ratio(times, "PyTorch", "ours"),
    }
    if case.gradients:
        result["gradients"] = case.gradients
        result["steps_each"] = ratio(times, "ours", "step") / case.gradients * steps.AT_ONCE
        result["most_steps_each"] = case.most_steps
    if isinstance(plain, published.GEM):
        result["violated"] = float(np.mean(plain.turned))
    return result


def measure(base: ImageSet, seconds: float, rounds: int, cases: tuple[Case, ...] = CASES) -> dict[str, Any]:
    stepping = steps.learner(data.rotations(base))
    rng = np.random.default_rng(1)

    def step(units: int) -> None:
        stepping.sgd_each(rng.integers(0, steps.MEMORIES, units * steps.AT_ONCE), steps.LR)

    return {case.name: measure_one(case, base, step, seconds, rounds) for case in cases}


def lines(result: dict[str, Any]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for name, row in result.items():
        label = f"{name} ({row['violated']:.0%} of steps turned)" if "violated" in row else name
        mine, theirs = row["microseconds"]["ours"], row["microseconds"]["PyTorch"]
        rows.append((label, f"{mine:,.1f}", f"{theirs:,.0f}", f"{row['times_as_fast']:.0f} ×"))
    title = "Learning one example, published settings of mnist-rotations, memory full, at the last task"
    out = [*table(title, "ours, µs | PyTorch, µs | ours is faster by", rows), ""]
    rows = [
        (name, row["gradients"], f"{row['steps_each']:.2f}", row["most_steps_each"])
        for name, row in result.items()
        if "gradients" in row
    ]
    title = "What each gradient costs in a replay method, all else included, in steps of the step benchmark"
    return out + table(title, "gradients an example | steps each | required at most", rows)


OF_GEM = (
    Case("gem", 5120),
    Case("gem", 200),
    Case("gem", 5120, 100, "mnist-many-permutations"),
    Case("gem", 500, 100, "mnist-many-permutations"),
)
"""What gem is timed at as it is and with every gradient formed: 256, 10, 51 and 5 memories a task."""


def learning(case: Case, ours: Ours, images: Images, jacobian: Any) -> Work:
    """Learn examples of the last task, with the gradients as ``jacobian`` gives them."""
    which = np.arange(EXAMPLES) % len(images)
    x, y, examples = images.inputs(which), images.labels[which], itertools.count()

    def work(units: int) -> None:
        ours.learner.jacobian = jacobian  # type: ignore[method-assign]  # the one that is measured
        for i in itertools.islice(examples, units):
            one = slice(i % len(x), i % len(x) + 1)
            ours.put(x[one], y[one], case.tasks - 1)
            ours.observe()

    return work


def measure_gem(base: ImageSet, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds an example of each case, and how many times as long with every gradient formed."""
    result = {}
    for case in OF_GEM:
        ours, (*_, images) = lived(case, base)
        ways = {"ours": ours.learner.jacobian, "formed": ours.learner.gradients}
        times = in_turns({name: learning(case, ours, images, way) for name, way in ways.items()}, seconds, rounds)
        name = f"{case.benchmark}, {case.memories} memories"
        result[name] = beside(times, "formed", "ours", unit="milliseconds", per=1000)
    return result


def lines_of_gem(result: dict[str, Any]) -> list[str]:
    rows = (
        (name, *(f"{row['milliseconds'][way]:.2f}" for way in ("ours", "formed")), f"{row['times_as_fast']:.2f} ×")
        for name, row in result.items()
    )
    title = "One example of gem at the last task, published settings, every memory full"
    return table(title, "ours, ms | every gradient formed, ms | ours is faster by", rows)
