"""What the estimators keep on a long stream: as much as on a short one."""

import resource

import numpy as np
import pytest

from metareplay.estimators import ContinualClassifier


@pytest.mark.slow
def test_ten_times_as_many_examples_take_no_more_memory():
    model = ContinualClassifier(hidden_layer_sizes=(8,), memories=200, replay_batch_size=2, random_state=0)
    rng = np.random.default_rng(0)
    memory = []
    for piece in range(10):
        X = rng.normal(size=(10_000, 4)) + piece / 10
        y = (X[:, 0] > piece / 10) + 2 * (X[:, 1] > piece / 10)
        model.partial_fit(X, y)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # MB
    assert model.score(X, y) > 0.8
    assert memory[-1] - memory[1] < 5
