"""How far a suite is, on standard error: bars on a terminal, for the whole and for each worker; elsewhere lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import progress as rich
from rich.console import Console
from rich.table import Column
from rich.text import Text

from metareplay.runs.trainer import Progress
from metareplay.suites.cost import in_words
from metareplay.suites.outcome import SuiteProgress, name
from metareplay.suites.plan import Planned
from metareplay.suites.progress import SECONDS_BETWEEN_LINES


class TimeLeft:
    """How long a suite will still take, from what was expected of each run and how fast it went so far.

    Parameters
    ----------
    plan
        What was expected. A run of which nothing is known counts like the mean of the others.
    """

    def __init__(self, plan: Sequence[Planned]) -> None:
        known = [planned.seconds for planned in plan if planned.seconds is not None]
        mean = sum(known) / len(known) if known else 1.0
        self.left = {
            name(planned.request): mean if planned.seconds is None else planned.seconds
            for planned in plan
            if planned.state != "done"
        }
        self.all = sum(self.left.values())
        self.first: dict[str, float] = {}  # of each run the share that was done when it was first seen
        self.spent = 0.0
        self.began: float | None = None
        self.ended = 0

    def update(self, now: SuiteProgress) -> None:
        """Take in where the suite is."""
        for outcome in now.outcomes[self.ended :]:
            run = name(outcome.request)
            work = self.left.pop(run, 0.0)
            if outcome.state == "done":
                self.spent += work * (1 - self.first.get(run, 1.0))
        self.ended = len(now.outcomes)
        self.under_way = 0.0
        self.since_seen = 0.0
        for request, progress in now.running.values():
            run = name(request)
            if progress is None or not progress.steps or run not in self.left:
                continue
            self.began = self.began or time.monotonic()
            done = progress.examples / progress.all_examples
            self.under_way += done * self.left[run]
            self.since_seen += (done - self.first.setdefault(run, done)) * self.left[run]

    def share(self) -> float:
        """How much of all work is done."""
        return 1 - (sum(self.left.values()) - self.under_way) / self.all if self.all else 1.0

    def seconds(self) -> float | None:
        """How long the rest will take; None while it is too early to tell."""
        if self.began is None or self.spent + self.since_seen <= 0.01 * self.all:
            return None
        pace = (self.spent + self.since_seen) / (time.monotonic() - self.began)
        return (sum(self.left.values()) - self.under_way) / pace


class SuiteDisplay:
    """A suite under way; a context manager, since live bars must be taken away however it ends.

    Parameters
    ----------
    plan
        What was expected of its runs.
    quiet
        Show nothing.
    """

    def __init__(self, plan: Sequence[Planned], quiet: bool = False) -> None:
        console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.live = console.is_interactive and not quiet
        self.time_left = TimeLeft(plan)
        self.last: SuiteProgress | None = None
        self.told = 0  # how many outcomes have been looked at
        self.last_line = time.monotonic()
        self.bars = rich.Progress(
            rich.TextColumn("{task.description}", table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")),
            rich.BarColumn(bar_width=None, table_column=Column(ratio=1)),
            rich.TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            disable=not self.live,
        )
        self.whole = self.bars.add_task("getting ready", total=1.0, note="")
        self.workers: dict[str, rich.TaskID] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, now: SuiteProgress) -> None:
        """Show where the suite is: what an executor reports to."""
        self.last = now
        if self.quiet:
            return
        self.time_left.update(now)
        for outcome in now.outcomes[self.told :]:
            if outcome.state == "failed":
                self.note(f"{name(outcome.request)} failed: {outcome.message}")
        self.told = len(now.outcomes)
        if self.live:
            self._bars(now)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            print(f"{_runs(now)} · {self._note(now)}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Show a line that the user may want to see."""
        if self.live:
            self.bars.console.print(Text(f"metareplay: {text}"), soft_wrap=True)
        elif not self.quiet:
            print(f"metareplay: {text}", file=sys.stderr, flush=True)

    def _bars(self, now: SuiteProgress) -> None:
        self.bars.update(self.whole, description=_runs(now), completed=self.time_left.share(), note=self._note(now))
        for worker in now.running.keys() - self.workers.keys():
            self.workers[worker] = self.bars.add_task("", total=1.0, note="")
        for worker, bar in self.workers.items():
            if worker not in now.running:
                self.bars.update(bar, visible=False)
                continue
            request, progress = now.running[worker]
            share = progress.examples / progress.all_examples if progress else 0.0
            text = f"{worker}: {name(request)}"
            self.bars.update(bar, visible=True, description=text, completed=share, note=_where(progress))

    def _note(self, now: SuiteProgress) -> str:
        left = self.time_left.seconds()
        parts = [f"{now.failed} failed"] if now.failed else []
        return " · ".join([*parts, "time left not known yet" if left is None else f"about {in_words(left)} left"])


def _runs(now: SuiteProgress) -> str:
    return f"{now.done} of {now.all} runs done"


def _where(progress: Progress | None) -> str:
    if progress is None or not progress.steps:
        return "getting ready"
    return f"task {progress.visit + 1} of {progress.visits}"
