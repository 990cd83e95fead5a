"""A run in Python, in memory: ``metareplay.run``."""

import contextlib
import inspect
from typing import Any

from metareplay.methods.base import Method
from metareplay.runs import trackers
from metareplay.runs.display import bar
from metareplay.runs.experiment import Experiment
from metareplay.runs.record import Record
from metareplay.runs.trackers import Tracker
from metareplay.runs.trainer import Trainer
from metareplay.streams.stream import Stream


def run(
    stream: Stream, method: Method, *, progress: bool = True, tracker: Tracker | str | None = None, **options: Any
) -> Record:
    """Run a method on a stream, in memory.

    BadInput if an option is out of its range, or there is no such tracker; Diverged if a loss is not finite.

    Parameters
    ----------
    stream
        The tasks, in their order.
    method
        How to learn, with its settings.
    **options
        What else an ``Experiment`` takes, such as ``seed=0``.
    progress
        Show a bar while it runs, in a notebook or on a terminal.
    tracker
        What follows the run: the name of a tracker, such as ``csv`` or ``wandb``, or a function.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.Online(lr=0.1), seed=3).accuracy.shape
    (2, 2)
    """
    trainer = Trainer(Experiment(stream=stream, method=method, **options))
    follow = trackers.find(tracker) if isinstance(tracker, str) else tracker
    with bar() if progress else contextlib.nullcontext() as report:
        return trainer.train(report, follow)


def _signature() -> inspect.Signature:
    """With the options by name, as Experiment declares them: what an editor and ``help`` show."""
    own = inspect.signature(run, eval_str=True)
    stream, method, *ours, _ = own.parameters.values()
    theirs = list(inspect.signature(Experiment).parameters.values())[2:]
    return own.replace(parameters=[stream, method, *theirs, *ours])


run.__signature__ = _signature()  # type: ignore[attr-defined]
