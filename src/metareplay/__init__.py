"""A laboratory for online continual learning and continual meta-learning."""

from metareplay.errors import BadInput, RunFailed
from metareplay.experiment import Experiment, run
from metareplay.learners.base import Diverged
from metareplay.life import Evaluation, Life, Progress
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
from metareplay.records import Record
from metareplay.settings import setting
from metareplay.streams.base import BaseImages, Images, Stream, Task
from metareplay.streams.benchmarks import benchmark

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
    "Life",
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
    "benchmark",
    "run",
    "setting",
]
