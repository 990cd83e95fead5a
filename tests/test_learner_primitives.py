"""Every primitive of every learner, held against float64 autograd on random networks and data."""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metareplay.data.images import BaseImages
from metareplay.learners.base import Diverged, descend
from metareplay.learners.fused import FusedPerceptron
from metareplay.networks import Perceptron
from metareplay.streams.stream import Images

torch = pytest.importorskip("torch")

from metareplay.learners.pytorch import PyTorchLearner

Layers = list[tuple[NDArray[Any], NDArray[Any]]]
Allowed = NDArray[np.bool_]


@pytest.fixture(scope="session", params=["fused", "pytorch", pytest.param("pytorch on cuda", marks=pytest.mark.cuda)])
def engine(request):
    """The constructor of a learner: ``engine(network, slots, batch_size, rng)``."""
    if request.param == "fused":
        return FusedPerceptron
    return functools.partial(PyTorchLearner, device="cpu" if request.param == "pytorch" else "cuda")


@dataclass
class Problem:
    """A network with parameters, and a table of examples of several tasks."""

    network: Perceptron
    layers: Layers
    x: NDArray[np.float32]
    labels: NDArray[np.int64]
    tasks: NDArray[np.int64]
    rng: np.random.Generator
    allowed: Allowed | None = None
    """The classes that count in each task; None: all."""

    def _repr_pretty_(self, printer, cycle):
        printer.text(f"<{len(self.x)} examples for {self.network}>")

    @property
    def slots(self):
        return len(self.x)

    @property
    def lr(self):
        """A learning rate whose steps neither vanish in rounding nor blow up."""
        return float(self.rng.uniform(0.05, 0.5) / (1 + (self.x.astype(np.float64) ** 2).sum(1).max()))

    def rows(self, *shape):
        return self.rng.integers(self.slots, size=shape)

    def groups(self):
        return [self.rows(int(size)) for size in self.rng.integers(1, 20, self.rng.integers(1, 6))]

    def restricted(self):
        """The same with some classes for each task, at least one; the labels are made to be among them."""
        tasks, classes = self.network.tasks, self.network.widths[-1]
        self.allowed = self.rng.random((tasks, classes)) < self.rng.choice([0.1, 0.5, 0.9])
        self.allowed[np.arange(tasks), self.rng.integers(classes, size=tasks)] = True
        for slot, task in enumerate(self.tasks):
            self.labels[slot] = self.rng.choice(np.flatnonzero(self.allowed[task]))
        return self

    def learner(self, engine):
        """A learner with these parameters and this table, whose slots have all held something else before."""
        learner = engine(self.network, self.slots, 1, np.random.default_rng(0))
        learner.restrict(self.allowed)
        write(learner, self.layers)
        noise = np.random.default_rng(1).standard_normal(self.x.shape).astype(np.float32)
        learner.put(np.arange(self.slots), noise, np.zeros(self.slots, np.int64), 0)
        for task in np.unique(self.tasks):
            rows = np.flatnonzero(self.tasks == task)
            learner.put(rows, self.x[rows], self.labels[rows], int(task))
        return learner


# Around the vector widths and the blocks that compiled kernels work in.
borders = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 111, 112, 113, 127, 128, 129, 255, 256, 257, 300]
widths = st.sampled_from(borders) | st.integers(1, 300)
input_widths = st.sampled_from([*borders, 784, 900]) | st.integers(1, 900)


@st.composite
def problems(draw):
    hidden = draw(st.lists(widths, max_size=4))
    shape = (draw(input_widths), *hidden, draw(st.sampled_from([1, 2, 10, 16, 17]) | st.integers(1, 40)))
    private = tuple(draw(st.lists(st.booleans(), min_size=len(hidden) + 1, max_size=len(hidden) + 1)))
    network = Perceptron(shape, private, draw(st.integers(1, 3)))
    kinds = draw(st.lists(st.sampled_from(["pixels", "dense", "sparse", "zero"]), min_size=1, max_size=12))
    made = problem(network, kinds, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    return made.restricted() if draw(st.booleans()) else made


def problem(network, kinds, rng):
    inputs, classes = network.widths[0], network.widths[-1]

    def example(kind):
        if kind == "pixels":
            return rng.random(inputs) * (rng.random(inputs) < 0.2)
        if kind == "sparse":
            return rng.standard_normal(inputs) * (rng.random(inputs) < 0.05)
        return rng.standard_normal(inputs) if kind == "dense" else np.zeros(inputs)

    return Problem(
        network,
        [
            (weights, rng.normal(0, 0.1, biases.shape).astype(np.float32))
            for weights, biases in network.initial_layers(rng)
        ],
        np.stack([example(kind) for kind in kinds]).astype(np.float32),
        rng.integers(classes, size=len(kinds)),
        rng.integers(network.tasks, size=len(kinds)),
        rng,
    )


MIXED = ["pixels", "dense", "sparse", "zero", "pixels", "pixels"]


def ordinary_problem(seed=0):
    """A problem for facts that do not depend on the network's shape; its middle layer is private."""
    return problem(Perceptron((100, 20, 17, 5), (False, True, False), 3), MIXED, np.random.default_rng(seed))


def on_random_problems(test):
    """Try a test on random problems: the same ones every time."""
    cases = given(problem=problems())
    chosen = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    return chosen(cases(test))


class Oracle:
    """The same network in float64, differentiated by autograd as one function of one flat vector ``theta``.

    Nothing flows back from the scores of classes that do not count.
    """

    def __init__(self, problem):
        self.shapes = [(weights.shape, biases.shape) for weights, biases in problem.layers]
        self.theta = torch.tensor(flat(problem.layers))
        self.x = torch.tensor(problem.x, dtype=torch.float64)
        self.labels, self.tasks, self.allowed = problem.labels, problem.tasks, problem.allowed
        self.nearest_kink = np.inf

    def scores(self, theta, x, tasks):
        offset = 0
        for number, shapes in enumerate(self.shapes):
            own = []
            for shape in shapes:
                own.append(theta[offset : offset + math.prod(shape)].reshape(shape))
                offset += own[-1].numel()
            if number:
                self.nearest_kink = min(self.nearest_kink, nearest_kink(x))
                x = torch.relu(x)
            weights, biases = own
            if weights.ndim == 2:
                x = x @ weights + biases
            else:
                x = torch.stack([row @ weights[i] + biases[i] for row, i in zip(x, tasks, strict=True)])
        return x if self.allowed is None else x.masked_fill(torch.tensor(~self.allowed[tasks]), -1e30)

    def forward(self, rows):
        return np.asarray(self.scores(self.theta, self.x[rows], self.tasks[rows]))

    def gradient(self, rows, weights=None):
        theta = self.theta.clone().requires_grad_()
        scores = self.scores(theta, self.x[rows], self.tasks[rows])
        losses = scores.logsumexp(1) - scores[np.arange(len(rows)), self.labels[rows]]
        shares = np.full(len(rows), 1 / len(rows)) if weights is None else weights
        (gradient,) = torch.autograd.grad(losses @ torch.tensor(shares, dtype=torch.float64), theta)
        return np.asarray(gradient)

    def descend(self, gradient, lr):
        self.theta = self.theta - lr * torch.tensor(gradient)

    def sgd_each(self, rows, lr):
        for row, rate in zip(rows, np.broadcast_to(lr, len(rows)), strict=True):
            self.descend(self.gradient(np.array([row])), rate)


def flat(layers):
    return np.concatenate([np.asarray(part).ravel() for pair in layers for part in pair]).astype(np.float64)


def write(learner, layers):
    for views, values in zip(learner.layers(), layers, strict=True):
        for view, value in zip(views, values, strict=True):
            view[...] = value


def nearest_kink(z):
    """How near any unit is to the kink of its ReLU, as a share of the layer's largest value."""
    sizes = z.detach().abs().ravel()
    return float((sizes[sizes > 0] / sizes.max()).min()) if sizes.max() > 0 else np.inf


def assert_close(actual, expected, rounding=0):
    """Within 1e-5 of the norm of what is expected, and some float32 roundings of numbers of norm ``rounding``."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    error, allowed = np.linalg.norm(actual - expected), 1e-5 * np.linalg.norm(expected) + 2.0**-21 * rounding
    assert error <= allowed


def assert_same_scores(scores, expected):
    """Close where they count, and else so low that no other score could be lower."""
    scores, expected = np.asarray(scores), np.asarray(expected)
    count = expected > -1e29
    assert scores.shape == expected.shape
    assert np.isfinite(scores).all()
    assert (scores[~count] < -1e29).all()
    assert_close(scores[count], expected[count], rounding=scores.size**0.5)


def assert_same_parameters(learner, oracle, problem):
    """The same where no unit came within rounding of a kink: on in float32, off in float64, it has another gradient."""
    assume(oracle.nearest_kink > 3e-6)
    assert_moved_alike(learner, oracle, problem)


def assert_moved_alike(learner, oracle, problem):
    """Both have moved from the problem's parameters by the same vector."""
    start = flat(problem.layers)
    assert_close(
        flat(learner.layers()) - start, np.asarray(oracle.theta) - start, rounding=float(np.linalg.norm(start))
    )


@on_random_problems
def test_forward(engine, problem):
    rows = problem.rows(15)
    learner, expected = problem.learner(engine), Oracle(problem).forward(rows)
    assert_same_scores(learner.forward(rows), expected)
    assert_same_scores(learner.forward(rows[:1]), expected[:1])


@on_random_problems
def test_scores_of_images_read_through_an_index_map(engine, problem):
    rng, inputs = problem.rng, problem.network.widths[0]
    index_map = None if rng.random() < 0.3 else rng.integers(-1, 50, inputs).astype(np.int32)
    width = inputs if index_map is None else 50
    if rng.random() < 0.5:
        pixels = rng.integers(256, size=(40, width)) * (rng.random((40, width)) < 0.2)
        base = BaseImages(pixels.astype(np.uint8), white=int(rng.choice([16, 255])))
    else:
        base = BaseImages(rng.standard_normal((40, width)).astype(np.float32))
    rows = None if rng.random() < 0.3 else rng.integers(40, size=rng.integers(1, 60))
    n = 40 if rows is None else len(rows)
    images = Images(base, np.zeros(n, np.int64), index_map, rows)
    task = int(rng.integers(problem.network.tasks))

    scores = problem.learner(engine).scores(images, task)

    oracle = Oracle(problem)
    x = torch.tensor(images.inputs(np.arange(n)), dtype=torch.float64)
    assert_same_scores(scores, oracle.scores(oracle.theta, x, np.full(n, task)))


def test_scores_of_more_images_than_are_held_at_once(engine):
    problem = ordinary_problem()
    learner = problem.learner(engine)
    base = BaseImages(problem.rng.integers(256, size=(9001, 100)).astype(np.uint8))
    scores = learner.scores(Images(base, np.zeros(9001, np.int64)), 1)
    last = learner.scores(Images(base, np.zeros(1, np.int64), rows=np.array([9000])), 1)
    assert scores.shape == (9001, 5)
    assert_close(scores[-1:], last)


@on_random_problems
def test_sgd_descends_the_mean_loss_or_the_weighted_sum(engine, problem):
    learner, oracle = problem.learner(engine), Oracle(problem)
    for n, weighted in itertools.product((1, int(problem.rng.integers(2, 20))), (False, True)):
        rows, lr = problem.rows(n), problem.lr
        weights = problem.rng.choice([0, 0.1, 0.5, 2], n).astype(np.float32) if weighted else None
        learner.sgd(rows, lr, weights)
        oracle.descend(oracle.gradient(rows, weights), lr)
    assert_same_parameters(learner, oracle, problem)


@on_random_problems
def test_sgd_each_steps_on_one_row_after_another(engine, problem):
    learner, oracle = problem.learner(engine), Oracle(problem)
    for lr in (problem.lr, problem.lr * problem.rng.random(10)):  # one rate for all, and one for each
        rows = problem.rows(10)
        learner.sgd_each(rows, lr)
        oracle.sgd_each(rows, lr)
    assert_same_parameters(learner, oracle, problem)


@on_random_problems
def test_reptile_keeps_a_share_of_each_batchs_change(engine, problem):
    learner, oracle = problem.learner(engine), Oracle(problem)
    batches = problem.rows(int(problem.rng.integers(1, 4)), int(problem.rng.integers(1, 7)))
    lr, rate = problem.lr, float(problem.rng.choice([0.03, 0.3, 1]))
    lrs = lr * problem.rng.random(batches.shape)
    learner.reptile(batches, lr, rate)
    learner.reptile(batches, lrs, rate)
    for batch, batch_lr in [(batch, lr) for batch in batches] + list(zip(batches, lrs, strict=True)):
        start = oracle.theta
        oracle.sgd_each(batch, batch_lr)
        oracle.theta = start + rate * (oracle.theta - start)
    assert_same_parameters(learner, oracle, problem)


@pytest.mark.parametrize("widths", [(100, 70, 17, 5), (300, 150, 9), (230, 64)])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 40, 64, 81])
def test_batches_of_any_size_are_steps_one_after_another(engine, widths, size):
    case = problem(Perceptron(widths, tasks=2), MIXED * 3, np.random.default_rng(size))
    case = case.restricted() if size % 2 else case
    learner, oracle, lr = case.learner(engine), Oracle(case), case.lr / 4
    batches, rates = case.rows(2, size), lr * case.rng.random((2, size))
    learner.reptile(batches, rates, 0.3)
    learner.sgd_each(batches[0], lr)
    for batch, batch_rates in zip(batches, rates, strict=True):
        start = oracle.theta
        oracle.sgd_each(batch, batch_rates)
        oracle.theta = start + 0.3 * (oracle.theta - start)
    oracle.sgd_each(batches[0], lr)
    if oracle.nearest_kink > 3e-6:
        assert_moved_alike(learner, oracle, case)
    padding = learner.parameters()
    assert float(padding @ padding) == pytest.approx(float(np.sum(flat(learner.layers()) ** 2)), rel=1e-5)


@on_random_problems
def test_gradients_and_their_dot_products(engine, problem):
    learner, oracle = problem.learner(engine), Oracle(problem)
    rows, groups = problem.rows(int(problem.rng.integers(1, 10))), problem.groups()
    gradient, gradients, dots = learner.gradient(rows), learner.gradients(groups), learner.dots(rows, groups)
    one, others = oracle.gradient(rows), np.stack([oracle.gradient(group) for group in groups])
    assume(oracle.nearest_kink > 3e-6)
    for ours, theirs in zip([gradient, *gradients], [one, *others], strict=True):
        assert_close(flat(learner.layers(ours)), theirs, rounding=1)
    # A dot product may cancel: its rounding is that of the lengths it is made from.
    lengths = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    assert np.shape(dots) == (len(groups),)
    assert np.all(np.abs(np.asarray(dots) - others @ one) <= 1e-5 * lengths + 1e-7)
    assert np.array_equal(flat(learner.layers()), flat(problem.layers))


@on_random_problems
def test_products_with_the_jacobian(engine, problem):
    learner, oracle, rng = problem.learner(engine), Oracle(problem), problem.rng
    groups = problem.groups()
    expected = np.stack([oracle.gradient(group) for group in groups])
    assume(oracle.nearest_kink > 3e-6)
    vector, weights = learner.parameters(), rng.normal(size=len(groups)).astype(np.float32)
    weights[rng.random(len(groups)) < 0.3] = 0
    along, which, lengths = flat(learner.layers(vector)), rng.permutation(len(groups)), np.linalg.norm(expected, axis=1)
    jacobian = learner.jacobian(groups)
    learner.sgd(problem.rows(3), 0.1)  # what it was asked for stays
    allowed = 1e-5 * lengths  # once for each factor that is rounded
    assert np.all(np.abs(np.asarray(jacobian @ vector) - expected @ along) <= allowed * np.linalg.norm(along) + 1e-7)
    squares = np.asarray(jacobian @ jacobian[0])
    assert np.all(np.abs(squares - expected @ expected[0]) <= 2 * allowed * lengths[0] + 1e-7)
    assert_close(flat(learner.layers(weights @ jacobian)), weights @ expected, rounding=len(groups))
    some = jacobian[which]
    allowed = 2e-5 * np.outer(lengths, lengths)[np.ix_(which, which)] + 1e-7
    for others in (which, which[:2]):
        gram = np.asarray(some @ (some if others is which else jacobian[others]).T)
        assert np.all(np.abs(gram - expected[which] @ expected[others].T) <= allowed[:, : len(others)])
    assert_close(flat(learner.layers(weights @ some)), weights @ expected[which], rounding=len(groups))


@pytest.mark.parametrize("restricted", [False, True])
def test_groups_of_hundreds_of_rows(engine, restricted):
    problem = ordinary_problem().restricted() if restricted else ordinary_problem()
    learner, oracle = problem.learner(engine), Oracle(problem)
    rows, groups = problem.rows(300), [problem.rows(700), problem.rows(3), problem.rows(256)]
    gradient, gradients = oracle.gradient(rows), np.stack([oracle.gradient(group) for group in groups])
    assert oracle.nearest_kink > 3e-6
    assert_close(np.stack([flat(learner.layers(ours)) for ours in learner.gradients(groups)]), gradients)
    assert_close(learner.dots(rows, groups), gradients @ gradient)
    learner.sgd(rows, 0.1)
    assert_close(flat(learner.layers()), flat(problem.layers) - 0.1 * gradient)


def test_the_jacobian_of_dozens_of_rows_a_group_asked_for_again(engine):
    one = problem(Perceptron((100, 70, 17, 5), (False, True, False), 3), MIXED, np.random.default_rng(0))
    learner, oracle, which = one.learner(engine), Oracle(one), [5, 1, 3, 2, 6]
    groups = [one.rng.integers(0, one.slots, size) for size in (2, 40, 20, 60, 50, 30, 45)]
    expected, vector = np.stack([oracle.gradient(group) for group in groups]), learner.parameters()
    along = expected @ flat(learner.layers(vector))
    for _ in range(3):
        jacobian = learner.jacobian(groups)
        assert_close(np.asarray(jacobian @ vector), along, rounding=2)
        some = jacobian[which]
        assert_close(np.asarray(jacobian @ vector), along, rounding=2)
        assert_close(np.asarray(some @ some.T), expected[which] @ expected[which].T, rounding=2)
        assert_close(np.asarray(some @ jacobian[which[:2]].T), expected[which] @ expected[which[:2]].T, rounding=2)


@pytest.mark.parametrize("write", ["put", "copy", "load_state", "nothing"])
def test_gradients_asked_for_again_are_those_of_what_is_in_the_table_now(engine, write):
    one = problem(Perceptron((100, 70, 17, 5), (False, True, False), 3), MIXED, np.random.default_rng(0))
    learner, changed, other = one.learner(engine), one.learner(engine), one.slots - 1
    groups = [one.rng.integers(0, other, size) for size in (150, 3, 64)]
    slot = int(groups[2][0])
    if write != "nothing":
        changed.copy(other, slot)
    for _ in range(3):
        before = [flat(learner.layers(gradient)) for gradient in learner.gradients(groups)]
    if write == "put":
        learner.put(np.array([slot]), one.x[[other]], one.labels[[other]], int(one.tasks[other]))
    elif write == "copy":
        learner.copy(other, slot)
    elif write == "load_state":
        learner.load_state(changed.state())
    expected = [flat(changed.layers(changed.gradient(group))) for group in groups]
    assert np.allclose(before[2], expected[2], atol=1e-6) == (write == "nothing")
    for _ in range(3):
        for ours, theirs in zip(learner.gradients(groups), expected, strict=True):
            assert_close(flat(learner.layers(ours)), theirs)


def test_gradients_that_somebody_holds_are_not_written_again(engine):
    problem = ordinary_problem()
    learner, groups = problem.learner(engine), [problem.rows(5), problem.rows(3)]
    one, row = learner.gradient(groups[0]), learner.gradients(groups)[1]
    held = [flat(learner.layers(one)), flat(learner.layers(row))]
    learner.sgd(groups[0], 0.1)
    learner.gradient(groups[1]), learner.gradients(groups)
    assert np.array_equal(held[0], flat(learner.layers(one)))
    assert np.array_equal(held[1], flat(learner.layers(row)))


@pytest.mark.parametrize("initial", ["glorot", "fan-in"])
def test_a_fresh_learner_has_the_networks_initial_layers(engine, initial):
    network = Perceptron((30, 20, 17, 5), (True, False, True), 3, initial)
    learner = engine(network, 4, 1, np.random.default_rng(7))
    expected = network.initial_layers(np.random.default_rng(7))
    shapes = [((3, 30, 20), (3, 20)), ((20, 17), (17,)), ((3, 17, 5), (3, 5))]
    assert [(weights.shape, biases.shape) for weights, biases in learner.layers()] == shapes
    assert np.array_equal(flat(learner.layers()), flat(expected))
    assert learner.parameter_bytes >= flat(expected).astype(np.float32).nbytes
    assert learner.table_bytes > 0


def test_put_copies_what_it_is_given_in_any_order_of_memory(engine):
    problem = ordinary_problem()
    learner = problem.learner(engine)
    x, y = problem.x[:1].copy(), problem.labels[:1].copy()
    learner.put(np.array([2]), x, y, 1)
    before = learner.forward(np.array([2]))
    x[:], y[:] = 9, 4
    assert np.array_equal(learner.forward(np.array([2])), before)
    assert learner.labels[2] == problem.labels[0]
    assert learner.tasks[2] == 1
    x = np.random.default_rng(0).random((3, 40)).astype(np.float32)
    learner = engine(Perceptron((40, 5, 3)), 3, 3, np.random.default_rng(0))
    for laid_out in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        learner.put(np.arange(3), laid_out, np.zeros(3, np.int64), 0)
        assert np.array_equal(learner.inputs(np.arange(3)), x)


def spoiled_problem():
    """An ordinary problem whose example in slot 3 has an input that is not a number."""
    problem = ordinary_problem()
    problem.x[3, 50] = np.nan
    return problem


@pytest.mark.parametrize(
    ("call", "taken"),
    [
        (lambda learner: learner.sgd(np.array([2, 3, 4]), 0.01), []),
        (lambda learner: learner.gradient(np.array([2, 3, 4])), []),
        (lambda learner: learner.sgd_by(descend, np.array([2, 3, 4]), lr=0.01), []),
        (lambda learner: learner.gradients([np.array([0]), np.array([2, 3, 4])]), []),
        (lambda learner: learner.sgd_each(np.array([2, 0, 3, 4]), 0.01), [2, 0]),
        (lambda learner: learner.reptile(np.array([[0, 1, 2], [4, 3, 0]]), 0.01, 1.0), [0, 1, 2, 4]),
    ],
    ids=["sgd", "gradient", "rule", "gradients", "sgd_each", "reptile"],
)
def test_a_loss_that_is_not_finite_changes_nothing_and_the_steps_before_it_stay_taken(engine, call, taken):
    learner, other = spoiled_problem().learner(engine), spoiled_problem().learner(engine)
    for each in (learner, other):
        each.sgd(np.array([0, 1]), 0.01)
    with pytest.raises(Diverged) as caught:
        call(learner)
    assert (caught.value.step, caught.value.row) == (1 + len(taken), 3)
    assert learner.steps == 1 + len(taken)
    other.sgd_each(taken, 0.01)
    if len(taken) < 4:
        assert np.array_equal(flat(learner.layers()), flat(other.layers()))
    else:  # a share of 1 of the first batch's change rounds it
        assert_close(flat(learner.layers()), flat(other.layers()))


@pytest.mark.parametrize("bad", [4, 16, 17, 30, 33, 69])
@pytest.mark.parametrize("of_many", ["reptile", "sgd_each"])
def test_the_many_steps_before_a_loss_that_is_not_finite_are_taken(engine, bad, of_many):
    case = problem(Perceptron((100, 70, 17, 5)), MIXED, np.random.default_rng(0))
    case.x[3, 50] = np.nan
    learner, other = case.learner(engine), case.learner(engine)
    good = case.rng.choice([0, 1, 2, 4, 5], 140)
    rows = np.concatenate([good[:bad], [3], good[bad:]])
    with pytest.raises(Diverged) as caught:
        learner.sgd_each(rows, 0.01) if of_many == "sgd_each" else learner.reptile(rows[None], 0.01, 1.0)
    assert (caught.value.step, caught.value.row) == (bad, 3)
    learner.sgd_each(good[:70], 0.01)  # what was begun leaves no trace
    assert learner.steps == bad + 70
    for row in [*good[:bad], *good[:70]]:
        other.sgd_each(np.array([row]), 0.01)
    assert_close(flat(learner.layers()), flat(other.layers()))
