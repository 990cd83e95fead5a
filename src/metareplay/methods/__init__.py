"""The methods by name; the names are those of the original code."""

from metareplay.methods.base import Method
from metareplay.methods.ewc import EWC
from metareplay.methods.gem import GEM
from metareplay.methods.mer import MER, MERCurrentExampleLearningRate, MEROneBigBatch
from metareplay.methods.online import Online
from metareplay.methods.replay import ER, ERWithTasks
from metareplay.methods.task_networks import Independent, TaskInput

METHODS: dict[str, type[Method]] = {
    "online": Online,
    "taskinput": TaskInput,
    "independent": Independent,
    "ewc": EWC,
    "gem": GEM,
    "eralg4": ER,
    "eralg5": ERWithTasks,
    "meralg1": MER,
    "meralg6": MEROneBigBatch,
    "meralg7": MERCurrentExampleLearningRate,
}

__all__ = [
    "ER",
    "EWC",
    "GEM",
    "MER",
    "METHODS",
    "ERWithTasks",
    "Independent",
    "MERCurrentExampleLearningRate",
    "MEROneBigBatch",
    "Method",
    "Online",
    "TaskInput",
]
