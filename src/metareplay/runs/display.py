"""How far a run is: a live bar on a terminal or in a notebook, a line on standard error now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Self

from rich import progress as rich
from rich.console import Console
from rich.table import Column
from rich.text import Text

from metareplay.errors import plain
from metareplay.runs.trainer import Progress, Report

SECONDS_BETWEEN_LINES = 30.0


def note(text: str, quiet: bool = False, program: str = "metareplay") -> None:
    """Show a line that the user may want to see on standard error, if that takes it."""
    if not quiet:
        _line(f"{program}: {plain(text)}")


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
                self.line(f"{name}{', ' if name else ''}{where(now)} · {text}")
            elif now.steps:
                what = name or where(now)
                self.bars.update(bar, description=what, completed=now.examples, total=now.all_examples, note=text)

        return report


@contextlib.contextmanager
def bar() -> Iterator[Report | None]:
    """What shows how far a run in Python is, where somebody looks: a terminal, or a notebook."""
    console = Console(stderr=True)
    if console.is_jupyter:
        from IPython import display as notebook

        html: Any = notebook.HTML
        speed, handle = Speed(), notebook.display(html(""), display_id=True)

        def show(now: Progress) -> None:
            done = f'<progress value="{now.examples}" max="{now.all_examples}"></progress>'
            handle.update(html(f"{done} {where(now)} · {speed.text(now)}"))

        try:
            yield show
        finally:
            handle.update(html(""))
    elif console.is_interactive:
        with Display() as display:
            yield display.run()
    else:
        yield None


class Speed:
    """How fast a run is and how long it takes, from its first step on: what comes before, compiling, says nothing."""

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
            parts += [
                f"{f'{speed / 1000:.0f}k' if speed >= 10_000 else f'{speed:.0f}'} steps/s",
                f"{in_words(left)} left",
            ]
        if now.accuracy is not None:
            parts.append(f"accuracy {100 * now.accuracy:.1f} %")
        return " · ".join(parts)


def in_words(seconds: float) -> str:
    """A time as one would say it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def where(progress: Progress | None) -> str:
    """The task that a run is at, in words."""
    if progress is None or not progress.steps:
        return "getting ready"
    return f"task {progress.visit + 1} of {progress.visits}"
