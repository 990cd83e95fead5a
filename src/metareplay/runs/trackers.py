"""Trackers by name, each with its package's own store: what ``tracker=`` and ``--tracker`` take (docs/trackers.md)."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay import user_code
from metareplay.errors import INSTALL, BadInput
from metareplay.runs.experiment import Experiment
from metareplay.runs.record import Record
from metareplay.settings import nearest

PROJECT = "metareplay"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on all tasks' test examples, as a tracker receives it.

    Examples
    --------
    >>> seen = []
    >>> record = metareplay.run(stream, metareplay.Online(), tracker=lambda experiment, event: seen.append(event))
    >>> [event.examples for event in seen[:-1]], seen[-1] is record
    ([0, 50, 100], True)
    """

    visit: int
    """The visit under way or just ended; -1 before any training."""
    batches: int
    examples: int
    steps: int
    """Batches and examples learned so far, and SGD steps taken."""
    accuracy: NDArray[np.float64]
    """``(tasks,)`` share of right answers on each task."""


Tracker = Callable[[Experiment, Evaluation | Record], None]
"""Called after every evaluation, and with the record at the end."""


class Following:
    """One run after another, each begun at its first evaluation and ended by its record.

    What is logged is the accuracy on each task and their mean, and at the end each metric that is defined.
    """

    package: str | None = None
    """What it needs."""

    def __init__(self) -> None:
        self.key: str | None = None
        if self.package is not None:
            try:
                self.module: Any = import_module(self.package)
            except ImportError as error:
                name = self.package.partition(".")[0]
                raise BadInput(f"--tracker is {name}, which is not installed: {INSTALL.format(name)}") from error

    def __call__(self, experiment: Experiment, event: Evaluation | Record) -> None:
        if experiment.key != self.key:
            if self.key is not None:  # that run failed
                self.end()
            self.key = experiment.key
            begins = isinstance(event, Evaluation) and event.batches == 0
            self.begin(experiment, experiment.evaluate == "borders" and not begins)
        if isinstance(event, Record):
            values = {name: value for name, value in event.metrics.items() if isinstance(value, float)}
            _, examples = event.online
            self.log(values | {name: float(count) for name, count in event.counters.items()}, examples)
            self.end()
            self.key = None
            return
        tasks = {f"accuracy/task {task}": float(share) for task, share in enumerate(event.accuracy)}
        self.log({"accuracy/mean": float(event.accuracy.mean())} | tasks, event.examples)

    def begin(self, experiment: Experiment, resumed: bool) -> None:
        """Open a run."""
        raise NotImplementedError

    def log(self, values: Mapping[str, float], examples: int) -> None:
        """Log what is known after so many examples."""
        raise NotImplementedError

    def end(self) -> None:
        """Close the run."""
        raise NotImplementedError


class CSVTracker(Following):
    """``tracked/KEY.csv``, a row for each value; what a run that resumes repeats stands there twice."""

    def begin(self, experiment: Experiment, resumed: bool) -> None:
        path = Path("tracked") / f"{experiment.key}.csv"
        path.parent.mkdir(exist_ok=True)
        self.file = path.open("a" if resumed else "w", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file)
        if not resumed:
            self.rows.writerow(["examples", "name", "value"])

    def log(self, values: Mapping[str, float], examples: int) -> None:
        self.rows.writerows((examples, name, value) for name, value in values.items())
        self.file.flush()

    def end(self) -> None:
        self.file.close()


class TensorBoardTracker(Following):
    """Event files in ``tensorboard/KEY``."""

    package = "tensorboard.summary"

    def begin(self, experiment: Experiment, resumed: bool) -> None:
        self.writer = self.module.Writer(str(Path("tensorboard") / experiment.key))

    def log(self, values: Mapping[str, float], examples: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, examples)
        self.writer.flush()

    def end(self) -> None:
        self.writer.close()


class WandbTracker(Following):
    """A run of Weights & Biases, in the project ``WANDB_PROJECT``; ``WANDB_MODE=offline`` needs no account."""

    package = "wandb"
    project = "WANDB_PROJECT"

    def begin(self, experiment: Experiment, resumed: bool) -> None:
        project = os.environ.get(self.project, PROJECT)
        self.run = self.module.init(project=project, name=experiment.key, config=experiment.configuration())

    def log(self, values: Mapping[str, float], examples: int) -> None:
        self.module.log(dict(values), step=examples)

    def end(self) -> None:
        self.module.finish()


class TrackioTracker(WandbTracker):
    """The same interface, with a database on this machine (``TRACKIO_DIR``)."""

    package = "trackio"
    project = "TRACKIO_PROJECT"


class MLflowTracker(Following):
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` says, in ``MLFLOW_EXPERIMENT_NAME``."""

    package = "mlflow"

    def begin(self, experiment: Experiment, resumed: bool) -> None:
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            self.module.set_experiment(PROJECT)
        self.module.start_run(run_name=experiment.key)
        self.module.log_params({name: str(value)[:500] for name, value in experiment.configuration().items()})

    def log(self, values: Mapping[str, float], examples: int) -> None:
        self.module.log_metrics(dict(values), step=examples)

    def end(self) -> None:
        self.module.end_run()


TRACKERS: dict[str, type[Following]] = {
    "csv": CSVTracker,
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
    "mlflow": MLflowTracker,
}

HELP = f"what follows the run: {', '.join(TRACKERS)}, or FILE.py:NAME, a function of yours"


def find(text: str) -> Tracker:
    """One of ``TRACKERS``, or a user's own function by ``FILE.py:NAME``; BadInput if there is none such."""
    if text in TRACKERS:
        return TRACKERS[text]()
    if user_code.split(text) is None:
        hint = nearest(text, TRACKERS) or ";"
        raise BadInput(f"--tracker is {text!r}{hint} it must be {', '.join(TRACKERS)} or FILE.py:NAME")
    return user_code.load(text, "--tracker")  # type: ignore[no-any-return]
