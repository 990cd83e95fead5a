"""How far runs are, on standard error: live bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich import progress as rich
from rich.console import Console

from metareplay.runs.trainer import Progress

SECONDS_BETWEEN_LINES = 30.0

Report = Callable[[Progress], None]
"""What ``Experiment.run`` calls about ten times a second."""


class Pace:
    """How fast a run is, and how long it will still take, from what it has done since its first step.

    What comes before that, compiling above all, says nothing of the rest.
    """

    def __init__(self) -> None:
        self.first: Progress | None = None
        self.began = 0.0

    def text(self, now: Progress) -> str:
        """Examples, speed, time left and accuracy so far, as far as they are known."""
        parts = [f"{now.examples}/{now.all_examples}"]
        if self.first is None and now.steps:
            self.first, self.began = now, time.monotonic()
        elapsed = time.monotonic() - self.began
        if self.first is not None and now.examples > self.first.examples:
            parts.append(f"{_short((now.steps - self.first.steps) / elapsed)} steps/s")
            left = elapsed / (now.examples - self.first.examples) * (now.all_examples - now.examples)
            parts.append(f"{_clock(left)} left")
        if now.accuracy is not None:
            parts.append(f"accuracy {100 * now.accuracy:.1f} %")
        return " · ".join(parts)


class Display:
    """The runs under way; a context manager, since live bars must be taken away however it ends.

    Parameters
    ----------
    quiet
        Show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self.quiet = quiet
        self.live = console.is_interactive and not quiet
        self.bars = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(bar_width=None),
            rich.TextColumn("{task.fields[pace]}"),
            console=console,
            expand=True,
            transient=True,
            disable=not self.live,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def run(self, name: str = "") -> Report:
        """Show one more run: give what this returns to ``Experiment.run``."""
        if self.live:
            return self._bar(name)
        return _nothing if self.quiet else _lines(name)

    def _bar(self, name: str) -> Report:
        pace = Pace()
        bar = self.bars.add_task(name or "getting ready", total=None, pace="compiling, the first time")

        def report(now: Progress) -> None:
            if now.steps:
                self.bars.update(
                    bar,
                    description=name or _task(now),
                    completed=now.examples,
                    total=now.all_examples,
                    pace=pace.text(now),
                )

        return report


def _lines(name: str) -> Report:
    pace = Pace()
    last = time.monotonic()

    def report(now: Progress) -> None:
        nonlocal last
        text = pace.text(now)
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{name}{', ' if name else ''}{_task(now)} · {text}", file=sys.stderr, flush=True)

    return report


def _nothing(now: Progress) -> None:
    pass


def _task(now: Progress) -> str:
    return f"task {now.visit + 1} of {now.visits}"


def _short(number: float) -> str:
    return f"{number / 1000:.0f}k" if number >= 10_000 else f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
