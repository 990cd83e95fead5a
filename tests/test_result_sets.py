"""The result set in the package, and whether runs reproduce it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from made_records import record
from metareplay import METHODS, Record
from metareplay.cli import main
from metareplay.results import sets
from metareplay.results.groups import groups
from metareplay.runs import recipes
from metareplay.streams.catalogue import BENCHMARKS

sys.path.insert(0, str(Path(__file__).parents[1]))
tables = importlib.import_module("benchmarks.published")

ROW = next(row for row in sets.read("mer-paper") if (row.benchmark, row.memories) == ("mnist-rotations", 500))


def made(seed: int, above: float = 0.0) -> Record:
    """A run of gem's published configuration that retains what the set says, and so many points more."""
    usual = {option.name: option.default for option in BENCHMARKS[ROW.benchmark].options}
    samples, _ = usual.pop("samples_per_task"), usual.pop("held_out")
    settings = asdict(METHODS[ROW.method](**recipes.settings(ROW.benchmark, ROW.method, ROW.memories)[0]))
    told = {"hyperparameters": settings, "samples_per_task": samples, "stream": usual, "evaluate": "borders"}
    told["task_order"] = list(range(usual["tasks"]))
    run = record(ROW.method, seed, benchmark=ROW.benchmark, **told)
    ra, la = ((ROW.found[of][0] + above) / 100 for of in ("RA", "LA"))
    tasks = len(run.visits)
    correct = np.round(np.tile([ra], (len(run.evaluated_at), tasks)) * 1000)
    for visit in range(tasks - 1):
        at = np.flatnonzero(run.evaluated_visit == visit)[-1]
        correct[at, run.visits[visit]] = round(1000 * (tasks * la - ra) / (tasks - 1))
    return replace(run, correct=correct.astype(int))


def test_the_set_has_the_57_published_configurations_and_taskinput() -> None:
    rows = sets.read("mer-paper")
    assert len(rows) == 57 + 2
    for row in rows:
        entries = [
            entry for entry in recipes.entries(row.benchmark, row.method) if entry.get("memories") == row.memories
        ]
        assert len(entries) == 1
        (ra, _), (la, _), (bti, _) = row.found.values()
        assert bti == pytest.approx(ra - la, abs=0.11)


def test_the_page_is_made_from_the_set() -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text, sets.read("mer-paper")) == text
    changed = [row._replace(steps=7) for row in sets.read("mer-paper")]
    assert tables.page(text, changed).count(" | 7 |") == 59


@pytest.mark.parametrize(("above", "verdict"), [(0.0, "reproduced"), (0.8, "reproduced"), (9.0, "differs in RA, LA")])
def test_a_row_is_reproduced_within_what_seeds_make_of_it(above: float, verdict: str) -> None:
    table, differing, run = sets.check("mer-paper", groups(made(seed, above) for seed in range(3)))
    rows = {row.cells[:3]: row.cells for row in table.rows}
    assert rows["mnist-rotations", ROW.method, ROW.memories][-3:] == (3, 3, verdict)
    assert (differing, run) == (int(verdict != "reproduced"), 1)
    assert sum(row.cells[-1] == "not run" for row in table.rows) == 58


def test_only_the_published_configuration_counts() -> None:
    run = made(0)
    others = [{"batch_size": 10}, {"stream": {"tasks": 5}}, {"samples_per_task": 5}, {"order": "shuffled"}]
    others += [{"normalise": 0.99}, {"imbalance": 10.0}, {"task_order": [1, 0]}, {"scenario": "task-incremental"}]
    for changed in others:
        other = replace(run, configuration=run.configuration | changed)
        assert sets.published(ROW, groups([other])) is None
    assert sets.published(ROW, groups([run])) is not None


def test_the_command_says_what_is_there_and_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    assert main(["check-against", "mer-paper", str(tmp_path / "none")]) == 2
    assert "has no run of mer-paper" in capsys.readouterr().err
    assert main(["check-against", "mer-papr", "."]) == 2
    assert "did you mean mer-paper?" in capsys.readouterr().err
