"""Which examples a run shows, when it evaluates, what it notes, and what its name depends on."""

import dataclasses
import itertools
import json
import sys
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from commands import python
from killed_runs import same
from metareplay import METHODS, BadInput, BaseImages, Diverged, Experiment, Method, Record, benchmark, methods, setting
from metareplay.learners.base import Learner
from metareplay.methods.mer import MER
from metareplay.methods.online import Online
from metareplay.methods.replay import ER
from metareplay.runs.checkpoint import pack
from metareplay.runs.experiment import method_name
from metareplay.runs.metrics import CURVES, Undefined
from metareplay.runs.record import ARRAYS, OPTIONAL
from metareplay.runs.trainer import Progress, Trainer
from metareplay.streams.stream import Images, Stream, Task

INPUTS, TRAIN, TEST, CLASSES = 6, 20, 10, 3


def stream(tasks=3, poisoned=None, **other):
    """Tasks whose 20 training examples can be told apart.

    Their first input is 1 + the example's number, their last 1 + the task's. That of number ``poisoned`` is not finite.
    """
    rng = np.random.default_rng(0)
    base = rng.random((tasks, TRAIN + TEST, INPUTS)).astype(np.float32)
    base[:, :, 0] = np.arange(TRAIN + TEST) + 1
    base[:, :, -1] = np.arange(tasks)[:, None] + 1
    if poisoned is not None:
        base[:, poisoned, 1] = np.inf
    made = []
    for x in base:
        y = rng.integers(CLASSES, size=TRAIN + TEST)
        made.append(Task("a task", Images(BaseImages(x[:TRAIN]), y[:TRAIN]), Images(BaseImages(x[TRAIN:]), y[TRAIN:])))
    return Stream("told-apart", tuple(made), CLASSES, **other)


class Notes(Method):
    """Learns as Online does, and notes what it is shown."""

    lr: float = setting(1e-4, "(0, inf)", help="the learning rate of every SGD step")
    memories: int = setting(0, "[0, inf)", help="slots that are asked for, and never used")

    shown: ClassVar[list[list[int]]] = []
    """The examples of each batch."""
    of_task: ClassVar[list[int]] = []
    """The task of each batch."""
    borders: ClassVar[list[tuple[int, int | None]]] = []
    guesses: ClassVar[list[NDArray[np.bool_]]] = []
    initial: ClassVar[list[NDArray[np.float32]]] = []
    learners: ClassVar[list[Learner]] = []

    def capacity(self, tasks, batch_size):
        return self.memories

    def start(self, learner, rng, tasks):
        for notes in (self.shown, self.of_task, self.borders, self.guesses, self.initial, self.learners):
            notes.clear()
        self.learner = learner
        self.initial.append(learner.parameters())
        self.learners.append(learner)

    def begin_task(self, task, previous):
        self.borders.append((task, previous))

    def observe(self, rows):
        table = self.learner.state()
        self.shown.append([round(table["value"][row, 0]) - 1 for row in rows])
        (task,) = {round(table["value"][row, table["examples"][row, 0] - 1]) - 1 for row in rows}
        assert (self.learner.tasks[rows] == task).all()
        self.of_task.append(task)
        self.guesses.append(self.learner.forward(rows).argmax(1) == self.learner.labels[rows])
        self.counters["batches"] += np.int64(1)
        self.counters[f"in task {task}"] += 0.5
        self.learner.sgd(rows, self.lr)


def run(**settings):
    return Trainer(Experiment(**({"stream": stream(), "method": Notes(), "hidden": (4,)} | settings))).train()


def batches_of(task):
    return [batch for batch, of in zip(Notes.shown, Notes.of_task, strict=True) if of == task]


def shown_of(task):
    return list(itertools.chain(*batches_of(task)))


@pytest.mark.parametrize("samples", [1, 7, TRAIN, 0, None])
def test_a_task_shows_as_many_different_examples_as_asked_and_else_all_that_it_has(samples):
    run(samples_per_task=samples)
    for task in range(3):
        assert len(set(shown_of(task))) == len(shown_of(task)) == (samples or TRAIN)
        assert samples == 1 or shown_of(task) != sorted(shown_of(task))
    assert len({tuple(sorted(shown_of(task))) for task in range(3)}) == (1 if samples in (TRAIN, 0, None) else 3)


def test_a_stream_may_say_how_many_examples_are_shown():
    run(stream=stream(samples_per_task=5))
    assert len(shown_of(1)) == 5
    run(stream=stream(samples_per_task=5), samples_per_task=3)
    assert len(shown_of(1)) == 3
    run(stream=stream(samples_per_task=5), samples_per_task=0)
    assert len(shown_of(1)) == TRAIN


def test_every_epoch_shows_the_same_examples_in_a_new_order():
    run(samples_per_task=8, epochs=3)
    for task in range(3):
        epochs = [shown_of(task)[begin : begin + 8] for begin in (0, 8, 16)]
        assert len(shown_of(task)) == 24
        assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
        assert len({tuple(epoch) for epoch in epochs}) == 3


def test_batches_of_any_size_show_the_same_examples_and_may_cross_epochs_but_not_tasks():
    run(samples_per_task=7, epochs=2, batch_size=4)
    assert [list(map(len, batches_of(task))) for task in range(3)] == [[4, 4, 4, 2]] * 3
    assert Notes.of_task == [0] * 4 + [1] * 4 + [2] * 4
    shown = []
    for batch_size in (1, 3, 50):
        run(samples_per_task=7, batch_size=batch_size)
        shown.append(list(itertools.chain(*Notes.shown)))
    assert shown[0] == shown[1] == shown[2]


def test_a_long_task_is_shown_whole(monkeypatch):
    run(batch_size=3, epochs=2)
    at_once = [*Notes.shown]
    monkeypatch.setattr("metareplay.runs.trainer.CHUNK", 7)
    run(batch_size=3, epochs=2)
    assert Notes.shown == at_once


def test_a_task_that_returns_shows_the_same_examples_in_a_new_order():
    run(samples_per_task=6, task_order=(1, 0, 1))
    assert Notes.of_task == [1] * 6 + [0] * 6 + [1] * 6
    first, again = shown_of(1)[:6], shown_of(1)[6:]
    assert first != again
    assert sorted(first) == sorted(again)
    assert Notes.borders == [(1, None), (0, 1), (1, 0)]


def test_every_example_is_equally_likely_to_be_shown():
    counts = np.zeros(TRAIN, np.int64)
    for seed in range(150):
        run(stream=stream(1), samples_per_task=5, seed=seed, evaluate="never")
        counts[shown_of(0)] += 1
    expected = 150 * 5 / TRAIN
    assert ((counts - expected) ** 2 / expected).sum() < 43.8 * 0.75 * 20 / 19  # chi-square of 19, one in a thousand


def fingerprint(**settings):
    run(**({"samples_per_task": 6} | settings))
    return [shown_of(task) for task in range(3)], Notes.initial[0].tobytes()


@pytest.mark.parametrize(
    "other",
    [{"method": Notes(lr=1e-3)}, {"method": Notes(memories=50)}, {"batch_size": 4}, {"eval_every": 2}],
    ids=["lr", "memories", "batch size", "evaluations"],
)
def test_examples_order_and_weights_do_not_depend_on_other_settings(other):
    assert fingerprint(**other) == fingerprint()


def test_examples_do_not_depend_on_the_network_nor_weights_on_examples_nor_these_on_when_their_task_comes():
    shown, weights = fingerprint()
    assert fingerprint(hidden=(9, 9))[0] == shown
    assert fingerprint(samples_per_task=3, epochs=2, task_order=(2, 1, 0))[1] == weights
    assert [sorted(task) for task in fingerprint(task_order=(2, 1, 0))[0]] == [sorted(task) for task in shown]


def test_the_seed_decides_examples_order_and_weights():
    (shown, weights), (other_shown, other_weights) = fingerprint(seed=0), fingerprint(seed=1)
    assert weights != other_weights
    for one, other in zip(shown, other_shown, strict=True):
        assert sorted(one) != sorted(other)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"hidden": np.array([5, 4])}, {"hidden": (5, 4)}),
        ({"hidden": [np.int32(5)]}, {"hidden": (5,)}),
        ({"hidden": 5}, {"hidden": (5,)}),
        ({"hidden": np.array([], int)}, {"hidden": ()}),
        ({"samples_per_task": np.int64(7)}, {"samples_per_task": 7}),
        ({"samples_per_task": np.array(7)}, {"samples_per_task": 7}),
        ({"task_order": np.array([1, 0])}, {"task_order": (1, 0)}),
        ({"task_order": range(2)}, {"task_order": (0, 1)}),
        ({"task_order": "0-1,0"}, {"task_order": (0, 1, 0)}),
        ({"seed": np.uint8(3), "epochs": np.int16(2)}, {"seed": 3, "epochs": 2}),
        ({"batch_size": np.int64(4)}, {"batch_size": 4}),
        ({"evaluate": "every 3"}, {"eval_every": 3}),
    ],
)
def test_numbers_and_arrays_of_numpy_are_plain_ones(given, plain, tmp_path):
    one, other = (Experiment(stream=stream(), method=MER(), **options) for options in (given, plain))
    assert one.key == other.key
    assert json.loads(json.dumps(one.configuration())) == other.configuration()
    record = Trainer(one).train()
    record.save(str(tmp_path / "as text"))
    assert same(Record.load(str(tmp_path / "as text")), record)


def test_a_run_leaves_the_method_that_it_was_given_as_it_was():
    method = MER(lr=1e-3)
    before = dict(vars(method))
    run(method=method)
    assert vars(method) == before


def evaluations(record):
    return list(zip(record.evaluated_at.tolist(), record.evaluated_visit.tolist(), strict=True))


def test_it_evaluates_before_the_first_task_at_the_end_of_each_and_every_so_many_batches_but_never_twice_at_once():
    assert evaluations(run(samples_per_task=5)) == [(0, -1), (5, 0), (10, 1), (15, 2)]
    assert evaluations(run(samples_per_task=5, batch_size=2)) == [(0, -1), (3, 0), (6, 1), (9, 2)]
    assert evaluations(run(samples_per_task=4, task_order=(1, 0, 1))) == [(0, -1), (4, 0), (8, 1), (12, 2)]
    record = run(samples_per_task=5, eval_every=3)
    assert evaluations(record) == [(0, -1), (3, 0), (5, 0), (6, 1), (9, 1), (10, 1), (12, 2), (15, 2)]
    assert evaluations(run(samples_per_task=6, eval_every=3))[1:4] == [(3, 0), (6, 0), (9, 1)]
    every = evaluations(run(samples_per_task=2, eval_every=1))
    assert every == [(0, -1), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)]
    assert evaluations(run(samples_per_task=5, eval_every=1000)) == evaluations(run(samples_per_task=5))


def test_it_counts_the_right_answers_on_each_tasks_test_examples_and_evaluating_more_often_changes_nothing():
    record = run()
    tasks = stream().tasks
    right = [
        np.count_nonzero(Notes.learners[0].scores(task.test, number).argmax(1) == task.test.labels)
        for number, task in enumerate(tasks)
    ]
    assert record.correct[-1].tolist() == right
    assert record.test_sizes.tolist() == [TEST] * 3
    assert record.correct.shape == (4, 3)
    often, seldom = run(eval_every=1), run()
    assert np.array_equal(often.accuracy, seldom.accuracy)
    assert np.array_equal(often.baseline, seldom.baseline)
    assert np.array_equal(often.predicted_right, seldom.predicted_right)


def test_it_notes_whether_each_example_was_predicted_right_before_it_was_learned():
    record = run(batch_size=3)
    assert np.array_equal(record.predicted_right, np.concatenate(Notes.guesses))
    assert len(record.predicted_right) == 3 * TRAIN
    assert record.metrics["online_accuracy"] == np.concatenate(Notes.guesses).mean()


def test_it_may_evaluate_at_the_end_alone_and_then_only_what_that_shows_has_a_meaning():
    record, whole = run(evaluate="end"), run()
    assert evaluations(record) == [(3 * TRAIN, 2)]
    assert np.array_equal(record.accuracy, whole.accuracy[-1:])
    assert np.array_equal(record.predicted_right, whole.predicted_right)
    there = {name for name, value in record.metrics.items() if not isinstance(value, Undefined)}
    assert there == {"retained_accuracy", "online_accuracy"}
    assert str(record.metrics["forgetting"]) == "undefined, because tasks were tested at the end alone: evaluate = end"


def test_a_run_that_never_evaluates_keeps_a_few_bytes_for_a_thousand_examples_and_for_a_task():
    """48 million examples of 800 tasks are scaled down; what is kept must grow with the examples by next to nothing."""

    def kept(tasks, epochs):
        one = benchmark("digits-online-permuted", tasks=tasks, samples_per_task=100)
        experiment = Experiment(stream=one, method=Online(), hidden=(4,), epochs=epochs, evaluate="never")
        trainer = Trainer(experiment)
        record = trainer.train()
        assert record.online[1] == tasks * epochs * 100
        arrays = sum(array.nbytes for name in (*ARRAYS, *OPTIONAL) if (array := getattr(record, name)) is not None)
        return len(pack(trainer.state())), arrays

    little, more_tasks, more_examples = kept(10, 1), kept(60, 1), kept(10, 31)
    for now, tasks, examples in zip(little, more_tasks, more_examples, strict=True):
        by_task, by_thousand = (tasks - now) / 50, (examples - now) / 30
        assert by_task <= 60  # its number, its test images' number, the right ones, the examples, whether it was met
        assert by_thousand <= 9
        assert now + 800 * by_task + 48_000 * by_thousand < 500_000


def test_it_may_never_evaluate_and_records_what_was_predicted_before_it_was_learned():
    record = run(evaluate="never")
    assert evaluations(record) == []
    assert record.accuracy.shape == (0, 3)
    whole = run()
    assert len(record.predicted_right) == 0, "one by one they are not kept"
    for name in ("right_by_visit", "right_by_thousand"):
        np.testing.assert_array_equal(getattr(record, name), getattr(whole, name))
    assert whole.right_by_visit[:, 0].tolist() == whole.predicted_right.reshape(3, TRAIN).sum(1).tolist()
    assert whole.right_by_visit[:, 1].tolist() == [TRAIN] * 3
    assert record.metrics["online_accuracy"] == whole.metrics["online_accuracy"] == whole.predicted_right.mean()
    there = {name for name, value in record.metrics.items() if not isinstance(value, Undefined)}
    assert there == {"online_accuracy"}
    assert str(record.metrics["retained_accuracy"]) == "undefined, because tasks were never tested: evaluate = never"
    assert json.loads(json.dumps(record.summary()))["retained_accuracy"] is None
    curves = {name: isinstance(curve(record), Undefined) for name, curve in CURVES.items()}
    assert {name for name, undefined in curves.items() if not undefined} == {"online_accuracy", "task_accuracy"}


def test_gradients_and_forward_passes_are_counted_in_examples(tmp_path):
    mer = MER(memories=10, replay_batch_size=4, batches_per_example=3)
    record, digits = run(method=mer, samples_per_task=7), 21
    assert record.gradients == record.steps == mer.steps(digits, digits)  # one for each of its steps
    assert record.forward_passes == digits  # each is predicted before it is learned
    batches = run(method=ER(memories=10, replay_batch_size=4), samples_per_task=7, batch_size=7)
    assert (batches.steps, batches.gradients) == (21, 21 + 0 + 1 + 2 + 3 + 17 * 4)
    for batch_size in (1, 3):
        online = run(method=Online(), samples_per_task=6, batch_size=batch_size)
        assert (online.gradients, online.forward_passes) == (18, 18)
    record.save(tmp_path)
    assert Record.load(tmp_path).summary() == record.summary()


def test_what_a_method_counts_is_in_the_record_also_where_its_run_was_stopped(tmp_path):
    record = run(samples_per_task=7, batch_size=3)
    counted = {"batches": 9, "in task 0": 1.5, "in task 1": 1.5, "in task 2": 1.5}
    assert record.counters == record.summary()["counters"] == counted
    record.save(tmp_path)
    assert Record.load(tmp_path).counters == counted
    experiment = Experiment(stream=stream(), method=Notes(), hidden=(4,), samples_per_task=7)
    one, other = Trainer(experiment), Trainer(experiment)
    one.evaluate(-1)
    one.learn(one.spans[0])
    other.load_state(one.state())
    assert other.train().counters["batches"] == 21


def test_progress_is_told_from_the_first_evaluation_to_the_last(monkeypatch):
    monkeypatch.setattr("metareplay.runs.trainer.SECONDS_BETWEEN_REPORTS", 0.0)
    told = []
    experiment = Experiment(stream=stream(), method=Notes(), hidden=(4,), samples_per_task=5, task_order=(2, 0))
    record = Trainer(experiment).train(told.append)
    assert told[0] == Progress(visit=0, visits=2, examples=0, all_examples=10, steps=0, accuracy=None)
    assert [progress.examples for progress in told] == sorted(progress.examples for progress in told)
    assert {progress.examples for progress in told} == set(range(11))
    assert {progress.visit for progress in told} == {0, 1}
    last = told[-1]
    assert (last.examples, last.all_examples, last.steps) == (10, 10, 10)
    assert last.accuracy == pytest.approx(record.accuracy[-1].mean())
    in_second = [progress for progress in told if progress.visit == 1 and progress.examples < 10]
    assert {progress.accuracy for progress in in_second} == {record.accuracy[0, 0]}  # only task 2 was met by then


@pytest.mark.parametrize("method", ["online", Online, None])
def test_a_name_or_a_class_is_no_method_and_a_name_no_stream(method):
    with pytest.raises(BadInput, match=r"^method is .*, but must be an object such as metareplay\.ER"):
        Experiment(stream=benchmark("digits-rotations"), method=method)
    with pytest.raises(
        BadInput, match=r"^stream is 'digits-rotations', but must be an object such as metareplay\.bench"
    ):
        Experiment(stream="digits-rotations", method=Online(lr=0.1))


@pytest.mark.parametrize(("method", "batch_size"), [(Notes(), 1), (Notes(), 4), (Online(lr=1e-4), 1)])
def test_an_example_whose_loss_is_not_finite_is_named(method, batch_size):
    run(batch_size=batch_size)
    number = list(itertools.chain(*Notes.shown)).index(13) + 1
    with pytest.raises(Diverged, match=rf"not finite at example {number}, in task 0: lower lr \(it is 0\.0001\)"):
        run(method=method, stream=stream(poisoned=13), batch_size=batch_size)


def test_a_loss_may_be_found_infinite_between_tasks_too():
    method = METHODS["ewc"](lr=1e38, n_memories=5)
    with pytest.raises(Diverged, match=r"at example 1, in task 0: lower lr"):
        run(method=method, samples_per_task=1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": -1}, "seed is -1, but must lie in [0, inf)"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"epochs": 10**10}, "too long: 10000000000 are the most"),
        ({"eval_every": -1}, "eval_every is -1"),
        ({"hidden": (4, 0)}, "hidden is (4, 0), but must be whole numbers of at least 1"),
        ({"hidden": np.array([[4]])}, "hidden is array([[4]])"),
        ({"hidden": (True,)}, "hidden is (True,)"),
        ({"samples_per_task": -1}, "samples_per_task is -1"),
        ({"samples_per_task": (5, 6)}, "must be a whole number"),
        ({"order": "shufled"}, "did you mean shuffled?"),
        ({"evaluate": "sometimes"}, "must be borders, end, never or 'every N'"),
        ({"evaluate": "every 0"}, "must be borders, end, never or 'every N'"),
        ({"evaluate": "every 5", "eval_every": 6}, "eval_every is 6: give one of them"),
        ({"evaluate": "never", "eval_every": 5}, "eval_every cannot be 5"),
        ({"samples_per_task": TRAIN + 1}, f"samples_per_task is {TRAIN + 1}, but no task of told-apart has more than"),
        ({"task_order": ()}, "order of tasks is empty"),
        ({"task_order": "1-x"}, "task_order is '1-x', but must be numbers of tasks"),
        ({"task_order": "0-99999999"}, "task_order is '0-99999999', but must be numbers of tasks"),
        ({"task_order": (0, 3)}, "task 3 is in the order of tasks, but told-apart has 3"),
        ({"task_order": (0, -1)}, "task_order is (0, -1)"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(settings, words):
    with pytest.raises(BadInput) as refused:
        run(**settings)
    assert words in str(refused.value)


PLAIN = {"method": MER(lr=0.01), "samples_per_task": 5}

OTHERS = {
    "seed": {"seed": 1},
    "hidden": {"hidden": (100, 99)},
    "layers": {"hidden": (100,)},
    "samples": {"samples_per_task": 4},
    "epochs": {"epochs": 2},
    "batch size": {"batch_size": 2},
    "evaluations": {"eval_every": 10},
    "order": {"task_order": (0, 2, 1)},
    "fewer tasks": {"task_order": (0, 1)},
    "method": {"method": Online(lr=0.01)},
    "lr": {"method": MER(lr=0.011)},
    "memories": {"method": MER(lr=0.01, memories=5121)},
    "stream's settings": {"stream": stream(settings={"stream_seed": 1})},
    "stream's name": {"stream": dataclasses.replace(stream(), name="other")},
    "data": {"stream": stream(data_sha256="00")},
}


def key(**settings):
    return Experiment(**({"stream": stream()} | PLAIN | settings)).key


def test_no_two_settings_or_data_have_the_same_key_whatever_the_order_of_the_streams_settings():
    assert len({key(**settings) for settings in OTHERS.values()} | {key()}) == len(OTHERS) + 1
    one, other = {"tasks": 3, "stream_seed": 0}, {"stream_seed": 0, "tasks": 3}
    assert key(stream=stream(settings=one)) == key(stream=stream(settings=other))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"task_order": (0, 1, 2)},
        {"stream": stream(samples_per_task=5), "samples_per_task": None},
        {"method": MER(lr=0.01, beta=1.0, memories=5120)},
        {"hidden": (100, 100), "epochs": 1},
    ],
)
def test_the_key_does_not_depend_on_how_a_setting_was_given(settings):
    assert key(**settings) == key()


def test_the_key_is_the_same_in_another_process_and_after_running():
    code = """
import numpy as np
from metareplay import *
from metareplay.methods.online import Online
images = Images(BaseImages(np.ones((3, 2), np.float32)), np.zeros(3, np.int64))
experiment = Experiment(stream=Stream("one", (Task("", images, images),), 1, {"b": 1, "a": 0.1}), method=Online())
"""
    here = {}
    exec(code, here)
    before = here["experiment"].key
    Trainer(here["experiment"]).train()
    assert here["experiment"].key == before
    assert python(code + "print(experiment.key)").stdout.strip() == before


MINE = """
from metareplay import Method, setting

class Mine(Method):
    lr: float = setting(0.1, "(0, inf)", help="the learning rate")

    def observe(self, rows):
        self.learner.sgd(rows, self.lr)
"""


def test_the_key_changes_with_a_users_file_and_not_with_where_it_lies(tmp_path):
    def made(file, source):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(source)
        return Experiment(stream=stream(), method=methods.find(f"{tmp_path / file}:Mine")())

    first, moved, renamed = made("a/my_file.py", MINE), made("b/my_file.py", MINE), made("d/other.py", MINE)
    assert first.configuration()["method"] == "my_file.py:Mine"
    assert moved.key == first.key not in (made("c/my_file.py", MINE + "\n# better\n").key, renamed.key)
    assert run(method=first.method).configuration["method_sha256"] == first.configuration()["method_sha256"]


def test_a_method_typed_into_a_notebook_has_a_name(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", None, raising=False)
    exec(MINE, space := {"__name__": "__main__"})
    assert method_name(space["Mine"]) == "__main__:Mine"


class ByBatches(Online):
    """Online without the call that learns many examples."""

    def observe(self, rows):
        self.learner.sgd(rows, self.lr)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits-rotations", {}),
        ("digits-rotations", {"eval_every": 7}),
        *(
            ("digits-rotations", {"order": words})
            for words in ("iid", "shuffled", "recurring 3", "gradual 1", "blurry 0.2")
        ),
        ("digits-split", {"scenario": "task-incremental"}),
        ("digits-split", {"scenario": "class-incremental"}),
    ],
)
def test_examples_learned_in_one_call_give_the_bits_of_a_call_for_each(name, options):
    options = options | {"stream": benchmark(name, tasks=3), "samples_per_task": 40}
    trainers = [Trainer(Experiment(method=cls(lr=0.05), **options)) for cls in (ByBatches, Online)]
    plain, at_once = (trainer.train() for trainer in trainers)
    assert [trainer.one_by_one for trainer in trainers] == [False, True]
    assert at_once.steps == plain.steps == 120
    for name in ("predicted_right", "correct", "evaluated_at"):
        assert np.array_equal(getattr(plain, name), getattr(at_once, name))
    for mine, theirs in zip(*(trainer.learner.state().values() for trainer in trainers), strict=True):
        assert np.array_equal(mine, theirs)
