"""A run under way: the stream's examples one batch after another, evaluations between them, and its whole state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from metareplay.learners import engines
from metareplay.learners.base import Diverged, Learner
from metareplay.runs.checkpoint import Checkpoints, State, Unusable
from metareplay.runs.clock import Clock
from metareplay.runs.environment import environment
from metareplay.runs.record import Record
from metareplay.streams.stream import allowed_classes

if TYPE_CHECKING:
    from metareplay.runs.experiment import Experiment

VERSION = metadata.version("metareplay")
SECONDS_BETWEEN_REPORTS = 0.1
SECONDS = ("train_seconds", "eval_seconds", "compile_seconds")
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


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on all tasks' test examples: what a tracker is told.

    Parameters
    ----------
    visit
        The visit under way or just ended; -1 before any training.
    batches, examples, steps
        Batches and examples learned so far, and SGD steps taken.
    accuracy
        ``(tasks,)`` share of right answers on each task.
    """

    visit: int
    batches: int
    examples: int
    steps: int
    accuracy: NDArray[np.float64]


Report = Callable[[Progress], None]
Tracker = Callable[["Experiment", Evaluation | Record], None]
"""Called after every evaluation, and with the record at the end."""

RANDOMNESS = ("examples", "order", "weights", "method", "tasks")
"""What a run's seed decides, each with a generator of its own; the method's is split again into memory and replay."""


def randomness(seed: int, purpose: str, *which: int) -> np.random.Generator:
    """A generator for one purpose of a run, and for one of several things of that kind."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(RANDOMNESS.index(purpose), *which)))


@dataclass(frozen=True)
class Span:
    """Examples of one task that come one after another, after which the learner may meet another task."""

    visit: int
    task: int
    examples: NDArray[np.int64]


class Trainer:
    """A run under way.

    Parameters
    ----------
    experiment
        What is run.

    Attributes
    ----------
    learner, method
        As they are at this moment.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.stream = experiment.stream
        self.report: Report | None = None
        self.tracker: Tracker | None = None
        self.checkpoints: Checkpoints | None = None
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        tasks = len(self.stream.tasks)
        self.method = replace(experiment.method)
        network = self.method.network(experiment.described_network, tasks)
        slots = experiment.batch_size + self.method.capacity(tasks, experiment.batch_size)
        self.learner: Learner = engines.learner(
            network, slots, experiment.batch_size, randomness(experiment.seed, "weights"), experiment.engine,
            experiment.device,
        )  # fmt: skip
        self.method.start(self.learner, randomness(experiment.seed, "method"), tasks)
        self.method.state()  # says what cannot be saved before the first example, not at the first checkpoint

        self.spans = self._spans()
        # Where it is: how many spans are over, how many examples of the next one are learned, which task was told last.
        self.span = 0
        self.place = 0
        self.begun = False
        self.predicted_right = np.zeros(sum(len(span.examples) for span in self.spans), bool)
        self.seen = 0
        self.batches = 0
        self.evaluations: list[tuple[int, int, NDArray[np.int64]]] = []
        self.clock = Clock()
        self.train_seconds = 0.0
        self.eval_seconds = 0.0
        self.compile_seconds = 0.0
        self.last_report = -np.inf

    def _spans(self) -> list[Span]:
        """All examples, in the order in which they come."""
        experiment = self.experiment
        spans = [Span(visit, task, self._presented(visit, task)) for visit, task in enumerate(experiment.visits)]
        if experiment.order != "iid":
            return spans
        size, last = experiment.batch_size, len(spans) - 1
        batches = [
            Span(last, span.task, span.examples[begin : begin + size])
            for span in spans
            for begin in range(0, len(span.examples), size)
        ]
        mixed = randomness(experiment.seed, "tasks").permutation(len(batches))
        return [batches[place] for place in mixed]

    def _presented(self, visit: int, task: int) -> NDArray[np.int64]:
        """Which of a task's training examples come in a visit, in order; a task that returns shows the same ones."""
        experiment = self.experiment
        examples = randomness(experiment.seed, "examples", task).permutation(len(self.stream.tasks[task].train))
        order = randomness(experiment.seed, "order", visit)
        return np.concatenate([order.permutation(examples[: experiment.samples]) for _ in range(experiment.epochs)])

    def train(
        self,
        progress: Report | None = None,
        tracker: Tracker | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Record:
        """From where it is to the last evaluation; see ``Experiment.run``."""
        self.report, self.tracker, self.checkpoints = progress, tracker, checkpoints
        # On several threads, times could not be compared, and two runs at once would be slower than in turn.
        # An overflow is noticed by the loss that follows from it, and told in words.
        with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), self.clock.running():
            self._go_on()
        record = self._record()
        if self.tracker:
            self.tracker(self.experiment, record)
        return record

    def _go_on(self) -> None:
        self.restrict()
        if not self.evaluations:
            self.evaluate(visit=-1)
        while self.span < len(self.spans):
            span = self.spans[self.span]
            if not self.begun:
                self.begin_task(span.task, self.spans[self.span - 1].task if self.span else None)
            self.learn(span)
            visit_is_over = self.span + 1 == len(self.spans) or self.spans[self.span + 1].visit != span.visit
            if visit_is_over:
                self.evaluate(span.visit)
            self.span, self.place, self.begun = self.span + 1, 0, False
            self._keep(border=visit_is_over)

    def _record(self) -> Record:
        at, visits, correct = zip(*self.evaluations, strict=True)
        return Record(
            configuration=self.experiment.configuration(),
            environment=environment(*(["torch"] if self.experiment.engine == "torch" else [])),
            started=self.started,
            visits=np.array(self.experiment.visits),
            evaluated_at=np.array(at),
            evaluated_visit=np.array(visits),
            correct=np.array(correct),
            test_sizes=np.array([len(task.test) for task in self.stream.tasks]),
            predicted_right=self.predicted_right,
            steps=self.learner.steps,
            train_seconds=self.train_seconds,
            eval_seconds=self.eval_seconds,
            compile_seconds=self.compile_seconds + self.clock.compile_seconds,
            parameter_bytes=self.learner.parameter_bytes,
            table_bytes=self.learner.table_bytes,
        )

    def begin_task(self, task: int, previous: int | None) -> None:
        """Tell the method that the next examples come from a task."""
        begin = self.clock()
        try:
            self.method.begin_task(task, previous)
        except Diverged as diverged:  # methods may take gradients here
            raise Diverged(diverged.step, diverged.row, self._where(self.seen, previous)) from None
        self.begun = True
        if self.experiment.order != "iid":
            self.restrict()
        self.train_seconds += self.clock() - begin

    def restrict(self) -> None:
        """Tell the learner which classes are scored from here on; where all tasks are mixed, all are met at once."""
        spans = self.spans if self.experiment.order == "iid" else self.spans[: self.span + self.begun]
        met = {span.task for span in spans}
        assert self.experiment.scenario is not None
        self.learner.restrict(allowed_classes(self.stream, self.experiment.scenario, met))

    def learn(self, span: Span) -> None:
        """What is left of a span, batch by batch."""
        for x, y in self._batches(span):
            self.learn_batch(span, x, y)
            self.place += len(y)
            if self.place < len(span.examples):
                self._keep(border=False)

    def _batches(self, span: Span) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        images, size = self.stream.tasks[span.task].train, self.experiment.batch_size
        chunk = max(1, CHUNK // size) * size
        for first in range(self.place, len(span.examples), chunk):
            which = span.examples[first : first + chunk]
            x, y = images.inputs(which), images.labels[which]
            for begin in range(0, len(which), size):
                yield x[begin : begin + size], y[begin : begin + size]

    def learn_batch(self, span: Span, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Predict a batch, then learn it."""
        every = self.experiment.eval_every
        if every and self.batches and self.batches % every == 0 and self.batches != self.evaluations[-1][0]:
            self.evaluate(span.visit)
        rows = np.arange(len(y))
        begin = self.clock()
        self.learner.put(rows, x, y, span.task)
        put = self.clock()
        self.predicted_right[self.seen : self.seen + len(y)] = self.learner.forward(rows).argmax(1) == y
        predicted = self.clock()
        try:
            self.method.observe(rows)
        except Diverged as diverged:
            # Its own example where that one is new, else the first of the batch that was being learned.
            example = self.seen + 1 + (diverged.row if diverged.row < len(y) else 0)
            raise Diverged(diverged.step, diverged.row, self._where(example, span.task)) from None
        self.seen += len(y)
        self.batches += 1
        now = self.clock()
        self.eval_seconds += predicted - put
        self.train_seconds += now - predicted + put - begin
        if self.report and now - self.last_report > SECONDS_BETWEEN_REPORTS:
            self.last_report = now
            self.report(self._progress(span.visit))

    def evaluate(self, visit: int) -> None:
        """Count the right answers on every task's test examples."""
        begin = self.clock()
        correct = []
        with self.method.readied():
            for number, task in enumerate(self.stream.tasks):
                predicted = self.learner.scores(task.test, number).argmax(1)
                correct.append(np.count_nonzero(predicted == task.test.labels))
        self.evaluations.append((self.batches, visit, np.array(correct)))
        self.eval_seconds += self.clock() - begin
        if self.report:
            self.report(self._progress(max(visit, 0)))
        if self.tracker:
            sizes = [len(task.test) for task in self.stream.tasks]
            accuracy = np.array(correct) / sizes
            self.tracker(self.experiment, Evaluation(visit, self.batches, self.seen, self.learner.steps, accuracy))

    def _progress(self, visit: int) -> Progress:
        _, after, correct = self.evaluations[-1]
        accuracy = None
        if after >= 0:
            met = sorted(set(self.experiment.visits[: after + 1]))
            accuracy = float(np.mean([correct[task] / len(self.stream.tasks[task].test) for task in met]))
        visits = len(self.experiment.visits)
        if self.experiment.order == "iid":
            visit, visits = 0, 1
        return Progress(visit, visits, self.seen, len(self.predicted_right), self.learner.steps, accuracy)

    def _where(self, example: int, task: int | None) -> str:
        if self.learner.steps == 0:
            return f"the loss is not finite at example {example}, before any step: look at the inputs and the network"
        lower = f"lower --lr (it is {self.method.lr:g})" if hasattr(self.method, "lr") else "lower its learning rate"
        return f"the loss is not finite at example {example}, in task {task}: {lower}"

    # Keeping

    def _keep(self, border: bool) -> None:
        if self.checkpoints is not None and self.checkpoints.due(border):
            self.checkpoints.save(self.state())

    def state(self) -> State:
        """All that another process needs to go on from here to the same bits."""
        at, visits, correct = zip(*self.evaluations, strict=True)
        return {
            "key": self.experiment.key,
            "version": VERSION,
            "started": self.started,
            "span": self.span,
            "place": self.place,
            "begun": self.begun,
            "seen": self.seen,
            "batches": self.batches,
            "evaluated_at": np.array(at),
            "evaluated_visit": np.array(visits),
            "correct": np.array(correct),
            "predicted_right": self.predicted_right,
            "train_seconds": self.train_seconds,
            "eval_seconds": self.eval_seconds,
            "compile_seconds": self.compile_seconds + self.clock.compile_seconds,
            "learner": self.learner.state(),
            "method": self.method.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from a ``state()`` of a run of the same experiment.

        Raises
        ------
        Unusable
            If it is of another experiment, or was made by another version.
        """
        for name, ours in (("key", self.experiment.key), ("version", VERSION)):
            if state.get(name) != ours:
                raise Unusable(f"the checkpoint is of a run with the {name} {state.get(name)!r}, not {ours!r}")
        try:
            self._load(state)
        except Exception as error:  # a user's own method may raise anything here
            raise Unusable(f"the checkpoint does not fit the run ({error})") from error

    def _load(self, state: State) -> None:
        self.learner.load_state(state["learner"])
        self.method.load_state(state["method"])
        for name in ("started", "span", "place", "begun", "seen", "batches", *SECONDS):
            setattr(self, name, state[name])
        self.predicted_right[:] = state["predicted_right"]
        evaluations = zip(state["evaluated_at"], state["evaluated_visit"], state["correct"], strict=True)
        self.evaluations = [(int(at), int(visit), correct) for at, visit, correct in evaluations]
