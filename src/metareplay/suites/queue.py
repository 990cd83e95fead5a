"""The runs of a suite that are still to be done, and what became of the others: the same for every executor."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metareplay.errors import RunFailed
from metareplay.runs.folder import Note, Run, one_line
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.suites.cost import Rates, Size
from metareplay.suites.outcome import Outcome, State, name
from metareplay.suites.worker import as_experiment

RETRIES = 3
"""How often a run is taken up again, from its checkpoint, whose worker died."""
SECONDS_BETWEEN_LOOKS = 0.5
"""At runs that another process has in hand."""


@dataclass(eq=False)
class Job:
    """A run that is to be done, once, however many ask for it."""

    key: str
    requests: list[Request]
    seconds: float
    deaths: int = 0
    progress: Progress | None = None


class Queue:
    """Which run comes next.

    The runs of one seed come before those of the next, and of these the longest first. What is done is not run again,
    and what another process has in hand is set aside until that one is through with it.

    Raises
    ------
    RunFailed
        If there can be no such folder of runs.
    """

    def __init__(self, requests: Sequence[Request], out: Path, note: Note) -> None:
        self.requests, self.out, self.note = requests, out, note
        self.waiting: deque[Job] = deque()
        self.elsewhere: list[Job] = []
        self.looked = 0.0
        self.outcomes: list[Outcome] = []
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFailed(
                f"{out} cannot keep runs: {error.strerror or error}; name another folder with --out"
            ) from error

    def prepare(self) -> None:
        """Find out which runs there are, and which of them are done."""
        jobs: dict[str, Job] = {}
        rates = Rates()
        for request in sorted(self.requests, key=lambda request: (request.benchmark, str(request.stream))):
            try:
                experiment = as_experiment(request)
            except Exception as error:
                self.outcomes.append(Outcome(request, None, "failed", one_line(error)))
                continue
            seconds = rates.seconds(experiment.configuration(), Size.of(experiment))
            job = jobs.setdefault(experiment.key, Job(experiment.key, [], float("inf") if seconds is None else seconds))
            job.requests.append(request)
        for job in sorted(jobs.values(), key=lambda job: (job.requests[0].run.get("seed", 0), -job.seconds)):
            if not self._is_done(job):
                self.waiting.append(job)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be handed out."""
        return not self.waiting and not self.elsewhere

    def next(self) -> Job | None:
        """A run to begin or to go on with; None if there is none at this moment."""
        if not self.waiting and time.monotonic() - self.looked > SECONDS_BETWEEN_LOOKS:
            self.waiting.extend(self.elsewhere)  # perhaps one is free by now, or done
            self.elsewhere.clear()
            self.looked = time.monotonic()
        while self.waiting:
            job = self.waiting.popleft()
            if self._is_done(job):  # by another process, meanwhile
                continue
            if Run(self.out / job.key).status().state != "running":
                return job
            self.elsewhere.append(job)
        return None

    def over(self, job: Job, state: State, message: str = "") -> None:
        """Be told what became of a run."""
        if state == "elsewhere":
            self.elsewhere.append(job)
        else:
            self.outcomes += [Outcome(request, job.key, state, message) for request in job.requests]

    def died(self, job: Job, how: str) -> None:
        """Be told that a run's worker died: it comes next, or is given up."""
        job.deaths += 1
        job.progress = None
        if job.deaths > RETRIES:
            message = f"its worker {how}, {job.deaths} times: there may be too little memory, or its method ends it"
            Run(self.out / job.key).fail(message)
            self.over(job, "failed", message)
            return
        self.note(
            f"{name(job.requests[0])}: its worker {how}; it goes on from its checkpoint ({job.deaths} of {RETRIES})"
        )
        self.waiting.appendleft(job)

    def in_order(self, under_way: Iterable[Job]) -> list[Outcome]:
        """The outcomes in the order of the requests; what is not over is ``not started``."""
        outcomes = {id(outcome.request): outcome for outcome in self.outcomes}
        for job in under_way:
            if job.progress:
                where = f"stopped at example {job.progress.examples} of {job.progress.all_examples}"
                for request in job.requests:
                    outcomes.setdefault(id(request), Outcome(request, job.key, "not started", where))
        return [outcomes.get(id(request)) or Outcome(request, None, "not started") for request in self.requests]

    def _is_done(self, job: Job) -> bool:
        run = Run(self.out / job.key)
        if run.status().state != "done":
            return False
        run.tidy()
        self.over(job, "done")
        return True
