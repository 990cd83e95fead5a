"""What a run will cost: its SGD steps, counted, and how long it takes, estimated."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from metareplay.runs.experiment import Experiment

Configuration = Mapping[str, Any]

ONE_STEP_A_BATCH = ("online", "taskinput", "independent", "ewc", "gem")
ONE_STEP_AN_EXAMPLE = ("eralg4", "eralg5")
PYTORCH = 80.0
"""How many times as long the engine torch takes; as the numbers below, measured by `make bench` (docs/speed.md)."""


@dataclass(frozen=True)
class Size:
    """How much a run sees.

    Parameters
    ----------
    visits
        The examples that it learns in each visit to a task, over all epochs.
    tests
        Test images of all tasks together.
    inputs, classes
        Numbers that an example consists of, and classes.
    """

    visits: tuple[int, ...]
    tests: int
    inputs: int = 784
    classes: int = 10

    @classmethod
    def of(cls, experiment: Experiment) -> Size:
        """The size of a run whose data are here."""
        stream = experiment.stream
        each = [min(experiment.samples or math.inf, len(stream.tasks[task].train)) for task in experiment.visits]
        visits = tuple(int(examples) * experiment.epochs for examples in each)
        return cls(visits, sum(len(task.test) for task in stream.tasks), stream.inputs, stream.classes)

    @classmethod
    def said_by(cls, configuration: Configuration) -> Size | None:
        """The size as far as a configuration tells it, if MNIST's test images are taken; None if all examples are."""
        samples, tasks = configuration["samples_per_task"], len(configuration["task_order"])
        return cls((samples * configuration["epochs"],) * tasks, 10_000 * tasks) if samples else None


def steps(configuration: Configuration, size: Size) -> int | None:
    """The SGD steps of a run, exactly; None for a user's own method."""
    method, settings, examples = configuration["method"], configuration["hyperparameters"], sum(size.visits)
    if method in ONE_STEP_A_BATCH:
        return _batches(configuration, size)
    if method in ONE_STEP_AN_EXAMPLE:
        return examples
    if method in ("meralg1", "meralg6"):
        return int(settings["batches_per_example"] * (examples + _replayed(settings, examples)))
    if method == "meralg7":  # the very first example is only stored
        return examples - 1 + _replayed(settings, examples)
    return None


class Rates:
    """How long runs take: as earlier ones took, where there are some like them, else as measured for docs/speed.md.

    Parameters
    ----------
    summaries
        ``Record.summary()`` of earlier runs.
    """

    def __init__(self, summaries: Iterable[Mapping[str, Any]] = ()) -> None:
        took: dict[str, list[float]] = defaultdict(list)
        ratios: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for summary in summaries:
            configuration = summary["configuration"]
            took[_but_the_seed(configuration)].append(summary["train_seconds"] + summary["eval_seconds"])
            size = Size.said_by(configuration)
            expected = training_seconds(configuration, size) if size else None
            if expected:
                ratios[_machinery(configuration)].append(summary["train_seconds"] / expected)
        self.took = {key: _mean(seconds) for key, seconds in took.items()}
        self.ratios = {key: _mean(values) for key, values in ratios.items()}

    def seconds(self, configuration: Configuration, size: Size) -> float | None:
        """How long a run will take, about; None where nothing is known of its method."""
        known = self.took.get(_but_the_seed(configuration))
        if known is not None:
            return known
        training = training_seconds(configuration, size)
        if training is None:
            return None
        return self.ratios.get(_machinery(configuration), 1.0) * (training + evaluation_seconds(configuration, size))


def training_seconds(configuration: Configuration, size: Size) -> float | None:
    """How long training takes, about, on the machine of docs/speed.md; None for what was not measured there."""
    if configuration.get("network", "mlp") != "mlp" or configuration.get("device", "cpu") != "cpu":
        return None
    method, settings, examples = configuration["method"], configuration["hyperparameters"], sum(size.visits)
    batches = _batches(configuration, size)
    if method == "gem":
        microseconds = 9.0 * batches + _gem(settings["memories"], size.visits, configuration["batch_size"])
    elif method == "ewc":
        microseconds = 100.0 * batches
    elif method in ONE_STEP_A_BATCH:
        microseconds = 7.0 * batches + 2.4 * examples
    elif method in ONE_STEP_AN_EXAMPLE:
        microseconds = 10.0 * examples + 2.6 * (examples + _replayed(settings, examples))
    elif (count := steps(configuration, size)) is not None:
        microseconds = 10.0 * examples + 2.5 * count
    else:
        return None
    return 1e-6 * microseconds * _effort(configuration, size)


def evaluation_seconds(configuration: Configuration, size: Size) -> float:
    """How long all evaluations take, about, on the machine of docs/speed.md."""
    evaluations = 1 + len(size.visits)
    if configuration["eval_every"]:
        evaluations += _batches(configuration, size) // configuration["eval_every"]
    return 0.81e-6 * evaluations * size.tests * min(1.0, _effort(configuration, size))


def _batches(configuration: Configuration, size: Size) -> int:
    return sum(math.ceil(examples / configuration["batch_size"]) for examples in size.visits)


def _replayed(settings: Mapping[str, Any], examples: int) -> int:
    """The sum over examples i = 0 … n−1 of min(replay batch, i, memories): i are held before the i-th comes."""
    most: int = min(settings["replay_batch_size"], settings["memories"])
    growing = min(most, examples)
    return growing * (growing - 1) // 2 + most * (examples - growing)


def _gem(memories: int, visits: Sequence[int], batch_size: int) -> float:
    """Gradients of the past tasks' memories, and their quadratic programme: it grows with both numbers."""
    each = memories // len(visits)
    return sum(
        examples / batch_size * past * (250.0 + 4.7 * min(each, examples)) for past, examples in enumerate(visits)
    )


def _effort(configuration: Configuration, size: Size) -> float:
    """What a step costs, in steps of a 784-100-100-10 perceptron on MNIST, of whose inputs a fifth is not zero."""
    widths = (size.inputs // 5, *configuration["hidden"], size.classes)
    weights: int = sum(below * above for below, above in pairwise(widths))
    return (PYTORCH if configuration.get("engine", "fused") != "fused" else 1.0) * max(0.5, weights / 26_600)


def _machinery(configuration: Configuration) -> tuple[str, ...]:
    return tuple(str(configuration.get(name)) for name in ("method", "engine", "device", "network"))


def _but_the_seed(configuration: Configuration) -> str:
    drawn = {"seed", "task_order"} if configuration.get("order") == "shuffled" else {"seed"}
    return repr(sorted((name, value) for name, value in configuration.items() if name not in drawn))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def in_words(seconds: float) -> str:
    """A time as one would say it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
