"""The metrics, by hand on small matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metareplay import Record, metrics, records

# R[i, j]: accuracy on task j when task i ends.
MATRIX = np.array([[0.8, 0.3, 0.2], [0.6, 0.9, 0.4], [0.5, 0.7, 1.0]])
BASELINE = np.array([0.1, 0.2, 0.3])


def test_retained_accuracy_is_the_mean_over_tasks_at_the_end() -> None:
    assert metrics.retained_accuracy(MATRIX) == pytest.approx((0.5 + 0.7 + 1.0) / 3)


def test_learning_accuracy_is_the_mean_over_tasks_when_each_ends() -> None:
    assert metrics.learning_accuracy(MATRIX) == pytest.approx((0.8 + 0.9 + 1.0) / 3)


def test_backward_transfer_is_the_mean_change_since_each_task_ended() -> None:
    assert metrics.backward_transfer(MATRIX) == pytest.approx(((0.5 - 0.8) + (0.7 - 0.9) + 0) / 3)


def test_forward_transfer_is_what_earlier_tasks_brought_the_first_counting_as_zero() -> None:
    assert metrics.forward_transfer(MATRIX, BASELINE) == pytest.approx((0 + (0.3 - 0.2) + (0.4 - 0.3)) / 3)


def test_with_one_task_nothing_is_transferred() -> None:
    matrix, baseline = np.array([[0.75]]), np.array([0.5])
    assert metrics.retained_accuracy(matrix) == metrics.learning_accuracy(matrix) == 0.75
    assert metrics.backward_transfer(matrix) == 0
    assert metrics.forward_transfer(matrix, baseline) == 0


@settings(deadline=None, derandomize=True)
@given(tasks=st.integers(1, 8), seed=st.integers(0, 1000))
def test_what_is_retained_is_what_was_learned_and_what_came_back(tasks: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).random((tasks, tasks))
    assert metrics.retained_accuracy(matrix) == pytest.approx(
        metrics.learning_accuracy(matrix) + metrics.backward_transfer(matrix)
    )


def record(visits: list[int], correct: list[list[int]], **other: Any) -> Record:
    """A record of these visits, evaluated before the first and after each, with 10 test examples a task or as given."""
    values: dict[str, Any] = {
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


def test_shuffled_tasks_are_judged_in_the_order_in_which_they_came() -> None:
    in_order = record([0, 1, 2], [[1, 2, 3], [8, 3, 2], [6, 9, 4], [5, 7, 10]])
    # The same life, but what was learned first is called task 2, then 0, then 1.
    shuffled = record([2, 0, 1], [[2, 3, 1], [3, 2, 8], [9, 4, 6], [7, 10, 5]])
    np.testing.assert_array_equal(in_order.accuracy, MATRIX)
    np.testing.assert_array_equal(shuffled.accuracy, MATRIX)
    np.testing.assert_array_equal(shuffled.baseline, BASELINE)
    assert shuffled.metrics == in_order.metrics


def test_a_visit_counts_as_it_stood_when_it_ended() -> None:
    some = record(
        [0, 1],
        [[0, 0], [4, 0], [8, 1], [7, 3], [6, 9]],
        evaluated_at=np.array([0, 3, 5, 8, 10]),
        evaluated_visit=np.array([-1, 0, 0, 1, 1]),
    )
    np.testing.assert_array_equal(some.accuracy, [[0.8, 0.1], [0.6, 0.9]])


def test_tasks_may_have_test_sets_of_different_sizes() -> None:
    some = record([0, 1], [[0, 0], [8, 0], [4, 20]], test_sizes=np.array([10, 40]))
    np.testing.assert_array_equal(some.accuracy, [[0.8, 0.0], [0.4, 0.5]])
    assert some.metrics["retained_accuracy"] == pytest.approx(0.45)


def test_a_task_that_returns_is_judged_at_each_of_its_visits() -> None:
    some = record([0, 1, 0], [[1, 2], [8, 3], [5, 9], [10, 6]])
    np.testing.assert_array_equal(some.accuracy, [[0.8, 0.3, 0.8], [0.5, 0.9, 0.5], [1.0, 0.6, 1.0]])
    assert some.metrics["learning_accuracy"] == pytest.approx((0.8 + 0.9 + 1.0) / 3)
    assert some.metrics["backward_transfer"] == pytest.approx(((1.0 - 0.8) + (0.6 - 0.9) + 0) / 3)


def test_online_accuracy_is_the_share_predicted_right_before_it_was_learned() -> None:
    assert record([0], [[1], [8]]).metrics["online_accuracy"] == 0.75
