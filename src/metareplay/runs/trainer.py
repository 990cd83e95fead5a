"""A run under way: the stream's examples one batch after another, evaluations between them, and its whole state."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from metareplay import __version__
from metareplay.data.images import Images
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.learners.base import Diverged
from metareplay.methods.base import Method
from metareplay.runs import model
from metareplay.runs.checkpoint import SECONDS, FileCheckpoints, State, Unusable, check_array
from metareplay.runs.clock import Clock
from metareplay.runs.experiment import Experiment, randomness
from metareplay.runs.metrics import unit_measures
from metareplay.runs.normaliser import Normaliser, parts
from metareplay.runs.record import Record, environment
from metareplay.runs.trackers import Evaluation, Tracker
from metareplay.streams.order import Span
from metareplay.streams.stream import allowed_classes

SECONDS_BETWEEN_REPORTS = 0.1
CHUNK = 1000  # examples whose inputs are laid out at a time
WATCHED = 2000  # at most so many test images are shown to the units
THOUSAND = 1000  # examples of whose predictions one number is kept


@dataclass(frozen=True)
class Progress:
    """Where a run is: what a progress display needs.

    Examples
    --------
    >>> seen = []
    >>> record = metareplay.Trainer(metareplay.Experiment(stream=stream, method=metareplay.Online())).train(seen.append)
    >>> seen[-1].examples, seen[-1].all_examples
    (100, 100)
    """

    visit: int
    visits: int
    examples: int
    all_examples: int
    steps: int
    accuracy: float | None
    """Mean test accuracy, at the last evaluation, on the tasks seen by then; None before the first task ended."""
    evaluated: int = -1  # the visit under way or just ended at that evaluation


Report = Callable[[Progress], None]


class Trainer:
    """A run under way; ``learner`` and ``method`` are as they are at this moment.

    Examples
    --------
    >>> trainer = metareplay.Trainer(metareplay.Experiment(stream=stream, method=metareplay.Online()))
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
        experiment = self.experiment
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        tasks = len(self.stream.tasks)
        self.method = replace(experiment.method)
        self.network = self.method.network(experiment.described_network, tasks)
        self.allowed: NDArray[np.bool_] | None = None
        rng, batch = randomness(experiment.seed, "weights"), experiment.batch_size
        slots = batch + self.method.capacity(tasks, batch)
        self.learner = engines.learner(self.network, slots, batch, rng, experiment.engine, experiment.device)
        decay = experiment.normalise
        self.normaliser = None if decay is None else Normaliser(self.stream.inputs, decay)
        if experiment.initial is not None:
            if (theirs := model.network_of(experiment.initial)) != self.network:
                text = f"--from is {experiment.from_}, which trained {theirs}, but this run trains {self.network}"
                raise BadInput(text)
            model.restore(self.learner, experiment.initial, self.normaliser)
        self.method.start(self.learner, randomness(experiment.seed, "method"), tasks)
        self.method.state()  # says what cannot be saved before the first example, not at the first checkpoint

        self.spans, self.visits = experiment.spans, np.array(experiment.visits)
        # Spans that are over, examples learned of the next one, whether it has begun.
        self.span, self.place, self.begun = 0, 0, False
        self.met = np.full(len(self.visits), experiment.order == "iid")
        self.examples = int(self.spans.counts.sum())
        self.predicted_right = np.zeros(0 if experiment.evaluate == "never" else self.examples, bool)
        self.right_by_thousand = np.zeros(-(-self.examples // THOUSAND), np.int64)
        self.right_by_visit = np.zeros((len(self.visits), 2), np.int64)
        layers = len(getattr(self.network, "widths", ())) - 1
        self.units = np.full((len(self.visits), layers, 3) if experiment.watch_units else (0, 0, 0), np.nan)
        self.seen = self.batches = 0
        self.evaluations: list[tuple[int, int, NDArray[np.int64]]] = []
        self.clock = Clock()
        at_once = type(self.method).observe_each is not Method.observe_each and experiment.batch_size == 1
        self.one_by_one = at_once and experiment.engine == "fused"  # the other gains nothing, and may be slow
        self.last_report = -np.inf

    def train(
        self,
        progress: Report | None = None,
        tracker: Tracker | None = None,
        checkpoints: FileCheckpoints | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> Record:
        """From where it is, or before any training from its last checkpoint, to the last evaluation.

        Diverged if a loss is not finite, with the example and what to lower; RunFailed if a checkpoint cannot be read.

        Parameters
        ----------
        progress
            Called about ten times a second.
        tracker
            Called with the experiment and an ``Evaluation`` after every evaluation, and with the record at the end.
            A run that resumes from a checkpoint repeats those evaluations that came after it.
        checkpoints, note
            Where the run saves its state, and resumes from if there is any; what is of no use is noted in a line.
        """
        self.report, self.tracker, self.checkpoints = progress, tracker, checkpoints
        if checkpoints is not None and not self.seen:
            self.resume(checkpoints, note)
        # On several threads, times could not be compared, and two runs at once would be slower than in turn.
        # An overflow is noticed by the loss that follows from it, and said in words.
        with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"), self.clock.running():
            try:
                self._go_on()
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._stopped()) from None
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
        borders, last = self.experiment.evaluate == "borders", len(self.spans) - 1
        if borders and not self.evaluations:
            self.evaluate(visit=-1)
        before = self.spans[self.span - 1] if self.span else None
        while self.span <= last:
            span = self.spans[self.span]
            if self.spans.borders and not self.begun:
                self.begin_task(span, before)
            self.learn(span)
            before, is_last = span, self.span == last
            visit_is_over = is_last or self.experiment.order != "iid"
            if len(self.units) and visit_is_over:
                self._watch(span.visit)
            if (borders and visit_is_over) or (is_last and self.experiment.evaluate == "end"):
                self.evaluate(span.visit)
            self.span, self.place, self.begun = self.span + 1, 0, False
            self._save(border=visit_is_over)

    def _watch(self, visit: int) -> None:
        """Look at what the units give for the first test images of a task."""
        test = self.stream.tasks[self.visits[visit]].test
        shown = parts(test.only(np.arange(min(WATCHED, len(test)))), self.normaliser)
        with self.method.readied():
            x = np.concatenate([part.inputs(np.arange(len(part))) for part in shown])
            self.units[visit] = unit_measures(self.learner.layers(self.learner.parameters()), x)

    def _record(self) -> Record:
        counters = getattr(self.method, "counters", {})  # an own __post_init__ may have made none
        return Record(
            configuration=self.experiment.configuration(),
            environment=environment(self.experiment.engine),
            **{name: getattr(self, name) for name in OWN},
            **self._evaluated(),
            units=self.units if len(self.units) else None,
            gradients=self.learner.gradients_taken,
            **{name: getattr(self.learner, name) for name in OF_LEARNER},
            **self.clock.state(),
            counters={name: count if isinstance(count, int) else float(count) for name, count in counters.items()},
            weights=model.weights(self.network, self.learner, self.method, self.allowed, self.normaliser),
        )

    def _evaluated(self) -> dict[str, Any]:
        """All evaluations so far as arrays, as a record and a checkpoint have them."""
        at, visits, correct = zip(*self.evaluations, strict=True) if self.evaluations else ((), (), ())
        return {
            "evaluated_at": np.array(at, np.int64),
            "evaluated_visit": np.array(visits, np.int64),
            "correct": np.array(correct, np.int64).reshape(len(at), len(self.stream.tasks)),
        }

    def begin_task(self, span: Span, before: Span | None) -> None:
        """Tell the method which task the next examples come from, and which the last ones came from."""
        task = self._task(span.sources)
        previous = None if before is None else self._task(before.sources)
        self.clock.start()
        try:
            self.method.begin_task(task, previous)
        except Diverged as diverged:  # methods may take gradients here
            raise self._placed(diverged, self.seen, previous) from None
        self.begun = True
        self._meet(span.sources[:1])
        self.clock.spent("train_seconds")

    def _meet(self, visits: NDArray[np.int64]) -> None:
        """Score the classes of these visits' tasks too; where all tasks are mixed, all are met at once."""
        if not self.met[visits].all():
            self.met[visits] = True
            self.restrict()

    def restrict(self) -> None:
        """Tell the learner which classes are scored from here on."""
        met = set(self.visits[self.met].tolist())
        assert self.experiment.scenario is not None
        self.allowed = allowed_classes(self.stream, self.experiment.scenario, met)
        self.learner.restrict(self.allowed)

    def learn(self, span: Span) -> None:
        """What is left of a span, batch by batch."""
        size = self.experiment.batch_size
        chunk = max(1, CHUNK // size) * size
        for first in range(self.place, len(span.examples), chunk):
            part = Span(span.visit, *(array[first : first + chunk] for array in span[1:]))
            x, y = self._laid_out(part)
            begin = 0
            while begin < len(y):
                end = begin + (self._examples_at_once(part.sources[begin:]) if self.one_by_one else size)
                self.learn_batch(span.visit, part.sources[begin:end], x[begin:end], y[begin:end])
                self.place += len(y[begin:end])
                begin = end
                if self.place < len(span.examples):
                    self._save(border=False)

    def _task(self, sources: NDArray[np.int64]) -> int:
        """The task that the first of these examples is of."""
        return int(self.visits[sources[0]])

    def _by_task(self, sources: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        tasks = self.visits[sources]
        for task in np.unique(tasks).tolist():
            yield task, np.flatnonzero(tasks == task)

    def _laid_out(self, part: Span) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if self.spans.borders:
            images = self.stream.tasks[self._task(part.sources)].train
            return images.inputs(part.examples), images.labels[part.examples]
        x, y = np.empty((len(part.examples), self.stream.inputs), np.float32), np.empty(len(part.examples), np.int64)
        for task, own in self._by_task(part.sources):
            images, which = self.stream.tasks[task].train, part.examples[own]
            x[own], y[own] = images.inputs(which), images.labels[which]
        return x, y

    def _examples_at_once(self, sources: NDArray[np.int64]) -> int:
        """How many examples a method that learns one by one may be given: of one task, none beyond an evaluation."""
        every, others = self.experiment.eval_every, np.flatnonzero(self.visits[sources] != self._task(sources))
        same = int(others[0]) if len(others) else len(sources)
        return min(same, every - self.batches % every) if every else same

    def learn_batch(self, visit: int, sources: NDArray[np.int64], x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Predict a batch, then learn it; where the method learns one by one, a batch for each example."""
        every = self.experiment.eval_every
        if every and self.batches and self.batches % every == 0 and self.batches != self.evaluations[-1][0]:
            self.evaluate(visit)
        if not self.spans.borders:
            self._meet(sources)
        rows, clock, steps = np.arange(len(y)), self.clock, self.learner.steps
        clock.start()
        if self.normaliser:
            x = self.normaliser.learn(x)
        try:
            if self.one_by_one:
                predicted = self.method.observe_each(x, y, self._task(sources))
            else:
                for task, own in [(self._task(sources), rows)] if self.spans.borders else self._by_task(sources):
                    self.learner.put(own, x[own], y[own], task)
                clock.spent("train_seconds")
                predicted = self.learner.forward(rows).argmax(1)
                clock.spent("eval_seconds")
                self.method.observe(rows)
        except Diverged as diverged:
            # Its own example where that one is new, else the first of the batch that was being learned.
            place = self.learner.steps - steps if self.one_by_one else diverged.row if diverged.row < len(y) else 0
            raise self._placed(diverged, self.seen + 1 + place, self._task(sources[place:])) from None
        self._count(sources, predicted == y)
        self.batches += len(y) if self.one_by_one else 1
        clock.spent("train_seconds")
        if self.report and clock.now() - self.last_report > SECONDS_BETWEEN_REPORTS:
            self.last_report = clock.now()
            self.report(self._progress(visit))

    def _count(self, sources: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        end = self.seen + len(right)
        if len(self.predicted_right):
            self.predicted_right[self.seen : end] = right
        if self.spans.borders:
            self.right_by_visit[sources[0]] += np.count_nonzero(right), len(right)
        else:
            np.add.at(self.right_by_visit, sources, np.stack([right, np.ones_like(right)], 1))
        np.add.at(self.right_by_thousand, np.arange(self.seen, end)[right] // THOUSAND, 1)
        self.seen = end

    def evaluate(self, visit: int) -> None:
        """Count the right answers on every task's test examples."""
        self.clock.start()
        try:
            with self.method.readied():
                tests = ((number, task.test) for number, task in enumerate(self.stream.tasks))
                right = (np.count_nonzero(self._answers(test, n) == test.labels) for n, test in tests)
                correct = np.array(list(right))
        except Diverged as diverged:  # methods may learn here what they have gathered
            raise self._placed(diverged, self.seen, int(self.visits[visit])) from None
        self.evaluations.append((self.batches, visit, correct))
        self.clock.spent("eval_seconds")
        if self.report:
            self.report(self._progress(max(visit, 0)))
        if self.tracker:
            accuracy = correct / self.test_sizes
            self.tracker(self.experiment, Evaluation(visit, self.batches, self.seen, self.learner.steps, accuracy))

    def _answers(self, test: Images, task: int) -> NDArray[np.int64]:
        return np.concatenate([self.learner.scores(part, task).argmax(1) for part in parts(test, self.normaliser)])

    def _progress(self, visit: int) -> Progress:
        _, after, correct = self.evaluations[-1] if self.evaluations else (0, -1, ())
        met = sorted(set(self.visits[: after + 1].tolist()))
        accuracy = float(np.mean([correct[task] / self.test_sizes[task] for task in met])) if met else None
        place = (0, 1) if self.experiment.order == "iid" else (visit, len(self.visits))
        return Progress(*place, self.seen, self.examples, self.learner.steps, accuracy, after)

    def _stopped(self) -> str:
        if not self.seen:
            return "stopped before the first example"
        now = self._progress(self.spans[min(self.span, len(self.spans) - 1)].visit)
        where = f"stopped at example {now.examples} of {now.all_examples}, in task {now.visit + 1} of {now.visits}"
        on = f"; the same command goes on from where it was at most {SECONDS:.0f} s before"
        return where + on if self.checkpoints else where

    def _placed(self, diverged: Diverged, example: int, task: int | None) -> Diverged:
        """The same, with where in the stream it was and what to do."""
        message, lr = f"the loss is not finite at example {example}", getattr(self.method, "lr", None)
        if not self.learner.steps and not diverged.step:
            message += ", before any step: look at the inputs and the network"
        else:
            message += f", in task {task}: lower {'its learning rate' if lr is None else f'--lr (it is {lr:g})'}"
        return Diverged(diverged.step, diverged.row, message)

    def _save(self, border: bool) -> None:
        if self.checkpoints is not None and self.checkpoints.due(border):
            self.checkpoints.save(self.state())

    def state(self) -> State:
        """All that another process needs to resume from here, to the same bits."""
        return {
            "key": self.experiment.key,
            "version": __version__,
            **{name: getattr(self, name) for name in PLACE},
            "cost": [self.learner.gradients_taken, self.learner.forward_passes],
            **self._evaluated(),
            **{name: getattr(self, name).copy() for name in COUNTS},
            **self.clock.state(),
            "learner": self.learner.state(),
            "method": self.method.state(),
            "normaliser": self.normaliser and self.normaliser.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from a ``state()``; Unusable if it is another experiment's or version's, or does not fit."""
        for name, ours in (("key", self.experiment.key), ("version", __version__)):
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
        if self.normaliser:
            self.normaliser.load_state(state["normaliser"])
        for name, kind in PLACE.items():
            if type(state[name]) is not kind or (kind is int and state[name] < 0):
                raise ValueError(f"{name} is {state[name]!r}")
            setattr(self, name, state[name])
        self.learner.gradients_taken, self.learner.forward_passes = state["cost"]
        sizes = [*self.spans.sizes.tolist(), 0]
        examples = sum(sizes[: self.span]) + self.place
        if min(state["cost"]) < 0 or self.place > sizes[self.span] or self.seen != examples or self.batches > examples:
            raise ValueError(f"it is at example {self.seen}, batch {self.batches}, in span {self.span}")
        batches, visits = state["evaluated_at"], state["evaluated_visit"]
        for name in COUNTS:
            ours = getattr(self, name)
            check_array(state[name], ours.dtype, ours.shape, 0, 1 if ours.dtype == bool else self.seen)
            ours[:] = state[name]
        check_array(batches, int, (len(batches),), 0, self.batches)
        check_array(visits, int, (len(batches),), -1, len(self.visits) - 1)
        check_array(state["correct"], int, (len(batches), len(self.test_sizes)), 0, self.test_sizes.max())
        if self.experiment.evaluate == "borders" and not len(batches):
            raise ValueError("it has no evaluation")
        self.evaluations = list(zip(batches.tolist(), visits.tolist(), state["correct"], strict=True))
        self.clock.load_state(state)


PLACE = {"started": str, "span": int, "place": int, "begun": bool, "seen": int, "batches": int}
"""The attributes of a trainer that say where it is, with their types."""
OWN = ("started", "visits", "test_sizes", "predicted_right", "right_by_thousand", "right_by_visit")
OF_LEARNER = ("steps", "forward_passes", "parameter_bytes", "table_bytes")  # what a record has of both
COUNTS = ("met", "predicted_right", "right_by_thousand", "right_by_visit", "units")
"""Its arrays: which visits have been met, what was predicted right before it was learned, measures of units."""
