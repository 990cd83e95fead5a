"""Every method goes through the checks of `metareplay check`, and these find what is wrong with others."""

import functools
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from metareplay import METHODS, Method, setting
from metareplay.cli import main
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods.memory import Reservoir
from metareplay.runs import conformance
from metareplay.runs.conformance import CHECKS, check, check_one
from metareplay.settings import hyperparameters

NAMED = {checked.__name__.removeprefix("check_"): checked for checked in CHECKS}
SETTINGS = {
    "lr": 0.05, "beta": 0.3, "gamma": 0.5, "s": 3.0, "memories": 20, "replay_batch_size": 3, "batches_per_example": 2,
    "interpolate_every": 3, "n_memories": 4, "memory_strength": 0.5, "glances": 2, "passes": 3,
}  # fmt: skip
"""What every method gets of these: little work, and no part of it unused."""


def factory(name):
    known = {parameter.name: SETTINGS.get(parameter.name) for parameter in hyperparameters(METHODS[name])}
    return functools.partial(METHODS[name], **{name: value for name, value in known.items() if value is not None})


SLOW = {"mas", "slda", "sync", "cmaml"}
"""Those of which another one, that shares most of their code, is tried each time."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in METHODS])
def test_a_method_passes_every_check(name):
    assert [str(result) for result in check(factory(name)) if result.outcome == "fails"] == []


def test_checks_on_memories_apply_to_methods_with_memories():
    applies = {name: check_one(factory("eralg4"), NAMED[name]).outcome for name in (
        "it_works_without_memories", "it_resumes_exactly", "it_says_whether_it_needs_the_task"
    )}  # fmt: skip
    assert list(applies.values()) == ["holds", "holds", "does not apply"]


class Good(Method):
    """About as short as a method can be, and nothing is wrong with it."""

    lr: float = setting(0.05, "(0, inf)", help="the learning rate of every SGD step")
    memories: int = setting(5, "[0, inf)", help="how many examples are kept")

    def capacity(self, tasks, batch_size):
        return self.memories

    def start(self, learner, rng, tasks):
        self.learner = learner
        self.memory = Reservoir(learner, rng)

    def observe(self, rows):
        for row in rows:
            self.learner.sgd_each(np.append(row, self.memory.draw(1, 2)), self.lr)
            self.memory.offer(row)


class LooksAtNumPysGlobalState(Good):
    def observe(self, rows):
        if np.random.random() < 0.5:  # noqa: NPY002
            super().observe(rows)


class DrawsFromTheSystem(Good):
    def start(self, learner, rng, tasks):
        super().start(learner, np.random.default_rng(), tasks)


class NeverLearns(Good):
    def observe(self, rows):
        for row in rows:
            self.memory.offer(row)


class TakesOneAtATime(Good):
    def observe(self, rows):
        (row,) = rows
        super().observe(np.array([row]))


class NeedsAMemory(Good):
    def observe(self, rows):
        self.learner.sgd(np.append(rows, self.memory.draw(1, 1)[0, 0]), self.lr)
        self.memory.offer(rows[0])


class KeepsMoreThanItAskedFor(Good):
    def observe(self, rows):
        super().observe(rows)
        self.learner.copy(rows[0], self.learner.slots)


class ReplaysEmptySlots(Good):
    def observe(self, rows):
        self.learner.sgd(np.arange(self.learner.slots), self.lr)
        self.memory.offer(rows[0])


class WritesIntoTheBatch(Good):
    def observe(self, rows):
        rows += 1
        rows -= 1
        rows[0] = 0
        super().observe(rows.copy())
        rows[:] = 7


class KeepsASet(Good):
    def start(self, learner, rng, tasks):
        super().start(learner, rng, tasks)
        self.recent = set()


class ForgetsToSaveItsMemory(Good):
    def state(self):
        return {}


class HandsOutItsArrays(Good):
    def start(self, learner, rng, tasks):
        super().start(learner, rng, tasks)
        self.counts = np.zeros(tasks, np.int64)

    def begin_task(self, task, previous):
        self.task = task

    def observe(self, rows):
        self.counts[self.task] += 1
        super().observe(rows)

    def state(self):
        return super().state() | {"counts": self.counts}


class CountsOnTasksInOrder(Good):
    def begin_task(self, task, previous):
        assert task == (0 if previous is None else previous + 1), "tasks come in order"


class TakesAnySetting(Good):
    def __post_init__(self):
        pass


class HasASettingWithoutMeaning(Good):
    momentum: float = setting(0.5, "[0, 1)", help="")


class HidesThatItNeedsTheTask(Good):
    def network(self, network, tasks):
        return replace(network, private=(False,) * (len(network.widths) - 2) + (True,), tasks=tasks)


class IgnoresItsLearningRate(Good):
    def observe(self, rows):
        self.learner.sgd(rows, 0.01)


class DividesByZero(Good):
    def observe(self, rows):
        super().observe(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.learner.descend(self.learner.gradient(rows) / np.float32(self.memory.held - 1), self.lr)


class Doubled(Good):
    """Good, with a second step whose constant can be 0."""

    again: float = setting(0.5, "[0, 1]", help="the share of the learning rate of the second step")

    inert: ClassVar[Any] = ({"again": 0.0}, Good)

    def observe(self, rows):
        super().observe(rows)
        if self.again:
            self.learner.sgd(rows, self.lr * self.again)


class DoubledAlways(Doubled):
    def observe(self, rows):
        super().observe(rows)
        self.learner.sgd(rows, self.lr * max(self.again, 0.1))


class LearnsOtherwiseOnPyTorch(Good):
    def observe(self, rows):
        self.learner.sgd(rows, self.lr if isinstance(self.learner, FusedPerceptron) else 3 * self.lr)


WRONG = [
    (LooksAtNumPysGlobalState, "it_leaves_global_random_states_alone", "rng that start"),
    (DrawsFromTheSystem, "the_same_seed_gives_the_same_result", "chance taken from elsewhere"),
    (NeverLearns, "it_takes_every_example", "not one SGD step"),
    (TakesOneAtATime, "batches_of_any_size_are_taken", "ValueError: too many values"),
    (NeedsAMemory, "it_works_without_memories", "IndexError"),
    (KeepsMoreThanItAskedFor, "it_takes_every_example", "as many as its capacity"),
    (ReplaysEmptySlots, "it_takes_every_example", "holds no example"),
    (WritesIntoTheBatch, "it_takes_every_example", "changed the array of rows"),
    (KeepsASet, "what_it_keeps_can_be_saved", "recent = set()"),
    (ForgetsToSaveItsMemory, "it_resumes_exactly", "another state of the learner"),
    (HandsOutItsArrays, "a_saved_state_does_not_change", "must hold copies"),
    (CountsOnTasksInOrder, "a_task_may_return", "tasks come in order"),
    (TakesAnySetting, "settings_out_of_range_are_refused", "super().__post_init__()"),
    (HasASettingWithoutMeaning, "every_setting_is_documented_and_in_its_own_range", "momentum"),
    (HidesThatItNeedsTheTask, "it_says_whether_it_needs_the_task", "needs_task_in_testing = True"),
    (DoubledAlways, "with_its_constant_inert_it_is_its_base", "is not Good bit for bit"),
    (LearnsOtherwiseOnPyTorch, "both_engines_learn_the_same", "by more than rounding"),
    (IgnoresItsLearningRate, "a_learning_rate_that_is_too_high_is_noticed", "is the setting used"),
    (DividesByZero, "it_takes_every_example", "not finite"),
]


def test_the_good_method_is_good():
    assert [result for result in check(Good) if result.outcome == "fails"] == []


@pytest.mark.parametrize(("method", "name", "words"), WRONG, ids=[method.__name__ for method, *_ in WRONG])
def test_what_is_wrong_is_found_and_said(method, name, words):
    result = check_one(method, NAMED[name])
    assert result.outcome == "fails"
    assert words in str(result)


def test_a_check_is_waived_by_a_reason_and_holds_for_a_method_that_is_its_base_where_it_does_nothing():
    class Excused(NeverLearns):
        waived: ClassVar[dict[str, str]] = {"it_takes_every_example": "it is a reader, not a learner"}

    result = check_one(Excused, NAMED["it_takes_every_example"])
    assert (result.outcome, result.message) == ("waived", "it is a reader, not a learner")
    assert check_one(Doubled, NAMED["with_its_constant_inert_it_is_its_base"]).outcome == "holds"


PAGE = Path(__file__).parents[1] / "docs" / "own-method.md"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Every block of the page that begins with a file's name, as that file."""
    monkeypatch.chdir(tmp_path)
    for language, block in re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        name = block.splitlines()[0].removeprefix("# ")
        assert name.endswith({"python": ".py", "toml": ".toml"}[language])
        Path(name).write_text(block)


OF_THE_PAGE = ["plain.py:Plain", "replay.py:Replay", "derpp.py:DERPP", "si.py:SI", "balanced.py:BalancedER"]


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("method", OF_THE_PAGE)
def test_the_methods_of_the_page_pass_every_check(method, capsys):
    assert main(["check", method, *(["--memories", "3"] if "balanced" in method else [])]) == 0
    shown = capsys.readouterr().out
    assert "0 fail" in shown
    assert shown.count("✓") >= len(conformance.CHECKS) - 6
    assert re.search(r"✓ Saved and loaded on the way.*\n✓ On PyTorch it learns", shown)


def test_a_method_that_breaks_a_rule_hears_which_and_the_status_is_1(here, capsys):
    assert main(["check", f"{__file__}:DrawsFromTheSystem"]) == 1
    shown = capsys.readouterr()
    assert "✗ The same seed gives the same result, bit for bit." in shown.out
    assert re.search(r"test_conformance\.py:DrawsFromTheSystem fails \d+ of 24 checks", shown.err)


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing.py:X"], "there is no such Python file"),
        (["balanced.py"], "must say which class"),
        (["erlag4"], "did you mean eralg4?"),
        (["eralg4", "--beta", "1"], "there is no flag --beta"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(arguments, told, capsys):
    assert main(["check", *arguments]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
