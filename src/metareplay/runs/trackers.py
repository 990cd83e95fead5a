"""Trackers by name, each with its package's own store: what ``tracker=`` and ``--tracker`` take (docs/trackers.md)."""

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
Log = Callable[[Mapping[str, float], int], Any]  # takes what is known after so many examples
Opened = tuple[Log, Callable[[], Any]]  # what logs to a run of a tracker, and what closes it


class Following:
    """Runs in turn, each from its first evaluation to its record: accuracies by task and mean, in the end metrics."""

    def __init__(self, name: str) -> None:
        self.key: str | None = None
        self.log: Log
        self.end: Callable[[], Any]
        package, self.open = TRACKERS[name]
        try:
            self.module: Any = import_module(package)
        except ImportError as error:
            raise BadInput(f"--tracker is {name}, which is not installed: {INSTALL.format(name)}") from error

    def __call__(self, experiment: Experiment, event: Evaluation | Record) -> None:
        if experiment.key != self.key:
            if self.key is not None:  # that run failed
                self.end()
            self.key = experiment.key
            begins = isinstance(event, Evaluation) and event.batches == 0
            self.log, self.end = self.open(self.module, experiment, experiment.evaluate == "borders" and not begins)
        if isinstance(event, Record):
            values = {name: value for name, value in event.metrics.items() if isinstance(value, float)}
            _, examples = event.online
            self.log(values | {name: float(count) for name, count in event.counters.items()}, examples)
            self.end()
            self.key = None
            return
        tasks = {f"accuracy/task {task}": float(share) for task, share in enumerate(event.accuracy)}
        self.log({"accuracy/mean": float(event.accuracy.mean())} | tasks, event.examples)


def _csv(module: Any, experiment: Experiment, resumed: bool) -> Opened:
    """``tracked/KEY.csv``, a row for each value; what a run that resumes repeats stands there twice."""
    path = Path("tracked") / f"{experiment.key}.csv"
    path.parent.mkdir(exist_ok=True)
    file = path.open("a" if resumed else "w", newline="", encoding="utf-8")
    rows = module.writer(file)
    if not resumed:
        rows.writerow(["examples", "name", "value"])

    def log(values: Mapping[str, float], examples: int) -> None:
        rows.writerows((examples, name, value) for name, value in values.items())
        file.flush()

    return log, file.close


def _tensorboard(module: Any, experiment: Experiment, resumed: bool) -> Opened:
    """Event files in ``tensorboard/KEY``."""
    writer = module.Writer(str(Path("tensorboard") / experiment.key))

    def log(values: Mapping[str, float], examples: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, examples)
        writer.flush()

    return log, writer.close


def _wandb(module: Any, experiment: Experiment, resumed: bool) -> Opened:
    """A run of Weights & Biases, in the project ``WANDB_PROJECT``, or of Trackio, which has the same interface."""
    project = os.environ.get(f"{module.__name__.upper()}_PROJECT", PROJECT)
    module.init(project=project, name=experiment.key, config=experiment.configuration())
    return lambda values, examples: module.log(dict(values), step=examples), module.finish


def _mlflow(module: Any, experiment: Experiment, resumed: bool) -> Opened:
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` says, in ``MLFLOW_EXPERIMENT_NAME``."""
    if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
        module.set_experiment(PROJECT)
    module.start_run(run_name=experiment.key)
    module.log_params({name: str(value)[:500] for name, value in experiment.configuration().items()})
    return lambda values, examples: module.log_metrics(dict(values), step=examples), module.end_run


TRACKERS: dict[str, tuple[str, Callable[[Any, Experiment, bool], Opened]]] = {
    "csv": ("csv", _csv),
    "tensorboard": ("tensorboard.summary", _tensorboard),
    "wandb": ("wandb", _wandb),
    "trackio": ("trackio", _wandb),
    "mlflow": ("mlflow", _mlflow),
}
"""By name, the module that each needs, and what opens a run, anew or as one that resumes."""
HELP = f"what follows the run: {', '.join(TRACKERS)}, or FILE.py:NAME, a function of yours"


def find(text: str) -> Tracker:
    """One of ``TRACKERS``, or a user's own function by ``FILE.py:NAME``; BadInput if there is none such."""
    if text in TRACKERS:
        return Following(text)
    if user_code.split(text) is None:
        hint = nearest(text, TRACKERS) or ";"
        raise BadInput(f"--tracker is {text!r}{hint} it must be {', '.join(TRACKERS)} or FILE.py:NAME")
    return user_code.load(text, "--tracker")  # type: ignore[no-any-return]
