"""What an executor tells: how far a suite is, and what became of each of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from metareplay.runs.request import Request
    from metareplay.runs.trainer import Progress

State = Literal["done", "failed", "elsewhere", "not started"]
"""``elsewhere``: another process is at it; ``not started``: the suite was stopped before its turn, or in its middle."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run of a suite.

    Parameters
    ----------
    request
        What was asked for.
    key
        The name of its folder; None where it could not be worked out, as when its data cannot be had.
    state
        One of ``done`` (now or before), ``failed``, ``elsewhere`` (another process is at it), ``not started``.
    message
        One line: why it failed, who is at it; empty where it is done.
    """

    request: Request
    key: str | None
    state: State
    message: str = ""


@dataclass(frozen=True)
class SuiteProgress:
    """Where a suite is: what a progress display needs.

    Parameters
    ----------
    all
        How many runs it has.
    outcomes
        Of the runs that ended, in the order in which they did; those that were there before are among them.
    running
        For each worker at work, by a name such as ``worker 1`` or ``node-2, worker 1``: which run it is at, and where
        in it; None before its first report.
    """

    all: int
    outcomes: Sequence[Outcome] = ()
    running: Mapping[str, tuple[Request, Progress | None]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Runs that are finished."""
        return sum(outcome.state == "done" for outcome in self.outcomes)

    @property
    def failed(self) -> int:
        """Runs that failed."""
        return sum(outcome.state == "failed" for outcome in self.outcomes)


def name(request: Request) -> str:
    """A run in a few words: ``mnist-rotations, meralg1, memories 200, seed 0``."""
    run = {key: value for key, value in request.run.items() if key != "seed"}
    options = [f"{key} {short(str(value))}" for key, value in {**request.stream, **request.settings, **run}.items()]
    seed = request.run.get("seed", 0)
    return ", ".join([short(request.benchmark), short(request.method), *options, f"seed {seed}"])


def short(text: str) -> str:
    """The name of a user's own file without its folder; other names as they are."""
    return text.rstrip("/").rsplit("/", 1)[-1]
