"""What every method can rely on: what it keeps is saved, what it does to be tested is undone, and one file adds one."""

import numpy as np
import pytest

import metareplay
from metareplay import METHODS, Method, setting
from metareplay.errors import BadInput
from metareplay.learners.engines import learner
from metareplay.methods.base import FAMILIES
from metareplay.methods.replay import ER
from metareplay.networks import Perceptron
from metareplay.runs.checkpoint import pack, unpack

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


def begun(method, engine):
    made = learner(Perceptron((4, 6, 3)), 3, 2, np.random.default_rng(0), engine)
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
    method, other = begun(KeepsAll(), engine), begun(KeepsAll(), engine)
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


@pytest.mark.parametrize("engine", ENGINES)
def test_what_being_ready_does_is_undone(engine):
    class TrainsBeforeItIsTested(KeepsAll):
        def ready(self):
            for _ in range(5):
                self.observe(np.arange(2))

    method = begun(TrainsBeforeItIsTested(), engine)
    method.observe(np.arange(2))
    before, learned = method.learner.state(), np.asarray(method.learner.parameters())
    with method.readied():
        assert method.pair[0] == 6
        assert not np.array_equal(method.learner.parameters(), learned)
    assert method.pair[0] == 1
    after = method.learner.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


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


def test_a_method_with_begin_task_needs_boundaries():
    class Bounded(Method):
        def begin_task(self, task, previous):
            pass

    class Unbounded(Bounded):
        needs_boundaries = False

    assert Bounded.needs_boundaries
    assert not Unbounded.needs_boundaries
    assert [name for name in PUBLISHED if METHODS[name].needs_boundaries] == ["independent", "ewc", "gem"]
