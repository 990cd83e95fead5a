"""How far runs and suites are, on standard error: live bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self

from rich import progress as rich
from rich.console import Console
from rich.table import Column
from rich.text import Text

from metareplay.errors import plain
from metareplay.runs.checkpoint import SECONDS
from metareplay.runs.trainer import Progress, Report
from metareplay.suites.driver import SuiteProgress
from metareplay.suites.plan import Planned, in_words, name

SECONDS_BETWEEN_LINES = 30.0


def note(text: str, quiet: bool = False, program: str = "metareplay") -> None:
    """Show a line that the user may want to see on standard error, if that takes it."""
    if not quiet:
        _line(f"{program}: {plain(text)}")


@contextlib.contextmanager
def stoppable(report: Report) -> Iterator[Report]:
    """Report where a run is through what this gives: a Ctrl-C then says how far it came."""
    last: Progress | None = None

    def follow(now: Progress) -> None:
        nonlocal last
        last = now
        report(now)

    try:
        yield follow
    except KeyboardInterrupt:
        if last is None or not last.examples:
            raise KeyboardInterrupt("stopped before the first example") from None
        where = f"at example {last.examples} of {last.all_examples}, in task {last.visit + 1} of {last.visits}"
        raise KeyboardInterrupt(
            f"stopped {where}; the same command goes on from where it was at most {SECONDS:.0f} s before"
        ) from None


def _line(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Display:
    """Bars or lines; a context manager, since live bars must be removed however it ends; nothing if ``quiet``."""

    def __init__(self, quiet: bool = False) -> None:
        console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.live = console.is_interactive and not quiet
        self.last_line = time.monotonic()
        what = Column(ratio=3, no_wrap=True, overflow="ellipsis")
        self.bars = rich.Progress(
            rich.TextColumn("{task.description}", markup=False, table_column=what),
            rich.BarColumn(bar_width=None, table_column=Column(ratio=1)),
            rich.TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            disable=not self.live,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        """Show a line that the user may want to see."""
        if self.live:
            self.bars.console.print(Text(f"metareplay: {plain(text)}"), soft_wrap=True)
        else:
            note(text, self.quiet)

    def line(self, text: str) -> None:
        """Show where it is as a line, unless there was one in the last half minute."""
        if not self.quiet and not self.live and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            _line(plain(text))

    def run(self, name: str = "") -> Report:
        """Show one run; the callback that this returns reports its progress."""
        speed = Speed()
        note = "compiling, the first time"
        bar = self.bars.add_task(name or "getting ready", total=None, note=note) if self.live else None

        def report(now: Progress) -> None:
            text = speed.text(now)
            if bar is None:
                self.line(f"{name}{', ' if name else ''}{_where(now)} · {text}")
            elif now.steps:
                what = name or _where(now)
                self.bars.update(bar, description=what, completed=now.examples, total=now.all_examples, note=text)

        return report


class Speed:
    """How fast a run is, and how long it will still take, from what it has done since its first step.

    What comes before that, compiling above all, says nothing of the rest.
    """

    first: Progress | None = None
    began = 0.0

    def text(self, now: Progress) -> str:
        """Examples, speed, time left and accuracy so far, as far as they are known."""
        parts = [f"{now.examples}/{now.all_examples}"]
        if self.first is None and now.steps:
            self.first, self.began = now, time.monotonic()
        elapsed = time.monotonic() - self.began
        if self.first is not None and now.examples > self.first.examples:
            speed = (now.steps - self.first.steps) / elapsed
            left = elapsed / (now.examples - self.first.examples) * (now.all_examples - now.examples)
            minutes, seconds = divmod(round(left), 60)
            clock = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
            parts += [f"{f'{speed / 1000:.0f}k' if speed >= 10_000 else f'{speed:.0f}'} steps/s", f"{clock} left"]
        if now.accuracy is not None:
            parts.append(f"accuracy {100 * now.accuracy:.1f} %")
        return " · ".join(parts)


class TimeLeft:
    """How long a suite will still take, from what was expected of each run and how fast it went so far.

    A run of which nothing is known counts like the mean of the others. One that was not planned is one of those that
    are to come: ``spare`` says for each how long it takes.
    """

    def __init__(self, plan: Sequence[Planned], spare: Sequence[float] = ()) -> None:
        known = [planned.seconds for planned in plan if planned.seconds is not None]
        mean = sum(known) / len(known) if known else 1.0
        expected = {name(planned.request): planned.seconds for planned in plan if planned.state != "done"}
        self.left = {run: mean if seconds is None else seconds for run, seconds in expected.items()}
        self.spare, self.known = list(spare), {name(planned.request) for planned in plan}
        self.all = sum(self.left.values()) + sum(spare)
        self.first: dict[str, float] = {}  # of each run the share that was done when it was first seen
        self.spent = self.under_way = self.since_seen = 0.0
        self.began: float | None = None
        self.ended = 0

    def update(self, now: SuiteProgress) -> None:
        """Take in where the suite is."""
        for request in (
            *(outcome.request for outcome in now.outcomes[self.ended :]),
            *(r for r, _ in now.running.values()),
        ):
            if self.spare and (run := name(request)) not in self.known:
                self.known.add(run)
                self.left[run] = self.spare.pop()
        for outcome in now.outcomes[self.ended :]:
            run = name(outcome.request)
            work = self.left.pop(run, 0.0)
            if outcome.state == "done":
                self.spent += work * (1 - self.first.get(run, 1.0))
        self.ended = len(now.outcomes)
        self.under_way = self.since_seen = 0.0
        for request, progress in now.running.values():
            run = name(request)
            if progress is not None and progress.steps and run in self.left:
                self.began = self.began or time.monotonic()
                done = progress.examples / progress.all_examples
                self.under_way += done * self.left[run]
                self.since_seen += (done - self.first.setdefault(run, done)) * self.left[run]

    def share(self) -> float:
        """How much of all work is done."""
        return 1 - (self.to_do() - self.under_way) / self.all if self.all else 1.0

    def to_do(self) -> float:
        """Seconds of work that are not over."""
        return sum(self.left.values()) + sum(self.spare)

    def seconds(self) -> float | None:
        """How long the rest will take; None while it is too early to tell."""
        if self.began is None or self.spent + self.since_seen <= 0.01 * self.all:
            return None
        pace = (self.spent + self.since_seen) / (time.monotonic() - self.began)
        return (self.to_do() - self.under_way) / pace


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
        self.time_left.update(now)
        for outcome in now.outcomes[self.seen :]:
            if outcome.state == "failed":
                self.note(f"{name(outcome.request)} failed: {outcome.message}")
        self.seen, self.done, failed = len(now.outcomes), now.count("done"), now.count("failed")
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
            self.bars.update(bar, visible=request is not None, description=text, completed=share, note=_where(progress))


def _where(progress: Progress | None) -> str:
    if progress is None or not progress.steps:
        return "getting ready"
    return f"task {progress.visit + 1} of {progress.visits}"
