"""The benchmarks compare like with like, and run."""

import json
import sys
from pathlib import Path

import pytest

from commands import ran

pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def test_a_method_that_the_field_compares_with_is_timed_beside_its_naive_loop(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import baselines, data

    results = baselines.measure(data.images(None), 0.01, 3, ("erace",))
    assert set(results["erace"]) == {1, 10}
    (row,) = baselines.lines(results)[4:]
    assert row.startswith("| erace | ")
    assert "| 90 / 14 |" in row


def test_the_benchmarks_run(tmp_path):
    parts = ["steps", "primitives", "torch", "evaluation", "run"]
    command = [sys.executable, "-m", "benchmarks", "--effort", "0.01", "--json", str(tmp_path / "all.json")]
    done = ran(*command, "--only", *parts, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "all.json").read_text())
    assert set(parts) <= set(results)
    assert "| ours |" in done.stdout


def test_the_benchmarks_say_in_words_that_a_folder_is_not_there():
    done = ran(sys.executable, "-m", "benchmarks", "--mnist", "nowhere", cwd=ROOT)
    told = "nowhere is neither a folder nor an address that starts with http:// or https://"
    assert (done.returncode, done.stderr) == (2, f"python -m benchmarks: {told}\n")


def test_models_are_timed_beside_plain_pytorch(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import data, models

    cases = tuple(
        models.Case(model, memories, 2) for model, memories in (("ewc", None), ("gem", 200), ("meralg1", 200))
    )
    shown = models.lines(models.measure(data.images(None), 0.01, 1, cases))
    assert [line.split()[1:3] for line in shown if line.startswith("| meralg1")] == [["meralg1,", "200"]] * 2
    assert len(models.CASES) == 17
