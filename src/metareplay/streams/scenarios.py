"""Scenarios: among which classes a learner has to choose, in training and in testing.

The three are those of van de Ven and Tolias (2019) and van de Ven, Tuytelaars and Tolias (2022).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from metareplay.streams.stream import Stream

DOMAIN, TASK, CLASS = SCENARIOS = ("domain-incremental", "task-incremental", "class-incremental")


def allowed_classes(stream: Stream, scenario: str, met: Collection[int]) -> NDArray[np.bool_] | None:
    """Which classes are scored for each task's examples: what ``Learner.restrict`` takes.

    Parameters
    ----------
    scenario
        Domain-incremental: all classes, always. Task-incremental: those of the example's own task. Class-incremental:
        those of all tasks met so far, whichever task the example is of.
    met
        The tasks met so far, by number, the present one too. Before the first there is no class to choose, and a
        class-incremental learner is not restricted: an evaluation then shows what the untrained network answers.

    Returns
    -------
    allowed
        ``(tasks, classes)``, or None where all classes are allowed to every task.
    """
    if scenario == DOMAIN:
        return None
    own = np.zeros((len(stream.tasks), stream.classes), bool)
    for number, task in enumerate(stream.tasks):
        own[number, slice(None) if task.classes is None else list(task.classes)] = True
    if scenario == CLASS:
        own[:] = own[sorted(met)].any(0) if met else True
    return None if own.all() else own


def fitting(classes: Sequence[Collection[int]]) -> tuple[str, ...]:
    """The scenarios that make a difference for tasks with these classes; the likeliest first.

    Tasks that all have the same classes are domain-incremental and nothing else. Where no two tasks share a class,
    the classes are what is new in a task. Where some do, it may be either.
    """
    kinds = {frozenset(own) for own in classes}
    if len(kinds) == 1:
        return (DOMAIN,)
    disjoint = sum(map(len, classes)) == len(frozenset().union(*kinds))
    return (CLASS, TASK) if disjoint else SCENARIOS


def with_classes_of_labels(stream: Stream) -> Stream:
    """The same stream, where each task's classes are those of its labels, with the scenarios that fit them."""
    classes = [np.union1d(task.train.labels, task.test.labels).tolist() for task in stream.tasks]
    tasks = (replace(task, classes=tuple(own)) for task, own in zip(stream.tasks, classes, strict=True))
    return replace(stream, tasks=tuple(tasks), scenarios=fitting(classes))
