"""Decay that costs nothing where inputs are zero, units made anew, and averages that do not become subnormal."""

import numpy as np
import pytest

from metareplay import METHODS, BadInput, Diverged
from metareplay.learners.base import Learner
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.cbp import CBP
from metareplay.networks import Perceptron

INPUTS, CLASSES = 40, 4
BLACK = slice(30, INPUTS)


def made(seed=0, **options):
    return FusedPerceptron(Perceptron((INPUTS, 20, 18, CLASSES), **options), 4, 2, np.random.default_rng(seed))


def examples(count=60):
    rng = np.random.default_rng(1)
    x = rng.random((count, INPUTS)) * (rng.random((count, INPUTS)) < 0.3)
    x[:, BLACK] = 0
    return x.astype(np.float32), rng.integers(CLASSES, size=count)


def each(learner, x, y, *pull, task=0):
    """Learn one by one; what was predicted."""
    predicted = []
    for one, label in zip(x, y, strict=True):
        learner.put(np.zeros(1, int), one[None], np.array([label]), task)
        predicted.append(int(learner.forward([0]).argmax()))
        learner.sgd_pulled([0], *pull)
    return predicted


@pytest.mark.parametrize("to_initial", [False, True])
@pytest.mark.parametrize("options", [{}, {"private": (True, False, True), "tasks": 2}])
def test_a_lazy_pull_is_a_step_on_all_parameters(to_initial, options):
    lazy, eager, (x, y) = made(**options), made(**options), examples()
    towards = lazy.parameters() if to_initial else None
    allowed = np.array([[True] * 4, [True, True, True, False]])
    for learner in (lazy, eager):
        learner.restrict(allowed)
    y[y == 3] = 0
    for task in (0, 1, 0):
        predicted = lazy.predict_and_learn(x, y, task, 0.2, 0.5, towards)
        for row, (one, label) in enumerate(zip(x, y, strict=True)):
            eager.put(np.zeros(1, int), one[None], np.array([label]), task)
            assert eager.forward([0]).argmax() == predicted[row]
            Learner.sgd_pulled(eager, np.zeros(1, int), 0.2, 0.5, towards)
    np.testing.assert_allclose(lazy.parameters(), eager.parameters(), atol=2e-6)
    assert (lazy.steps, lazy.gradients_taken, lazy.forward_passes) == (180, 180, 180)


def test_rows_whose_input_is_zero_shrink_by_a_power():
    learner, (x, y) = made(), examples()
    before = learner.layers()[0][0][BLACK].copy()
    learner.predict_and_learn(np.tile(x, (40, 1)), np.tile(y, 40), 0, 0.01, 0.5)
    np.testing.assert_allclose(learner.layers()[0][0][BLACK], before * (1 - 0.005) ** 2400, rtol=1e-4)


@pytest.mark.parametrize("to_initial", [False, True])
def test_nobody_who_looks_changes_a_bit_and_it_resumes(to_initial):
    at_once, one_by_one, (x, y) = made(), made(), examples()
    towards = at_once.parameters() if to_initial else None
    predicted = at_once.predict_and_learn(x, y, 0, 0.1, 0.2, towards)
    half = each(one_by_one, x[:31], y[:31], 0.1, 0.2, towards)
    one_by_one.layers(), one_by_one.activations([0]), one_by_one.gradient([0])
    with one_by_one.trial():
        one_by_one.sgd([0], 1.0)
    resumed = made(seed=5)
    resumed.load_state(one_by_one.state())
    half += each(resumed, x[31:], y[31:], 0.1, 0.2, None if towards is None else towards.copy())
    assert half == predicted.tolist()
    assert np.array_equal(resumed.parameters(), at_once.parameters())
    assert at_once.state().keys() > made().state().keys()


def test_what_others_write_is_what_is_pulled_on():
    learner, eager, (x, y) = made(), made(), examples()
    for one in (learner, eager):
        for begin in range(0, 60, 20):
            part = x[begin : begin + 20], y[begin : begin + 20]
            if one is learner:
                one.predict_and_learn(*part, 0, 0.1, 0.3)
            else:
                for row in range(20):
                    one.put(np.zeros(1, int), part[0][row : row + 1], part[1][row : row + 1], 0)
                    Learner.sgd_pulled(one, np.zeros(1, int), 0.1, 0.3)
            one.sgd([0], 0.5)
            one.layers()[1][1][:] += 1
    np.testing.assert_allclose(learner.parameters(), eager.parameters(), atol=2e-6)


def test_without_decay_it_is_sgd_and_with_too_much_it_is_still_right():
    (x, y), ends = examples(), {}
    for decay in (0.0, 1e-12, 9.0):
        plain, pulled = made(), made()
        pulled.predict_and_learn(x, y, 0, 0.1, decay)
        plain.predict_and_learn(x, y, 0, 0.1)
        ends[decay] = np.abs(plain.parameters() - pulled.parameters()).max()
        if decay == 9:
            theirs = made()
            each(theirs, x, y, 0.1, decay)
            assert np.array_equal(theirs.parameters(), pulled.parameters())
    assert ends[0.0] == 0
    assert ends[1e-12] < 1e-5 < ends[9.0]


def test_what_is_wrong_is_refused_and_nothing_of_it_is_done():
    learner, (x, y) = made(), examples()
    y[3] = CLASSES
    with pytest.raises(BadInput, match="the label in slot 0 is 4"):
        learner.predict_and_learn(x, y, 0, 0.1, 0.2)
    assert learner.steps == 3
    with pytest.raises(BadInput, match="the label in slot 0 is 4"):
        learner.sgd_pulled([0], 0.1, 0.2)
    x[0, 0], y[3] = np.nan, 0
    before = learner.parameters()
    with pytest.raises(Diverged, match="slot 0"):
        learner.predict_and_learn(x, y, 0, 0.1, 0.2)
    assert np.array_equal(before, learner.parameters())
    with pytest.raises(IndexError):
        learner.sgd_pulled([4], 0.1, 0.2)
    with pytest.raises(BadInput, match="a vector has the shape"):
        learner.sgd_pulled([0], 0.1, 0.2, np.zeros(3, np.float32))


def started(**settings):
    method = CBP(lr=1e-9, **settings)
    method.start(made(), np.random.default_rng(2), 1)
    return method


def test_a_newborn_unit_of_use_is_not_made_anew_again():
    """Ranking by averages that are not corrected for age would take it every time: they begin at zero."""
    method = started(replacement_rate=1e-9, maturity=3, utility_decay=0.99)
    reach, rng = np.linspace(1, 2, 20), np.random.default_rng(3)
    for _ in range(600):
        method.generate_and_test(0, rng.random((1, 20)), reach)
    best = 19
    method.age[0][best] = method.output[0][best] = method.utility[0][best] = 0  # as if it had just been made anew
    for _ in range(4):
        method.generate_and_test(0, rng.random((1, 20)), reach)
    assert method.utility[0].argmin() == best
    method.count[0] = 1
    method.generate_and_test(0, rng.random((1, 20)), reach)
    assert method.age[0][best] == 5
    assert np.flatnonzero(method.age[0] == 0).size == 1


def test_the_next_layer_takes_over_what_a_unit_gave():
    """Were ĥ set to zero before, the next layer's outputs would jump."""
    method, (x, y) = started(replacement_rate=1.0, maturity=5), examples(1)
    learner = method.learner
    learner.put(np.zeros(1, int), x, y, 0)
    before, hidden = learner.forward([0]), learner.activations([0])
    for _ in range(6):
        method.observe(np.zeros(1, int))
    assert method.counters["units_reborn"] == 38
    assert not learner.layers()[2][0].any()
    assert any(h.any() for h in hidden)
    np.testing.assert_allclose(learner.forward([0]), before, atol=1e-5)
    bound = np.sqrt(6 / (INPUTS + 20))
    weights = learner.layers()[0][0]
    assert np.abs(weights).max() <= bound
    assert np.abs(weights).max() > 0.9 * bound


AVERAGES = {"beta1": 0.9, "beta2": 0.95}
DECAYING = {
    "online": {"weight_decay": 1.0},
    "shrink-perturb": {"weight_decay": 1.0, "sigma": 0.0},
    "adamw": AVERAGES | {"weight_decay": 1.0},
    "cbp": AVERAGES | {"base": "adamw", "weight_decay": 1.0},
    "upgd": {"beta": 0.95, "weight_decay": 1.0, "sigma": 0.0},
}


@pytest.mark.parametrize(("engine", "name"), [*(("fused", name) for name in DECAYING), ("torch", "adamw")])
def test_no_number_is_subnormal_after_many_steps(engine, name):
    """A pass over such numbers takes many times as long: all that decays without new input must become zero."""
    # after 1 700 steps what decays slowest, by 0.95 a step, is below 1e-38
    steps = 20_000 if (engine, name) == ("fused", "adamw") else 2_000
    method, network, rng = METHODS[name](lr=0.1, **DECAYING[name]), Perceptron((6, 5, 3)), np.random.default_rng(0)
    if engine == "fused":
        learner = FusedPerceptron(network, 1, 1, rng)
    else:
        learner = pytest.importorskip("metareplay.learners.pytorch").PyTorchLearner(network, 1, 1, rng)
    method.start(learner, np.random.default_rng(1), 1)
    x = np.random.default_rng(2).random((steps, 6), np.float32)
    x[1:, :3] = 0  # they are never on again
    row, y = np.zeros(1, np.int64), np.arange(steps) % 3

    def vectors():
        theta = learner.parameters()
        return [np.asarray(theta), *(np.asarray(v) for v in vars(method).values() if np.shape(v) == theta.shape)]

    for step in range(steps):
        learner.put(row, x[step : step + 1], y[step : step + 1], 0)
        method.observe(row)
        if step in (0, steps - 1):
            rows = [np.asarray(learner.layers(vector)[0][0])[:3] for vector in vectors()]
            assert all(part.any() == (step == 0) for part in rows), "not zero at first, and at last"
            subnormal = [(np.abs(v) > 0) & (np.abs(v) < np.finfo(np.float32).tiny) for v in vectors()]
            assert not np.any(subnormal)
