"""A network that grows while it learns, and the method on it."""

import copy
import pickle

import numpy as np
import pytest

from metareplay import EWC, METHODS, Online, setting
from metareplay.errors import BadInput
from metareplay.estimators import ContinualClassifier
from metareplay.estimators.core import Build, Core
from metareplay.estimators.growing import GrowingPerceptron
from metareplay.estimators.running_scale import RunningScale
from metareplay.networks import Perceptron

INPUTS, CLASSES = 5, 3
PLACES = np.arange(INPUTS)
REFUSED = dict.fromkeys(("ncm", "slda", "lwf", "der", "derpp", "erace"), "all classes must be known from the start")
REFUSED |= dict.fromkeys(("gdumb", "clser"), "it prepares another network to be tested")
TAKEN = sorted(METHODS.keys() - REFUSED.keys())


def life(method, scaled=False):
    return Core(method, Build(INPUTS, CLASSES, tasks=2, scaled=scaled, batch_size=1, seed=0, hidden=(7, 6)))


def examples(n, classes=CLASSES):
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, INPUTS)).astype(np.float32), rng.integers(0, classes, n)


@pytest.mark.parametrize("private", [(), (True, False, False), (True, True, True)])
def test_growth_changes_no_score_of_what_was_there(private):
    rng = np.random.default_rng(0)
    tasks = 2 if private else 1
    learner = GrowingPerceptron(Perceptron((INPUTS, 20, 6, CLASSES), private, tasks), 4, 2, rng)
    x, y = examples(2)
    learner.put(np.arange(2), x, y, 0)
    learner.copy(1, 3)
    before, outside = learner.forward(np.array([0, 1, 3])), learner.scores_of(x, tasks - 1)
    learner.grow(Perceptron((INPUTS + 90, 20, 6, CLASSES + 30), private, tasks), rng)
    # Sums over a wider layer are taken in another order: what is the same is so to the last bits.
    np.testing.assert_allclose(learner.forward(np.array([0, 1, 3]))[:, :CLASSES], before, rtol=1e-5, atol=1e-6)
    x = np.pad(x, ((0, 0), (0, 90)))
    np.testing.assert_allclose(learner.scores_of(x, tasks - 1)[:, :CLASSES], outside, rtol=1e-5, atol=1e-6)
    assert learner.labels[3] == y[1]
    grown = learner.layers()[-1][0][..., CLASSES:]
    assert (grown != 0).all()
    assert np.abs(grown).max() < (6 / (6 + CLASSES + 30)) ** 0.5


def test_a_vector_of_the_old_network_is_found_again_in_the_new():
    rng = np.random.default_rng(0)
    learner = GrowingPerceptron(Perceptron((INPUTS, 20, CLASSES)), 1, 1, rng)
    vector = learner.parameters()
    old = [(weights.copy(), biases.copy()) for weights, biases in learner.layers()]
    translate = learner.grow(Perceptron((INPUTS + 3, 20, CLASSES + 20)), rng)
    translated = learner.layers(translate(vector))
    for (before, biases), (after, new_biases) in zip(old, translated, strict=True):
        np.testing.assert_array_equal(after[: before.shape[0], : before.shape[1]], before)
        np.testing.assert_array_equal(new_biases[: len(biases)], biases)
        after[: before.shape[0], : before.shape[1]] = 0
        assert not after.any()


def test_ewc_holds_on_to_what_mattered_when_classes_are_added():
    grown = life(EWC(lr=0.1, memory_strength=10.0, n_memories=5))
    x, y = examples(30)
    grown.learn(x, y, 0, PLACES)
    grown.learn(x[:1], y[:1], 1, PLACES)
    ewc = grown.method
    importance = [weights.copy() for weights, _ in grown.learner.layers(ewc.importance)]
    grown.learn(x[:4], np.array([0, 1, 2, 3]), 1, PLACES)
    kept = grown.learner.layers(ewc.importance)
    np.testing.assert_array_equal(kept[0][0], importance[0])
    np.testing.assert_array_equal(kept[-1][0][:, :CLASSES], importance[-1])
    assert not kept[-1][0][:, CLASSES:].any()


@pytest.mark.parametrize("method", TAKEN)
def test_every_method_goes_on_when_a_class_and_an_input_are_added(method):
    grown = life(ContinualClassifier(method)._made_method(), scaled=True)
    for task in (0, 1, 0):
        x, y = examples(12, grown.classes + 1)
        y = np.sort(y)
        grown.learn(x.astype(np.float64), y, task, PLACES)
        grown.grow(inputs=grown.inputs + 10)
    assert grown.classes > CLASSES
    assert grown.inputs == INPUTS + 30
    assert np.isfinite(grown.learner.parameters()).all()


@pytest.mark.parametrize("method", TAKEN)
def test_every_method_goes_on_after_a_pickle_or_a_copy(method):
    model = ContinualClassifier(method, tasks=1, random_state=0)
    model.partial_fit(*examples(20), task=[0] * 20)
    copies = [model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for each in copies:
        each.partial_fit(*examples(10), task=[0] * 10)
    assert len({each._life.learner.parameters().tobytes() for each in copies}) == 1


@pytest.mark.parametrize(("method", "why"), REFUSED.items())
def test_a_method_that_cannot_go_on_when_classes_come_is_refused(method, why):
    with pytest.raises(BadInput, match=f"method is {method}, which no estimator can have: {why}; give another"):
        ContinualClassifier(method).partial_fit(*examples(5))


def test_a_method_added_to_the_package_is_had_by_its_name_with_its_own_settings(tmp_path):
    class Added(Online):
        __module__ = "metareplay.methods.added"
        id = "added"
        lr: float = setting(0.25, "(0, 1]", help="the learning rate")

    try:
        model = ContinualClassifier("added", random_state=0).partial_fit(*examples(20))
        model.save(tmp_path / "model")
        again = ContinualClassifier.load(tmp_path / "model")
        assert type(again._life.method) is Added
        assert again._life.method.lr == 0.25
        assert again.predict_proba(examples(9)[0]).tolist() == model.predict_proba(examples(9)[0]).tolist()
    finally:
        del METHODS["added"]


def test_a_scale_is_renewed_at_a_cost_that_does_not_grow():
    scale = RunningScale(2)
    x = np.random.default_rng(0).normal(size=(100_000, 2))
    renewals, begin = 0, 0
    while begin < len(x):
        step = scale.undisturbed(1) or 1
        scale.learn(x[begin : begin + step], np.arange(2), 1)
        renewals += scale.renew()
        begin += step
    assert renewals < 120
    np.testing.assert_allclose(scale.spread, x.std(0), rtol=0.05)


def test_a_feature_that_comes_late_is_scaled_by_its_own_examples():
    rng = np.random.default_rng(0)
    scale = RunningScale(1)
    scale.learn(rng.normal(size=(1000, 1)), np.arange(1), 1)
    scale.grow(2)
    scale.learn(rng.normal(500, 3, (200, 2)), np.arange(2), 1)
    np.testing.assert_allclose(scale.centre[1], 500, rtol=0.01)
    np.testing.assert_allclose(scale.spread[1], 3, rtol=0.2)
    assert scale.scale(np.array([[0.0, np.nan]]), np.arange(2))[0, 1] == 0
