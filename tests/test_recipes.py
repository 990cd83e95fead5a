"""Recipes: the published settings, all of them, and what is used where none was published."""

import csv
from pathlib import Path

import pytest

from metareplay.runs import recipes
from metareplay.streams.catalogue import BENCHMARKS

PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "mer_examples.csv"
METHODS = ("online", "taskinput", "independent", "ewc", "gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7")


def test_the_57_published_runs_are_there():
    entries = [entry for name in BENCHMARKS for method in METHODS for entry in recipes.entries(name, method)]
    assert sum(entry.get("published", True) for entry in entries) == 57


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


def test_published_values_in_words():
    value = "The published value for mnist-rotations with 5120 memories is 0.03."
    assert recipes.published("mnist-rotations", "meralg1", "beta", 5120) == value
    assert recipes.published("mnist-rotations", "meralg1", "beta") == value
    assert recipes.published("mnist-rotations", "online", "lr") == "The published value for mnist-rotations is 0.0003."
    assert recipes.published("mnist-rotations", "online", "beta") is None
    assert recipes.published("digits-rotations", "mine", "lr") is None
