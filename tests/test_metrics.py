"""The metrics, by hand on small matrices and records."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metareplay
from metareplay import BadInput, Record
from metareplay.runs import metrics
from metareplay.runs import record as records
from metareplay.runs.metrics import (
    CURVES,
    Undefined,
    dead_units,
    effective_rank,
    plasticity,
    task_accuracy,
    unit_measures,
)

# R[i, j]: accuracy on task j when task i ends.
MATRIX = np.array([[0.8, 0.3, 0.2], [0.6, 0.9, 0.4], [0.5, 0.7, 1.0]])
BASELINE = np.array([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (metrics.retained_accuracy(MATRIX), (0.5 + 0.7 + 1.0) / 3),
        (metrics.learning_accuracy(MATRIX), (0.8 + 0.9 + 1.0) / 3),
        (metrics.backward_transfer(MATRIX), ((0.5 - 0.8) + (0.7 - 0.9) + 0) / 3),
        (metrics.forward_transfer(MATRIX, BASELINE), (0 + (0.3 - 0.2) + (0.4 - 0.3)) / 3),
        (metrics.forgetting(MATRIX), ((0.8 - 0.5) + (0.9 - 0.7)) / 2),
        (metrics.forgetting(np.array([[0.5, 0.9, 0], [0.7, 0.6, 0], [0.4, 0.8, 1]])), (0.3 + 0.1) / 2),
        (metrics.forgetting(np.array([[0.5, 0.1], [0.8, 0.9]])), -0.3),
    ],
    ids=["RA", "LA", "BTI", "FT", "forgetting", "the best before or after a task's end", "better than ever"],
)
def test_a_metric_of_a_matrix_is_what_one_works_out_by_hand(found, expected):
    assert found == pytest.approx(expected)


def record(visits, correct, **other):
    """A record of these visits, evaluated before the first and after each, with 10 test examples a task or as given."""
    values = {
        "configuration": {},
        "environment": {},
        "started": "2024-01-01T00:00:00+00:00",
        "evaluated_at": 5 * np.arange(len(correct)),
        "evaluated_visit": np.arange(len(correct)) - 1,
        "test_sizes": np.full(len(correct[0]), 10),
        "predicted_right": np.array([True, False, True, True]),
        **dict.fromkeys(records.NUMBERS, 1),
    } | other
    return Record(visits=np.array(visits), correct=np.array(correct), **values)


def test_shuffled_tasks_are_judged_in_the_order_in_which_they_came():
    in_order = record([0, 1, 2], [[1, 2, 3], [8, 3, 2], [6, 9, 4], [5, 7, 10]])
    # The same life, but what was learned first is called task 2, then 0, then 1.
    shuffled = record([2, 0, 1], [[2, 3, 1], [3, 2, 8], [9, 4, 6], [7, 10, 5]])
    np.testing.assert_array_equal(in_order.accuracy, MATRIX)
    np.testing.assert_array_equal(shuffled.accuracy, MATRIX)
    np.testing.assert_array_equal(shuffled.baseline, BASELINE)
    assert shuffled.metrics == in_order.metrics


def test_a_visit_counts_as_it_stood_when_it_ended_whatever_the_sizes_of_the_test_sets():
    some = record(
        [0, 1],
        [[0, 0], [4, 0], [8, 1], [7, 3], [6, 9]],
        evaluated_at=np.array([0, 3, 5, 8, 10]),
        evaluated_visit=np.array([-1, 0, 0, 1, 1]),
    )
    np.testing.assert_array_equal(some.accuracy, [[0.8, 0.1], [0.6, 0.9]])
    some = record([0, 1], [[0, 0], [8, 0], [4, 20]], test_sizes=np.array([10, 40]))
    np.testing.assert_array_equal(some.accuracy, [[0.8, 0.0], [0.4, 0.5]])
    assert some.metrics["retained_accuracy"] == pytest.approx(0.45)


def test_a_task_that_returns_is_one_task_judged_after_its_first_visit_and_at_the_end():
    some = record([0, 1, 0], [[1, 2], [8, 3], [5, 9], [10, 6]])
    np.testing.assert_array_equal(some.tasks, [0, 1])
    np.testing.assert_array_equal(some.first_visits, [0, 1])
    np.testing.assert_array_equal(some.accuracy, [[0.8, 0.3], [0.5, 0.9], [1.0, 0.6]])
    found = some.metrics
    assert found["retained_accuracy"] == pytest.approx((1.0 + 0.6) / 2)
    assert found["learning_accuracy"] == pytest.approx((0.8 + 0.9) / 2)
    assert found["backward_transfer"] == pytest.approx(((1.0 - 0.8) + (0.6 - 0.9)) / 2)
    assert found["forward_transfer"] == pytest.approx((0.3 - 0.2) / 2)
    assert found["forgetting"] == pytest.approx(0.9 - 0.6)  # task 0 is the last visit's
    assert found["minimum_accuracy"] == pytest.approx(0.6)
    assert found["worst_dip"] == pytest.approx(0.3)
    assert str(found["online_accuracy"]) == (
        "undefined, because tasks returned, with examples that had been learned already"
    )


# What only evaluations within tasks show: tasks 1, 0, 2, evaluated in the middle of each and at its end.
OFTEN = record(
    [1, 0, 2],
    [[1, 2, 3], [4, 6, 3], [2, 8, 3], [5, 3, 3], [9, 7, 4], [2, 1, 6], [6, 8, 10]],
    evaluated_at=np.array([0, 5, 10, 15, 20, 25, 30]),
    evaluated_visit=np.array([-1, 0, 0, 1, 1, 2, 2]),
)


def test_minimum_accuracy_worst_dip_and_stability_gap_are_what_looks_within_tasks_show():
    assert metrics.minimum_accuracy(OFTEN) == pytest.approx((0.1 + 0.2) / 2)
    assert metrics.worst_dip(OFTEN) == pytest.approx(max(0.8 - 0.1, 0.9 - 0.2))
    never_below = record([0, 1], [[1, 1], [5, 1], [6, 9]])
    assert metrics.worst_dip(never_below) == 0
    # Visit 1: task 1 from 8 to 3. Visit 2: task 1 from 7 to 1, task 0 from 9 to 2; the ends of visits are not within.
    assert metrics.stability_gap(OFTEN) == pytest.approx((0.5 + 0.6 + 0.7) / 3)
    some = record(
        [0, 1, 0], [[1, 1], [8, 1], [5, 4], [6, 9], [2, 3], [9, 5]], evaluated_visit=np.array([-1, 0, 1, 1, 2, 2])
    )
    assert metrics.stability_gap(some) == pytest.approx(((0.8 - 0.5) + (0.9 - 0.3)) / 2)
    assert "--eval-every" in str(record([0, 1], [[1, 1], [8, 1], [5, 9]]).metrics["stability_gap"])


def test_curves_follow_the_tasks_met_so_far_and_the_one_that_came_first():
    curve = metrics.average_accuracy(OFTEN)
    np.testing.assert_array_equal(curve.at, [5, 10, 15, 20, 25, 30])
    np.testing.assert_allclose(curve.values, [0.6, 0.8, (0.5 + 0.3) / 2, (0.9 + 0.7) / 2, 0.9 / 3, 2.4 / 3])
    assert curve.values[-1] == OFTEN.metrics["retained_accuracy"]
    curve = metrics.first_task(OFTEN)
    np.testing.assert_array_equal(curve.at, OFTEN.evaluated_at)
    np.testing.assert_allclose(curve.values, [0.2, 0.6, 0.8, 0.3, 0.7, 0.1, 0.8])


@settings(deadline=None)
@given(examples=st.integers(1, 5000), seed=st.integers(0, 100))
def test_the_running_online_accuracy_is_a_mean_of_the_last_1000_examples(examples, seed):
    right = np.random.default_rng(seed).random(examples) < 0.7
    curve = metrics.running_online_accuracy(record([0], [[1], [8]], predicted_right=right))
    assert curve.at[-1] == examples
    assert 1 <= len(curve.at) <= 2 * metrics.POINTS
    for at, value in zip(curve.at, curve.values, strict=True):
        assert value == pytest.approx(right[max(0, at - 1000) : at].mean())


def test_with_one_task_only_nothing_is_transferred_or_forgotten():
    found = record([0], [[5], [8]]).metrics
    assert found["retained_accuracy"] == found["learning_accuracy"] == 0.8
    undefined = {name for name, value in found.items() if value == metrics.Undefined("there is only one task")}
    told = "backward_transfer forward_transfer forgetting minimum_accuracy worst_dip stability_gap worst_case_accuracy"
    assert undefined == set(told.split())


def mixed(**other):
    return record(
        [0, 1, 2],
        [[1, 2, 3], [2, 3, 4], [4, 6, 8], [7, 8, 9]],
        evaluated_visit=np.array([-1, 2, 2, 2]),
        **{"configuration": {"order": "iid"}} | other,
    )


def test_where_tasks_came_mixed_only_the_end_and_the_examples_have_a_meaning():
    some = mixed()
    assert some.accuracy.shape == (1, 3)
    assert some.metrics["retained_accuracy"] == pytest.approx(0.8)
    assert some.metrics["online_accuracy"] == 0.75
    others = set(metrics.METRICS) - {"retained_accuracy", "online_accuracy", "average_anytime_accuracy", "anytime_area"}
    assert {str(some.metrics[name]) for name in others} == {
        "undefined, because all tasks came mixed, none after another"
    }
    assert isinstance(CURVES["first_task"](some), metrics.Undefined)
    np.testing.assert_allclose(metrics.average_accuracy(some).values, [0.3, 0.6, 0.8])


def test_what_was_learned_in_an_earlier_epoch_is_not_predicted_and_classes_that_have_not_come_are_not_transferred_to():
    some = record([0, 1], [[1, 1], [8, 1], [5, 9]], configuration={"epochs": 3})
    assert str(some.metrics["online_accuracy"]) == (
        "undefined, because in 3 epochs examples came that had been learned already"
    )
    assert isinstance(CURVES["online_accuracy"](some), metrics.Undefined)
    some = record([0, 1], [[1, 1], [8, 1], [5, 9]], configuration={"scenario": "class-incremental"})
    assert isinstance(some.metrics["forward_transfer"], metrics.Undefined)
    assert isinstance(some.metrics["backward_transfer"], float)


def test_in_json_what_is_undefined_is_null_and_says_why():
    configuration = {"benchmark": "b", "method": "m", "seed": 0, "hyperparameters": {}, "order": "iid"}
    text = json.dumps(mixed(configuration=configuration).summary(), allow_nan=False)
    summary = json.loads(text)
    assert summary["forgetting"] is None
    assert summary["undefined"]["forgetting"] == "all tasks came mixed, none after another"
    assert summary["retained_accuracy"] == pytest.approx(0.8)
    assert "retained_accuracy" not in summary["undefined"]


def test_the_distance_to_the_mixed_run_is_what_learning_in_turn_has_cost_and_needs_that_very_run_mixed():
    configuration = {"seed": 0, "task_order": [0, 1, 2]}
    in_turn = record([0, 1, 2], [[1, 2, 3], [8, 3, 2], [6, 9, 4], [5, 7, 9]], configuration=configuration)
    at_once = mixed(configuration=configuration | {"order": "iid", "eval_every": 5})
    assert metrics.distance_to_iid(in_turn, at_once) == pytest.approx(0.8 - 0.7)
    in_turn = record([0, 1], [[1, 2], [8, 3], [6, 9]], configuration={"order": "tasks", "seed": 0, "epochs": 1})
    with pytest.raises(BadInput, match="must have 'iid'"):
        metrics.distance_to_iid(in_turn, in_turn)
    with pytest.raises(BadInput, match="differ in seed, epochs"):
        metrics.distance_to_iid(in_turn, mixed(configuration={"order": "iid", "seed": 1, "epochs": 2}))


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 3), st.integers(0, 1000))
def test_what_must_hold_between_metrics_holds(tasks, within, seed):
    rng = np.random.default_rng(seed)
    visits = np.repeat(np.arange(tasks), within + 1)
    some = record(
        rng.permutation(tasks).tolist(),
        rng.integers(0, 11, (1 + len(visits), tasks)).tolist(),
        evaluated_visit=np.concatenate([[-1], visits]),
    )
    found = {name: value for name, value in some.metrics.items() if not isinstance(value, metrics.Undefined)}
    assert found["backward_transfer"] == pytest.approx(found["retained_accuracy"] - found["learning_accuracy"])
    # To forget from the best is at least to forget from the end of each task, which all but the last task can.
    assert found["forgetting"] >= -found["backward_transfer"] * tasks / (tasks - 1) - 1e-9
    assert (
        found["minimum_accuracy"] <= (found["retained_accuracy"] * tasks - some.accuracy[-1, -1]) / (tasks - 1) + 1e-9
    )
    assert 0 <= found["worst_dip"] <= 1
    assert ("stability_gap" in found) == (within > 0)
    assert metrics.average_accuracy(some).values[-1] == found["retained_accuracy"]


def test_units_that_are_never_on_are_dead_and_directions_that_matter_are_counted():
    h = np.zeros((6, 4), np.float32)
    h[:3, 0], h[3:, 1] = 2, 2
    assert dead_units(h) == 0.5
    assert effective_rank(h) == pytest.approx(2)
    assert effective_rank(np.outer(np.ones(5), np.ones(3))) == pytest.approx(1)
    assert effective_rank(np.zeros((5, 3))) == 0
    orthogonal, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 3)))
    shares = np.array([0.5, 0.3, 0.2])
    entropy = -(shares * np.log(shares)).sum()
    assert effective_rank(orthogonal * shares) == pytest.approx(np.exp(entropy))


def test_each_layer_is_measured_by_what_reaches_it():
    one = (np.array([[1.0, -1.0], [0.0, -1.0]]), np.zeros(2))
    measures = unit_measures([one, (np.full((2, 3), -0.5), np.zeros(3))], np.array([[1, 0], [2, 5]], np.float32))
    np.testing.assert_allclose(measures[0], [0.5, 0.5, 0.75])
    np.testing.assert_array_equal(measures[1], [np.nan, np.nan, 0.5])


def test_a_run_records_them_only_when_asked_and_resumes_with_them():
    stream = metareplay.benchmark("digits-rotations", tasks=3)
    options = {"samples_per_task": 20, "watch_units": True, "evaluate": "never"}
    record = metareplay.run(stream, metareplay.Online(lr=0.1), **options)
    assert record.units.shape == (3, 3, 3)
    assert CURVES["dead_units"](record).at.tolist() == [1, 2, 3]
    plain = metareplay.run(stream, metareplay.Online(lr=0.1), **(options | {"watch_units": False}))
    assert plain.units is None
    assert np.array_equal(plain.right_by_thousand, record.right_by_thousand)
    assert isinstance(CURVES["dead_units"](plain), Undefined)
    trainer = metareplay.Trainer(metareplay.Experiment(stream=stream, method=metareplay.Online(lr=0.1), **options))
    half = metareplay.Trainer(trainer.experiment)
    half.units[0] = 0.25
    trainer.load_state(half.state())
    assert (trainer.units[0] == 0.25).all()
    with pytest.raises(BadInput, match="watch_units"):
        metareplay.run(stream, metareplay.METHODS["taskinput"](), **options)


def test_what_is_measured_is_the_network_that_would_be_tested():
    stream = metareplay.benchmark("digits-rotations", tasks=2)
    gdumb = metareplay.METHODS["gdumb"](memories=20, passes=2)
    trainer = metareplay.Trainer(metareplay.Experiment(
        stream=stream, method=gdumb, samples_per_task=20, watch_units=True, evaluate="never",
    ))  # fmt: skip
    initial = [np.abs(weights).mean() for weights, _ in trainer.learner.layers()]
    units = trainer.train().units
    assert (units[:, :, 2] != initial).all()
    assert [np.abs(weights).mean() for weights, _ in trainer.learner.layers()] == initial


def test_a_fresh_network_is_what_plasticity_is_measured_from():
    stream = metareplay.benchmark("digits-permutations", tasks=3)
    records = [
        metareplay.run(stream, metareplay.METHODS[name](lr=0.05), samples_per_task=0) for name in ("online", "fresh")
    ]
    lost = plasticity(*records)
    assert lost[0] == 0
    assert lost.shape == (3,)
    assert (task_accuracy(records[1]).values[1:] + lost[1:]).tolist() == pytest.approx(
        task_accuracy(records[0]).values[1:].tolist()
    )
    with pytest.raises(BadInput, match="the same tasks"):
        plasticity(records[0], metareplay.run(stream, metareplay.Online(), samples_per_task=5, task_order=(1, 0)))


def test_accuracy_at_any_time():
    stream = metareplay.benchmark("digits-rotations", tasks=2)
    record = metareplay.run(stream, metareplay.Online(lr=0.1), samples_per_task=30, eval_every=10)
    curve = CURVES["average_accuracy"](record)
    assert record.metrics["average_anytime_accuracy"] == pytest.approx(curve.values.mean())
    middle = (curve.values[1:] + curve.values[:-1]) / 2 @ np.diff(curve.at) / (curve.at[-1] - curve.at[0])
    assert record.metrics["anytime_area"] == pytest.approx(middle)
    worst = record.evaluations[record.evaluated_visit > 0, 0].min()
    assert record.metrics["worst_case_accuracy"] == pytest.approx(record.accuracy[-1, 1] / 2 + worst / 2)
