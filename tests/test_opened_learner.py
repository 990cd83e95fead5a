"""What a method does to a learner by itself: losses, update rules, looks inside, and what no call can damage."""

import contextlib
import math

import numpy as np
import pytest

from metareplay.errors import BadInput
from metareplay.learners import kernels, rules
from metareplay.learners.base import Diverged, Learner
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods import losses
from metareplay.networks import Perceptron

primitives = pytest.importorskip("test_learner_primitives")

engine = primitives.engine
Problem = primitives.Problem
Oracle = primitives.Oracle
assert_close = primitives.assert_close
flat = primitives.flat
on_random_problems = primitives.on_random_problems
ordinary_problem = primitives.ordinary_problem
torch = primitives.torch


def cross_entropy_of(problem):
    return lambda z, rows: losses.cross_entropy(z, problem.labels[rows])


@on_random_problems
def test_cross_entropy_given_as_a_loss_is_the_built_in_one(engine, problem):
    problem.allowed = None
    ours, built_in, loss = problem.learner(engine), problem.learner(engine), cross_entropy_of(problem)
    rows, groups, lr = problem.rows(6), problem.groups(), problem.lr
    rounding = float(np.linalg.norm(flat(problem.layers)))
    gradient, expected = ours.gradient(rows, loss), built_in.gradient(rows)
    assert_close(flat(ours.layers(gradient)), flat(built_in.layers(expected)), rounding=1)
    for group, one, other in zip(groups, ours.gradients(groups, loss), built_in.gradients(groups), strict=True):
        assert len(group)
        assert_close(flat(ours.layers(one)), flat(built_in.layers(other)), rounding=1)
    lengths = np.linalg.norm(built_in.gradients(groups), axis=1) * np.linalg.norm(expected)
    assert np.all(np.abs(ours.dots(rows, groups, loss) - built_in.dots(rows, groups)) <= 1e-5 * lengths + 1e-7)
    for learner, given in ((ours, {"loss": loss}), (built_in, {})):
        learner.sgd(rows, lr, **given)
        learner.sgd(rows[:1], lr, **given)
        learner.sgd_each(rows, lr * np.linspace(0, 1, len(rows)), **given)
        learner.reptile(np.stack([rows, rows[::-1]]), lr, 0.3, **given)
    assert ours.steps == built_in.steps
    moved = flat(built_in.layers()) - flat(problem.layers)
    assert_close(flat(ours.layers()) - flat(problem.layers), moved, rounding=rounding)


def test_a_loss_sees_raw_scores_and_its_rows_one_at_a_time_where_steps_are_single(engine):
    problem = ordinary_problem()
    learner = problem.learner(engine)
    raw, seen = learner.forward(np.arange(6)), []
    allowed = np.eye(5, dtype=bool)[:3]
    learner.restrict(allowed)

    def loss(z, rows):
        seen.append((z.copy(), rows.copy()))
        return 0 * z

    learner.gradient([3, 1], loss)
    learner.sgd_each([2, 0, 2], 0.1, loss)
    learner.reptile([[5], [4]], 0.1, 0.5, loss)
    assert [rows.tolist() for _, rows in seen] == [[3, 1], [2], [0], [2], [5], [4]]
    for z, rows in seen:
        assert_close(z, raw[rows], rounding=5)
    assert np.array_equal(learner.allowed([3, 1]), allowed[problem.tasks[[3, 1]]])
    assert flat(learner.layers()).tobytes() == flat(problem.layers).tobytes()


def test_a_loss_may_ask_the_learner_itself(engine):
    """Distillation does: what it computes meanwhile does not touch what is carried back."""
    problem = ordinary_problem()
    learner, loss = problem.learner(engine), cross_entropy_of(problem)

    def asking(z, rows):
        learner.forward(problem.rows(9))
        learner.activations(problem.rows(9))
        learner.gradient(problem.rows(9), loss)
        learner.gradients([problem.rows(9)])
        return loss(z, rows)

    for rows in (np.arange(5), np.arange(2)):
        expected = learner.gradient(rows, loss)
        assert np.array_equal(learner.gradient(rows, asking), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_divergence_and_changes_nothing(engine, value):
    problem = ordinary_problem()
    learner = problem.learner(engine)

    def loss(z, rows):
        return np.where(rows[:, None] == 3, np.float32(value), 0 * z)

    for step in (
        lambda: learner.sgd([1, 3], 0.1, loss=loss),
        lambda: learner.gradient([1, 3], loss),
        lambda: learner.gradients([[1], [1, 3]], loss),
        lambda: learner.dots([1], [[1, 3]], loss),
    ):
        with pytest.raises(Diverged) as caught:
            step()
        assert (caught.value.step, caught.value.row) == (0, 3)
    with pytest.raises(Diverged) as caught:
        learner.sgd_each([0, 1, 3, 2], 0.1, loss)
    assert (caught.value.step, caught.value.row, learner.steps) == (2, 3, 2)
    assert flat(learner.layers()).tobytes() == flat(problem.layers).tobytes()


def test_scores_that_are_not_finite_reach_no_loss_and_a_loss_of_another_shape_or_with_weights_is_refused(engine):
    learner = primitives.spoiled_problem().learner(engine)
    with pytest.raises(Diverged) as caught:
        learner.sgd(np.array([0, 3]), 0.1, loss=lambda z, rows: np.zeros_like(z))
    assert caught.value.row == 3
    learner = ordinary_problem().learner(engine)
    with pytest.raises(BadInput, match=r"\(5, 2\).*\(2, 5\)"):
        learner.sgd([0, 1], 0.1, loss=lambda z, rows: z.T)
    with pytest.raises(BadInput, match="weights and a loss"):
        learner.sgd([0, 1], 0.1, np.ones(2, np.float32), loss=lambda z, rows: z)


def synaptic_intelligence(theta, g, path, omega, anchor, lr, c):
    step = -lr * (g + 2 * c * omega * (theta - anchor))
    return theta + step, path - g * step


def adam(theta, g, m, v, lr, t, decay=0.9):
    m = decay * m + (1 - decay) * g
    v = 0.999 * v + 0.001 * g**2
    return theta - lr * (m / (1 - decay**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


def everything(theta, g, a, b, c):
    sign = np.where((a > 0) & ~(b >= c) | (g == 0), np.sign(a), -1)
    bounded = np.clip(np.minimum(np.maximum(a, b), 0.9), -c, 0.5) + abs(g) ** 0.5 + (a != b)
    return sign * bounded + np.square(theta) / c**2, +a


RULES = [
    (synaptic_intelligence, 3, {"lr": 0.03, "c": 0.1}),
    (adam, 2, {"lr": 0.001, "t": 3}),
    (everything, 2, {"c": 0.7}),
    (lambda theta, g: g, 0, {}),
    (lambda theta, g: theta * 0.999 - 1, 0, {}),
    (lambda theta, g, before: (0.0, theta), 1, {}),
]


def vectors(learner, count):
    rng = np.random.default_rng(5)
    *others, last = [learner.noise(rng) for _ in range(count)]
    return [*others, abs(last)]


@pytest.mark.parametrize(("rule", "states", "numbers"), RULES, ids=["si", "adam", "everything", "g", "decay", "swap"])
def test_a_rule_computes_what_numpy_computes_in_float32(rule, states, numbers, engine):
    problem = ordinary_problem()
    learner = problem.learner(engine)
    gradient, *state = vectors(learner, 1 + states)
    before = [flat(learner.layers(vector)).astype(np.float32) for vector in state]
    theta, g = (flat(learner.layers(v)).astype(np.float32) for v in (learner.parameters(), gradient))
    results = rule(theta, g, *before, **numbers)
    expected = list(results if isinstance(results, tuple) else (results,))
    expected += before[len(expected) - 1 :]

    learner.update(rule, gradient, *state, **numbers)

    assert learner.steps == 1
    for ours, theirs in zip([flat(learner.layers()), *(flat(learner.layers(v)) for v in state)], expected, strict=True):
        theirs = np.broadcast_to(theirs, ours.shape)
        if engine is FusedPerceptron:
            assert np.array_equal(ours.astype(np.float32), np.asarray(theirs, np.float32))
        else:
            assert_close(ours, theirs)


@pytest.mark.parametrize("widths", [(100, 20, 17, 5), (200, 100, 5), (30, 112), (9, 7, 4)])
@pytest.mark.parametrize("size", [1, 3, 4, 32, 33])
def test_a_rule_takes_the_gradient_of_rows_as_if_it_were_given_it(widths, size, engine):
    case = primitives.problem(Perceptron(widths), primitives.MIXED, np.random.default_rng(size))
    ours, plain, rows = case.learner(engine), case.learner(engine), case.rows(size)
    states = [vectors(learner, 2) for learner in (ours, plain)]
    for t in range(1, 4):
        loss = cross_entropy_of(case) if t == 2 else None
        ours.sgd_by(adam, rows, *states[0], loss=loss, lr=0.01 / t, t=t)
        plain.update(adam, plain.gradient(rows, loss), *states[1], lr=0.01 / t, t=t)
    for one, other in zip([ours.parameters(), *states[0]], [plain.parameters(), *states[1]], strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert (ours.steps, ours.gradients_taken) == (plain.steps, plain.gradients_taken) == (3, 3 * size)
    states[0] = [2 * vector for vector in states[0]]
    ours.sgd_by(adam, rows, *states[0], lr=0.01, t=4)
    plain.update(adam, plain.gradient(rows), *(2 * vector for vector in states[1]), lr=0.01, t=4)
    ours.put(rows[:1], np.full((1, widths[0]), np.nan, np.float32), np.zeros(1, np.int64), 0)
    with pytest.raises(Diverged):
        ours.sgd_by(adam, rows, *states[0], lr=0.01, t=5)
    assert np.array_equal(np.asarray(ours.parameters()), np.asarray(plain.parameters()))


def test_a_rule_leaves_padding_zero_in_theta_and_in_what_it_writes():
    learner = ordinary_problem().learner(FusedPerceptron)
    padding = learner.noise(np.random.default_rng(0)) == 0
    assert padding.any()
    spoiled = np.ones(len(padding), np.float32)
    learner.update(lambda theta, g, written, read: (theta + read, written + g), spoiled, spoiled.copy(), spoiled)
    learner.descend(spoiled, -1)
    learner.interpolate(spoiled, 0.5)
    assert not learner.parameters()[padding].any()
    learner.load(spoiled)
    theta = learner.parameters()
    assert np.array_equal(theta, np.where(padding, 0, 1))
    state = spoiled.copy()
    learner.update(lambda theta, g, s: (theta, s + 1), spoiled, state)
    assert np.array_equal(state, np.where(padding, 0, 2))


def test_numbers_and_constants_change_without_compiling_again():
    learner, compiled = ordinary_problem().learner(FusedPerceptron), len(rules._compiled)
    g = learner.noise(np.random.default_rng(0))

    def halving(theta, g, lr):
        return theta - 0.5 * lr * g

    for lr in (0.1, 0.2, np.float32(0.3), 1, True):
        learner.update(halving, g, lr=lr)
    assert len(rules._compiled) == compiled + 1
    for c in (1.5, 4.0):
        learner.update(lambda theta, g, c: g * np.where((c > 2) | False, 3, c), g, c=c)
        assert np.array_equal(learner.parameters(), g * np.float32(min(c, 3)))


def test_a_closures_constants_are_part_of_what_a_rule_is(engine):
    def times(factor):
        def inner(x):
            return factor * x

        return lambda theta, g: inner(g)

    learner = ordinary_problem().learner(engine)
    one = learner.noise(np.random.default_rng(0))
    for factor in (2, 3, 2):
        learner.update(times(factor), one)
        assert np.array_equal(learner.parameters(), factor * one)


def test_subnormal_results_are_zero_and_the_processors_mode_is_as_before_an_update(engine):
    # A decaying average of what is no longer active would otherwise make each later pass many times slower.
    learner = ordinary_problem().learner(engine)
    zero, average = 0 * learner.parameters(), 0 * learner.parameters() + np.float32(1e-37)
    for _ in range(40):
        learner.update(lambda theta, g, average: (theta, 0.9 * average), zero, average)
    assert not np.asarray(average).any()
    learner = ordinary_problem().learner(FusedPerceptron)
    learner.descend(learner.parameters(), 0.1)
    tiny = np.array([np.finfo(np.float32).tiny])
    assert (tiny / 2).any()


class Stateful:
    factor = 2.0

    def rule(self, theta, g):
        return theta - self.factor * g


stateful = Stateful()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda theta, g: theta if g > 0 else g, "numpy.where"),
        (lambda theta, g: math.sqrt(theta), "single numbers"),
        (lambda theta, g: np.sinh(theta), "numpy.sinh"),
        (lambda theta, g: np.add(theta, g, where=True), "options"),
        (lambda theta, g: np.sort(theta), "numpy.sort"),
        (lambda theta, g: theta + np.ones(3), "ndarray"),
        (lambda theta, g: theta % g, "numpy.remainder"),
        (lambda theta, g: theta[0], "subscriptable"),
        (lambda theta, g: None, "NoneType"),
        (lambda theta, g: (theta, g), "returns 2 values"),
        (lambda theta, g: (), "returns 0 values"),
        (lambda theta, g, more: theta, "more"),
        (lambda theta, g: theta - stateful.factor * g, "Stateful"),
        (stateful.rule, "function of its own"),
        (np.add, "function of its own"),
    ],
)
def test_a_rule_that_cannot_be_compiled_is_refused_by_name_and_reason(rule, reason):
    learner = ordinary_problem().learner(FusedPerceptron)
    name = getattr(rule, "__qualname__", "add")
    with pytest.raises(BadInput, match=f"the rule .*{name.split('.')[-1]}.* cannot be compiled: .*{reason}"):
        learner.update(rule, learner.parameters())
    assert learner.steps == 0


def test_vectors_and_numbers_that_do_not_fit_are_refused():
    learner = ordinary_problem().learner(FusedPerceptron)
    theta = learner.parameters()

    def momentum(theta, g, velocity, lr):
        return theta - lr * g, 0.9 * velocity + g

    frozen = theta.copy()
    frozen.flags.writeable = False
    for vector in (theta[:-1], theta[None], 0.0, "no"):
        with pytest.raises(ValueError, match=r"a vector|could not convert"):
            learner.descend(vector, 0.1)
    for state in (theta.astype(np.float64), np.repeat(theta, 2)[::2], frozen, theta.tolist()):
        with pytest.raises(BadInput, match="writes to state vector 0"):
            learner.update(momentum, theta, state, lr=0.1)
    for number in (None, "1", np.ones(2), 1j):
        with pytest.raises(BadInput, match="lr is"):
            learner.update(momentum, theta, theta.copy(), lr=number)
    assert learner.parameters().tobytes() == theta.tobytes()
    learner.descend(theta.astype(np.float64), 0.5)
    learner.descend(frozen, 0.0)
    assert learner.parameters().tobytes() == (theta - np.float32(0.5) * theta).tobytes()


def test_a_trial_leaves_no_trace(engine):
    problem = ordinary_problem()
    learner = problem.learner(engine)
    learner.sgd([0, 1], 0.1)
    before = learner.state()
    for error in (0, 1):
        with contextlib.suppress(ZeroDivisionError), learner.trial():
            learner.sgd_each(problem.rows(5), 0.1)
            assert learner.steps == 6
            assert 1 / (1 - error)
        after = learner.state()
        assert all(np.array_equal(before[name], after[name]) for name in before)


@on_random_problems
def test_forward_with_other_parameters_gives_raw_scores_of_the_network_that_has_them(engine, problem):
    problem.allowed = None
    learner, other, rows = problem.learner(engine), problem.learner(engine), problem.rows(5)
    theta = learner.parameters()
    other.descend(problem.rng.standard_normal(theta.shape).astype(np.float32), 0.1)  # into padding too
    before, expected, given = learner.state(), other.forward(rows), other.parameters()
    learner.restrict(np.zeros((problem.network.tasks, learner.classes), bool))
    assert np.array_equal(learner.forward(rows, given), expected)
    assert np.array_equal(learner.forward(rows, theta), problem.learner(engine).forward(rows))
    assert (learner.forward(rows) < -1e29).all()
    after = learner.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("widths", [(100, 20, 17, 5), (30, 112, 3), (40, 4)])
@pytest.mark.parametrize(("steps", "judges"), [(1, 1), (2, 5), (7, 20)])
def test_looking_ahead_gives_what_whole_gradients_add_up_to(engine, widths, steps, judges):
    case = primitives.problem(Perceptron(widths), primitives.MIXED, np.random.default_rng(steps))
    learner, plain, rows, batch = case.learner(engine), case.learner(engine), case.rows(steps), case.rows(judges)
    rates, before, taken = learner.noise(case.rng) / 20, learner.parameters(), learner.gradients_taken
    ours, expected = learner.look_ahead(rows, batch, rates), Learner.look_ahead(plain, rows, batch, rates)
    for one, other in zip(ours, expected, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))  # the very additions, in the same order
        assert np.asarray(one).any()
    assert np.array_equal(learner.parameters(), before)
    assert (learner.steps, learner.gradients_taken - taken) == (steps, steps * (1 + judges))


def test_looking_ahead_from_a_loss_that_is_not_finite_changes_nothing(engine):
    case = primitives.problem(Perceptron((100, 20, 5)), primitives.MIXED, np.random.default_rng(0))
    learner = case.learner(engine)
    learner.put(np.array([5]), np.full((1, 100), np.nan, np.float32), np.zeros(1, np.int64), 0)
    rates, before = 0 * learner.parameters() + np.float32(0.1), learner.parameters()
    for rows, judges in (([0, 5], [1]), ([0, 1], [2, 5])):
        with pytest.raises(Diverged) as diverged:
            learner.look_ahead(np.array(rows), np.array(judges), rates)
        assert diverged.value.row == 5
        assert np.array_equal(learner.parameters(), before)


def calls(learner, rows):
    """All that a learner does by the classes of rows."""
    return [
        lambda: learner.sgd(rows, 0.1),
        lambda: learner.sgd(rows[:1], 0.1),
        lambda: learner.sgd_each(rows, 0.1),
        lambda: learner.reptile(np.asarray(rows)[None], 0.1, 0.5),
        lambda: learner.gradient(rows),
        lambda: learner.gradients([rows]),
        lambda: learner.dots(rows, [[0]]),
        lambda: learner.dots([0], [rows]),
    ]


@pytest.mark.parametrize(
    ("what", "value", "most"), [*(("label", value, 4) for value in (5, -1, 2**62)), ("task", 3, 2), ("task", -1, 2)]
)
def test_a_label_or_task_that_there_is_not_is_refused_where_it_counts(engine, what, value, most):
    problem = ordinary_problem()
    learner = problem.learner(engine)
    getattr(learner, f"{what}s")[3] = value
    others = [
        lambda: learner.sgd([3], 0.1, loss=lambda z, rows: z),
        lambda: learner.activations([3]),
        lambda: learner.forward([3]),
    ]
    for call in (*calls(learner, [3, 0]), *(others if what == "task" else ())):
        with pytest.raises(BadInput, match=f"the {what} in slot 3 is {value}, but must lie in 0 … {most}"):
            call()
    assert flat(learner.layers()).tobytes() == flat(problem.layers).tobytes()
    assert learner.steps == 0
    if what == "label":
        for call in others:
            call()
    else:
        with pytest.raises(BadInput, match=f"the task is {value}"):
            learner.scores(primitives.Images(primitives.BaseImages(problem.x), problem.labels), value)


def test_a_loss_that_writes_to_the_table_damages_nothing():
    learner = ordinary_problem().learner(FusedPerceptron)
    rows = np.array([0, 1, 2])

    def spoil_tasks(z, _):
        learner.tasks[:] = 10**6
        return z

    def spoil_rows(z, given):
        given[:] = 10**6
        return z

    with pytest.raises(IndexError):
        learner.sgd(rows.copy(), 0.1, loss=spoil_rows)
    with pytest.raises(BadInput, match="the task in slot 0 is 1000000"):
        learner.sgd(rows, 0.1, loss=spoil_tasks)


def test_a_state_that_compiled_code_could_not_follow_is_refused():
    problem = ordinary_problem()
    learner = problem.learner(FusedPerceptron)
    good = learner.state()

    def changed(name, value, place=...):
        array = good[name].copy()
        array[place] = value
        return good | {name: array}

    bad = [
        *({key: value for key, value in good.items() if key != name} for name in good),
        *(good | {name: good[name][None]} for name in good),
        *(good | {name: good[name].astype(np.float16)} for name in good),
        good | {"examples": good["examples"].tolist()},
        changed("examples", 101, (0, kernels.COUNT)),
        changed("examples", -1, (0, kernels.COUNT)),
        changed("index", 100, (0, 0)),
        changed("steps", -1),
    ]
    for state in bad:
        with pytest.raises(BadInput, match=r"the state's|the state has"):
            learner.load_state(state)
    assert all(np.array_equal(value, good[name]) for name, value in learner.state().items())
    padded = changed("parameters", 1.0, good["parameters"] == 0)
    learner.load_state(padded)
    assert flat(learner.layers()).tobytes() == flat(problem.layers).tobytes()
    assert np.array_equal(learner.parameters(), good["parameters"])


RNG = np.random.default_rng(0)
N, CLASSES = 7, 5
Z = RNG.normal(0, 3, (N, CLASSES)).astype(np.float32)
TARGET = RNG.normal(0, 3, (N, CLASSES)).astype(np.float32)
LABELS = RNG.integers(CLASSES, size=N)
SOME = RNG.random((N, CLASSES)) < 0.6
SOME[np.arange(N), LABELS] = True


def autograd(loss):
    z = torch.tensor(Z, dtype=torch.float64, requires_grad=True)
    loss(z).backward()
    return z.grad.numpy()


def among(z, allowed):
    return z if allowed is None else z.masked_fill(torch.as_tensor(~allowed), -torch.inf)


def distilled(z, temperature, allowed):
    target = torch.softmax(among(torch.tensor(TARGET, dtype=torch.float64), allowed) / temperature, 1)
    logs = torch.log_softmax(among(z, allowed) / temperature, 1)
    return -(temperature**2) * torch.where(target > 0, target * logs, 0).sum(1).mean()


@pytest.mark.parametrize("allowed", [None, SOME], ids=["all classes", "some classes"])
def test_gradients_by_the_scores_and_values_are_those_of_pytorch(allowed):
    labels, cross_entropy = torch.as_tensor(LABELS), torch.nn.functional.cross_entropy
    cases = [
        (losses.cross_entropy(Z, LABELS, allowed), lambda z: cross_entropy(among(z, allowed), labels)),
        (losses.distillation(Z, TARGET, 1.0, allowed), lambda z: distilled(z, 1.0, allowed)),
        (losses.distillation(Z, TARGET, 2.5, allowed), lambda z: distilled(z, 2.5, allowed)),
        (losses.mse_to(Z, TARGET), lambda z: ((z - torch.as_tensor(TARGET)) ** 2).mean()),
    ]
    for ours, theirs in cases:
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, autograd(theirs), rtol=1e-5, atol=1e-7)
    z = among(torch.tensor(Z, dtype=torch.float64), allowed)
    np.testing.assert_allclose(losses.softmax(Z, allowed), torch.softmax(z, 1), rtol=1e-5, atol=1e-9)
    expected = torch.nn.functional.cross_entropy(z, torch.as_tensor(LABELS), reduction="none")
    np.testing.assert_allclose(losses.cross_entropy_values(Z, LABELS, allowed), expected, rtol=1e-5, atol=1e-6)


def test_large_scores_neither_overflow_nor_touch_what_they_are_given():
    z, allowed = np.float32([[1e30, -1e30, 0.0]]), np.array([[False, True, True]])
    before = z.copy()
    assert losses.softmax(z).tolist() == [[1, 0, 0]]
    assert losses.softmax(z, allowed).tolist() == [[0, 0, 1]]
    assert np.isfinite(losses.cross_entropy(z, np.array([2]), allowed)).all()
    assert np.array_equal(z, before)
