"""A run under way: the stream's examples one batch after another, evaluations between them, and its whole state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.runs import model
from metareplay.runs.checkpoint import FileCheckpoints, State, Unusable, check_array, check_seconds
from metareplay.runs.experiment import Experiment, randomness
from metareplay.runs.record import Record, environment
from metareplay.streams.stream import Stream, allowed_classes

if TYPE_CHECKING:
    from numba.core.event import TimingListener

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
    """Mean test accuracy, at the last evaluation, on the tasks seen by then; None before the first task ended."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on all tasks' test examples, as a tracker receives it."""

    visit: int
    """The visit under way or just ended; -1 before any training."""
    batches: int
    examples: int
    steps: int
    """Batches and examples learned so far, and SGD steps taken."""
    accuracy: NDArray[np.float64]
    """``(tasks,)`` share of right answers on each task."""


Report = Callable[[Progress], None]
Tracker = Callable[[Experiment, Evaluation | Record], None]
"""Called after every evaluation, and with the record at the end."""


class Span(NamedTuple):
    """Examples of one task that come one after another, after which the learner may meet another task."""

    visit: int
    task: int
    examples: NDArray[np.int64]


class Clock:
    """The seconds that a run takes for learning, for predicting, and while Numba compiles, which is in no other."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("train_seconds", "eval_seconds", "compile_seconds"), 0.0)
        self._compiling: TimingListener | None = None
        self._begin = 0.0

    def now(self) -> float:
        """Seconds since some moment, standing still while Numba compiles."""
        return time.perf_counter() - self._compiled()

    def start(self) -> None:
        """Begin something that takes time."""
        self._begin = self.now()

    def spent(self, purpose: str) -> None:
        """Count the time since the last call of this or of ``start``."""
        begin, self._begin = self._begin, self.now()
        self.seconds[purpose] += self._begin - begin

    def state(self) -> dict[str, Any]:
        """All seconds so far; loading what was compiled before is quick, and counts as learning."""
        return self.seconds | {"compile_seconds": self.seconds["compile_seconds"] + self._compiled()}

    def _compiled(self) -> float:
        return float(self._compiling.duration) if self._compiling and self._compiling.done else 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Heed what is compiled from here to the end of the block."""
        from numba.core import event

        self._compiling = self._compiling or event.TimingListener()
        with event.install_listener("numba:compile", self._compiling):
            yield


class Trainer:
    """A run under way; ``learner`` and ``method`` are as they are at this moment.

    Examples
    --------
    >>> stream = metareplay.benchmark("digits-rotations", tasks=2)
    >>> experiment = metareplay.Experiment(stream=stream, method=metareplay.Online(), samples_per_task=50)
    >>> trainer = metareplay.Trainer(experiment)
    >>> trainer.train().accuracy.shape
    (2, 2)
    >>> trainer.learner.steps
    100
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.stream = experiment, experiment.stream
        self.test_sizes = np.array([len(task.test) for task in self.stream.tasks])
        self.report: Report | None = None
        self.tracker: Tracker | None = None
        self.checkpoints: FileCheckpoints | None = None
        self._begin()

    def _begin(self) -> None:
        """Be before the first example."""
        experiment = self.experiment
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        tasks = len(self.stream.tasks)
        self.method = replace(experiment.method)
        self.network = self.method.network(experiment.described_network, tasks)
        self.allowed: NDArray[np.bool_] | None = None
        rng, batch = randomness(experiment.seed, "weights"), experiment.batch_size
        slots = batch + self.method.capacity(tasks, batch)
        self.learner = engines.learner(self.network, slots, batch, rng, experiment.engine, experiment.device)
        if experiment.initial is not None:
            if (theirs := model.network_of(experiment.initial)) != self.network:
                raise BadInput(
                    f"--from is {experiment.from_}, which trained {theirs}, but this run trains {self.network}"
                )
            model.restore(self.learner, experiment.initial)
        self.method.start(self.learner, randomness(experiment.seed, "method"), tasks)
        self.method.state()  # says what cannot be saved before the first example, not at the first checkpoint

        self.spans = self._spans()
        # Spans that are over, examples learned of the next one, whether it has begun.
        self.span, self.place, self.begun = 0, 0, False
        self.predicted_right = np.zeros(sum(len(span.examples) for span in self.spans), bool)
        self.seen = self.batches = 0
        self.evaluations: list[tuple[int, int, NDArray[np.int64]]] = []
        self.clock = Clock()
        at_once = type(self.method).observe_each is not Method.observe_each and experiment.batch_size == 1
        self.one_by_one = at_once and experiment.engine == "fused"  # the other gains nothing, and may be slow
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
        return [batches[place] for place in randomness(experiment.seed, "tasks").permutation(len(batches))]

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
        checkpoints: FileCheckpoints | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> Record:
        """From where it is, or before any training from its last checkpoint, to the last evaluation.

        Parameters
        ----------
        progress
            Called about ten times a second.
        tracker
            Called with the experiment and an ``Evaluation`` after every evaluation, and with the record at the end.
            A run that resumes from a checkpoint repeats those evaluations that came after it.
        checkpoints, note
            Where the run saves its state, and resumes from if there is any; what is of no use is noted in a line.

        Raises
        ------
        Diverged
            If a loss is not finite; the message says at which example and what to lower.
        RunFailed
            If there is a checkpoint that cannot be read now.
        """
        self.report, self.tracker, self.checkpoints = progress, tracker, checkpoints
        if checkpoints is not None and not self.seen:
            self.resume(checkpoints, note)
        # On several threads, times could not be compared, and two runs at once would be slower than in turn.
        # An overflow is noticed by the loss that follows from it, and said in words.
        with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), self.clock.running():
            self._go_on()
        record = self._record()
        if self.tracker:
            self.tracker(self.experiment, record)
        return record

    def resume(self, checkpoints: FileCheckpoints, note: Callable[[str], None]) -> None:
        """Go on from the last checkpoint; where it is of no use it is set aside, which is noted."""
        try:
            if (state := checkpoints.load()) is not None:
                self.load_state(state)
        except Unusable as error:
            checkpoints.set_aside()
            note(f"{error}: beginning again")
            self._begin()  # half of the state may be loaded

    def _go_on(self) -> None:
        self.restrict()
        borders = self.experiment.evaluate == "borders"
        if borders and not self.evaluations:
            self.evaluate(visit=-1)
        while self.span < len(self.spans):
            span = self.spans[self.span]
            if not self.begun:
                self.begin_task(span.task, self.spans[self.span - 1].task if self.span else None)
            self.learn(span)
            is_last = self.span + 1 == len(self.spans)
            visit_is_over = is_last or self.spans[self.span + 1].visit != span.visit
            if (borders and visit_is_over) or (is_last and self.experiment.evaluate == "end"):
                self.evaluate(span.visit)
            self.span, self.place, self.begun = self.span + 1, 0, False
            self._save(border=visit_is_over)

    def _record(self) -> Record:
        counters = getattr(self.method, "counters", {})  # an own __post_init__ may have made none
        return Record(
            configuration=self.experiment.configuration(),
            environment=environment(self.experiment.engine),
            started=self.started,
            visits=np.array(self.experiment.visits),
            **self._evaluated(),
            test_sizes=self.test_sizes,
            predicted_right=self.predicted_right,
            steps=self.learner.steps,
            gradients=self.learner.gradients_taken,
            forward_passes=self.learner.forward_passes,
            **self.clock.state(),
            parameter_bytes=self.learner.parameter_bytes,
            table_bytes=self.learner.table_bytes,
            counters={name: count if isinstance(count, int) else float(count) for name, count in counters.items()},
            weights=model.weights(self.network, self.learner, self.allowed),
        )

    def _evaluated(self) -> dict[str, Any]:
        """All evaluations so far as arrays, as a record and a checkpoint have them."""
        at, visits, correct = zip(*self.evaluations, strict=True) if self.evaluations else ((), (), ())
        return {
            "evaluated_at": np.array(at, np.int64),
            "evaluated_visit": np.array(visits, np.int64),
            "correct": np.array(correct, np.int64).reshape(len(at), len(self.stream.tasks)),
        }

    def begin_task(self, task: int, previous: int | None) -> None:
        """Tell the method that the next examples come from a task."""
        self.clock.start()
        try:
            self.method.begin_task(task, previous)
        except Diverged as diverged:  # methods may take gradients here
            raise Diverged(diverged.step, diverged.row, self._where(self.seen, previous)) from None
        self.begun = True
        if self.experiment.order != "iid":
            self.restrict()
        self.clock.spent("train_seconds")

    def restrict(self) -> None:
        """Tell the learner which classes are scored from here on; where all tasks are mixed, all are met at once."""
        spans = self.spans if self.experiment.order == "iid" else self.spans[: self.span + self.begun]
        assert self.experiment.scenario is not None
        self.allowed = allowed_classes(self.stream, self.experiment.scenario, {span.task for span in spans})
        self.learner.restrict(self.allowed)

    def learn(self, span: Span) -> None:
        """What is left of a span, batch by batch."""
        images, size = self.stream.tasks[span.task].train, self.experiment.batch_size
        chunk = max(1, CHUNK // size) * size
        for first in range(self.place, len(span.examples), chunk):
            which = span.examples[first : first + chunk]
            x, y = images.inputs(which), images.labels[which]
            begin = 0
            while begin < len(which):
                end = begin + (self._examples_at_once() if self.one_by_one else size)
                self.learn_batch(span, x[begin:end], y[begin:end])
                self.place += len(y[begin:end])
                begin = end
                if self.place < len(span.examples):
                    self._save(border=False)

    def _examples_at_once(self) -> int:
        """How many examples a method that learns one by one may be given: none beyond the next evaluation."""
        every = self.experiment.eval_every
        return every - self.batches % every if every else CHUNK

    def learn_batch(self, span: Span, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Predict a batch, then learn it; where the method learns one by one, a batch for each example."""
        every = self.experiment.eval_every
        if every and self.batches and self.batches % every == 0 and self.batches != self.evaluations[-1][0]:
            self.evaluate(span.visit)
        rows, clock, steps = np.arange(len(y)), self.clock, self.learner.steps
        clock.start()
        try:
            if self.one_by_one:
                predicted = self.method.observe_each(x, y, span.task)
            else:
                self.learner.put(rows, x, y, span.task)
                clock.spent("train_seconds")
                predicted = self.learner.forward(rows).argmax(1)
                clock.spent("eval_seconds")
                self.method.observe(rows)
        except Diverged as diverged:
            # Its own example where that one is new, else the first of the batch that was being learned.
            place = self.learner.steps - steps if self.one_by_one else diverged.row if diverged.row < len(y) else 0
            where = self._where(self.seen + 1 + place, span.task)
            raise Diverged(diverged.step, diverged.row, where) from None
        self.predicted_right[self.seen : self.seen + len(y)] = predicted == y
        self.seen += len(y)
        self.batches += len(y) if self.one_by_one else 1
        clock.spent("train_seconds")
        if self.report and clock.now() - self.last_report > SECONDS_BETWEEN_REPORTS:
            self.last_report = clock.now()
            self.report(self._progress(span.visit))

    def evaluate(self, visit: int) -> None:
        """Count the right answers on every task's test examples."""
        self.clock.start()
        with self.method.readied():
            tests = ((number, task.test) for number, task in enumerate(self.stream.tasks))
            right = [np.count_nonzero(self.learner.scores(test, n).argmax(1) == test.labels) for n, test in tests]
        correct = np.array(right)
        self.evaluations.append((self.batches, visit, correct))
        self.clock.spent("eval_seconds")
        if self.report:
            self.report(self._progress(max(visit, 0)))
        if self.tracker:
            accuracy = correct / self.test_sizes
            self.tracker(self.experiment, Evaluation(visit, self.batches, self.seen, self.learner.steps, accuracy))

    def _progress(self, visit: int) -> Progress:
        _, after, correct = self.evaluations[-1] if self.evaluations else (0, -1, ())
        met = sorted(set(self.experiment.visits[: after + 1]))
        accuracy = float(np.mean([correct[task] / self.test_sizes[task] for task in met])) if met else None
        place = (0, 1) if self.experiment.order == "iid" else (visit, len(self.experiment.visits))
        return Progress(*place, self.seen, len(self.predicted_right), self.learner.steps, accuracy)

    def _where(self, example: int, task: int | None) -> str:
        if self.learner.steps == 0:
            return f"the loss is not finite at example {example}, before any step: look at the inputs and the network"
        lower = f"lower --lr (it is {self.method.lr:g})" if hasattr(self.method, "lr") else "lower its learning rate"
        return f"the loss is not finite at example {example}, in task {task}: {lower}"

    def _save(self, border: bool) -> None:
        if self.checkpoints is not None and self.checkpoints.due(border):
            self.checkpoints.save(self.state())

    def state(self) -> State:
        """All that another process needs to resume from here, to the same bits."""
        return {
            "key": self.experiment.key,
            "version": metadata.version("metareplay"),
            **{name: getattr(self, name) for name in PLACE},
            "cost": [self.learner.gradients_taken, self.learner.forward_passes],
            **self._evaluated(),
            "predicted_right": self.predicted_right,
            **self.clock.state(),
            "learner": self.learner.state(),
            "method": self.method.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from a ``state()``; Unusable if it is another experiment's or version's, or does not fit."""
        for name, ours in (("key", self.experiment.key), ("version", metadata.version("metareplay"))):
            if state.get(name) != ours:
                raise Unusable(f"the checkpoint is of a run with the {name} {state.get(name)!r}, not {ours!r}")
        try:
            self._load(state)
        except MemoryError:
            raise
        except Exception as error:  # a user's own method may raise anything here
            raise Unusable(f"the checkpoint does not fit the run ({error})") from error

    def _load(self, state: State) -> None:
        self.learner.load_state(state["learner"])
        self.method.load_state(state["method"])
        for name, kind in PLACE.items():
            if type(state[name]) is not kind or (kind is int and state[name] < 0):
                raise ValueError(f"{name} is {state[name]!r}")
            setattr(self, name, state[name])
        self.learner.gradients_taken, self.learner.forward_passes = state["cost"]
        sizes = [*(len(span.examples) for span in self.spans), 0]
        examples = sum(sizes[: self.span]) + self.place
        if min(state["cost"]) < 0 or self.place > sizes[self.span] or self.seen != examples or self.batches > examples:
            raise ValueError(f"it is at example {self.seen}, batch {self.batches}, in span {self.span}")
        batches, visits = state["evaluated_at"], state["evaluated_visit"]
        check_array(state["predicted_right"], bool, (len(self.predicted_right),), 0, 1)
        check_array(batches, int, (len(batches),), 0, self.batches)
        check_array(visits, int, (len(batches),), -1, len(self.experiment.visits) - 1)
        check_array(state["correct"], int, (len(batches), len(self.test_sizes)), 0, self.test_sizes.max())
        if self.experiment.evaluate == "borders" and not len(batches):
            raise ValueError("it has no evaluation")
        self.predicted_right[:] = state["predicted_right"]
        self.evaluations = list(zip(batches.tolist(), visits.tolist(), state["correct"], strict=True))
        for name in self.clock.seconds:
            self.clock.seconds[name] = check_seconds(state[name])


PLACE = {"started": str, "span": int, "place": int, "begun": bool, "seen": int, "batches": int}
"""The attributes of a trainer that say where it is, with their types."""


def run(stream: Stream, method: Method, **options: Any) -> Record:
    """Run a method on a stream, in memory, with ``options`` of :class:`Experiment`, such as ``seed=0``.

    BadInput if an option is out of its range, Diverged if a loss is not finite.

    Examples
    --------
    >>> stream = metareplay.benchmark("digits-rotations", tasks=2)
    >>> record = metareplay.run(stream, metareplay.Online(lr=0.1), samples_per_task=50)
    >>> record.accuracy.shape
    (2, 2)
    """
    return Trainer(Experiment(stream=stream, method=method, **options)).train()
