"""How far a suite is, on standard error: live bars on a terminal, a line now and then elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from rich import progress as rich

from metareplay.errors import plain
from metareplay.runs.display import Display, where
from metareplay.suites.driver import SuiteProgress
from metareplay.suites.plan import Planned, in_words, name


class TimeLeft:
    """How long a suite takes yet, by expectation and speed; unknown runs count as the mean, unplanned as ``spare``."""

    def __init__(self, plan: Sequence[Planned], spare: Sequence[float] = ()) -> None:
        mean = fmean([planned.seconds for planned in plan if planned.seconds is not None] or [1.0])
        expected = {name(planned.request): planned.seconds for planned in plan if planned.state != "done"}
        self.left = {run: mean if seconds is None else seconds for run, seconds in expected.items()}
        self.spare, self.known = list(spare), {name(planned.request) for planned in plan}
        self.all = sum(self.left.values()) + sum(spare)
        self.first: dict[str, float] = {}  # of each run the share that was done when it was first seen
        self.spent = self.under_way = self.since_seen = 0.0
        self.began: float | None = None
        self.ended, self.unplanned = 0, False

    def update(self, now: SuiteProgress) -> None:
        ended, running = now.outcomes[self.ended :], now.running.values()
        for request in (*(outcome.request for outcome in ended), *(request for request, _ in running)):
            if self.spare and (run := name(request)) not in self.known:
                self.known.add(run)
                self.left[run] = self.spare.pop()
        for outcome in ended:
            run = name(outcome.request)
            work = self.left.pop(run, 0.0)
            if outcome.state == "done":
                self.spent += work * (1 - self.first.get(run, 1.0))
        self.ended, self.unplanned = len(now.outcomes), any(name(request) not in self.left for request, _ in running)
        self.under_way = self.since_seen = 0.0
        for request, progress in now.running.values():
            run = name(request)
            if progress is not None and progress.steps and run in self.left:
                self.began = self.began or time.monotonic()
                done = progress.examples / progress.all_examples
                self.under_way += done * self.left[run]
                self.since_seen += (done - self.first.setdefault(run, done)) * self.left[run]

    def to_do(self) -> float:
        """Seconds of work that are not done."""
        return sum(self.left.values()) + sum(self.spare) - self.under_way

    def share(self) -> float:
        return 1 - self.to_do() / self.all if self.all else 1.0

    def seconds(self) -> float | None:
        """How long the rest will take; None while it is too early to tell, or for runs that were not planned."""
        if self.began is None or self.unplanned or self.spent + self.since_seen <= 0.01 * self.all:
            return None
        return self.to_do() * (time.monotonic() - self.began) / (self.spent + self.since_seen)


class SuiteDisplay(Display):
    """A suite under way, of whose runs ``plan`` was expected: a bar for the whole and one for each worker, or lines."""

    def __init__(self, plan: Sequence[Planned], quiet: bool = False, spare: Sequence[float] = ()) -> None:
        super().__init__(quiet)
        self.time_left = TimeLeft(plan, spare)
        self.expected = len(spare)
        self.done = 0
        self.seen = 0  # outcomes
        self.whole = self.bars.add_task("getting ready", total=1.0, note="")
        self.workers: dict[str, rich.TaskID] = {}

    def __call__(self, now: SuiteProgress) -> None:
        """Show where the suite is: what a driver reports to."""
        if len(now.outcomes) < self.seen:  # another driver, after the first
            self.seen = self.time_left.ended = 0
        self.time_left.update(now)
        for outcome in now.outcomes[self.seen :]:
            if outcome.state == "failed":
                self.note(f"{name(outcome.request)} failed: {outcome.message}")
        states = Counter(outcome.state for outcome in now.outcomes)
        self.seen, self.done, failed = len(now.outcomes), states["done"], states["failed"]
        seconds = self.time_left.seconds()
        runs = f"{self.done} of {max(now.all, self.expected)} runs done"
        note = "time left not known yet" if seconds is None else f"about {in_words(seconds)} left"
        note = f"{failed} failed · {note}" if failed else note
        self.line(f"{runs} · {note}")
        if not self.live:
            return
        self.bars.update(self.whole, description=runs, completed=self.time_left.share(), note=note)
        for worker in sorted(now.running.keys() - self.workers.keys()):
            self.workers[worker] = self.bars.add_task("", total=1.0, note="")
        for worker, bar in self.workers.items():
            request, progress = now.running.get(worker, (None, None))
            share = progress.examples / progress.all_examples if progress else 0.0
            text = f"{worker}: {plain(name(request))}" if request else ""
            self.bars.update(bar, visible=request is not None, description=text, completed=share, note=where(progress))
