"""One life of one learner: a stream, a method and a seed make a record."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from metareplay.clock import Clock
from metareplay.environment import environment
from metareplay.errors import BadInput
from metareplay.learners.base import Diverged, Learner
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.records import Record
from metareplay.streams.base import Stream

SECONDS_BETWEEN_REPORTS = 0.1
CHUNK = 1000
"""Examples whose inputs are laid out at a time."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: what a progress display needs."""

    visit: int
    visits: int
    examples: int
    all_examples: int
    steps: int
    accuracy: float | None
    """Mean test accuracy, at the last evaluation, over the tasks seen by then; None before the first task ended."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to run; ``run()`` runs it.

    Parameters
    ----------
    stream
        The tasks, in their order.
    method
        How to learn, with its settings.
    seed
        Decides which examples are seen, their order, initial weights, memory and replay; each has its own child of
        ``numpy.random.SeedSequence(seed)``, so that changing one leaves the others as they were.
    hidden
        Units of each hidden layer.
    samples_per_task
        Training examples of each task that are seen; None for the stream's own number, 0 for all.
    epochs
        How often they are seen, each time in a new order.
    batch_size
        Examples that come at once. The last batch of a task may be shorter; none crosses tasks.
    eval_every
        Evaluate on all tasks every so many batches too; 0 for only before the first task and at the end of each.
    task_order
        The tasks visited, by number; None for each once, in order. A task may return.
    """

    stream: Stream
    method: Method
    seed: int = 0
    hidden: tuple[int, ...] = (100, 100)
    samples_per_task: int | None = None
    epochs: int = 1
    batch_size: int = 1
    eval_every: int = 0
    task_order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("epochs", 1), ("batch_size", 1), ("eval_every", 0)):
            given = getattr(self, name)
            if not isinstance(given, int | np.integer) or given < least:
                flag = name.replace("_", "-")
                raise BadInput(f"--{flag} is {given!r}, but must be a whole number of at least {least}")
            object.__setattr__(self, name, int(given))
        if min(self.hidden, default=1) < 1:
            raise BadInput(f"hidden layers have {self.hidden} units, but each needs at least one")
        if self.samples_per_task is not None and self.samples_per_task < 0:
            raise BadInput(f"--samples-per-task is {self.samples_per_task}, but must be at least 1, or 0 for all")
        if not self.visits:
            raise BadInput("the order of tasks is empty, but at least one must be visited")
        for task in self.visits:
            if not 0 <= task < len(self.stream.tasks):
                raise BadInput(
                    f"task {task} is in the order of tasks, but {self.stream.name} has {len(self.stream.tasks)}"
                )
            wanted, there = self.samples, len(self.stream.tasks[task].train)
            if wanted is not None and wanted > there:
                raise BadInput(
                    f"--samples-per-task is {wanted}, but task {task} of {self.stream.name} has only {there}"
                )

    @property
    def samples(self) -> int | None:
        """Training examples seen of each task; None for all."""
        given = self.stream.samples_per_task if self.samples_per_task is None else self.samples_per_task
        return given or None

    @property
    def visits(self) -> tuple[int, ...]:
        """The tasks visited, by number, in order."""
        return tuple(range(len(self.stream.tasks))) if self.task_order is None else self.task_order

    def configuration(self) -> dict[str, Any]:
        """Everything that decides the record, resolved, as plain values."""
        return {
            "benchmark": self.stream.name,
            "stream": dict(self.stream.settings),
            "data_sha256": self.stream.data_sha256,
            "method": method_name(type(self.method)),
            "method_sha256": _source_sha256(type(self.method)),
            "hyperparameters": asdict(self.method),
            "seed": self.seed,
            "hidden": list(self.hidden),
            "samples_per_task": self.samples,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "eval_every": self.eval_every,
            "task_order": list(self.visits),
        }

    @property
    def key(self) -> str:
        """A hash of the configuration: the name of the run's folder."""
        canonical = json.dumps(self.configuration(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def run(self, progress: Callable[[Progress], None] | None = None) -> Record:
        """Live it from the first example to the last evaluation.

        Parameters
        ----------
        progress
            Called about ten times a second.

        Raises
        ------
        Diverged
            If a loss is not finite; the message says at which example and what to lower.
        """
        # On several threads, times could not be compared, and two runs at once would be slower than in turn.
        # An overflow is noticed by the loss that follows from it, and told in words.
        with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
            return _Life(self, progress).live()


def run(stream: Stream, method: Method, **options: Any) -> Record:
    """Run a method on a stream: ``Experiment(stream=stream, method=method, **options).run()``."""
    return Experiment(stream=stream, method=method, **options).run()


RANDOMNESS = ("examples", "order", "weights", "method")
"""What a run's seed decides, each with a generator of its own; the method's is split again into memory and replay."""


def randomness(seed: int, purpose: str, *which: int) -> np.random.Generator:
    """A generator for one purpose of a run, and for one of several things of that kind."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(RANDOMNESS.index(purpose), *which)))


class _Life:
    """A run under way."""

    def __init__(self, experiment: Experiment, report: Callable[[Progress], None] | None) -> None:
        self.experiment = experiment
        self.stream = experiment.stream
        self.report = report
        tasks = len(self.stream.tasks)
        self.method = replace(experiment.method)
        network = self.method.network((self.stream.inputs, *experiment.hidden, self.stream.classes), tasks)
        slots = experiment.batch_size + self.method.capacity(tasks, experiment.batch_size)
        self.learner: Learner = FusedPerceptron(
            network, slots, experiment.batch_size, randomness(experiment.seed, "weights")
        )
        self.method.start(self.learner, randomness(experiment.seed, "method"), tasks)

        self.presented = [self._presented(visit, task) for visit, task in enumerate(experiment.visits)]
        self.predicted_right = np.zeros(sum(map(len, self.presented)), bool)
        self.seen = 0
        self.batches = 0
        self.evaluations: list[tuple[int, int, NDArray[np.int64]]] = []
        self.clock = Clock()
        self.train_seconds = 0.0
        self.eval_seconds = 0.0
        self.last_report = -np.inf

    def _presented(self, visit: int, task: int) -> NDArray[np.int64]:
        """Which of a task's training examples come in a visit, in order; a task that returns shows the same ones."""
        experiment = self.experiment
        examples = randomness(experiment.seed, "examples", task).permutation(len(self.stream.tasks[task].train))
        order = randomness(experiment.seed, "order", visit)
        return np.concatenate([order.permutation(examples[: experiment.samples]) for _ in range(experiment.epochs)])

    def live(self) -> Record:
        """From the first example to the last evaluation."""
        with self.clock.running():
            return self._live()

    def _live(self) -> Record:
        started = datetime.now(UTC)
        self.evaluate(visit=-1)
        previous = None
        for visit, task in enumerate(self.experiment.visits):
            self.begin_task(task, previous)
            self.learn(visit, task)
            self.evaluate(visit)
            previous = task
        at, visits, correct = zip(*self.evaluations, strict=True)
        return Record(
            configuration=self.experiment.configuration(),
            environment=environment(),
            started=started.isoformat(timespec="seconds"),
            visits=np.array(self.experiment.visits),
            evaluated_at=np.array(at),
            evaluated_visit=np.array(visits),
            correct=np.array(correct),
            test_sizes=np.array([len(task.test) for task in self.stream.tasks]),
            predicted_right=self.predicted_right,
            steps=self.learner.steps,
            train_seconds=self.train_seconds,
            eval_seconds=self.eval_seconds,
            compile_seconds=self.clock.compile_seconds,
            parameter_bytes=self.learner.parameter_bytes,
            table_bytes=self.learner.table_bytes,
        )

    def begin_task(self, task: int, previous: int | None) -> None:
        begin = self.clock()
        try:
            self.method.begin_task(task, previous)
        except Diverged as diverged:  # methods may take gradients here
            raise Diverged(diverged.step, diverged.row, self._where(self.seen, previous)) from None
        self.train_seconds += self.clock() - begin

    def learn(self, visit: int, task: int) -> None:
        """One visit to a task, batch by batch."""
        images, presented = self.stream.tasks[task].train, self.presented[visit]
        size = self.experiment.batch_size
        chunk = max(1, CHUNK // size) * size
        for first in range(0, len(presented), chunk):
            which = presented[first : first + chunk]
            x, y = images.inputs(which), images.labels[which]
            for begin in range(0, len(which), size):
                self.learn_batch(visit, task, x[begin : begin + size], y[begin : begin + size])

    def learn_batch(self, visit: int, task: int, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Predict a batch, then learn it."""
        every = self.experiment.eval_every
        if every and self.batches and self.batches % every == 0 and self.batches != self.evaluations[-1][0]:
            self.evaluate(visit)
        rows = np.arange(len(y))
        begin = self.clock()
        self.learner.put(rows, x, y, task)
        put = self.clock()
        self.predicted_right[self.seen : self.seen + len(y)] = self.learner.forward(rows).argmax(1) == y
        predicted = self.clock()
        try:
            self.method.observe(rows)
        except Diverged as diverged:
            # Its own example where that one is new, else the first of the batch that was being learned.
            example = self.seen + 1 + (diverged.row if diverged.row < len(y) else 0)
            raise Diverged(diverged.step, diverged.row, self._where(example, task)) from None
        self.seen += len(y)
        self.batches += 1
        now = self.clock()
        self.eval_seconds += predicted - put
        self.train_seconds += now - predicted + put - begin
        if self.report and now - self.last_report > SECONDS_BETWEEN_REPORTS:
            self.last_report = now
            self.report(self._progress(visit))

    def evaluate(self, visit: int) -> None:
        """Count the right answers on every task's test examples."""
        begin = self.clock()
        correct = []
        for number, task in enumerate(self.stream.tasks):
            predicted = self.learner.scores(task.test, number).argmax(1)
            correct.append(np.count_nonzero(predicted == task.test.labels))
        self.evaluations.append((self.batches, visit, np.array(correct)))
        self.eval_seconds += self.clock() - begin
        if self.report:
            self.report(self._progress(max(visit, 0)))

    def _progress(self, visit: int) -> Progress:
        _, after, correct = self.evaluations[-1]
        accuracy = None
        if after >= 0:
            met = sorted(set(self.experiment.visits[: after + 1]))
            accuracy = float(np.mean([correct[task] / len(self.stream.tasks[task].test) for task in met]))
        return Progress(
            visit, len(self.experiment.visits), self.seen, len(self.predicted_right), self.learner.steps, accuracy
        )

    def _where(self, example: int, task: int | None) -> str:
        lower = f"lower --lr (it is {self.method.lr:g})" if hasattr(self.method, "lr") else "lower its learning rate"
        return f"the loss is not finite at example {example}, in task {task}: {lower}"


def method_name(method: type[Method]) -> str:
    """A method's name on the command line: its id, or where a user's own class is."""
    for name, known in METHODS.items():
        if method is known:
            return name
    file = _file(method)
    return f"{file.name if file else method.__module__}:{method.__qualname__}"


def _source_sha256(method: type[Method]) -> str | None:
    """SHA-256 of the file of a user's own method: changing it makes another run."""
    if method in METHODS.values():
        return None
    file = _file(method)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else None


def _file(method: type[Method]) -> Path | None:
    """Where a class is written; None for one typed in, as in a notebook."""
    try:
        file = Path(inspect.getfile(method))
    except (TypeError, OSError):
        return None
    return file if file.is_file() else None
