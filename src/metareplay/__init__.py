"""A laboratory for online continual learning and continual meta-learning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metareplay.data.images import BaseImages
    from metareplay.errors import BadInput, RunFailed
    from metareplay.learners.base import Diverged
    from metareplay.methods import (
        ER,
        EWC,
        GEM,
        MER,
        METHODS,
        ERWithTasks,
        Independent,
        MERCurrentExampleLearningRate,
        MEROneBigBatch,
        Online,
        TaskInput,
    )
    from metareplay.methods.base import Method
    from metareplay.runs.experiment import Experiment, run
    from metareplay.runs.record import Record
    from metareplay.runs.trainer import Evaluation, Progress, Trainer
    from metareplay.settings import setting
    from metareplay.streams.catalogue import benchmark
    from metareplay.streams.stream import Images, Stream, Task

# Names are imported when they are first used (PEP 562): Numba alone would take most of the time to start.
_HOME = {
    "errors": ("BadInput", "RunFailed"),
    "learners.base": ("Diverged",),
    "methods": (
        "ER", "ERWithTasks", "EWC", "GEM", "Independent", "MER", "MERCurrentExampleLearningRate", "MEROneBigBatch",
        "METHODS", "Online", "TaskInput",
    ),
    "methods.base": ("Method",),
    "runs.experiment": ("Experiment", "run"),
    "runs.record": ("Record",),
    "runs.trainer": ("Evaluation", "Progress", "Trainer"),
    "settings": ("setting",),
    "streams.catalogue": ("benchmark",),
    "data.images": ("BaseImages",),
    "streams.stream": ("Images", "Stream", "Task"),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "ER",
    "EWC",
    "GEM",
    "MER",
    "METHODS",
    "BadInput",
    "BaseImages",
    "Diverged",
    "ERWithTasks",
    "Evaluation",
    "Experiment",
    "Images",
    "Independent",
    "MERCurrentExampleLearningRate",
    "MEROneBigBatch",
    "Method",
    "Online",
    "Progress",
    "Record",
    "RunFailed",
    "Stream",
    "Task",
    "TaskInput",
    "Trainer",
    "benchmark",
    "run",
    "setting",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
