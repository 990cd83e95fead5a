"""A run that is killed at any moment and goes on gives, bit for bit, the record of one that nobody disturbed."""

import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import ran
from killed_runs import little, little_stream, same
from metareplay import Stream, Trainer
from metareplay.runs.checkpoint import FileCheckpoints, Unusable, pack, unpack
from test_methods import PUBLISHED


class Killed(BaseException):
    """The end of a process, as far as a run can tell."""


class Fate(FileCheckpoints):
    """Checkpoints at some moments and deaths at others; what a life did since its last checkpoint is lost."""

    def __init__(self, seed):
        super().__init__(Path("nowhere"))
        self.random = random.Random(seed)
        self.kept = None
        self.deaths = 0

    def read(self):
        return self.kept

    def write(self, content):
        self.kept = content
        self.strike(0.15)

    def due(self, border):
        self.strike(0.15)
        return self.random.random() < 0.4

    def set_aside(self):
        self.kept = None

    def strike(self, chance):
        if self.random.random() < chance:
            self.deaths += 1
            raise Killed

    def tracked(self, experiment, event):
        self.strike(0.05)

    def record(self, experiment):
        while True:
            try:
                return Trainer(experiment).train(tracker=self.tracked, checkpoints=self)
            except Killed:
                pass


WAYS = {
    "plain": {},
    "shuffled": {"order": "shuffled"},
    "iid": {"order": "iid", "batch_size": 3},
    "evaluated often": {"eval_every": 7, "batch_size": 2},
    "batches": {"batch_size": 3, "epochs": 2},
    "tasks return": {"task_order": (2, 0, 2, 1, 0), "samples_per_task": 16},
    "evaluated at the end": {"evaluate": "end", "batch_size": 2},
    "never evaluated": {"evaluate": "never", "batch_size": 2},
    "recurring": {"order": "recurring 2"},
    "normalised": {"normalise": 0.9, "batch_size": 2},
    "gradual": {"order": "gradual 1", "batch_size": 2},
    "blurry, unbalanced": {"order": "blurry 0.3", "imbalance": 3.0},
}


SCENARIOS = ("task-incremental", "class-incremental")


def assert_deaths_change_nothing(experiment, least=3):
    expected = Trainer(experiment).train()
    deaths, seed = 0, 0
    while deaths < least:
        fate = Fate(seed)
        assert same(fate.record(experiment), expected), f"another record, with the deaths of seed {seed}"
        deaths, seed = deaths + fate.deaths, seed + 1


# A method's state is one thing, the way of its examples another: each method in one way, one method in all ways.
# The conformance checks resume all others too, on both engines; here deaths may come anywhere.
@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, "evaluated often") for name in PUBLISHED),
        *(("meralg1", way) for way in WAYS if way != "evaluated often"),
    ],
)
def test_a_run_killed_again_and_again_gives_the_same_bits(name, way):
    assert_deaths_change_nothing(little(name, **WAYS[way]))


@pytest.mark.parametrize(
    ("engine", "scenario", "way"),
    [
        *(("fused", scenario, way) for scenario in SCENARIOS for way in ("plain", "iid", "tasks return", "gradual")),
        *(("torch", scenario, "tasks return") for scenario in SCENARIOS),
    ],
)
def test_where_tasks_have_classes_of_their_own_a_run_killed_and_continued_gives_the_same_bits(engine, scenario, way):
    if engine == "torch":
        pytest.importorskip("torch")
    tasks = []
    for number, task in enumerate(little_stream().tasks, 1):
        train, test = (replace(of, labels=np.where(of.labels > 0, number, 0)) for of in (task.train, task.test))
        tasks.append(replace(task, train=train, test=test, classes=(0, number)))
    stream = Stream("own classes", tuple(tasks), 4, {}, "cd" * 32, scenarios=(scenario,))
    assert_deaths_change_nothing(little("meralg1", stream, scenario=scenario, engine=engine, **WAYS[way]))


def test_a_run_goes_on_where_it_was_and_not_at_its_beginning():
    class Once(Fate):
        asked = 0

        def due(self, border):
            self.asked += 1
            if self.asked == 41:
                raise Killed
            return self.asked == 40

        def strike(self, chance):
            """Nothing else happens."""

    fate = Once(0)
    with pytest.raises(Killed):
        Trainer(little("meralg1")).train(checkpoints=fate)
    Trainer(little("meralg1")).train(checkpoints=fate)
    assert fate.asked == 41 + 75 - 40


def test_what_came_before_the_checkpoint_counts_in_the_times():
    class Always(Fate):
        def due(self, border):
            return True

        def strike(self, chance):
            """Nothing happens."""

    experiment, fate = little("online", little_stream(100)), Always(0)
    first = Trainer(experiment).train(checkpoints=fate)
    second = Trainer(experiment).train(checkpoints=fate)
    assert same(first, second)
    assert second.started == first.started
    assert second.train_seconds == first.train_seconds
    assert second.eval_seconds == first.eval_seconds


def state_of(experiment):
    life = Trainer(experiment)
    life.evaluate(-1)
    return unpack(pack(life.state()))


LACKING = ("learner", "method", "span", "predicted_right", "correct", "train_seconds")
KEPT = {"offered": 1}
METHODS_STATES = (7, {"memory": 3}, {"memory": KEPT}, {"memory": KEPT | {"keeping": {}, "replaying": {}}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "0" * 16}, "the key '0000000000000000'"),
        ({"version": "0.0.1"}, "the version '0.0.1'"),
        ({"key": None}, "the key None"),
        *(({name: ...}, "does not fit") for name in LACKING),
        *(({"method": state}, "does not fit") for state in METHODS_STATES),
    ],
)
def test_a_state_of_another_run_or_version_or_that_lacks_something_is_not_used(change, words):
    experiment = little("meralg1")
    state = {name: value for name, value in (state_of(experiment) | change).items() if value is not ...}
    with pytest.raises(Unusable, match=words):
        Trainer(experiment).load_state(state)


@pytest.mark.parametrize(
    ("engine", "name", "value"),
    [
        ("fused", "parameters", np.zeros(3, np.float32)),
        ("fused", "parameters", None),
        ("fused", "steps", np.array(-1)),
        ("torch", "parameters", np.zeros(3, np.float32)),
        ("torch", "parameters", np.zeros(1, np.float32)),
        ("torch", "steps", np.array(-1)),
        ("torch", "labels", np.full(11, 99)),
        ("torch", "table", np.zeros((11, 2), np.float32)),
    ],
)
def test_a_state_whose_learner_does_not_fit_is_not_used(engine, name, value):
    if engine == "torch":
        pytest.importorskip("torch")
    experiment = little("meralg1", engine=engine)
    state = state_of(experiment)
    state["learner"][name] = value
    with pytest.raises(Unusable, match="does not fit"):
        Trainer(experiment).load_state(state)


def test_a_run_begins_again_where_its_checkpoint_is_of_no_use_and_says_so():
    experiment = little("meralg1")
    fate = Fate(0)
    fate.strike = lambda chance: None
    fate.kept = pack(state_of(experiment) | {"version": "0.0.1", "predicted_right": np.ones(75, bool)})
    notes = []
    record = Trainer(experiment).train(checkpoints=fate, note=notes.append)
    assert same(record, Trainer(experiment).train())
    assert len(notes) == 1
    assert "the version '0.0.1'" in notes[0]
    assert "beginning again" in notes[0]


def killed_runs(*arguments):
    program = Path(__file__).with_name("killed_runs.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = ran(sys.executable, program, *arguments, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_between_any_two_file_operations_a_kill_loses_nothing(tmp_path):
    for happened in killed_runs(tmp_path, "fresh", "again", "damaged").values():
        assert happened["operations"] > 50
        assert happened["states"]["done"] > 5
