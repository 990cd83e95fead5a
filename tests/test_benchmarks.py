"""The benchmarks compare like with like, and run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
TASKS, EXAMPLES = 3, 20
REPLAYING = ("gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7")

pytestmark = pytest.mark.slow


def _layers_of(ours, task):
    own = [layer if layer[0].ndim == 2 else (layer[0][task], layer[1][task]) for layer in ours.learner.layers()]
    return [array for weights, biases in own for array in (weights.T, biases)]


@pytest.mark.parametrize(
    "model", ["online", "taskinput", "independent", "ewc", "gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7"]
)
def test_plain_pytorch_learns_what_ours_learns_from_the_same_draws(model, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import data, models

    from metareplay.data import catalogue as sources

    case = models.Case(model, 200 if model in REPLAYING else None, TASKS)
    stream = data.rotations(sources.get("digits"), TASKS)
    ours = models.Ours(case, stream)
    plain = models.in_pytorch(case, ours)

    # What ours draws is handed to the other: which memories, and in which order.
    draws, batches = [], []
    if model in REPLAYING and model != "gem":
        draw, reptile = ours.memory.draw_beside, ours.learner.reptile

        def drawn(row, batches, size, place=0):
            rows = draw(row, batches, size, place)
            draws.append(np.delete(rows, place, 1))
            return rows

        monkeypatch.setattr(ours.memory, "draw_beside", drawn)
        monkeypatch.setattr(
            ours.learner, "reptile", lambda rows, *more: batches.append(rows.copy()) or reptile(rows, *more)
        )
        monkeypatch.setattr(plain.memory, "draw", lambda *_: draws[-1])
        if model == "meralg7":
            monkeypatch.setattr(plain, "in_random_order", lambda _: batches[-1][0].tolist())

    for task in range(TASKS):
        ours.begin_task(task)
        plain.begin_task(task)
        if model == "independent" and task:  # a task's network starts as a copy of the previous one's
            for own, previous in zip(plain.own[task], plain.own[task - 1], strict=True):
                own.data.copy_(previous.data)
        which = np.arange(EXAMPLES) + EXAMPLES * task
        x, y = stream.tasks[task].train.inputs(which), stream.tasks[task].train.labels[which]
        for i in range(EXAMPLES):
            ours.put(x[i : i + 1], y[i : i + 1], task)
            ours.observe()
            plain.put(torch.from_numpy(x[i]), int(y[i]), task)
            plain.observe()
            for mine, theirs in zip(_layers_of(ours, task), plain.parameters, strict=True):
                np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-4, atol=2e-5)


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
    done = subprocess.run([*command, "--only", *parts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "all.json").read_text())
    assert set(parts) <= set(results)
    assert "| ours |" in done.stdout


def test_the_benchmarks_say_in_words_that_a_folder_is_not_there():
    command = [sys.executable, "-m", "benchmarks", "--mnist", "nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
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
