"""A tracker is told of every evaluation and of the end; those in the docs do what they say."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metareplay import Evaluation, Experiment, Online, Record, Trainer, benchmark
from metareplay.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "trackers.md"


def experiment(**options: Any) -> Experiment:
    stream = benchmark("digits-rotations", tasks=3, samples_per_task=20)
    return Experiment(stream=stream, method=Online(lr=0.01), hidden=(8,), **options)


def test_a_tracker_is_told_of_every_evaluation_and_then_of_the_record() -> None:
    told: list[Any] = []
    one = experiment(eval_every=15)
    record = Trainer(one).train(tracker=lambda experiment, event: told.append((experiment, event)))
    assert all(experiment is one for experiment, _ in told)
    *evaluations, last = [event for _, event in told]
    assert last is record
    assert all(isinstance(event, Evaluation) for event in evaluations)
    assert [event.batches for event in evaluations] == record.evaluated_at.tolist()
    assert [event.visit for event in evaluations] == record.evaluated_visit.tolist()
    assert evaluations[-1].examples == evaluations[-1].steps == 60
    np.testing.assert_array_equal([event.accuracy for event in evaluations], record.correct / record.test_sizes)


def in_the_page(name: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if block.startswith(f"# {name}"))
    return block


def test_the_tensorboard_tracker_writes_a_curve_for_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.closed = False

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            written.append((tag, float(value), step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.chdir(tmp_path)
    Path("tensorboard_tracker.py").write_text(in_the_page("tensorboard_tracker.py"))
    arguments = "run digits-rotations online --tasks 3 --samples-per-task 20 --tracker tensorboard_tracker.py:track"
    assert main([*arguments.split(), "--quiet"]) == 0
    assert [step for tag, _, step in written if tag == "accuracy/task 2"] == [0, 20, 40, 60]
    assert written[-1][0] == "closed"
    (folder,) = Path("runs").iterdir()
    assert written[-2][1] == Record.load(folder).accuracy[-1, -1]


def test_the_mlflow_tracker_logs_settings_curve_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, Any]] = []
    mlflow = types.ModuleType("mlflow")
    for name in ("start_run", "log_params", "log_metric", "log_metrics", "end_run"):
        setattr(mlflow, name, lambda *given, name=name, **named: logged.append((name, given or named)))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    tracker: dict[str, Any] = {}
    exec(in_the_page("mlflow_tracker.py"), tracker)
    one = experiment()
    record = Trainer(one).train(tracker=tracker["track"])
    assert [name for name, _ in logged] == ["start_run", "log_params", *["log_metric"] * 4, "log_metrics", "end_run"]
    assert logged[0][1] == {"run_name": one.key}
    assert logged[-2][1][0]["retained_accuracy"] == record.metrics["retained_accuracy"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("none.py:track", "there is no such Python file"),
        ("here.py:nothing", "there is no 'nothing'"),
        ("track", "must be FILE.py:NAME"),
    ],
)
def test_a_tracker_that_is_not_there_is_found_out_at_once(
    given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.py").write_text("def track(experiment, event):\n    pass\n")
    assert main(["run", "digits-rotations", "online", "--tracker", given]) == 2
    assert told in capsys.readouterr().err
    assert not Path("runs").exists()
