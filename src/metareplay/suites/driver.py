"""Carry out runs: which comes next, what became of each, how far all are; one loop for every backend."""

import importlib
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal, Protocol

from rich import progress as rich

from metareplay.errors import RunFailed, failing, handling, plain
from metareplay.files import Held
from metareplay.runs.display import Display, in_words, note, where
from metareplay.runs.folder import Note, Run, one_line
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.settings import Hyperparameter
from metareplay.suites.plan import Planned, as_experiment, expected, forget_streams, name

RETRIES = 3  # how often a run whose worker died is resumed from its checkpoint
SECONDS_BETWEEN_LOOKS = 0.5  # at runs that another process has locked, and for workers that died without a word
SECONDS_BETWEEN_REPORTS = 0.1
EXECUTOR = Hyperparameter("executor", str, "local", "", "what runs them", ("local", "ray"))
SECONDS_IN_SILENCE = 2.0  # after which a suite that waits for other processes alone says so
State = Literal["done", "failed", "elsewhere", "given up", "not started"]


@dataclass(frozen=True)
class Outcome:
    """What became of one run of a suite; ``key`` is None where it could not be worked out, as without its data.

    It is ``done`` (now or before), ``failed``, ``elsewhere`` (another process runs it), ``given up`` (its source wants
    no more of it) or ``not started`` (the suite was stopped before its turn, or in its middle); ``message`` says why.
    """

    request: Request
    key: str | None
    state: State
    message: str = ""


@dataclass(frozen=True)
class SuiteProgress:
    """Where ``all`` runs are: ``outcomes`` in the order of their ends; by worker at work its run, and how far it is."""

    all: int
    outcomes: Sequence[Outcome] = ()
    running: Mapping[str, tuple[Request, Progress | None]] = field(default_factory=dict)


Show = Callable[[SuiteProgress], None]


class SuiteDisplay(Display):
    """A suite under way: a bar for the whole and one for each worker, or lines; and how long it takes yet.

    That follows from what the runs of a ``plan`` were expected to take and the speed so far; what was not known counts
    as the mean, and a run that was not planned as one of the ``spare`` ones.
    """

    def __init__(self, plan: Sequence[Planned], quiet: bool = False, spare: Sequence[float] = ()) -> None:
        super().__init__(quiet)
        mean = fmean([planned.seconds for planned in plan if planned.seconds is not None] or [1.0])
        expected = {name(planned.request): planned.seconds for planned in plan if planned.state != "done"}
        self.left = {run: mean if seconds is None else seconds for run, seconds in expected.items()}
        self.spare, self.all, self.expected = list(spare), sum(self.left.values()) + sum(spare), len(spare)
        self.first: dict[str, float] = {}  # of each run the share that was done when it was first seen
        self.spent = self.under_way = self.since_seen = 0.0
        self.began: float | None = None
        self.done, self.seen, self.unplanned = 0, 0, False  # runs, outcomes, whether one runs that nobody expected
        self.whole = self.bars.add_task("getting ready", total=1.0, note="")
        self.workers: dict[str, rich.TaskID] = {}

    def update(self, now: SuiteProgress) -> Sequence[Outcome]:
        """Take in where the suite is; what ended since the last time."""
        if len(now.outcomes) < self.seen:  # another driver, after the first
            self.seen = 0
        ended, running = now.outcomes[self.seen :], now.running.values()
        for request in (*(outcome.request for outcome in ended), *(request for request, _ in running)):
            if self.spare and (run := name(request)) not in self.left:
                self.left[run] = self.spare.pop()
        for outcome in ended:
            run = name(outcome.request)
            work = self.left.pop(run, 0.0)
            self.spent += work * (1 - self.first.get(run, 1.0)) if outcome.state == "done" else 0.0
        self.seen, self.unplanned = len(now.outcomes), any(name(request) not in self.left for request, _ in running)
        self.under_way = self.since_seen = 0.0
        for request, progress in running:
            run = name(request)
            if progress is not None and progress.steps and run in self.left:
                self.began = self.began or time.monotonic()
                done = progress.examples / progress.all_examples
                self.under_way += done * self.left[run]
                self.since_seen += (done - self.first.setdefault(run, done)) * self.left[run]
        return ended

    def to_do(self) -> float:
        """Seconds of work that are not done."""
        return sum(self.left.values()) + sum(self.spare) - self.under_way

    def seconds(self) -> float | None:
        """How long the rest will take; None while it is too early to tell, or for runs that were not planned."""
        if self.began is None or self.unplanned or self.spent + self.since_seen <= 0.01 * self.all:
            return None
        return self.to_do() * (time.monotonic() - self.began) / (self.spent + self.since_seen)

    def __call__(self, now: SuiteProgress) -> None:
        """Show where the suite is: what a driver reports to."""
        for outcome in self.update(now):
            if outcome.state == "failed":
                self.note(f"{name(outcome.request)} failed: {outcome.message}")
        states = Counter(outcome.state for outcome in now.outcomes)
        self.done, failed, seconds = states["done"], states["failed"], self.seconds()
        runs = f"{self.done} of {max(now.all, self.expected)} runs done"
        note = "time left not known yet" if seconds is None else f"about {in_words(seconds)} left"
        note = f"{failed} failed · {note}" if failed else note
        self.line(f"{runs} · {note}")
        if not self.live:
            return
        self.bars.update(self.whole, description=runs, completed=1 - self.to_do() / (self.all or 1.0), note=note)
        for worker in sorted(now.running.keys() - self.workers.keys()):
            self.workers[worker] = self.bars.add_task("", total=1.0, note="")
        for worker, bar in self.workers.items():
            request, progress = now.running.get(worker, (None, None))
            share = progress.examples / progress.all_examples if progress else 0.0
            text = f"{worker}: {plain(name(request))}" if request else ""
            self.bars.update(bar, visible=request is not None, description=text, completed=share, note=where(progress))


class Source:
    """Whence more runs come while others are under way; this one has none."""

    def take(self, outcome: Outcome) -> None:
        """Take in what became of a run."""

    def more(self) -> Sequence[Request]:
        """What to run next; nothing at the end, or where that depends on what runs."""
        return ()

    def give_up(self, request: Request, progress: Progress | None) -> bool:
        """Whether a run is worth no more time; one that waits has made no progress."""
        return False


@dataclass(eq=False)
class Job:
    """A run that is to be done, once, however many requests ask for it."""

    key: str
    requests: list[Request]
    seconds: float = 0.0
    deaths: int = 0
    progress: Progress | None = None
    worker: str = ""


@dataclass(frozen=True)
class Ended:
    """A run is over, with one line about it; where it ``died`` with its process, that completes "its worker …"."""

    state: State | Literal["died"]
    message: str = ""


Event = Progress | str | Ended  # what a backend tells of a job: how far it is, a note, or that it is over


class Backend(Protocol):
    """What carries out runs: this machine's processes, a cluster."""

    def room(self) -> bool:
        """Whether one more run can be started now."""

    def start(self, job: Job) -> None:
        """Begin or resume a run; sets ``job.worker``."""

    def poll(self, seconds: float) -> Iterable[tuple[Job, Event]]:
        """What has happened, waiting for something so many seconds at most."""

    def end(self, job: Job) -> None:
        """End a run under way; it loses nothing but the time since its last checkpoint."""

    def stop(self) -> None:
        """End all runs under way at once."""


class Driver:
    """A suite under way, seed by seed, the longest runs first; what is done stays, what is locked elsewhere waits."""

    def __init__(
        self, requests: Sequence[Request], out: Path, report: Show, note: Note, source: Source | None = None
    ) -> None:
        self.out, self.report, self.note, self.source = out, report, note, source or Source()
        self.first, self.requests = requests, list[Request]()
        self.waiting, self.running, self.elsewhere = deque[Job](), list[Job](), list[Job]()
        self.outcomes: list[Outcome] = []
        self.looked, self.shown = 0.0, (0.0, -1)
        self.idle_since: float | None = None
        with failing(RunFailed, f"{out} cannot keep runs", "name another folder with --out"):
            out.mkdir(parents=True, exist_ok=True)

    def carry_out(self, backend: Backend) -> list[Outcome]:
        """Run until nothing is left, or until Ctrl-C or SIGTERM; the outcomes are in the order of the requests."""
        try:
            with handling(signal.SIGTERM, signal.default_int_handler):  # as Ctrl-C is
                forget_streams()
                self.add(self.first)
                while True:
                    while backend.room() and (job := self.next() or self.another()):
                        self.running.append(job)
                        job.progress = None
                        backend.start(job)
                    if not (self.running or self.waiting or self.elsewhere):
                        break
                    self.show()
                    for job, event in backend.poll(SECONDS_BETWEEN_LOOKS):
                        if job in self.running:  # else it was given up a moment ago
                            self.take(job, event, backend)
                self.show()
        except KeyboardInterrupt:
            pass
        finally:
            backend.stop()
        return self.in_order()

    def add(self, requests: Sequence[Request]) -> None:
        """Find out which runs these are, and which of them are done."""
        self.requests += requests
        there = {job.key: job for job in (*self.waiting, *self.running, *self.elsewhere)}
        jobs: dict[str, Job] = {}
        for request in sorted(requests, key=lambda request: (request.benchmark, str(request.stream))):
            try:
                experiment = as_experiment(request)
            except Exception as error:  # a user's code may raise anything; the other runs go on
                self._over(Job("", [request]), "failed", one_line(error))
                continue
            if not (job := there.get(experiment.key)):
                seconds = expected(experiment)
                job = there[experiment.key] = Job(experiment.key, [], float("inf") if seconds is None else seconds)
                jobs[experiment.key] = job
            job.requests.append(request)
        for job in sorted(jobs.values(), key=lambda job: (job.requests[0].run.get("seed", 0), -job.seconds)):
            if not self._is_done(job):
                self.waiting.append(job)

    def next(self) -> Job | None:
        """A run to begin or to resume; None if there is none at this moment."""
        if not self.waiting and time.monotonic() - self.looked > SECONDS_BETWEEN_LOOKS:
            self.waiting.extend(self.elsewhere)  # perhaps one is free by now, or done
            self.elsewhere.clear()
            self.looked = time.monotonic()
        while self.waiting:
            job = self.waiting.popleft()
            if self._is_done(job) or self._given_up(job, None):  # by another process, meanwhile
                continue
            if Run(self.out / job.key).status().state != "running":
                return job
            self.elsewhere.append(job)
        self._tell_waiting()
        return None

    def another(self) -> Job | None:
        """A run to begin that its source has asked for meanwhile."""
        while requests := self.source.more():
            self.add(requests)
            if job := self.next():
                return job
        return None

    def take(self, job: Job, event: Event, backend: Backend) -> None:
        if isinstance(event, Progress):
            job.progress = event
            if self._given_up(job, event):
                backend.end(job)
                self.running.remove(job)
            return
        if isinstance(event, str):
            self.note(f"{name(job.requests[0])}: {event}")
            return
        self.running.remove(job)
        if event.state == "died":
            self._died(job, event.message)
        elif event.state == "elsewhere":
            self.elsewhere.append(job)
        else:
            self._over(job, event.state, event.message)

    def show(self) -> None:
        """Report where the suite is, unless that was done a moment ago and nothing ended since."""
        now, ended = time.monotonic(), len(self.outcomes)
        if now - self.shown[0] >= SECONDS_BETWEEN_REPORTS or ended != self.shown[1]:
            self.shown = now, ended
            running = {job.worker: (job.requests[0], job.progress) for job in self.running}
            self.report(SuiteProgress(len(self.requests), tuple(self.outcomes), running))

    def in_order(self) -> list[Outcome]:
        """The outcomes in the order of the requests; what is not over is ``not started``."""
        outcomes = {id(outcome.request): outcome for outcome in self.outcomes}
        for job in self.running:
            if job.progress:
                where = f"stopped at example {job.progress.examples} of {job.progress.all_examples}"
                for request in job.requests:
                    outcomes[id(request)] = Outcome(request, job.key, "not started", where)
        return [outcomes.get(id(request)) or Outcome(request, None, "not started") for request in self.requests]

    def _over(self, job: Job, state: State, message: str = "") -> None:
        for request in job.requests:
            self.outcomes.append(Outcome(request, job.key or None, state, message))
            self.source.take(self.outcomes[-1])

    def _given_up(self, job: Job, progress: Progress | None) -> bool:
        given_up = [self.source.give_up(request, progress) for request in job.requests]  # each hears of it
        if all(given_up):
            self._over(job, "given up", "it is not worth more time")
        return all(given_up)

    def _died(self, job: Job, how: str) -> None:
        """Let the run come next, or give it up."""
        job.deaths += 1
        if job.deaths > RETRIES:
            message = f"its worker {how}, {job.deaths} times: there may be too little memory, or its method ends it"
            Run(self.out / job.key).fail(message)
            self._over(job, "failed", message)
            return
        which = name(job.requests[0])
        self.note(f"{which}: its worker {how}; it goes on from its checkpoint ({job.deaths} of {RETRIES})")
        self.waiting.appendleft(job)

    def _is_done(self, job: Job) -> bool:
        run = Run(self.out / job.key)
        done = run.status().state == "done"
        if done:
            run.tidy()
            self._over(job, "done")
        return done

    def _tell_waiting(self) -> None:
        """Say once what is waited for, where all that is left is another process's."""
        if self.running or not self.elsewhere:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > SECONDS_IN_SILENCE:
            self.idle_since = float("inf")
            try:
                with Run(self.out / self.elsewhere[0].key).lock():
                    pass
            except Held as error:
                self.note(f"waiting for {len(self.elsewhere)} runs that other processes do: {error}")


def execute(
    requests: Sequence[Request], out: Path, *, executor: str = "local", address: str | None = None,
    jobs: int | None = None, tracker: str | None = None, report: Show = lambda progress: None, note: Note = note,
    source: Source | None = None,
) -> list[Outcome]:  # fmt: skip
    """Carry out runs in the folder ``out``, several at a time; what became of each, in the order of the requests.

    There are as many ``jobs`` as CPUs, on a cluster also those that come later, unless given. With ``ray`` they run on
    the cluster at an ``address``, with ``auto`` on that which this machine is part of, without one on a new one here.
    ``report`` is called about ten times a second while something changes, ``note`` with a line that the user may want
    to know, and the ``tracker`` (FILE.py:NAME) by each worker after every evaluation, as ``Trainer.train`` does.
    KeyboardInterrupt once Ctrl-C, or SIGTERM, has ended all workers: the same call goes on from their checkpoints.
    BadInput if there is no such executor or cluster, RunFailed if there can be no such folder.
    """
    module = importlib.import_module(f"metareplay.suites.{EXECUTOR.check(executor)}")
    driver = Driver(requests, out, report, note, source)
    with module.backend(jobs, out, tracker, address, note) as backend:
        outcomes = driver.carry_out(backend)
        if any(outcome.state == "not started" for outcome in outcomes):
            raise KeyboardInterrupt
        return outcomes
