"""Records put together over seeds: which belong together, what they are called, and their means."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import made_records
from metareplay import BadInput
from metareplay.results.groups import groups
from metareplay.results.statistics import Estimate
from metareplay.runs import metrics
from metareplay.runs.folder import Status


def record(seed=0, *, end=9, **configuration):
    """A record of two tasks, with ``end`` of 10 right at the end on task 0."""
    made = made_records.record(**{"method": "eralg4", "memories": 200, "tasks": 2} | configuration, seed=seed)
    given = made.configuration
    return replace(
        made,
        started=f"2024-01-01T00:00:{end:02}+00:00",
        visits=np.array(given["task_order"]),
        evaluated_at=np.array([0, 5, 10]),
        evaluated_visit=np.array([-1, 1, 1] if given["order"] == "iid" else [-1, 0, 1]),
        correct=np.array([[1, 2], [8, 2], [end, 9]]),
        test_sizes=np.array([10, 10]),
        steps=1 + seed,
    )


CONFIGURATION = record().configuration


def test_the_same_configuration_with_several_seeds_is_one_group():
    (one,) = groups([record(2), record(0), record(1)])
    assert one.seeds == (0, 1, 2)
    assert (one.benchmark, one.method, one.memories) == ("little", "eralg4", 200)
    assert one.configuration["hyperparameters"] == {"lr": 0.1, "memories": 200}
    assert "seed" not in one.configuration
    assert (one.problem, one.label) == ("little", "eralg4, 200 memories")
    with pytest.raises(BadInput, match=r"'accuracy'; did you mean online_accuracy\? there are retained_accuracy"):
        one.values("accuracy")
    with pytest.raises(BadInput, match=r"'loss'; there are average_accuracy"):
        one.curve("loss")
    (one,) = groups([record(0, order="shuffled", task_order=[0, 1]), record(1, order="shuffled", task_order=[1, 0])])
    assert one.seeds == (0, 1)  # each has the order that its seed draws
    assert groups([]) == []


@pytest.mark.parametrize(
    "other",
    [
        {"hyperparameters": {"lr": 0.2, "memories": 200}}, {"method": "online", "hyperparameters": {}}, {"epochs": 2},
        {"method_sha256": "ab" * 32}, {"hidden": [50]}, {"network": "cnn-small"}, {"stream": {"tasks": 3}},
        {"samples_per_task": 100}, {"order": "iid"}, {"task_order": [1, 0]}, {"benchmark": "other"},
        {"something": "of a later version"},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_anything_else_that_differs_makes_another_group_with_another_name(other):
    made = groups([record(0), record(1), record(0, **other)])
    assert sorted(len(group.runs) for group in made) == [1, 2]
    assert len({(group.problem, group.label) for group in made}) == 2


def test_methods_and_networks_are_compared_on_one_problem_but_streams_and_epochs_are_not():
    same = [{}, {"method": "online", "hyperparameters": {}}, {"hidden": [50]}, {"network": "cnn"}, {"engine": "torch"}]
    assert len({group.problem for group in groups(record(0, **other) for other in same)}) == 1
    apart = [{}, {"epochs": 2}, {"order": "iid"}, {"stream": {"tasks": 3}}, {"task_order": [1, 0]}]
    found = groups(record(0, **other) for other in apart)
    assert len({group.problem for group in found}) == len(apart)


def test_names_say_what_differs_and_no_more():
    several = [record(hyperparameters={"lr": lr, "memories": n}) for lr, n in ((0.1, 200), (0.2, 200), (0.2, 5120))]
    made = groups([*several, *(record(method="online", hyperparameters={"lr": 0.003}, epochs=n) for n in (1, 2))])
    assert [(group.problem, group.label) for group in made] == [
        ("little, epochs=1", "eralg4, 5120 memories"),
        ("little, epochs=1", "eralg4, 200 memories, lr=0.1"),
        ("little, epochs=1", "eralg4, 200 memories, lr=0.2"),
        ("little, epochs=1", "online"),
        ("little, epochs=2", "online"),
    ]


def test_long_orders_of_tasks_have_short_names_that_differ():
    one, other = list(range(100))[::-1], [*range(50, 100), *range(50)]
    made = groups(Status(Path(), "failed", configuration=CONFIGURATION | {"task_order": o}) for o in (one, other))
    assert len({group.problem for group in made}) == 2
    assert max(len(group.problem) for group in made) < 60


def test_of_two_records_of_one_run_the_later_counts():
    for order in ((5, 7), (7, 5)):
        (one,) = groups(record(0, end=end) for end in order)
        assert one.mean("retained_accuracy") == pytest.approx((0.7 + 0.9) / 2)


def test_values_matrices_and_curves_are_means_over_seeds_with_students_intervals():
    (one,) = groups([record(1, end=7), record(0, end=5), record(2, end=8)])
    values = one.values("retained_accuracy")
    np.testing.assert_allclose(np.asarray(values), [0.7, 0.8, 0.85])
    interval = one.interval("retained_accuracy")
    assert isinstance(interval, Estimate)
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert interval.ends == (pytest.approx(low), pytest.approx(high))
    np.testing.assert_array_equal(np.asarray(one.values("steps")), [1, 2, 3])
    (one,) = groups([record(0, end=5), record(1, end=8)])
    np.testing.assert_allclose(one.accuracy, [[0.8, 0.2], [0.65, 0.9]])
    curve = one.curve("first_task")
    np.testing.assert_allclose(curve.at, [0, 5, 10])
    np.testing.assert_allclose(curve.mean, [0.1, 0.8, 0.65])
    np.testing.assert_allclose(curve.high - curve.low, [0, 0, 2 * 12.7062 * 0.15], rtol=1e-4)
    assert curve.seeds == 2
    (alone,) = groups([record(0)])
    single = alone.curve("average_accuracy")
    assert (single.low, single.high) == (None, None)


def test_what_is_undefined_stays_so():
    (one,) = groups([record(0, order="iid"), record(1, order="iid")])
    for ask in (one.values, one.mean, one.interval):
        assert isinstance(ask("forgetting"), metrics.Undefined)
    assert isinstance(one.curve("first_task"), metrics.Undefined)
    assert one.accuracy.shape == (1, 2)


def test_unfinished_runs_count_where_they_belong(tmp_path):
    stopped = Status(tmp_path, "stopped", configuration=CONFIGURATION | {"seed": 1})
    other = Status(tmp_path, "failed", configuration=CONFIGURATION | {"epochs": 2})
    one, alone = groups([record(0), stopped, Status(tmp_path, "broken"), other])
    assert (one.seeds, one.unfinished) == ((0,), 1)
    assert (alone.seeds, alone.unfinished) == ((), 1)


def test_what_a_terminal_would_obey_is_shown_and_names_nothing_else():
    (one,) = groups([record(0, method="m\x1b[31m.py:M", benchmark="d\udcff\n")])
    assert (one.label, one.problem) == (r"m\x1b[31m.py:M, 200 memories", r"d\udcff\n")
    assert one.method == "m\x1b[31m.py:M"
