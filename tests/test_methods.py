"""The published defaults, GEM's projection, and networks with parts of their own for each task."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metareplay import METHODS, BadInput
from metareplay.data.images import BaseImages
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.gem import GEM, project
from metareplay.methods.task_networks import Independent, TaskInput
from metareplay.networks import Perceptron
from metareplay.settings import hyperparameters
from metareplay.streams.stream import Images
from test_method_base import PUBLISHED

INPUTS, CLASSES = 20, 4


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_defaults_are_the_published_ones(name):
    published = {"lr": 0.001, "beta": 1.0, "gamma": 1.0, "s": 1.0, "memories": 5120, "n_memories": 0}
    published |= {"memory_strength": 0.0, "replay_batch_size": 20, "recency": 0, "batches_per_example": 1}
    published |= {"finetune": True, "mean_of_squares": False, "mean_over_tasks": False}
    published |= {"interpolate_every": 0, "rate": 0.1, "weight_decay": 0.0}  # the first and the last are off
    for parameter in hyperparameters(METHODS[name]):
        assert parameter.default == published[parameter.name]


def projected(gradient, past, margin):
    gradients = np.vstack([gradient, past])
    return np.asarray(project(gradients, gradients @ gradient, margin))


def assert_optimal(gradient, past, margin, allowed):
    """The projection x meets the conditions of Karush, Kuhn and Tucker, which no other vector does.

    From x₀ = g + margin·ΣG, x is reached along the g_t (v ≥ margin); it makes no past task worse (Gx ≥ 0); and only
    tasks that would else become worse push it (⟨x, x − x₀⟩ = 0).
    """
    optimize = pytest.importorskip("scipy.optimize")
    x = projected(gradient, past, margin).astype(np.float64)
    gradient, past = gradient.astype(np.float64), past.astype(np.float64)
    lengths = np.linalg.norm(past, axis=1)
    unit = past[lengths > 0] / lengths[lengths > 0, None]
    start = gradient + margin * past.sum(0)
    size = np.linalg.norm(start) + np.linalg.norm(gradient) + 1e-300
    assert (unit @ x >= -allowed * size).all()
    assert abs(x @ (x - start)) <= allowed * size**2
    if len(unit):
        _, distance = optimize.nnls(unit.T, (x - start) / size, maxiter=50 * len(unit))
        assert distance <= allowed


@st.composite
def difficult(draw):
    """A gradient, and past gradients many of which repeat, oppose or nearly repeat others, or are zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parameters = draw(st.integers(2, 40))
    bases = rng.normal(size=(5, parameters))
    past = [bases[0]]
    for kind in draw(
        st.lists(st.sampled_from(["base", "new", "same", "opposite", "near", "zero", "mixed"]), max_size=25)
    ):
        one, other = past[rng.integers(len(past))], past[rng.integers(len(past))]
        past.append(
            {
                "base": rng.choice(bases),
                "new": rng.normal(size=parameters),
                "same": one * 2.0 ** rng.integers(-8, 8),
                "opposite": -one * 2.0 ** rng.integers(-8, 8),
                "near": rng.choice(bases) + 10.0 ** -rng.integers(1, 4) * rng.normal(size=parameters),
                "zero": np.zeros(parameters),
                "mixed": one + other,
            }[kind]
        )
    return rng.normal(size=parameters), np.array(past)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(problem=difficult(), margin=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_projection_is_optimal_whatever_the_past_gradients(problem, margin):
    assert_optimal(*problem, margin, allowed=1e-7)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(problem=difficult(), margin=st.sampled_from([0.0, 0.5, 1.0]))
def test_in_float32_the_projection_harms_no_task_and_grows_no_step_but_by_rounding(problem, margin):
    gradient, past = (part.astype(np.float32) for part in problem)
    x = projected(gradient, past, margin)
    assert x.dtype == np.float32
    start = np.linalg.norm(gradient + margin * past.sum(0))
    assert np.linalg.norm(x) <= 1.001 * start
    harm = past.astype(np.float64) @ x.astype(np.float64)
    assert (harm >= -1e-3 * np.linalg.norm(past, axis=1) * (start + np.linalg.norm(gradient))).all()


@pytest.mark.parametrize("kind", ["nearly collinear", "nearly opposite", "nearly of rank 5"])
@pytest.mark.parametrize("apart", [0.1, 0.01, 0.001])
def test_a_hundred_nearly_dependent_gradients_are_projected_exactly(kind, apart):
    rng = np.random.default_rng(0)
    tasks, parameters = 100, 2000
    common = rng.normal(size=parameters)
    around = {
        "nearly collinear": common,
        "nearly opposite": rng.choice([-1.0, 1.0], (tasks, 1)) * common,
        "nearly of rank 5": rng.normal(size=(tasks, 5)) @ rng.normal(size=(5, parameters)),
    }[kind]
    past = around + apart * rng.normal(size=(tasks, parameters))
    gradient = rng.normal(size=parameters) / 2 - common
    assert_optimal(gradient, past, 0.0, allowed=1e-7)


@pytest.mark.parametrize(
    ("gradient", "past", "margin", "expected"),
    [
        ([1, 2, 0], [[1, 0, 0], [0, 1, 0]], 0.0, [1, 2, 0]),
        ([1, 2, 0], [[1, 0, 0], [0, 1, 0]], 0.5, [1.5, 2.5, 0]),
        ([-3, 2], [[4, 0]], 0.0, [0, 2]),
        ([3, 1], [[1, 1], [-1, -1]], 0.0, [1, -1]),
        ([1, -2], [[0, 0]] * 3, 1.0, [1, -2]),
    ],
    ids=["harms nothing", "harms nothing, with a margin", "against one", "between two opposite", "only zeros"],
)
def test_projections_known_by_hand(gradient, past, margin, expected):
    found = projected(np.array(gradient, float), np.array(past, float), margin)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_gem_shares_its_memories_out_evenly():
    assert GEM(memories=10).capacity(3, 1) == 9
    assert GEM(memories=2).capacity(3, 1) == 0


def scores(learner, task):
    x = np.random.default_rng(5).random((6, INPUTS)).astype(np.float32)
    return learner.scores(Images(BaseImages(x), np.zeros(6, np.int64)), task)


def learn(method, task, times, rng):
    for _ in range(times):
        x = rng.random((1, INPUTS)) * (rng.random((1, INPUTS)) < 0.5)
        method.learner.put(np.zeros(1, int), x.astype(np.float32), rng.integers(CLASSES, size=1), task)
        method.observe(np.zeros(1, int))


def begun(method, tasks, hidden):
    network = method.network(Perceptron((INPUTS, *hidden, CLASSES)), tasks)
    method.start(FusedPerceptron(network, 1, 1, np.random.default_rng(0)), np.random.default_rng(7), tasks)
    return method


def test_taskinput_has_an_input_layer_for_each_task_and_trains_that_of_the_task_at_hand_and_what_is_shared():
    network = TaskInput().network(Perceptron((INPUTS, 8, 6, CLASSES)), 3)
    assert network.private == (True, False, False)
    assert TaskInput().network(Perceptron((INPUTS, 8, CLASSES)), 3).private == (True, False)
    assert TaskInput().network(Perceptron((INPUTS, CLASSES)), 3).private == (True,)
    layers = network.initial_layers(np.random.default_rng(0))
    for (weights, biases), fan_in in zip(layers, (INPUTS, 8, 6), strict=True):
        assert 0.9 * fan_in**-0.5 < np.abs(weights).max() <= fan_in**-0.5
        assert (biases == 0).all()
    method = begun(TaskInput(lr=0.1), 3, (8, 6))
    before = [weights.copy() for weights, _ in method.learner.layers()]
    learn(method, 1, 5, np.random.default_rng(1))
    first, *shared = [a != b for a, (b, _) in zip(before, method.learner.layers(), strict=True)]
    assert first.any((1, 2)).tolist() == [False, True, False]
    assert all(changed.any() for changed in shared)


def test_independent_shares_its_units_out_among_the_tasks():
    network = Independent().network(Perceptron((INPUTS, 100, 60, CLASSES)), 20)
    assert network.widths == (INPUTS, 5, 3, CLASSES)
    assert network.private == (True, True, True)
    assert Independent().network(Perceptron((INPUTS, 101, CLASSES)), 101).widths == (INPUTS, 1, CLASSES)
    with pytest.raises(BadInput, match="101 tasks"):
        Independent().network(Perceptron((INPUTS, 100, CLASSES)), 101)


@pytest.mark.parametrize("finetune", [True, False])
def test_independent_starts_a_task_from_the_one_before_at_its_first_visit_only(finetune):
    method, rng = begun(Independent(lr=0.1, finetune=finetune), 4, (16,)), np.random.default_rng(1)
    learner = method.learner
    start = [scores(learner, task) for task in range(4)]
    assert not np.allclose(start[0], start[1])
    visited = set()
    before = None
    for task in (2, 1, 2, 0, 3, 3):
        expected = [scores(learner, t) for t in range(4)]
        if finetune and before is not None and task not in visited and task != 0:  # never into task 0
            expected[task] = expected[before]
        method.begin_task(task, before)
        for t in range(4):
            np.testing.assert_array_equal(scores(learner, t), expected[t])
        learn(method, task, 3, rng)
        for t in range(4):  # a task not at hand is neither learned nor forgotten; one not reached is as it began
            assert (t == task) != np.array_equal(scores(learner, t), expected[t])
        visited.add(task)
        before = task
