"""A laboratory for online continual learning and continual meta-learning."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers take it; until Ctrl-C is handled, `typing` would be most of what is imported
if TYPE_CHECKING:
    from typing import Any

    from metareplay.data.images import BaseImages, Images
    from metareplay.errors import BadInput, RunFailed
    from metareplay.learners.base import Diverged
    from metareplay.methods import METHODS
    from metareplay.methods.base import Method
    from metareplay.methods.ewc import EWC
    from metareplay.methods.gem import GEM
    from metareplay.methods.memory import Reservoir, RingPerTask
    from metareplay.methods.mer import MER, MERCurrentExampleLearningRate, MEROneBigBatch
    from metareplay.methods.online import Online
    from metareplay.methods.replay import ER, ERWithTasks
    from metareplay.methods.task_networks import Independent, TaskInput
    from metareplay.runs.experiment import Experiment
    from metareplay.runs.in_memory import run
    from metareplay.runs.model import Model, load
    from metareplay.runs.record import Record
    from metareplay.runs.trackers import Evaluation
    from metareplay.runs.trainer import Progress, Trainer
    from metareplay.settings import setting
    from metareplay.streams.catalogue import benchmark
    from metareplay.streams.stream import Stream, Task
    from metareplay.studies.tune import tune

__version__ = "0.1.0.dev0"

# Names are imported when they are first used (PEP 562): Numba alone would take most of the time to start.
_MODULE = {
    "BadInput": "errors", "RunFailed": "errors", "Diverged": "learners.base", "METHODS": "methods",
    "Method": "methods.base", "Reservoir": "methods.memory", "RingPerTask": "methods.memory",
    "Experiment": "runs.experiment", "Model": "runs.model", "load": "runs.model", "Record": "runs.record",
    "run": "runs.in_memory", "Evaluation": "runs.trackers", "Progress": "runs.trainer", "Trainer": "runs.trainer",
    "setting": "settings", "benchmark": "streams.catalogue", "BaseImages": "data.images", "Images": "data.images",
    "Stream": "streams.stream", "Task": "streams.stream", "tune": "studies.tune",
}  # fmt: skip
__all__ = [
    "ER", "EWC", "GEM", "MER", "METHODS", "BadInput", "BaseImages", "Diverged", "ERWithTasks", "Evaluation",
    "Experiment", "Images", "Independent", "MERCurrentExampleLearningRate", "MEROneBigBatch", "Method", "Model",
    "Online", "Progress", "Record", "Reservoir", "RingPerTask", "RunFailed", "Stream", "Task", "TaskInput", "Trainer",
    "benchmark", "load", "run", "setting", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    else:
        # A method's class; only then, as Python asks here for modules too, before it imports them.
        found = import_module(f"{__name__}.methods").METHODS.values() if name[:1].isupper() else ()
        value = next((method for method in found if method.__name__ == name), None)
        if value is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
