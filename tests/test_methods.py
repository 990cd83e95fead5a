"""What each method computes, against its formula written out plainly, on networks small enough to check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metareplay import METHODS, BadInput, Method
from metareplay.data.images import BaseImages
from metareplay.learners.base import Rows
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.ewc import EWC
from metareplay.methods.gem import GEM, project
from metareplay.methods.memory import Reservoir
from metareplay.methods.mer import MER, MERCurrentExampleLearningRate, MEROneBigBatch
from metareplay.methods.online import Online
from metareplay.methods.replay import ER, ERWithTasks
from metareplay.methods.task_networks import Independent, TaskInput
from metareplay.networks.perceptron import Perceptron
from metareplay.settings import hyperparameters
from metareplay.streams.stream import Images
from test_method_base import PUBLISHED

INPUTS, CLASSES = 20, 4
Floats = NDArray[np.floating[Any]]


class Learner(FusedPerceptron):
    """A small perceptron that notes which steps were asked of it."""

    def __init__(self, network: Perceptron | None = None, slots: int = 1, batch_size: int = 1, seed: int = 0) -> None:
        self.asked: list[tuple[str, Any]] = []
        super().__init__(network or Perceptron((INPUTS, 8, CLASSES)), slots, batch_size, np.random.default_rng(seed))

    def sgd(self, rows: Rows, lr: float, weights: Any = None, loss: Any = None) -> None:
        self.asked.append(("sgd", rows.copy()))
        super().sgd(rows, lr, weights)

    def reptile(self, rows: Rows, lr: Any, rate: float, loss: Any = None) -> None:
        self.asked.append(("reptile", (rows.copy(), np.broadcast_to(lr, rows.shape).copy())))
        super().reptile(rows, lr, rate)

    def dots(self, rows: Rows, groups: Sequence[Rows], loss: Any = None) -> Any:
        self.asked.append(("dots", [group.copy() for group in groups]))
        return super().dots(rows, groups)

    def gradients(self, groups: Sequence[Rows], loss: Any = None) -> Any:
        self.asked.append(("gradients", [group.copy() for group in groups]))
        return super().gradients(groups)

    def set(self, parameters: Floats) -> None:
        self.interpolate(parameters, 0.0)

    def plain_step(self, rows: Rows, lr: float) -> None:
        """θ ← θ − lr · gradient of the mean loss."""
        self.descend(self.gradient(rows), lr)


class World:
    """A method in the middle of its life, and a twin of its learner on which formulas can be tried."""

    def __init__(self, method: Method, tasks: int = 3, batch_size: int = 1, hidden: Sequence[int] = (8,)) -> None:
        self.method = method
        network = method.network(Perceptron((INPUTS, *hidden, CLASSES)), tasks)
        slots = batch_size + method.capacity(tasks, batch_size)
        self.learner, self.twin = (Learner(network, slots, batch_size) for _ in range(2))
        self.rng = np.random.default_rng(1)
        self.batch_size = batch_size
        self.previous: int | None = None
        method.start(self.learner, np.random.default_rng(7), tasks)

    def begin(self, task: int) -> None:
        self.method.begin_task(task, self.previous)
        self.previous = task

    def come(self, task: int, size: int | None = None) -> Rows:
        """A new batch comes; the twin then has the same table and parameters."""
        size = size or self.batch_size
        x = (self.rng.random((size, INPUTS)) * (self.rng.random((size, INPUTS)) < 0.5)).astype(np.float32)
        self.learner.put(np.arange(size), x, self.rng.integers(CLASSES, size=size), task)
        self.learner.asked.clear()
        self.twin.load_state(self.learner.state())
        return np.arange(size)

    def learn(self, task: int, size: int | None = None) -> None:
        self.method.observe(self.come(task, size))

    def assert_as_twin(self) -> None:
        np.testing.assert_allclose(self.learner.parameters(), self.twin.parameters(), rtol=1e-4, atol=2e-6)


def test_the_twin_would_notice_another_step() -> None:
    world = World(Online(lr=0.1))
    rows = world.come(0)
    world.method.observe(rows)
    world.twin.plain_step(rows, 0.101)
    with pytest.raises(AssertionError, match="Not equal"):
        world.assert_as_twin()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_defaults_are_the_published_ones(name: str) -> None:
    published = {"lr": 0.001, "beta": 1.0, "gamma": 1.0, "s": 1.0, "memories": 5120, "n_memories": 0}
    published |= {"memory_strength": 0.0, "replay_batch_size": 20, "recency": 0, "batches_per_example": 1}
    published |= {"finetune": True, "mean_of_squares": False, "mean_over_tasks": False}
    published |= {"interpolate_every": 0, "rate": 0.1, "weight_decay": 0.0}  # the first and the last are off
    for parameter in hyperparameters(METHODS[name]):
        assert parameter.default == published[parameter.name]


# Online


@pytest.mark.parametrize("size", [1, 3])
def test_online_takes_one_sgd_step_on_each_batch(size: int) -> None:
    world = World(Online(lr=0.1), batch_size=size)
    for _ in range(5):
        rows = world.come(0)
        world.method.observe(rows)
        world.twin.plain_step(rows, 0.1)
        world.assert_as_twin()
    assert world.learner.steps == 5


# EWC


@pytest.mark.parametrize("fisher", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_ewc_pulls_towards_each_past_task_by_its_importance(batch_size: int, fisher: bool) -> None:
    lr, strength, n_memories = 0.1, 3.0, 5
    world = World(
        EWC(lr=lr, memory_strength=strength, n_memories=n_memories, mean_of_squares=fisher), batch_size=batch_size
    )
    examples: list[Any] = []
    past: list[tuple[Floats, Floats]] = []
    other = Learner(slots=n_memories)
    pulled = 0.0
    for task in (0, 1, 2, 0, 1):
        if examples:  # F of the task that ended, on a learner of its own
            other.set(world.learner.parameters())
            x, y = (np.concatenate(part)[:n_memories] for part in zip(*examples, strict=True))
            other.put(np.arange(n_memories), x, y, 0)
            each = [other.gradient(np.array([row])).astype(np.float64) for row in range(n_memories)]
            importance = np.mean(np.square(each), 0) if fisher else np.mean(each, 0) ** 2
            past.append((importance, world.learner.parameters().astype(np.float64)))
            examples = []
        world.begin(task)
        for _ in range(6):
            rows = world.come(task)
            examples.append((world.twin.inputs(rows), world.learner.labels[rows].copy()))
            before = world.learner.parameters().astype(np.float64)
            penalty = sum((importance * (before - where) for importance, where in past), np.zeros_like(before))
            world.method.observe(rows)
            world.twin.descend(world.twin.gradient(rows) + 2 * strength * penalty.astype(np.float32), lr)
            world.assert_as_twin()
            pulled = max(pulled, lr * 2 * strength * float(np.abs(penalty).max()))
    assert len(past) == 4  # a task that returned counts again when it ended
    assert pulled > 1e-4  # far more than what the comparison lets through


@pytest.mark.parametrize(
    ("n_memories", "batch_size", "kept"),
    [(0, 1, 1), (0, 4, 4), (3, 4, 4), (5, 4, 5), (9, 4, 9), (5, 1, 5), (50, 4, 12)],
)
def test_ewc_keeps_the_first_batch_whole_and_then_as_many_as_asked(n_memories: int, batch_size: int, kept: int) -> None:
    method = EWC(memory_strength=1.0, n_memories=n_memories)
    world = World(method, batch_size=batch_size)
    for task in (0, 1):
        world.begin(task)
        labels: list[int] = []
        for _ in range(12 // batch_size):
            world.learn(task)
            labels += world.learner.labels[:batch_size].tolist()
        assert method.kept == kept
        assert world.learner.labels[batch_size : batch_size + kept].tolist() == labels[:kept]
        assert (world.learner.tasks[batch_size : batch_size + kept] == task).all()


def test_ewc_measures_importance_only_where_the_task_changes() -> None:
    method = EWC(memory_strength=1.0, n_memories=2)
    world = World(method)
    for task in (0, 0, 1, 1):
        world.begin(task)
        world.learn(task)
    assert method.past == 1


@pytest.mark.parametrize("method", [EWC(lr=0.1, n_memories=3), ER(lr=0.1, memories=0)], ids=["ewc", "er"])
def test_ewc_of_no_strength_and_er_without_memories_are_online(method: Method) -> None:
    one, other = World(method), World(Online(lr=0.1))
    for task in (0, 1, 2):
        for world in (one, other):
            world.begin(task)
            for _ in range(5):
                world.learn(task)
    np.testing.assert_allclose(one.learner.parameters(), other.learner.parameters(), rtol=1e-5, atol=1e-7)


# GEM's projection


def by_quadprog(gradient: Floats, past: Floats, margin: float) -> Floats:
    quadprog = pytest.importorskip("quadprog")
    v = quadprog.solve_qp(past @ past.T, -past @ gradient, np.eye(len(past)), np.full(len(past), margin))[0]
    return np.asarray(past.T @ v + gradient)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("tasks", "parameters"), [(1, 10), (2, 10), (7, 50), (19, 400), (100, 2000)])
def test_the_projection_is_that_of_quadprog(tasks: int, parameters: int, margin: float) -> None:
    rng = np.random.default_rng(tasks)
    for _ in range(3):
        common = rng.normal(size=parameters)
        past = common + rng.normal(size=(tasks, parameters))
        gradient = rng.normal(size=parameters) - common
        expected = by_quadprog(gradient, past, margin)
        np.testing.assert_allclose(project(gradient, past, margin), expected, rtol=1e-7, atol=1e-9 * tasks)


def assert_optimal(gradient: Floats, past: Floats, margin: float, allowed: float) -> None:
    """The projection x meets the conditions of Karush, Kuhn and Tucker, which no other vector does.

    From x₀ = g + margin·ΣG, x is reached along the g_t (v ≥ margin); it makes no past task worse (Gx ≥ 0); and only
    tasks that would else become worse push it (⟨x, x − x₀⟩ = 0).
    """
    optimize = pytest.importorskip("scipy.optimize")
    x = project(gradient, past, margin).astype(np.float64)
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
def difficult(draw: st.DrawFn) -> tuple[Floats, Floats]:
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


@settings(deadline=None, derandomize=True, max_examples=300)
@given(problem=difficult(), margin=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_projection_is_optimal_whatever_the_past_gradients(problem: tuple[Floats, Floats], margin: float) -> None:
    assert_optimal(*problem, margin, allowed=1e-7)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(problem=difficult(), margin=st.sampled_from([0.0, 0.5, 1.0]))
def test_in_float32_the_projection_harms_no_task_and_grows_no_step_but_by_rounding(
    problem: tuple[Floats, Floats], margin: float
) -> None:
    gradient, past = (part.astype(np.float32) for part in problem)
    x = project(gradient, past, margin)
    assert x.dtype == np.float32
    start = np.linalg.norm(gradient + margin * past.sum(0))
    assert np.linalg.norm(x) <= 1.001 * start
    harm = past.astype(np.float64) @ x.astype(np.float64)
    assert (harm >= -1e-3 * np.linalg.norm(past, axis=1) * (start + np.linalg.norm(gradient))).all()


@pytest.mark.parametrize("kind", ["nearly collinear", "nearly opposite", "nearly of rank 5"])
@pytest.mark.parametrize("apart", [0.1, 0.01, 0.001])
def test_a_hundred_nearly_dependent_gradients_are_projected_exactly(kind: str, apart: float) -> None:
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
def test_projections_known_by_hand(gradient: Any, past: Any, margin: float, expected: Any) -> None:
    projected = project(np.array(gradient, float), np.array(past, float), margin)
    np.testing.assert_allclose(projected, expected, atol=1e-7)


# GEM


def test_gem_takes_a_plain_sgd_step_where_no_past_task_is_harmed() -> None:
    method = GEM(lr=0.1, memories=30, memory_strength=1.0)
    world = World(method)
    plain = steered = 0
    for task in (0, 1, 2):
        world.begin(task)
        for _ in range(10):
            rows = world.come(task)
            world.method.observe(rows)
            past = [method.memory.rows(other) for other in range(task)]
            gradient = world.twin.gradient(rows)
            harmed = [float(world.twin.gradient(group) @ gradient) for group in past]
            if min(harmed, default=0.0) >= 0:
                world.twin.sgd(rows, 0.1)
                assert np.array_equal(world.learner.parameters(), world.twin.parameters())
                plain += task > 0
            else:
                world.twin.descend(project(gradient, world.twin.gradients(past), 1.0), 0.1)
                world.assert_as_twin()
                steered += 1
    assert plain > 2
    assert steered > 2


def test_without_a_margin_gem_harms_no_past_task_to_first_order() -> None:
    method = GEM(lr=0.1, memories=30)
    world = World(method)
    violated = 0
    for task in (0, 1, 2):
        world.begin(task)
        for _ in range(10):
            rows = world.come(task)
            past = world.twin.gradients([method.memory.rows(other) for other in range(task)])
            violated += bool((past @ world.twin.gradient(rows) < 0).any())
            world.method.observe(rows)
            step = (world.twin.parameters() - world.learner.parameters()) / 0.1
            assert (past @ step >= -1e-4 * np.linalg.norm(past, axis=1) * np.linalg.norm(step)).all()
    assert violated > 3


def test_gem_compares_with_every_task_seen_but_the_current_one() -> None:
    world = World(GEM(memories=9), tasks=3)
    compared: list[list[list[int]]] = []
    for task in (0, 2, 0, 0, 2):
        world.begin(task)
        for _ in range(2):
            world.learn(task)
        asked = [groups for name, groups in world.learner.asked if name in ("dots", "gradients")]
        slots = {tuple(rows.tolist()) for groups in asked for rows in groups}
        compared.append([list(of_task) for of_task in sorted(slots) if of_task != (0,)])  # 0 is the new example's
    # Slots 1–3 are task 0's, 7–9 task 2's; only filled ones count, and a task that returns goes on filling its own.
    assert compared == [[], [[1, 2]], [[7, 8]], [[7, 8]], [[1, 2, 3]]]


def test_gem_shares_its_memories_out_evenly() -> None:
    assert GEM(memories=10).capacity(3, 1) == 9
    assert GEM(memories=2).capacity(3, 1) == 0


# Experience replay


def draws(method: Any, learner: Learner) -> Reservoir:
    """A reservoir that will draw what the method's draws."""
    memory = Reservoir(learner, np.random.default_rng(0))
    memory.load_state(method.memory.state())
    return memory


@pytest.mark.parametrize("batch_size", [1, 3])
def test_er_takes_one_step_on_the_mean_of_the_example_and_memories(batch_size: int) -> None:
    world = World(ER(lr=0.1, memories=6, replay_batch_size=4), batch_size=batch_size)
    for example in range(12):
        rows = world.come(0)
        memory = draws(world.method, world.twin)
        world.method.observe(rows)
        for row in rows:
            batch = memory.draw_beside(row, 1, 4)[0]
            assert len(batch) == 1 + min(4, 6, example * batch_size + row)
            gradient = np.mean([world.twin.gradient(np.array([slot])) for slot in batch], 0)
            world.twin.descend(gradient, 0.1)
            memory.offer(row)
        world.assert_as_twin()
    assert world.learner.steps == 12 * batch_size


@pytest.mark.parametrize("mean", [False, True])
def test_er_with_tasks_adds_up_the_tasks_mean_losses(mean: bool) -> None:
    world = World(ERWithTasks(lr=0.05, memories=8, replay_batch_size=5, mean_over_tasks=mean))
    present = set()
    for task in (0, 1, 2, 0):
        for _ in range(4):
            rows = world.come(task)
            batch = draws(world.method, world.twin).draw_beside(0, 1, 5)[0]
            world.method.observe(rows)
            groups = [[slot for slot in batch if world.twin.tasks[slot] == t] for t in range(3)]
            gradients = [world.twin.gradient(np.array(group)) for group in groups if group]
            present.add(len(gradients))
            world.twin.descend(np.sum(gradients, 0) / (len(gradients) if mean else 1), 0.05)
            world.assert_as_twin()
    assert present == {1, 2, 3}


@pytest.mark.parametrize("kind", [ER, ERWithTasks, MER, MEROneBigBatch, MERCurrentExampleLearningRate])
def test_an_example_is_learned_before_it_is_offered(kind: type[Method]) -> None:
    world = World(kind(memories=3))  # type: ignore[call-arg]
    for example in range(3):
        rows = world.come(0)
        assert draws(world.method, world.twin).held == example
        world.method.observe(rows)
        slots = np.concatenate(
            [np.ravel(what[0] if name == "reptile" else what) for name, what in world.learner.asked] or [[]]
        )
        assert slots.max(initial=0) <= example


# Meta-experience replay


def plain_batch(learner: Learner, rows: Sequence[int], lr: float | Sequence[float], rate: float) -> None:
    """One SGD step for each row in order, then θ ← θ₀ + rate·(θ − θ₀)."""
    start = learner.parameters()
    for row, row_lr in zip(rows, np.broadcast_to(lr, len(rows)), strict=True):
        learner.plain_step(np.array([row]), float(row_lr))
    learner.set(start + np.float32(rate) * (learner.parameters() - start))


@pytest.mark.parametrize("gamma", [1.0, 0.4])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_mer_follows_algorithm_1(gamma: float, batch_size: int) -> None:
    method = MER(lr=0.1, beta=0.3, gamma=gamma, memories=6, replay_batch_size=4, batches_per_example=3)
    world = World(method, batch_size=batch_size)
    for _ in range(10):
        rows = world.come(0)
        memory = draws(method, world.twin)
        method.observe(rows)
        for row in rows:
            start = world.twin.parameters()
            for batch in memory.draw_beside(row, 3, 4):
                assert batch[0] == row  # the current example comes first
                plain_batch(world.twin, batch, 0.1, 0.3)
            world.twin.set(start + np.float32(gamma) * (world.twin.parameters() - start))
            memory.offer(row)
        world.assert_as_twin()
    assert world.learner.steps == sum(3 * (1 + min(4, seen)) for seen in range(10 * batch_size))


@pytest.mark.parametrize("batches", [1, 3])
def test_mer_with_one_big_batch_follows_algorithm_6(batches: int) -> None:
    method = MEROneBigBatch(lr=0.1, gamma=0.4, memories=6, replay_batch_size=4, batches_per_example=batches)
    world = World(method)
    for _ in range(10):
        rows = world.come(0)
        drawn = draws(method, world.twin).draw_beside(0, batches, 4, place=-1)
        method.observe(rows)
        for batch in drawn:
            assert batch[-1] == 0  # the current example comes last
            plain_batch(world.twin, batch, 0.1, 0.4)
        world.assert_as_twin()


def test_mer_with_current_example_learning_rate_follows_algorithm_7() -> None:
    method = MERCurrentExampleLearningRate(lr=0.05, s=3.0, gamma=0.4, memories=6, replay_batch_size=4)
    world = World(method)
    for example in range(12):
        rows = world.come(0)
        drawn = draws(method, world.twin).draw_beside(0, 1, 4)[0]
        method.observe(rows)
        if example == 0:
            continue
        ((_, (batch, lr)),) = world.learner.asked
        (place,) = np.flatnonzero(batch[0] == 0)
        drawn[0] = drawn[place]  # the current example changes places with a memory
        drawn[place] = 0
        assert batch[0].tolist() == drawn.tolist()
        assert lr[0, place] == np.float32(3) * np.float32(0.05)
        assert (np.delete(lr[0], place) == np.float32(0.05)).all()
        plain_batch(world.twin, batch[0], lr[0], 0.4)
        world.assert_as_twin()


def test_the_very_first_example_of_algorithm_7_is_only_stored() -> None:
    method = MERCurrentExampleLearningRate(lr=0.1, memories=6)
    world = World(method, batch_size=2)
    world.learn(0)
    assert method.memory.held == 2
    assert world.learner.steps == 2  # the second example, and the first replayed
    world = World(MERCurrentExampleLearningRate(lr=0.1, memories=0))
    world.learn(0)
    assert world.learner.steps == 0
    world.learn(0)
    assert world.learner.steps == 1


def test_the_current_example_of_algorithm_7_comes_at_any_place_equally_often() -> None:
    method = MERCurrentExampleLearningRate(memories=6, replay_batch_size=4)
    world = World(method)
    places = np.zeros(5, np.int64)
    for example in range(4000):
        rows = world.come(0) if example < 6 else np.array([0])
        method.observe(rows)
        if example > 6:
            _, (batch, _) = world.learner.asked[-1]
            places[np.flatnonzero(batch[0] == 0)] += 1
    expected = places.sum() / 5
    assert ((places - expected) ** 2 / expected).sum() < 18.5  # chi-square of 4, one in a thousand


# Networks with parts of their own for each task


def scores(learner: Learner, task: int) -> Floats:
    x = np.random.default_rng(5).random((6, INPUTS)).astype(np.float32)
    return learner.scores(Images(BaseImages(x), np.zeros(6, np.int64)), task)


def test_taskinput_has_an_input_layer_for_each_task_and_shares_the_rest() -> None:
    network = TaskInput().network(Perceptron((INPUTS, 8, 6, CLASSES)), 3)
    assert network.private == (True, False, False)
    assert TaskInput().network(Perceptron((INPUTS, 8, CLASSES)), 3).private == (True, False)
    assert TaskInput().network(Perceptron((INPUTS, CLASSES)), 3).private == (True,)
    layers = network.initial_layers(np.random.default_rng(0))
    for (weights, biases), fan_in in zip(layers, (INPUTS, 8, 6), strict=True):
        assert 0.9 * fan_in**-0.5 < np.abs(weights).max() <= fan_in**-0.5
        assert (biases == 0).all()


def test_taskinput_trains_only_the_input_layer_of_the_task_at_hand() -> None:
    world = World(TaskInput(lr=0.1), hidden=(8, 6))
    before = [weights.copy() for weights, _ in world.learner.layers()]
    world.begin(1)
    for _ in range(5):
        world.learn(1)
    first, *shared = [a != b for a, (b, _) in zip(before, world.learner.layers(), strict=True)]
    assert first.any((1, 2)).tolist() == [False, True, False]
    assert all(changed.any() for changed in shared)


def test_independent_shares_its_units_out_among_the_tasks() -> None:
    network = Independent().network(Perceptron((INPUTS, 100, 60, CLASSES)), 20)
    assert network.widths == (INPUTS, 5, 3, CLASSES)
    assert network.private == (True, True, True)
    assert Independent().network(Perceptron((INPUTS, 101, CLASSES)), 101).widths == (INPUTS, 1, CLASSES)
    with pytest.raises(BadInput, match="101 tasks"):
        Independent().network(Perceptron((INPUTS, 100, CLASSES)), 101)


@pytest.mark.parametrize("finetune", [True, False])
def test_independent_starts_a_task_from_the_one_before_at_its_first_visit_only(finetune: bool) -> None:
    world = World(Independent(lr=0.1, finetune=finetune), tasks=4, hidden=(16,))
    start = [scores(world.learner, task) for task in range(4)]
    assert not np.allclose(start[0], start[1])
    visited: set[int] = set()
    before: int | None = None
    for task in (2, 1, 2, 0, 3, 3):
        expected = [scores(world.learner, t) for t in range(4)]
        if finetune and before is not None and task not in visited and task != 0:  # never into task 0
            expected[task] = expected[before]
        world.begin(task)
        for t in range(4):
            np.testing.assert_array_equal(scores(world.learner, t), expected[t])
        for _ in range(3):
            world.learn(task)
        for t in range(4):  # a task not at hand is neither learned nor forgotten; one not reached is as it began
            assert (t == task) != np.array_equal(scores(world.learner, t), expected[t])
        visited.add(task)
        before = task
