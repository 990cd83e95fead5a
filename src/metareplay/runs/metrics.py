"""From the arrays of a run to the numbers that papers give; all are fractions. ``Record.metrics`` has them all.

A run makes v visits to n distinct tasks, numbered j = 0 … n−1 in the order in which they are first met. R, (v, n), is
the test accuracy: R[i, j] on task j when visit i ends, R[−1, j] when the last one ends; b[j] is that before any
training. first(j) is the visit in which task j is first met. Where no task returns, first(j) = j and n = v, papers' T.

What needs R alone is a function of R; the rest are functions of all evaluations, a ``History``. A number that would
have no meaning there is ``Undefined``, and says why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput

Matrix = NDArray[np.float64]
Visits = NDArray[np.int64]
RUNNING, POINTS = 1000, 200
"""Examples that a point of the running online accuracy is the mean of, and about how many points it has."""


@dataclass(frozen=True)
class Undefined:
    """Stands in the place of a number that would have no meaning."""

    because: str

    def __str__(self) -> str:
        return f"undefined, because {self.because}"


class Curve(NamedTuple):
    """``values (p,)`` along the stream; ``at (p,)``: the batches learned by then, for online accuracy the examples."""

    at: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class History:
    """What was measured in a run.

    Parameters
    ----------
    configuration
        What decided it: ``order``, ``scenario``, ``epochs`` and ``evaluate`` make some numbers meaningless.
    visits
        ``(v,)`` the tasks visited, in order.
    evaluated_at, evaluated_visit
        ``(e,)`` for each evaluation the number of batches learned before it, and the visit under way or just ended;
        -1 before any training.
    correct
        ``(e, tasks)`` right answers on each task's test examples; there are ``test_sizes (tasks,)`` of these.
    right_by_visit
        ``(v, 2)`` how many examples of each visit were predicted right before they were learned, and how many came;
        where tasks come mixed, those that belong to it. None in older records.
    right_by_thousand
        ``(⌈examples / 1000⌉,)`` the same of each thousand examples, as they came.
    predicted_right
        ``(examples,)`` the same of each example; ``(0,)`` where ``evaluate`` is ``never``.
    units
        ``(v, layers, 3)``: ``unit_measures`` when each visit ended; None unless ``watch_units`` was asked for.
    """

    configuration: dict[str, Any]
    visits: NDArray[np.int64]
    evaluated_at: NDArray[np.int64]
    evaluated_visit: NDArray[np.int64]
    correct: NDArray[np.int64]
    test_sizes: NDArray[np.int64]
    predicted_right: NDArray[np.bool_]
    right_by_visit: NDArray[np.int64] | None = None
    right_by_thousand: NDArray[np.int64] | None = None
    units: NDArray[np.float64] | None = None

    @property
    def iid(self) -> bool:
        """Whether all tasks' examples came mixed together, none after another."""
        return self.configuration.get("order") == "iid"

    @property
    def evaluate(self) -> str:
        """When it was evaluated: ``borders``, ``end`` or ``never``."""
        return str(self.configuration.get("evaluate", "borders"))

    @property
    def online(self) -> tuple[int, int]:
        """How many examples were predicted right before they were learned, and how many there were."""
        if self.right_by_visit is None:
            return int(self.predicted_right.sum()), len(self.predicted_right)
        right, examples = self.right_by_visit.sum(0).tolist()
        return right, examples

    @cached_property
    def tasks(self) -> Visits:
        """The distinct tasks, in the order in which they were first met; ``(n,)``."""
        return self.visits[np.sort(np.unique(self.visits, return_index=True)[1])]

    @cached_property
    def first_visits(self) -> Visits:
        """The visit in which each of ``tasks`` was first met; ``(n,)``. Zero for all where they came mixed."""
        return np.array([0 if self.iid else self.visits.tolist().index(task) for task in self.tasks])

    @cached_property
    def evaluations(self) -> Matrix:
        """The accuracy on each of ``tasks`` at every evaluation; ``(e, n)``."""
        return np.asarray((self.correct / self.test_sizes)[:, self.tasks])

    @cached_property
    def accuracy(self) -> Matrix:
        """R: row i is when visit i ended, column j the j-th of ``tasks``; ``(v, n)``.

        ``(1, n)``, the end, where all came mixed or nothing else was evaluated; ``(0, n)`` where nothing was.
        """
        visits = len(self.visits)
        ends = range({"end": visits - 1, "never": visits}.get(self.evaluate, visits - 1 if self.iid else 0), visits)
        return self.evaluations[[np.flatnonzero(self.evaluated_visit == visit)[-1] for visit in ends]]

    @cached_property
    def baseline(self) -> NDArray[np.float64]:
        """b: the same before any training; ``(n,)``, or ``(0,)`` where that was not evaluated."""
        return self.evaluations[0] if self.evaluate == "borders" else np.zeros(0)


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

    GEM's FWT (equation 4) is the same sum over n − 1.
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


def minimum_accuracy(history: History) -> float:
    """min-ACC: mean over n − 1 tasks of the lowest accuracy at any evaluation after the task's first visit ended.

    De Lange et al. 2023 (the stability gap). All tasks count but that of the last visit. The more evaluations
    (``eval_every``), the lower.
    """
    return float(_lowest(history)[history.tasks != history.visits[-1]].mean())


def worst_dip(history: History) -> float:
    """Worst dip: the most that any task ever fell below R[first(j), j] after its first visit ended; at least zero."""
    return max(0.0, float((_learned(history.accuracy, history.first_visits) - _lowest(history)).max()))


def stability_gap(history: History) -> float | Undefined:
    """Stability gap: how far tasks fall within a visit to another one, whether or not they recover by its end.

    Mean over all visits i ≥ 1, and over the tasks met before and not visited in i, of R[i − 1, j] less the lowest
    accuracy at the evaluations within visit i, its end not among them (after De Lange et al. 2023). Undefined where a
    visit has no evaluation within.
    """
    evaluations = history.evaluations
    falls: list[NDArray[np.float64]] = []
    for visit in range(1, len(history.visits)):
        within = np.flatnonzero(history.evaluated_visit == visit)[:-1]
        if not len(within):
            return Undefined("there was no evaluation within a task; with --eval-every there is")
        met = (history.first_visits < visit) & (history.tasks != history.visits[visit])
        falls.append((history.accuracy[visit - 1] - evaluations[within].min(axis=0))[met])
    return float(np.concatenate(falls).mean())


def online_accuracy(history: History) -> float:
    """Online accuracy: the share of examples that were predicted right before they were learned (prequential)."""
    right, examples = history.online
    return right / examples


def average_anytime_accuracy(history: History) -> float:
    """AAA: mean over all evaluations after the start of the average accuracy there (Caccia et al. 2022)."""
    return float(average_accuracy(history).values.mean())


def anytime_area(history: History) -> float:
    """AUC: area under the curve of average accuracy over the batches learned, over its length (Koh et al. 2022).

    By the trapezoid rule, from the first evaluation after the start to the last; of one, that one.
    """
    at, values = average_accuracy(history)
    return float(np.trapezoid(values, at) / (at[-1] - at[0]) if len(at) > 1 else values[0])


def worst_case_accuracy(history: History) -> float:
    """WC-ACC: R[−1, k] / n + (1 − 1 / n) min-ACC, k the task of the last visit (De Lange et al. 2023, equation 3)."""
    n, last = len(history.tasks), history.tasks.tolist().index(history.visits[-1])
    return float(history.accuracy[-1, last] / n + (1 - 1 / n) * minimum_accuracy(history))


def plasticity(history: History, fresh: History) -> NDArray[np.float64]:
    """Online accuracy of each visit less that of a ``fresh`` network on the same examples: ``(v,)``.

    ``fresh`` is the same stream learned by ``fresh``, which begins each task anew: below zero, plasticity was lost.
    BadInput if the two runs visited other tasks, or do not know the counts by visit.
    """
    counts = [one.right_by_visit for one in (history, fresh)]
    if counts[0] is None or counts[1] is None or not np.array_equal(history.visits, fresh.visits):
        raise BadInput("plasticity compares two runs that visit the same tasks and count right answers by visit")
    ours, theirs = (count[:, 0] / count[:, 1] for count in counts if count is not None)
    return np.asarray(ours - theirs)


def distance_to_iid(history: History, iid: History) -> float:
    """RA of the same run with all tasks mixed (``order="iid"``) − RA: the cost of learning one after another.

    BadInput if the other run is not mixed, or differs in more than its order and how often it was evaluated.
    """
    if not iid.iid:
        given = iid.configuration.get("order", "tasks")
        raise BadInput(f"the run to measure the distance to has the order {given!r}, but must have 'iid'")
    one, other = history.configuration, iid.configuration
    apart = [name for name in one | other if name not in ORDER and one.get(name) != other.get(name)]
    if apart:
        raise BadInput(f"two runs can differ in their order only, but these differ in {', '.join(apart)}")
    return retained_accuracy(iid.accuracy) - retained_accuracy(history.accuracy)


ORDER = ("order", "task_order", "evaluate", "eval_every")
"""In what a run may differ from the mixed one that it is held against."""


def average_accuracy(history: History) -> Curve:
    """Average accuracy: at every evaluation after the start, the mean accuracy on the tasks met by then.

    Chaudhry et al. 2018 (Riemannian walk), who evaluate at the ends of tasks. Where tasks came mixed, all are met.
    """
    after = np.flatnonzero(history.evaluated_visit >= 0)
    met = history.first_visits <= history.evaluated_visit[after, None]
    values = [row[tasks].mean() for row, tasks in zip(history.evaluations[after], met, strict=True)]
    return Curve(history.evaluated_at[after], np.array(values))


def first_task(history: History) -> Curve:
    """The accuracy on the task that came first, at every evaluation: forgetting made visible."""
    return Curve(history.evaluated_at, history.evaluations[:, 0])


def running_online_accuracy(history: History) -> Curve:
    """The online accuracy of the last 1000 examples (of all, while there are fewer), at about 200 places."""
    _, examples = history.online
    if len(history.predicted_right) == 0 and history.right_by_thousand is not None:
        thousands = history.right_by_thousand
        which = np.arange(len(thousands) - 1, -1, -max(1, len(thousands) // POINTS))[::-1]
        at = np.minimum((which + 1) * RUNNING, examples)
        return Curve(at, thousands[which] / (at - which * RUNNING))
    right = np.concatenate([[0], np.cumsum(history.predicted_right)])
    at = np.arange(examples, 0, -max(1, examples // POINTS))[::-1]
    begin = np.maximum(at - RUNNING, 0)
    return Curve(at, (right[at] - right[begin]) / (at - begin))


def task_accuracy(history: History) -> Curve | Undefined:
    """The online accuracy of each task as it came, which tells whether the network can still learn."""
    if history.right_by_visit is None:
        return Undefined("the record is older than counts by task")
    right, examples = history.right_by_visit.T
    return Curve(np.cumsum(examples), right / np.maximum(examples, 1))


def _of_units(measure: int, history: History) -> Curve | Undefined:
    """A measure at the end of each visit, mean over the layers that have it."""
    if history.units is None:
        return Undefined("units were not watched; with --watch-units they are")
    found = history.units[:, :, measure]
    if np.isnan(found).all():
        return Undefined("the network has no hidden units")
    return Curve(np.arange(1, len(found) + 1), np.nanmean(found, axis=1))


def dead_units(h: NDArray[np.floating[Any]]) -> float:
    """The share of a layer's units that are never on, of outputs ``h (n, units)`` (Dohare et al. 2024)."""
    return float((h <= 0).all(0).mean())


def effective_rank(h: NDArray[np.floating[Any]]) -> float:
    """e to the entropy of the normalised singular values of ``h (n, units)`` (Roy and Vetterli 2007); 0 if h is 0."""
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(h.T.astype(np.float64) @ h), 0))
    shares = values[values > 1e-9 * values.max()] / values.sum() if values.any() else np.ones(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def unit_measures(layers: Sequence[tuple[Any, Any]], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each layer: dead units, effective rank over units, mean abs weight ``(layers, 3)``; the last has no units."""
    measures = np.full((len(layers), 3), np.nan)
    for number, (weights, biases) in enumerate(layers):
        measures[number, 2] = np.abs(weights).mean()
        if number + 1 < len(layers):
            x = np.maximum(x @ np.asarray(weights) + np.asarray(biases), 0)
            measures[number, :2] = dead_units(x), effective_rank(x) / x.shape[1]
    return measures


def _unless(
    reasons: Sequence[str], curve: Callable[[History], Curve | Undefined], history: History
) -> Curve | Undefined:
    return _undefined(history, *reasons) or curve(history)


CURVES: dict[str, Callable[[History], Curve | Undefined]] = {
    "average_accuracy": partial(_unless, ("never",), average_accuracy),
    "first_task": partial(_unless, ("mixed", "never"), first_task),
    "online_accuracy": partial(_unless, ("epochs", "returned"), running_online_accuracy),
    "task_accuracy": partial(_unless, ("mixed", "epochs", "returned"), task_accuracy),
    "dead_units": partial(_of_units, 0),
    "effective_rank": partial(_of_units, 1),
    "weight_size": partial(_of_units, 2),
}
"""The curves along the stream, by name."""


REASONS: dict[str, tuple[Callable[[History], Any], str]] = {
    "mixed": (lambda h: h.iid, "all tasks came mixed, none after another"),
    "never": (lambda h: h.evaluate == "never", "tasks were never tested: evaluate = never"),
    "end": (lambda h: h.evaluate == "end", "tasks were tested at the end alone: evaluate = end"),
    "one": (lambda h: len(h.tasks) == 1, "there is only one task"),
    "new": (
        lambda h: h.configuration.get("scenario") == "class-incremental",
        "a task's classes cannot be predicted before it came",
    ),
    "epochs": (
        lambda h: h.configuration.get("epochs", 1) > 1,
        "in {epochs} epochs examples came that had been learned already",
    ),
    "returned": (  # where tasks recur it is with other examples each time
        lambda h: len(h.tasks) < len(h.visits) and not str(h.configuration.get("order")).startswith("recurring"),
        "tasks returned, with examples that had been learned already",
    ),
}
_ONCE = ("never", "end")
_ONE_TASK = ("mixed", *_ONCE, "one")
_SEEN_AGAIN = ("epochs", "returned")


def _undefined(history: History, *reasons: str) -> Undefined | None:
    """The first of some reasons that there is."""
    found = (text for applies, text in map(REASONS.__getitem__, reasons) if applies(history))
    return next((Undefined(text.format(**history.configuration)) for text in found), None)


@dataclass(frozen=True)
class Metric:
    """A metric, and how it is shown.

    ``function`` works it out ``unless`` one of ``REASONS`` makes it meaningless; ``short`` is what tables call it. A
    ``difference`` of accuracies can have either sign, which is then shown.
    """

    function: Callable[[History], float | Undefined]
    unless: tuple[str, ...]
    short: str
    meaning: str
    difference: bool = False
    higher_is_better: bool = True

    def of(self, history: History) -> float | Undefined:
        return _undefined(history, *self.unless) or self.function(history)


# fmt: off
METRICS = {
    "retained_accuracy": Metric(lambda h: retained_accuracy(h.accuracy), ("never",),
        "RA", "retained accuracy: on all tasks, at the end"),
    "learning_accuracy": Metric(lambda h: learning_accuracy(h.accuracy, h.first_visits), ("mixed", *_ONCE),
        "LA", "learning accuracy: on each task, right after it was learned"),
    "backward_transfer": Metric(lambda h: backward_transfer(h.accuracy, h.first_visits), _ONE_TASK,
        "BTI", "backward transfer and interference: RA − LA", difference=True),
    "forward_transfer": Metric(lambda h: forward_transfer(h.accuracy, h.baseline, h.first_visits), (*_ONE_TASK, "new"),
        "FT", "forward transfer: before each task came, above no training", difference=True),
    "forgetting": Metric(lambda h: forgetting(h.accuracy, h.tasks.tolist().index(h.visits[-1])), _ONE_TASK,
        "forgetting", "forgetting: from each task's best to the end", difference=True, higher_is_better=False),
    "minimum_accuracy": Metric(minimum_accuracy, _ONE_TASK,
        "min-ACC", "minimum accuracy: each task's lowest since it was learned"),
    "worst_dip": Metric(worst_dip, _ONE_TASK,
        "worst dip", "worst dip: the most that any task fell since it was learned", higher_is_better=False),
    "stability_gap": Metric(stability_gap, _ONE_TASK,
        "stability gap", "stability gap: how far tasks fall right after a switch", difference=True,
        higher_is_better=False),
    "online_accuracy": Metric(online_accuracy, _SEEN_AGAIN,
        "online", "online accuracy: on each example, before it was learned"),
    "average_anytime_accuracy": Metric(average_anytime_accuracy, _ONCE,
        "AAA", "average anytime accuracy: mean over all evaluations"),
    "anytime_area": Metric(anytime_area, _ONCE,
        "AUC", "area under the curve of average accuracy"),
    "worst_case_accuracy": Metric(worst_case_accuracy, _ONE_TASK,
        "WC-ACC", "worst-case accuracy: last task, and others' lowest"),
}
# fmt: on
"""By name, in the order in which they are shown."""


def _learned(matrix: Matrix, first_visits: Visits | None) -> NDArray[np.float64]:
    """R[first(j), j]; ``(n,)``."""
    tasks = np.arange(matrix.shape[1])
    return np.asarray(matrix[tasks if first_visits is None else first_visits, tasks])


def _lowest(history: History) -> NDArray[np.float64]:
    """The lowest accuracy on each task after its first visit ended, infinite without evaluations; ``(n,)``."""
    since = history.evaluated_visit[:, None] > history.first_visits
    return np.asarray(np.where(since, history.evaluations, np.inf).min(axis=0))
