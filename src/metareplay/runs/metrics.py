"""From the raw record of a run to the numbers that papers give; all are fractions. ``Record.metrics`` has them all.

A run makes v visits to n distinct tasks, numbered j = 0 … n−1 in the order in which they are first met. R, (v, n), is
the test accuracy: R[i, j] on task j when visit i ends, R[−1, j] when the last one ends; b[j] is that before any
training. first(j) is the visit in which task j is first met. Where no task returns, first(j) = j and n = v, papers' T.

What needs R alone is a function of R; the rest are functions of a record. A number that would have no meaning in a
record is ``Undefined`` there, and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput

if TYPE_CHECKING:
    from metareplay.runs.record import Record

Matrix = NDArray[np.float64]
Visits = NDArray[np.int64]

RUNNING = 1000
"""Examples that a point of the running online accuracy is the mean of."""

POINTS = 200
"""Points of the running online accuracy, about."""


@dataclass(frozen=True)
class Undefined:
    """What stands in the place of a number that would have no meaning."""

    because: str

    def __str__(self) -> str:
        return f"undefined, because {self.because}"


class Curve(NamedTuple):
    """Values along the stream.

    ``at`` is ``(p,)``, the batches learned by then (for the online accuracy, the examples); ``values`` is ``(p,)``.
    """

    at: NDArray[np.int64]
    values: NDArray[np.float64]


# From the matrix. Without ``first_visits``, no task returns: task j is met in visit j.


def retained_accuracy(matrix: Matrix) -> float:
    """RA: mean over all n tasks of R[−1, j] (MER, section 4)."""
    return float(matrix[-1].mean())


def learning_accuracy(matrix: Matrix, first_visits: Visits | None = None) -> float:
    """LA: mean over all n tasks of R[first(j), j] (MER, section 4)."""
    return float(_learned(matrix, first_visits).mean())


def backward_transfer(matrix: Matrix, first_visits: Visits | None = None) -> float:
    """BTI, backward transfer and interference: mean over all n tasks of R[−1, j] − R[first(j), j] (MER, section 4).

    Task n − 1 counts as the others do. GEM's BWT (equation 3) leaves it out and divides by n − 1.
    """
    return float((matrix[-1] - _learned(matrix, first_visits)).mean())


def forward_transfer(matrix: Matrix, baseline: NDArray[np.float64], first_visits: Visits | None = None) -> float:
    """FT: mean over all n tasks of R[first(j) − 1, j] − b[j], the first task's taken as zero.

    The same sum as GEM's FWT (equation 4), which divides it by n − 1.
    """
    tasks = np.arange(matrix.shape[1])
    before = (tasks if first_visits is None else first_visits)[1:] - 1
    return float((matrix[before, tasks[1:]] - baseline[1:]).sum() / len(tasks))


def forgetting(matrix: Matrix, last: int = -1) -> float:
    """Forgetting: mean over n − 1 tasks of max over i < v − 1 of R[i, j], less R[−1, j].

    Chaudhry et al. 2018 (Riemannian walk). All tasks count but that of the last visit, in column ``last``.
    Below zero where tasks had never been as good as they are at the end.
    """
    return float(np.delete(matrix[:-1].max(axis=0) - matrix[-1], last).mean())


# From all evaluations


def minimum_accuracy(record: Record) -> float:
    """min-ACC: mean over n − 1 tasks of the lowest accuracy at any evaluation after the task's first visit ended.

    De Lange et al. 2023 (the stability gap). All tasks count but that of the last visit. Who looks more often
    (``eval_every``) sees lower ones.
    """
    return float(_lowest(record)[record.tasks != record.visits[-1]].mean())


def worst_dip(record: Record) -> float:
    """Worst dip: the most that any task ever fell below R[first(j), j] after its first visit ended; at least zero.

    Who looks more often sees deeper ones.
    """
    return max(0.0, float((_learned(record.accuracy, record.first_visits) - _lowest(record)).max()))


def stability_gap(record: Record) -> float | Undefined:
    """Stability gap: how far tasks fall within a visit to another one, whether or not they recover by its end.

    Mean over all visits i ≥ 1, and over the tasks met before and not visited in i, of R[i − 1, j] less the lowest
    accuracy at the evaluations within visit i, its end not among them. After De Lange et al. 2023, who found that tasks
    fall right after a switch, and that much of it comes back. Undefined where a visit has no evaluation within.
    """
    evaluations = _evaluations(record)
    falls: list[NDArray[np.float64]] = []
    for visit in range(1, len(record.visits)):
        within = np.flatnonzero(record.evaluated_visit == visit)[:-1]
        if not len(within):
            return Undefined("there was no evaluation within a task; with --eval-every there is")
        met = (record.first_visits < visit) & (record.tasks != record.visits[visit])
        falls.append((record.accuracy[visit - 1] - evaluations[within].min(axis=0))[met])
    return float(np.concatenate(falls).mean())


def online_accuracy(record: Record) -> float:
    """Online accuracy: the share of examples that were predicted right before they were learned (prequential)."""
    return float(record.predicted_right.mean())


def distance_to_iid(record: Record, iid: Record) -> float:
    """How much less is retained than by the same run with the examples of all tasks mixed (``order="iid"``).

    RA of the mixed run − RA: what learning one task after another has cost.

    Raises
    ------
    BadInput
        If the other run is not mixed, or differs in more than its order and how often it was evaluated.
    """
    if not iid.iid:
        given = iid.configuration.get("order", "tasks")
        raise BadInput(f"the run to measure the distance to has the order {given!r}, but must have 'iid'")
    one, other = record.configuration, iid.configuration
    apart = [name for name in one | other if name not in ORDER and one.get(name) != other.get(name)]
    if apart:
        raise BadInput(f"two runs can differ in their order only, but these differ in {', '.join(apart)}")
    return retained_accuracy(iid.accuracy) - retained_accuracy(record.accuracy)


ORDER = ("order", "task_order", "eval_every")
"""In what a run may differ from the mixed one that it is held against."""


# Along the stream


def average_accuracy(record: Record) -> Curve:
    """Average accuracy: at every evaluation, the mean accuracy on the tasks met by then.

    Chaudhry et al. 2018 (Riemannian walk), who evaluate at the ends of tasks. Before any training no task is
    met, so the curve begins after that. Where tasks came mixed, all are met from the start.
    """
    after = np.flatnonzero(record.evaluated_visit >= 0)
    met = record.first_visits <= record.evaluated_visit[after, None]
    values = [row[tasks].mean() for row, tasks in zip(_evaluations(record)[after], met, strict=True)]
    return Curve(record.evaluated_at[after], np.array(values))


def first_task(record: Record) -> Curve | Undefined:
    """The accuracy on the task that came first, at every evaluation: forgetting made visible."""
    return _mixed(record) or Curve(record.evaluated_at, _evaluations(record)[:, 0])


def running_online_accuracy(record: Record) -> Curve | Undefined:
    """The online accuracy of the last 1000 examples (of all, while there are fewer), at about 200 places."""
    if undefined := _seen_again(record):
        return undefined
    examples = len(record.predicted_right)
    right = np.concatenate([[0], np.cumsum(record.predicted_right)])
    at = np.arange(examples, 0, -max(1, examples // POINTS))[::-1]
    begin = np.maximum(at - RUNNING, 0)
    return Curve(at, (right[at] - right[begin]) / (at - begin))


CURVES: dict[str, Callable[[Record], Curve | Undefined]] = {
    "average_accuracy": average_accuracy,
    "first_task": first_task,
    "online_accuracy": running_online_accuracy,
}
"""The curves along the stream, by name."""


# Of a record, with what makes them undefined


@dataclass(frozen=True)
class Metric:
    """A metric of a record, and how it is shown.

    Parameters
    ----------
    of
        Works it out.
    short
        What tables call it.
    meaning
        What it is, in a few words.
    difference
        Whether it is a difference of accuracies that can have either sign, which is then shown.
    higher_is_better
        Which way is better.
    """

    of: Callable[[Record], float | Undefined]
    short: str
    meaning: str
    difference: bool = False
    higher_is_better: bool = True


def _several_tasks(of: Callable[[Record], float | Undefined]) -> Callable[[Record], float | Undefined]:
    """The same, undefined where no task came after another."""
    return lambda record: _mixed(record) or _one_task(record) or of(record)


METRICS = {
    "retained_accuracy": Metric(
        lambda r: retained_accuracy(r.accuracy), "RA", "retained accuracy: on all tasks, at the end"
    ),
    "learning_accuracy": Metric(
        lambda r: _mixed(r) or learning_accuracy(r.accuracy, r.first_visits),
        "LA",
        "learning accuracy: on each task, right after it was learned",
    ),
    "backward_transfer": Metric(
        _several_tasks(lambda r: backward_transfer(r.accuracy, r.first_visits)),
        "BTI",
        "backward transfer and interference: RA − LA",
        difference=True,
    ),
    "forward_transfer": Metric(
        _several_tasks(lambda r: _new_classes(r) or forward_transfer(r.accuracy, r.baseline, r.first_visits)),
        "FT",
        "forward transfer: before each task came, above no training",
        difference=True,
    ),
    "forgetting": Metric(
        _several_tasks(lambda r: forgetting(r.accuracy, int(np.flatnonzero(r.tasks == r.visits[-1])[0]))),
        "forgetting",
        "forgetting: from each task's best to the end",
        difference=True,
        higher_is_better=False,
    ),
    "minimum_accuracy": Metric(
        _several_tasks(minimum_accuracy), "min-ACC", "minimum accuracy: each task's lowest since it was learned"
    ),
    "worst_dip": Metric(
        _several_tasks(worst_dip),
        "worst dip",
        "worst dip: the most that any task fell since it was learned",
        higher_is_better=False,
    ),
    "stability_gap": Metric(
        _several_tasks(stability_gap),
        "stability gap",
        "stability gap: how far tasks fall right after a switch",
        difference=True,
        higher_is_better=False,
    ),
    "online_accuracy": Metric(
        lambda r: _seen_again(r) or online_accuracy(r),
        "online",
        "online accuracy: on each example, before it was learned",
    ),
}
"""By name, in the order in which they are shown."""


def _mixed(record: Record) -> Undefined | None:
    return Undefined("all tasks came mixed, none after another") if record.iid else None


def _one_task(record: Record) -> Undefined | None:
    return Undefined("there is only one task") if len(record.tasks) == 1 else None


def _new_classes(record: Record) -> Undefined | None:
    if record.configuration.get("scenario") == "class-incremental":
        return Undefined("a task's classes cannot be predicted before it came")
    return None


def _seen_again(record: Record) -> Undefined | None:
    epochs = record.configuration.get("epochs", 1)
    if epochs > 1:
        return Undefined(f"in {epochs} epochs examples came that had been learned already")
    if len(record.tasks) < len(record.visits):
        return Undefined("tasks returned, with examples that had been learned already")
    return None


def _evaluations(record: Record) -> Matrix:
    """The accuracy on each of the record's ``tasks`` at every evaluation; ``(e, n)``."""
    return np.asarray((record.correct / record.test_sizes)[:, record.tasks])


def _learned(matrix: Matrix, first_visits: Visits | None) -> NDArray[np.float64]:
    """R[first(j), j]; ``(n,)``."""
    tasks = np.arange(matrix.shape[1])
    return np.asarray(matrix[tasks if first_visits is None else first_visits, tasks])


def _lowest(record: Record) -> NDArray[np.float64]:
    """The lowest accuracy on each task after its first visit ended, infinite without evaluations; ``(n,)``."""
    since = record.evaluated_visit[:, None] > record.first_visits
    return np.asarray(np.where(since, _evaluations(record), np.inf).min(axis=0))
