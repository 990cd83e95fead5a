"""Orders: each example comes once in an epoch, in the mixture that was asked for, and again so from the same seed."""

from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metareplay
from metareplay.data.images import BaseImages
from metareplay.errors import BadInput
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.runs.experiment import Experiment, randomness
from metareplay.runs.in_memory import run
from metareplay.runs.trainer import Trainer
from metareplay.settings import setting
from metareplay.streams.order import Order, read
from metareplay.streams.stream import Images, Stream, Task

WORDS = ("tasks", "shuffled", "iid", "recurring 3", "gradual 0.4", "gradual 1", "blurry 0.2", "blurry 0.5")


def stream(sizes, classes=4):
    """Example i of a task has the label i mod classes, and its own number and its task's as inputs."""
    tasks = []
    for number, size in enumerate(sizes):
        pixels = np.stack([np.arange(size), np.full(size, number)], 1).astype(np.float32) + 1
        images = Images(BaseImages(pixels), np.arange(size) % classes)
        tasks.append(Task(f"task {number}", images, images))
    return Stream("told apart", tuple(tasks), classes)


def arranged(words, of, seed=0, **options):
    given = {"samples": None, "epochs": 1, "batch_size": 1, "imbalance": 1.0} | options
    visits = tuple(range(len(of.tasks))) * (3 if words.startswith("recurring") else 1)
    kind, number = read(words)
    return Order(kind=kind, number=number, stream=of, visits=visits, draw=partial(randomness, seed), **given)


def met(order):
    pairs = [zip(np.array(order.visits)[span.sources], span.examples, strict=True) for span in order]
    return [(int(task), int(example)) for each in pairs for task, example in each]


sizes = st.lists(st.integers(3, 40), min_size=2, max_size=6)


def test_of_tasks_of_different_sizes_the_smaller_show_all_that_they_have():
    of = stream([5, 12, 8])
    experiment = Experiment(stream=of, method=METHODS["online"](), samples_per_task=8, batch_size=4)
    assert experiment.spans.counts.tolist() == [5, 8, 8]
    assert Trainer(experiment).train().steps == 2 + 2 + 2
    with pytest.raises(BadInput, match=r"samples_per_task is 13, but no task of .* has more than 12"):
        Experiment(stream=of, method=METHODS["online"](), samples_per_task=13)


@given(st.sampled_from(WORDS), sizes, st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 7))
def test_each_example_comes_once_in_an_epoch(words, of, seed, epochs, batch):
    order = arranged(words, stream(of), seed, epochs=epochs, batch_size=batch)
    every = {(task, example): epochs for task, size in enumerate(of) for example in range(size)}
    assert Counter(met(order)) == every
    assert order.sizes.tolist() == [len(span.examples) for span in order]
    assert all(one.visit <= other.visit for one, other in pairwise(order))
    assert order.counts.sum() == order.sizes.sum() == sum(of) * epochs


@given(st.sampled_from(WORDS), sizes, st.integers(0, 2**32))
def test_the_seed_decides_the_order_and_a_span_is_made_from_nothing_but_its_number(words, of, seed):
    order, again = (arranged(words, stream(of), seed, batch_size=2) for _ in range(2))
    for number in reversed(range(len(again))):
        for one, other in zip(order[number][1:], again[number][1:], strict=True):
            np.testing.assert_array_equal(one, other)


def test_tasks_come_one_after_another_or_recur_with_other_examples_and_another_seed_gives_another_order():
    order = arranged("tasks", stream([10, 20, 30]))
    assert [task for task, _ in met(order)] == [0] * 10 + [1] * 20 + [2] * 30
    order = arranged("recurring 3", stream([10, 12]))
    assert [span.visit for span in order] == list(range(6))
    assert [set(np.array(order.visits)[span.sources]) for span in order] == [{0}, {1}] * 3
    assert order.sizes.tolist() == [4, 4, 3, 4, 3, 4]
    for words in WORDS:
        assert met(arranged(words, stream([40, 40, 40]), 0)) != met(arranged(words, stream([40, 40, 40]), 1))


def shares(order):
    return np.eye(len(order.visits))[np.concatenate([span.sources for span in order])]


@pytest.mark.parametrize("width", [0.2, 0.5, 1.0])
def test_the_next_tasks_share_rises_in_a_straight_line_around_a_border(width):
    n = 40_000
    share = shares(arranged(f"gradual {width}", stream([n] * 3)))
    place = (np.arange(3 * n) + 0.5) / n
    for border in (1, 2):
        expected = np.clip((place - border) / width + 0.5, 0, 1)
        near = np.abs(place - border) < 0.5
        counted = np.add.reduceat(share[near, border], np.arange(0, near.sum(), 500)) / 500
        wanted = np.add.reduceat(expected[near], np.arange(0, near.sum(), 500)) / 500
        assert np.abs(counted - wanted).max() < 5 * 0.5 / np.sqrt(500)
        assert not share[near & (np.abs(place - border) > width / 2 + 0.01), border][: n // 10].any()
    assert (share[: int(0.9 * n * (1 - width / 2)), 0] == 1).all(), "a task without a border beside it is by itself"


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_the_examples_are_other_tasks_at_any_time(share):
    n, tasks = 20_000, 4
    order = arranged(f"blurry {share}", stream([n] * tasks))
    of = shares(order).reshape(tasks, n, tasks)
    for visit in range(tasks):
        others = np.delete(of[visit].mean(0), visit)
        assert np.abs(others - share / (tasks - 1)).max() < 5 * np.sqrt(share / tasks / n)
        by_part = 1 - of[visit][:, visit].reshape(20, -1).mean(1)
        assert np.abs(by_part - share).max() < 5 * np.sqrt(share / (n / 20))


def test_in_a_batch_of_a_mixed_order_each_example_is_its_own_tasks():
    trainer = Trainer(experiment("gradual 1", [30, 30, 30], batch_size=7))
    trainer.train()
    seen = Sees.log
    assert len(seen) == 90
    assert all(task == said for said, task, _ in seen), "the learner is given the task of each example"
    assert Counter((task, number) for _, task, number in seen) == Counter(met(trainer.spans))


class Sees(Method):
    """Notes each example: the task that it is said to be of, and what its inputs say."""

    lr: float = setting(0.01, "(0, inf)", help="no use")
    log: ClassVar[list[Any]] = []

    def observe(self, rows):
        for x, task in zip(self.learner.inputs(rows), self.learner.tasks[rows], strict=True):
            Sees.log.append((int(task), int(x[1]) - 1, int(x[0]) - 1))
        self.learner.sgd(rows, self.lr / 1000)


@pytest.fixture(autouse=True)
def _clear():
    Sees.log.clear()


def experiment(words, of, method=None, **options):
    return Experiment(stream=stream(of), method=method or Sees(), hidden=(4,), order=words, **options)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", ["online", "eralg4"])
def test_every_order_runs_to_its_end_and_counts_by_task(words, name):
    method = METHODS[name](lr=1e-3, **({"memories": 5} if name == "eralg4" else {}))
    record = Trainer(experiment(words, [20, 30, 10], method, batch_size=1 if name == "online" else 3)).train()
    assert record.right_by_visit[:, 1].tolist() == experiment(words, [20, 30, 10]).spans.counts.tolist()
    assert record.right_by_visit[:, 0].sum() == record.predicted_right.sum()
    assert record.accuracy.shape == (1 if words == "iid" else 9 if "recurring" in words else 3, 3)


def test_a_method_that_needs_borders_is_refused_by_name_where_there_are_none():
    needing = [name for name, method in METHODS.items() if method.needs_boundaries]
    assert {"ewc", "gem", "independent"} <= set(needing)
    digits = metareplay.benchmark("digits-rotations", tasks=3)
    for name, method in METHODS.items():
        for words in ("gradual 0.5", "blurry 0.1"):
            if name in needing:
                with pytest.raises(
                    BadInput, match=f"order is '{words}', .* borders between tasks, but {name} must know them"
                ):
                    Experiment(stream=digits, method=method(), order=words)
            else:
                Experiment(stream=digits, method=method(), order=words)


def test_where_there_are_no_borders_begin_task_is_not_called():
    class Counts(Sees):
        needs_boundaries = False

        def begin_task(self, task, previous):
            self.counters["begun"] += 1

    begun = {words: Trainer(experiment(words, [9, 9, 9], Counts())).train().counters.get("begun", 0) for words in WORDS}
    assert begun == {words: {"iid": 27, "recurring 3": 9, "tasks": 3, "shuffled": 3}.get(words, 0) for words in WORDS}


def test_a_class_is_scored_from_its_first_example_on_where_classes_grow_without_borders():
    digits = metareplay.benchmark("digits-split")
    for words in ("gradual 1", "blurry 0.3"):
        record = run(digits, metareplay.Online(lr=0.05), order=words, scenario="class-incremental", batch_size=5)
        assert record.metrics["online_accuracy"] > 0.3  # a class that is not scored cannot be learned: the loss is 1e30


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("gradualy", "did you mean gradual?"),
        ("gradual 0", r"order gradual is 0.0, but must lie in \(0, 1\]: it is the width of a border"),
        ("gradual wide", "is 'wide', but must be a number"),
        ("blurry 1", r"must lie in \(0, 1\)"),
        ("blurry 0.9", "but the others of 3 tasks have only 0.667"),
        ("recurring 1", r"must lie in \[2, 10000\]: it is how often each task comes"),
        ("recurring 11", "but then a task comes with 0 examples"),
        ("iid 3", "iid takes no number"),
        ("", "must be one of tasks, shuffled, iid, recurring, gradual, blurry"),
    ],
)
def test_an_order_that_there_is_not_is_refused_in_words(words, told):
    with pytest.raises(BadInput, match=told):
        experiment(words, [10, 10, 10])


def test_an_order_without_its_number_has_the_usual_one_and_is_the_same_run():
    assert experiment("gradual", [9, 9]).key == experiment("gradual 0.50", [9, 9]).key
    assert experiment("gradual", [9, 9]).key != experiment("gradual 0.4", [9, 9]).key
    assert [read(words) for words in ("recurring", "blurry", "iid")] == [("recurring", 2), ("blurry", 0.1), ("iid", 0)]


def test_the_picture_in_the_docs_is_what_the_orders_give(monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(str(root))
    from benchmarks import orders

    drawn = (root / "docs" / "gallery" / "orders.svg").read_text(encoding="utf-8")
    assert orders.picture() == drawn
    assert len(drawn) < 200_000


@given(st.integers(1, 6), st.floats(1.5, 500), st.sampled_from(WORDS))
def test_the_first_class_has_so_many_times_the_examples_of_the_last(tasks, ratio, words):
    of = stream([400] * (tasks + 1))
    order = arranged(words, of, imbalance=ratio)
    pairs = met(order)
    assert len(pairs) == len(set(pairs)) == order.counts.sum()
    for task in range(len(of.tasks)):
        counts = np.bincount([example % 4 for which, example in pairs if which == task], minlength=4)
        assert counts.tolist() == np.ceil(100 * ratio ** -(np.arange(4) / 3)).tolist()


def test_an_unbalanced_run_sees_a_part_of_what_the_balanced_one_sees_and_has_another_key():
    of = stream([50, 50])
    assert set(met(arranged("tasks", of, imbalance=10, samples=20))) < set(met(arranged("tasks", of, samples=20)))
    plain, balanced, unbalanced = (experiment("tasks", [9, 9], **o) for o in ({}, {"imbalance": 1}, {"imbalance": 10}))
    assert plain.key == balanced.key != unbalanced.key
    assert "imbalance" not in plain.configuration()
