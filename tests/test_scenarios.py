"""Scenarios: classes that are not allowed have no part in any primitive, and a run allows what its scenario says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metareplay
from metareplay import METHODS, Diverged, Experiment, benchmark
from metareplay.data.images import BaseImages
from metareplay.errors import BadInput
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.stream import CLASS, DOMAIN, SCENARIOS, TASK, Images, Stream, Task, allowed_classes, fitting

torch = pytest.importorskip("torch")

import test_learner_primitives as primitives

engine = primitives.engine  # the fixture: each learner in turn


def test_a_restriction_is_copied_no_part_of_the_state_and_of_one_form(engine):
    problem = primitives.ordinary_problem()
    learner = problem.learner(engine)
    state = learner.state()
    allowed = np.eye(5, dtype=bool)[:3]
    learner.restrict(allowed)
    allowed[:] = True
    learner.load_state(state)
    assert (learner.forward(problem.rows(10)) < -1e29).sum() == 40
    for other in (np.ones((3, 4), bool), np.ones((3, 5)), np.ones(5, bool)):
        with pytest.raises(BadInput, match=r"must be truth values with shape \(tasks, 5\)"):
            learner.restrict(other)


def test_a_restricted_learner_still_notices_numbers_that_are_none(engine):
    learner = primitives.spoiled_problem().restricted().learner(engine)
    with pytest.raises(Diverged) as caught:
        learner.sgd_each(np.array([2, 0, 3, 4]), 0.01)
    assert (caught.value.step, caught.value.row) == (2, 3)


def little_stream(classes, scenarios=SCENARIOS):
    rng = np.random.default_rng(0)
    tasks = []
    for own in classes:
        labels = np.repeat(own or range(6), 3)
        base = BaseImages(rng.random((len(labels), 8)).astype(np.float32))
        tasks.append(Task("a task", Images(base, labels), Images(base, labels), own))
    return Stream("little", tuple(tasks), 6, scenarios=scenarios)


SPLIT = ((0, 1), (2, 3), (4, 5))


def test_a_scenario_allows_everything_or_each_tasks_own_classes_or_those_that_were_met():
    assert allowed_classes(little_stream(SPLIT), DOMAIN, [0]) is None
    for met in ([], [0], [0, 1, 2]):
        allowed = allowed_classes(little_stream(SPLIT), TASK, met)
        assert [np.flatnonzero(row).tolist() for row in allowed] == [[0, 1], [2, 3], [4, 5]]
    stream = little_stream(SPLIT)
    allowed = allowed_classes(stream, CLASS, {2, 0})
    assert [np.flatnonzero(row).tolist() for row in allowed] == [[0, 1, 4, 5]] * 3
    assert allowed_classes(stream, CLASS, []) is None
    assert allowed_classes(stream, CLASS, [0, 1, 2]) is None
    stream = little_stream([(0, 1), None])
    for scenario, met in ((TASK, []), (CLASS, [0])):
        allowed = allowed_classes(stream, scenario, met)
        assert allowed[0].tolist() == [True, True, False, False, False, False]
        assert allowed[1].all() == (scenario == TASK)
    assert allowed_classes(stream, CLASS, [1]) is None


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=4))
def test_the_scenarios_that_fit_follow_from_what_tasks_share(classes):
    found = fitting(classes)
    disjoint = len(classes) > 1 and all(not a & b for n, a in enumerate(classes) for b in classes[:n])
    if all(own == classes[0] for own in classes):
        assert found == (DOMAIN,)
    else:
        assert found == ((CLASS, TASK) if disjoint else (DOMAIN, TASK, CLASS))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((1, 0), r"the classes \(1, 0\), but they must be ascending and lie in 0 … 5"),
        ((0, 6), "must be ascending and lie in 0 … 5"),
        ((-1, 0), "must be ascending and lie in 0 … 5"),
        ((), "must be ascending"),
        ((0, 2), "task 0 of stream 'little' has the label 1, which is not one of its classes"),
    ],
)
def test_classes_that_do_not_fit_their_task_are_bad_input(classes, message):
    stream = little_stream(SPLIT)
    task = replace(stream.tasks[0], classes=classes)
    with pytest.raises(BadInput, match=message):
        replace(stream, tasks=(task,))


def test_a_scenario_that_there_is_not_or_that_the_stream_does_not_allow_is_bad_input():
    for scenarios in ((), ("task-incremental", "both")):
        with pytest.raises(BadInput, match=r"'both'|none, but there are domain-incremental, task-incremental, class-"):
            little_stream(SPLIT, scenarios)
    online = METHODS["online"]()
    with pytest.raises(BadInput, match="scenario is 'task-incremental', but digits-rotations") as caught:
        Experiment(stream=benchmark("digits-rotations"), method=online, scenario=TASK)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="scenario is 'domain-incremental', but digits-split"):
        Experiment(stream=benchmark("digits-split"), method=online, scenario=DOMAIN)


def run(method, scenario, **options):
    options, rate = {"hidden": (20,), **options}, {"lr": 0.03} if hasattr(METHODS[method], "lr") else {}
    return metareplay.run(benchmark("digits-split"), METHODS[method](**rate), scenario=scenario, **options)


@pytest.mark.parametrize("method", ["ewc", "meralg1"])
def test_knowing_the_task_makes_it_easier(method):
    by_class, by_task = (run(method, scenario).accuracy[-1].mean() for scenario in (CLASS, TASK))
    assert by_task >= by_class
    assert by_task > 0.8


def test_learning_new_classes_online_forgets_the_old_ones_unless_it_replays_is_told_the_task_or_has_them_mixed():
    by_class, by_task = (run("online", scenario).accuracy[-1] for scenario in (CLASS, TASK))
    assert by_class[:-1].mean() < 0.1 < 0.9 < by_class[-1]
    assert by_task.mean() > 0.9
    assert run("eralg4", CLASS).accuracy[-1].mean() > 0.8
    record = run("online", CLASS, order="iid", hidden=(100,))
    assert record.accuracy[-1].mean() > 0.8


def test_the_order_of_tasks_decides_which_classes_are_met_unless_all_share_them():
    record = run("online", CLASS, task_order=(3, 1, 3), samples_per_task=20)
    _, first, *others = record.correct > 0
    assert first.tolist() == [False, False, False, True, False]
    assert not np.array(others)[:, [0, 2, 4]].any()
    stream = replace(benchmark("digits-rotations", tasks=2, samples_per_task=50), scenarios=SCENARIOS)
    records = [metareplay.run(stream, METHODS["online"](), scenario=s, hidden=(20,)) for s in SCENARIOS]
    for record in records[1:]:
        assert np.array_equal(record.correct, records[0].correct)
        assert np.array_equal(record.predicted_right, records[0].predicted_right)


def test_what_a_benchmark_says_it_allows_is_what_its_stream_allows():
    for name, allows in (("rotations", (DOMAIN,)), ("permutations", (DOMAIN,)), ("split", (CLASS, TASK))):
        assert benchmarks.find(f"digits-{name}").allows == benchmark(f"digits-{name}").scenarios == allows
