"""A laboratory for online continual learning and continual meta-learning."""

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
from metareplay.streams.stream import BaseImages, Images, Stream, Task

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
