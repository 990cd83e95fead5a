"""Every method: what it can rely on, its published defaults, GEM's projection, private layers, decay and noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import metareplay
from metareplay import METHODS, BadInput, Diverged, Method, setting
from metareplay.data.images import BaseImages
from metareplay.learners import engines
from metareplay.learners.base import Learner
from metareplay.learners.fused import FusedPerceptron
from metareplay.learners.normal import normal
from metareplay.methods.base import FAMILIES
from metareplay.methods.gem import project
from metareplay.methods.replay import ER
from metareplay.methods.task_networks import Independent, TaskInput
from metareplay.networks import Perceptron
from metareplay.runs.checkpoint import pack, unpack
from metareplay.settings import hyperparameters
from metareplay.streams.stream import Images

ENGINES = ["fused", "torch"]
PUBLISHED = ["online", "taskinput", "independent", "ewc", "gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7"]


class KeepsAll(Method):
    """Keeps one of everything that can be kept."""

    lr: float = setting(0.1, "(0, inf)", help="the learning rate")

    def start(self, learner, rng, tasks):
        self.learner, self.rng = learner, rng
        self.anchor = 0 * learner.parameters()
        self.by_class = {}
        self.recent = []
        self.pair = (0, "nothing")
        self.none = None

    def observe(self, rows):
        self.anchor += self.learner.gradient(rows)
        self.by_class[int(self.learner.labels[rows[0]])] = self.learner.parameters()
        self.recent.append(self.learner.forward(rows))
        self.pair = (len(self.recent), "something")
        self.counters["seen"] = self.counters.get("seen", 0) + len(rows)
        self.drawn = self.rng.random()
        self.learner.sgd(rows, self.lr)


def ready_on(method, engine):
    made = engines.learner(Perceptron((4, 6, 3)), 3, 2, np.random.default_rng(0), engine)
    method.start(made, np.random.default_rng(1), 2)
    made.put(np.arange(2), np.ones((2, 4), np.float32), np.array([0, 2]), 0)
    return method


def as_arrays(value):
    """Nested values with every vector as an array, to be compared."""
    if isinstance(value, dict):
        return {key: as_arrays(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_arrays(part) for part in value)
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_can_be_kept_comes_back_from_a_file_as_it_was(engine):
    method, other = ready_on(KeepsAll(), engine), ready_on(KeepsAll(), engine)
    for _ in range(3):
        method.observe(np.arange(2))
    saved = pack(method.state()), method.learner.state()
    other.load_state(unpack(saved[0]))
    other.learner.load_state(saved[1])
    for each in (method, other):
        each.observe(np.arange(1, 2))
    kept = [as_arrays({k: v for k, v in vars(m).items() if k not in ("learner", "rng")}) for m in (method, other)]
    assert kept[0] == kept[1]
    assert kept[0]["pair"] == (4, "something")
    assert list(kept[0]["by_class"]) == [0, 2]
    assert type(other.by_class[0]) is type(other.learner.parameters())


def test_what_cannot_be_saved_is_refused_before_the_first_example():
    class KeepsAFunction(KeepsAll):
        def start(self, learner, rng, tasks):
            super().start(learner, rng, tasks)
            self.rule = print

    stream = metareplay.benchmark("digits-rotations")
    with pytest.raises(BadInput, match=r"keeps rule = .*print.*cannot be saved; keep numbers, text, arrays"):
        metareplay.Trainer(metareplay.Experiment(stream=stream, method=KeepsAFunction()))


def test_how_often_one_evaluates_changes_nothing_for_a_method_that_makes_ready():
    class Restless(metareplay.Online):
        def ready(self):
            self.learner.sgd(np.arange(1), 0.5)

    stream = metareplay.benchmark("digits-rotations", tasks=2)
    records = [
        metareplay.run(stream, Restless(lr=0.1), samples_per_task=20, hidden=(8,), eval_every=every) for every in (0, 3)
    ]
    assert np.array_equal(records[0].predicted_right, records[1].predicted_right)
    assert np.array_equal(records[0].correct[-1], records[1].correct[-1])
    plain = metareplay.run(stream, metareplay.Online(lr=0.1), samples_per_task=20, hidden=(8,))
    assert np.array_equal(plain.predicted_right, records[0].predicted_right)
    assert not np.array_equal(plain.correct[-1], records[0].correct[-1])


def test_the_published_methods_come_in_their_order_others_among_their_family_and_a_users_own_not_at_all():
    assert [name for name in METHODS if name in PUBLISHED] == PUBLISHED
    families = [FAMILIES.index(method.family) for method in METHODS.values()]
    assert families == sorted(families)
    assert all(getattr(metareplay, method.__name__) is method for method in METHODS.values())
    assert all(name == method.id for name, method in METHODS.items())

    class Mine(ER):
        id = "mine"

    assert Mine().id == "mine"
    assert "mine" not in METHODS
    assert METHODS["eralg4"] is ER


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


PIXELS, LABELS = 40, 4
BLACK = slice(30, PIXELS)


def made(seed=0, **options):
    return FusedPerceptron(Perceptron((PIXELS, 20, 18, LABELS), **options), 4, 2, np.random.default_rng(seed))


def examples(count=60):
    rng = np.random.default_rng(1)
    x = rng.random((count, PIXELS)) * (rng.random((count, PIXELS)) < 0.3)
    x[:, BLACK] = 0
    return x.astype(np.float32), rng.integers(LABELS, size=count)


def each(learner, x, y, *pull, task=0):
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


def test_what_is_wrong_is_refused_and_nothing_of_it_is_done():
    learner, (x, y) = made(), examples()
    y[3] = LABELS
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


def test_normal_numbers_are_distributed_as_they_should_be_and_fewer_are_the_first_ones():
    numbers = normal(np.random.default_rng(0), 400_000)
    assert stats.kstest(numbers, "norm").pvalue > 0.01
    assert stats.chisquare(np.histogram(stats.norm.cdf(numbers), 1000, (0, 1))[0]).pvalue > 0.01
    assert [stats.moment(numbers.astype(float), k) for k in (2, 3, 4)] == pytest.approx([1, 0, 3], abs=0.03)
    assert 4.2 < np.abs(numbers).max() < 5.3
    many, few = (normal(np.random.default_rng(2), count) for count in (1001, 17))
    assert np.array_equal(few, many[:17])


@pytest.mark.parametrize("lag", [1, 2, 16, 256, 784])
def test_they_do_not_follow_from_one_another(lag):
    rng = np.random.default_rng(1)
    numbers, later = normal(rng, 200_000), normal(rng, 200_000)
    for one, other in ((numbers[:-lag], numbers[lag:]), (numbers[:-lag] ** 2, numbers[lag:] ** 2), (numbers, later)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))
