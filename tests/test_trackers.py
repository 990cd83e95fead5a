"""A tracker is called at every evaluation and at the end; each that has a name writes what its package reads back."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from metareplay import BadInput, Evaluation, Experiment, Online, Trainer, benchmark, run
from metareplay.cli import main
from metareplay.runs import trackers
from metareplay.runs.request import Request
from metareplay.suites import local


def experiment(**options):
    stream = benchmark("digits-rotations", tasks=3, samples_per_task=20)
    return Experiment(stream=stream, method=Online(lr=0.01), hidden=(8,), **options)


def test_a_tracker_is_told_of_every_evaluation_and_then_of_the_record():
    told = []
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


def tracked(name, seeds=1, **options):
    for seed in range(seeds):
        one = experiment(seed=seed, **options)
        record = Trainer(one).train(tracker=trackers.find(name))
    return one, record


def expected(record):
    """What every tracker must have: each accuracy after so many examples, and the metrics that are defined."""
    shares = record.correct / record.test_sizes
    curves = {
        (int(examples), f"accuracy/task {task}"): share
        for examples, row in zip(record.evaluated_at, shares, strict=True)
        for task, share in enumerate(row)
    }
    means = {(int(at), "accuracy/mean"): row.mean() for at, row in zip(record.evaluated_at, shares, strict=True)}
    last = {(60, name): value for name, value in record.metrics.items() if isinstance(value, float)}
    return curves | means | last


def test_csv_has_a_row_for_each_value(here):
    one, record = tracked("csv", seeds=2, eval_every=15)
    with Path(f"tracked/{one.key}.csv").open(newline="") as file:
        found = {(int(row["examples"]), row["name"]): float(row["value"]) for row in csv.DictReader(file)}
    assert found == pytest.approx(expected(record))
    assert len(list(Path("tracked").iterdir())) == 2


def test_a_run_that_resumes_adds_to_its_rows(here):
    one = experiment()
    for batches in (0, 20):  # two processes, each with a tracker of its own
        tracker = trackers.Following("csv")
        tracker(one, Evaluation(0, batches, batches, batches, np.zeros(3)))
        tracker.end()
    examples = [line.split(",")[0] for line in Path(f"tracked/{one.key}.csv").read_text().splitlines()]
    assert examples == ["examples", *["0"] * 4, *["20"] * 4]


def test_runs_that_are_tested_at_the_end_or_never_are_told_of_from_their_start(here):
    tracker = trackers.find("csv")
    for options in ({"samples_per_task": 15}, {"evaluate": "end"}, {"evaluate": "never"}):
        one = experiment(**options)
        for _ in range(2):  # the second time anew, not what a resumed one adds
            record = Trainer(one).train(tracker=tracker)
        with Path(f"tracked/{one.key}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        examples = 45 if "samples_per_task" in options else 60
        wanted = 4 * len(record.evaluated_at) + sum(isinstance(value, float) for value in record.metrics.values())
        assert len(rows) == wanted
        assert int(rows[-1]["examples"]) == examples


def test_a_run_that_resumes_after_its_last_evaluation_keeps_its_rows(here):
    one, record = tracked("csv")
    rows = Path(f"tracked/{one.key}.csv").read_text().splitlines()
    trackers.find("csv")(one, record)
    assert Path(f"tracked/{one.key}.csv").read_text().splitlines()[: len(rows)] == rows


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_its_event_files_back(here):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    one, record = tracked("tensorboard", seeds=2)
    events = EventAccumulator(f"tensorboard/{one.key}")
    events.Reload()
    tags = events.Tags()["tensors"]
    found = {(e.step, tag): e.tensor_proto.float_val[0] for tag in tags for e in events.Tensors(tag)}
    assert found == pytest.approx(expected(record), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_parameters_curves_and_metrics(here):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    mlflow.set_tracking_uri(f"sqlite:///{here}/mlflow.db")
    one, record = tracked("mlflow", seeds=2)
    client = mlflow.tracking.MlflowClient()
    found = client.search_runs([client.get_experiment_by_name("metareplay").experiment_id])
    (own,) = [each for each in found if each.info.run_name == one.key]
    assert [each.info.status for each in found] == ["FINISHED"] * 2
    assert own.data.params["method"] == "online"
    logged = {name: client.get_metric_history(own.info.run_id, name) for name in own.data.metrics}
    got = {(value.step, name): value.value for name, values in logged.items() for value in values}
    assert got == pytest.approx(expected(record))


@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_offline_runs(here, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    one, record = tracked("wandb", seeds=2)
    wandb.teardown()  # waits for the process that writes the files
    files = [file.read_bytes() for file in Path("wandb").glob("offline-run-*/*.wandb")]
    (content,) = (content for content in files if one.key.encode() in content)
    assert len(files) == 2
    for (_, name), value in expected(record).items():
        assert name.encode() in content
        assert json.dumps(float(value)).encode() in content


@pytest.mark.filterwarnings("ignore")
def test_trackio_has_it_in_its_database(here, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(here / "trackio"))
    pytest.importorskip("trackio", reason="Trackio is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    one, record = tracked("trackio", seeds=2)
    assert len(SQLiteStorage.get_runs("metareplay")) == 2
    rows = SQLiteStorage.get_logs("metareplay", one.key)
    found = {
        (row["step"], name): value for row in rows for name, value in row.items() if name not in ("step", "timestamp")
    }
    assert found == pytest.approx(expected(record))


def test_a_tracker_by_name_serves_run_and_the_command_line_and_suites(here):
    run(benchmark("digits-rotations", tasks=2, samples_per_task=10), Online(), tracker="csv", seed=2)
    command = "run digits-rotations online --tasks 2 --samples-per-task 10 --tracker csv --quiet"
    assert main(command.split()) == 0
    request = Request("digits-rotations", "online", {}, {"tasks": 2, "samples_per_task": 10}, {"seed": 1})
    ended = local.carry_out(request, request.experiment().key, Path("runs"), "csv", lambda event: None)
    assert ended.state == "done"
    assert len(list(Path("tracked").iterdir())) == 3


@pytest.mark.parametrize("name", sorted(trackers.TRACKERS.keys() - {"csv"}))
def test_a_tracker_whose_package_is_missing_says_how_to_get_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, trackers.TRACKERS[name][0], None)
    with pytest.raises(BadInput, match=rf"tracker is {name}, which is not installed: pip install '\.\[{name}\]'"):
        trackers.find(name)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("none.py:track", "there is no such Python file"),
        ("track", "it must be csv, tensorboard, wandb, trackio, mlflow or FILE.py:NAME"),
        ("tensorbord", "did you mean tensorboard?"),
    ],
)
def test_a_tracker_that_is_not_there_is_found_out_at_once(given, told, here, capsys):
    Path("here.py").write_text("def track(experiment, event):\n    pass\n")
    assert main(["run", "digits-rotations", "online", "--tracker", given]) == 2
    assert told in capsys.readouterr().err
    assert not Path("runs").exists()
