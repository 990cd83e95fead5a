"""The published settings and results in the package, and whether runs reproduce them."""

import csv
import importlib
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from made_records import record
from metareplay import METHODS
from metareplay.results import sets
from metareplay.results.groups import groups
from metareplay.runs import recipes
from metareplay.streams.catalogue import BENCHMARKS

PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "mer_examples.csv"


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"the published settings are not in {PUBLISHED}")
def test_every_published_value_is_given_and_nothing_else():
    with PUBLISHED.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        benchmark, method, budget = row.pop("benchmark"), row.pop("model"), row.pop("budget")
        expected = {name: float(value) for name, value in row.items() if value}
        if method == "gem":  # its slots for each task follow from the total
            assert expected.pop("n_memories") == int(budget) // BENCHMARKS[benchmark].tasks
            expected["memories"] = float(budget)
        settings, note = recipes.settings(benchmark, method, int(budget) if budget else None)
        assert settings == expected
        assert note is None


def test_the_largest_published_memory_is_meant_unless_another_is_asked_for_and_a_result_may_be_changed():
    assert recipes.settings("mnist-rotations", "meralg1", 5120) == (
        {"memories": 5120, "lr": 0.03, "beta": 0.03, "gamma": 1.0, "replay_batch_size": 100, "batches_per_example": 10},
        None,
    )
    for method in ("gem", "eralg4", "meralg1"):
        assert recipes.settings("mnist-permutations", method)[0]["memories"] == 5120
    recipes.settings("mnist-rotations", "online")[0]["lr"] = 7
    assert recipes.settings("mnist-rotations", "online")[0] == {"lr": 0.0003}


@pytest.mark.parametrize(
    ("asked", "used"), [(0, 200), (350, 500), (1000, 500), (2810, 5120), (4000, 5120), (10**6, 5120)]
)
def test_other_memory_sizes_take_the_nearest_ones_settings_and_say_so(asked, used):
    settings, note = recipes.settings("mnist-rotations", "meralg1", asked)
    assert settings == recipes.settings("mnist-rotations", "meralg1", used)[0] | {"memories": asked}
    assert note == (
        f"There are no settings for meralg1 on mnist-rotations with {asked} memories: "
        f"those for {used} memories are used."
    )


def test_what_was_not_published_is_marked_and_without_a_recipe_the_methods_own_defaults_hold():
    for benchmark in ("mnist-rotations", "mnist-permutations"):
        assert recipes.settings(benchmark, "taskinput") == ({"lr": 0.01}, None)
        assert recipes.published(benchmark, "taskinput", "lr") is None
    note = "There are no settings for mine on mnist-rotations: the method's defaults are used."
    assert recipes.settings("mnist-rotations", "mine") == ({}, note)
    assert recipes.settings("mnist-rotations", "mine", 50) == ({"memories": 50}, note)


sys.path.insert(0, str(Path(__file__).parents[1]))
tables = importlib.import_module("benchmarks.published")

ROW = next(row for row in sets.read("mer-paper") if (row.benchmark, row.memories) == ("mnist-rotations", 500))


def made(seed, above=0.0):
    """A run of gem's published configuration that retains what the set says, and so many points more."""
    usual = {option.name: option.default for option in BENCHMARKS[ROW.benchmark].options}
    samples, _ = usual.pop("samples_per_task"), usual.pop("held_out")
    settings = asdict(METHODS[ROW.method](**recipes.settings(ROW.benchmark, ROW.method, ROW.memories)[0]))
    told = {"hyperparameters": settings, "samples_per_task": samples, "stream": usual, "evaluate": "borders"}
    told["task_order"] = list(range(usual["tasks"]))
    run = record(ROW.method, seed, benchmark=ROW.benchmark, **told)
    ra, la = ((ROW.mean(of)[0] + above) / 100 for of in ("RA", "LA"))
    tasks = len(run.visits)
    correct = np.round(np.tile([ra], (len(run.evaluated_at), tasks)) * 1000)
    for visit in range(tasks - 1):
        at = np.flatnonzero(run.evaluated_visit == visit)[-1]
        correct[at, run.visits[visit]] = round(1000 * (tasks * la - ra) / (tasks - 1))
    return replace(run, correct=correct.astype(int))


def test_the_sets_have_the_published_configurations_and_the_baselines_with_what_each_seed_gave():
    rows = sets.read("mer-paper")
    assert len(rows) == 57 + 2
    for row in rows:
        entries = [
            entry for entry in recipes.entries(row.benchmark, row.method) if entry.get("memories") == row.memories
        ]
        assert len(entries) == 1
        ra, la, bti = (row.mean(of)[0] for of in row.found)
        assert bti == pytest.approx(ra - la, abs=0.11)
    rows = sets.read("online-baselines")
    assert len({row[:3] for row in rows}) == len(rows) == 183
    for row in rows:
        ra, la, bti = (row.values(of) for of in row.found)
        assert len(ra) == len(row.seeds)
        assert bti == pytest.approx(ra - la, abs=0.011)


def test_the_page_is_made_from_the_sets():
    text = tables.PAGE.read_text(encoding="utf-8")
    paper, baselines = map(sets.read, ("mer-paper", "online-baselines"))
    assert tables.page(text, paper, baselines) == text
    sevens = [row._replace(found=dict.fromkeys(row.found, " ".join("7" for _ in row.seeds))) for row in baselines]
    changed = tables.page(text, [row._replace(cost={"steps": 7}) for row in paper], sevens)
    assert changed.count(" | 7 |\n") == 59
    assert changed.count("| 7.0") > 81


@pytest.mark.parametrize(("above", "verdict"), [(0.0, "reproduced"), (0.8, "reproduced"), (9.0, "differs in RA, LA")])
def test_a_row_is_reproduced_within_what_seeds_make_of_it(above, verdict):
    table, differing, run = sets.check(sets.read("mer-paper"), groups(made(seed, above) for seed in range(3)))
    rows = {row.cells[:3]: row.cells for row in table.rows}
    assert rows["mnist-rotations", ROW.method, ROW.memories][-3:] == (len(ROW.seeds), 3, verdict)
    assert (differing, run) == (int(verdict != "reproduced"), 1)
    assert sum(row.cells[-1] == "not run" for row in table.rows) == 58


def test_only_the_published_configuration_counts():
    run = made(0)
    others = [{"batch_size": 10}, {"stream": {"tasks": 5}}, {"samples_per_task": 5}, {"order": "shuffled"}]
    others += [{"normalise": 0.99}, {"imbalance": 10.0}, {"task_order": [1, 0]}, {"scenario": "task-incremental"}]
    for changed in others:
        other = replace(run, configuration=run.configuration | changed)
        assert sets.among(ROW, groups([other])) is None
    assert sets.among(ROW, groups([run])) is not None


def test_the_command_says_what_is_there_and_what_is_not(tmp_path, refused):
    (tmp_path / "none").mkdir()
    assert "has no run of mer-paper" in refused("check-against", "mer-paper", str(tmp_path / "none"))
    assert "did you mean mer-paper?" in refused("check-against", "mer-papr", ".")
