"""``metareplay results`` and ``compare``: what is done, what is established, and nothing broken as done."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_records import record
from metareplay.cli import main
from metareplay.results.statistics import estimate
from metareplay.runs.experiment import key_of
from metareplay.runs.folder import Run
from metareplay.runs.request import Request

STREAM = {"tasks": 2, "samples_per_task": 30}


pytestmark = pytest.mark.usefixtures("plain")


def experiment(method, seed=0, stream=STREAM, **settings):
    return Request("digits-rotations", method, settings, stream, {"seed": seed}).experiment()


def done(method, seed=0, stream=STREAM, **settings):
    asked = experiment(method, seed, stream, **settings)
    run = Run(Path("runs") / asked.key)
    run.carry_out(asked)
    return run


def listed(capsys, *arguments):
    assert main(["results", *arguments]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.splitlines()


def rows(capsys):
    return list(csv.DictReader(io.StringIO("\n".join(listed(capsys, "--csv", "-")))))


def test_each_configuration_has_a_line_with_means_over_its_seeds(capsys):
    summaries = [done("online", seed).status().summary or {} for seed in range(3)]
    done("meralg1", memories=20)
    _, meralg1, online, *_ = listed(capsys)
    assert meralg1.split()[:4] == ["digits-rotations", "meralg1", "memories=20", "1"]
    assert online.split()[:4] == ["digits-rotations", "online", "–", "3"]
    for name, sign in (("retained_accuracy", ""), ("learning_accuracy", ""), ("backward_transfer", "+")):
        over_seeds = estimate([summary[name] for summary in summaries])
        assert f"{100 * over_seeds.mean:{sign}.1f} ± {100 * over_seeds.half_width:.1f}" in online


def not_done():
    runs = {}
    diverging = experiment("online", lr=1e9)
    runs["failed"] = Run(Path("runs") / diverging.key)
    with pytest.raises(Exception, match="not finite"):
        runs["failed"].carry_out(diverging)

    interrupted = experiment("online", seed=7)
    runs["stopped"] = Run(Path("runs") / interrupted.key)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs["stopped"].carry_out(interrupted, stop)
    runs["broken"] = done("online", seed=8)
    (arrays,) = runs["broken"].folder.glob("record-*.npz")
    arrays.write_bytes(arrays.read_bytes()[:-1])
    return runs


def test_what_is_not_done_is_listed_with_its_reason(capsys):
    done("online", seed=9)
    runs = not_done()
    text = "\n".join(listed(capsys))
    assert "1 of 4 runs in runs are done" in text
    assert "1 of 3" in text  # of the seeds with these settings
    for state, run in runs.items():
        section = text.split(f"1 {state}: ")[1]
        assert str(run.folder) in section.splitlines()[1]
    assert "the loss is not finite" in text
    assert "running" not in text


def test_a_run_that_a_process_has_in_hand_is_running(capsys):
    run = not_done()["stopped"]
    with run.lock():
        text = "\n".join(listed(capsys))
    assert str(run.folder) in text.split("1 running: ")[1].splitlines()[1]


def test_csv_has_a_row_for_each_run_with_all_settings_and_metrics(capsys):
    kept = done("meralg1", memories=20)
    runs = not_done()
    found = {row["key"]: row for row in rows(capsys)}
    assert {key: row["state"] for key, row in found.items()} == {r.key: s for s, r in runs.items()} | {kept.key: "done"}
    row, summary = found[kept.key], kept.status().summary
    assert (row["benchmark"], row["method"], row["seed"]) == ("digits-rotations", "meralg1", "0")
    assert (row["memories"], row["tasks"], row["hidden"], row["order"]) == ("20", "2", "100 100", "tasks")
    for name in ("retained_accuracy", "forward_transfer", "steps", "train_seconds"):
        assert float(row[name]) == summary[name]
    failed = found[runs["failed"].key]
    assert failed["lr"] == "1000000000.0"
    assert "not finite" in failed["message"]
    assert failed["memories"] == failed["retained_accuracy"] == ""


def test_csv_goes_into_a_file_and_the_table_still_to_standard_output(capsys):
    done("online")
    shown = listed(capsys, "--csv", "results.csv")
    assert "1 of 1 runs in runs are done" in shown
    content = Path("results.csv").read_text()
    assert main(["results", "--csv", "-"]) == 0
    assert capsys.readouterr().out == content
    assert main(["results", "--csv", "/dev/stdout"]) == 0
    assert capsys.readouterr().out.endswith(content), "a file to which it is added is not replaced"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("results --out none", "there is no folder none"),
        ("compare none a b", "there is no folder none"),
        ("results --csv none/results.csv", "there is no folder none"),
        ("results --csw results.csv", "did you mean --csv?"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, told, refused):
    Path("runs").mkdir()
    assert told in refused(*arguments.split())


def test_a_csv_that_cannot_be_written_says_so(capsys):
    done("online")
    Path("folder.csv").mkdir()
    assert main(["results", "--csv", "folder.csv"]) == 2
    assert "--csv is folder.csv, but that is a folder" in capsys.readouterr().err
    assert main(["results", "--csv", "/dev/full"]) == 1
    assert "--csv /dev/full cannot be written: No space left" in capsys.readouterr().err


TESTS = 1000
"""Test examples of each task."""


def run(root, method, seed, retained, **configuration):
    right = round(TESTS * retained / 100)
    made = record(method, seed, tasks=2, **configuration)
    made = replace(made, correct=np.array([[100, 100], [900, 100], [right, right]]), test_sizes=np.array([TESTS] * 2))
    folder = root / key_of(made.configuration)
    made.save(folder)
    return folder


def runs(root, method, retained, memories=None, **other):
    settings = {"lr": 0.1} | ({} if memories is None else {"memories": memories})
    for seed, value in enumerate(retained):
        run(root, method, seed, value, **{"hyperparameters": settings} | other)


def compare(capsys, *argv):
    assert main(["compare", *map(str, argv)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def table(capsys, *argv):
    return list(csv.DictReader(io.StringIO(compare(capsys, *argv, "--csv", "-"))))


def words(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_clear_difference_over_six_seeds_is_established(tmp_path, capsys):
    runs(tmp_path, "meralg1", [80, 81, 82, 83, 84, 85], 200)
    runs(tmp_path, "eralg4", [70, 71, 72, 73, 74, 76], 200)
    shown = words(compare(capsys, tmp_path, "meralg1", "eralg4"))
    assert shown[0] == "little, 200 memories"
    # s = 1.8708, t(0.975; 5) = 2.5706; s of the differences (five 10, one 9) = 0.40825.
    assert "meralg1 6 82.5 ± 2.0" in shown
    assert "meralg1 − eralg4 6 +9.8 ± 0.4 0.0312 0.0312 established" in shown
    assert any("Holm's method for the one difference" in line for line in shown)


def test_only_seeds_that_both_have_are_paired(tmp_path, capsys):
    for seed in range(4):
        run(tmp_path, "a", seed, 50 + seed)
    for seed in range(2, 7):
        run(tmp_path, "b", seed, 40)
    run(tmp_path, "c", 9, 30)
    rows = table(capsys, tmp_path, "a", "b", "c")
    by_names = {(row["method"], row["other"]): row for row in rows}
    assert by_names["a", "b"]["seeds"] == "2"
    assert float(by_names["a", "b"]["mean"]) == pytest.approx(0.125)
    assert "no seed in common" in by_names["a", "c"]["verdict"]
    assert [by_names[name, ""]["seeds"] for name in "abc"] == ["4", "5", "1"]


def test_each_problem_and_number_of_memories_is_compared_apart(tmp_path, capsys):
    for memories in (200, 5120):
        runs(tmp_path, "meralg1", [80, 81], memories)
        runs(tmp_path, "eralg4", [70, 71], memories)
    runs(tmp_path, "meralg1", [60, 61], 200, epochs=3)
    runs(tmp_path, "eralg4", [50, 51], 200, epochs=3)
    runs(tmp_path, "meralg1", [90, 91], 200, benchmark="alone")  # nothing to compare with
    shown = words(compare(capsys, tmp_path, "meralg1", "eralg4"))
    sections = [line for line in shown if line.startswith(("little", "alone"))]
    assert sections == [f"little, epochs={e}, {m} memories" for e, m in ((1, 5120), (1, 200), (3, 200))]
    assert any("Holm's method for the 3 differences" in line for line in shown)
    assert len(table(capsys, tmp_path, "meralg1", "eralg4", "--memories", 5120)) == 3
    assert len(table(capsys, tmp_path, "meralg1", "eralg4", "--benchmark", "little")) == 9


def test_a_method_without_memories_is_compared_with_each_number_of_them(tmp_path, capsys):
    for memories in (200, 5120):
        runs(tmp_path, "eralg4", [70, 71], memories)
    runs(tmp_path, "online", [50, 51])
    runs(tmp_path, "ewc", [55, 55])
    shown = compare(capsys, tmp_path, "eralg4", "online", "ewc")
    assert shown.count("eralg4 − online  ") == shown.count("online − ewc  ") == 2
    assert "for the 5 differences" in shown  # online − ewc is one and the same in both sections


def test_configurations_of_one_method_are_never_mixed(tmp_path, capsys, refused):
    runs(tmp_path, "online", [50, 51], hyperparameters={"lr": 0.1})
    runs(tmp_path, "online", [60, 61], hyperparameters={"lr": 0.03})
    runs(tmp_path, "ewc", [55, 55])
    told = refused("compare", tmp_path, "online", "ewc")
    assert "online has several settings on little: choose one of online:lr=0.03, online:lr=0.1" in told
    rows = table(capsys, tmp_path, "online:lr=0.1", "online:lr=3e-2", "ewc")
    means = {row["method"]: round(100 * float(row["mean"]), 1) for row in rows if not row["other"]}
    assert means == {"online:lr=0.1": 50.5, "online:lr=3e-2": 60.5, "ewc": 55.0}
    assert "the same runs" in refused("compare", tmp_path, "online:lr=0.1", "online:lr=0.10")


def test_settings_of_the_network_choose_too(tmp_path, capsys, refused):
    runs(tmp_path, "my.py:Own", [50, 51], hidden=[50])
    runs(tmp_path, "my.py:Own", [60, 61], hidden=[100, 100])
    runs(tmp_path, "online", [50, 51])
    told = refused("compare", tmp_path, "my.py:Own", "online")
    assert "choose one of my.py:Own:hidden=100-100, my.py:Own:hidden=50" in told
    rows = table(capsys, tmp_path, "my.py:Own:hidden=50", "my.py:Own:hidden=100-100")
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.505, 0.605, -0.1])


def test_other_metrics_are_compared_and_undefined_ones_say_why(tmp_path, capsys):
    runs(tmp_path, "a", [80, 81])
    runs(tmp_path, "b", [70, 71])
    rows = table(capsys, tmp_path, "a", "b", "--metric", "backward-transfer")
    # Task 0 was at 90 % when it ended, task 1 when all did.
    assert [float(row["mean"]) for row in rows] == pytest.approx([-0.0475, -0.0975, 0.05])
    shown = compare(capsys, tmp_path, "a", "b", "--metric", "stability_gap")
    assert "stability gap: undefined, because there was no evaluation within a task" in shown
    assert table(capsys, tmp_path, "a", "b", "--metric", "stability_gap")[-1]["verdict"] == "undefined"


def test_runs_without_a_whole_record_are_said(tmp_path, capsys):
    runs(tmp_path, "a", [80, 81])
    runs(tmp_path, "b", [70, 71])
    damaged = run(tmp_path, "b", 2, 72)
    (damaged / "record.json").write_text("{")
    configuration = record("a", 2, tasks=2).configuration
    stopped = tmp_path / key_of(configuration)
    stopped.mkdir()
    (stopped / "configuration.json").write_text(json.dumps({"configuration": configuration}))
    shown = compare(capsys, tmp_path, "a", "b")
    assert "Not counted: 2 without a whole record" in shown
    assert f"little, a, seed 2 ({stopped.name}): stopped" in shown
    assert f"({damaged.name}): broken" in shown


def test_a_table_is_written_as_csv(tmp_path, capsys):
    runs(tmp_path / "runs", "a", [80, 81], 200)
    runs(tmp_path / "runs", "b", [70, 71], 200)
    compare(capsys, tmp_path / "runs", "a", "b", "--csv", tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][5:] == ["seeds", "mean", "half_width", "p", "corrected_p", "verdict"]
    assert rows[1][:7] == ["little", "200", "retained_accuracy", "a", "", "2", "0.805"]
    assert rows[3][3:6] == ["a", "b", "2"]
    assert rows[3][8:] == ["0.5", "0.5", "too few seeds to tell (needs at least 6)"]
    assert main(["compare", str(tmp_path / "runs"), "a", "b", "--csv", str(tmp_path / "nowhere" / "table.csv")]) == 2
    assert "but there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["a"], "needs two methods at least"),
        (["a", "c"], "there is no run of 'c'; there are a, b"),
        (["a", "b:lr=0.5"], "there is no run of b:lr=0.5; there are b:lr=0.1"),
        (["A", "b"], "there is no run of 'A'; did you mean a?"),
        (["a", "b:hiden=1"], "did you mean hidden?"),
        (["a", "--matched", "gradient"], "did you mean gradients?"),
        (["a", "b:rate=0.5"], "b has no setting 'rate'; it has device, engine, hidden, lr"),
        (["a", "b", "--memories", "7"], "were run on the same problem with 7 memories"),
        (["a", "b", "--benchmark", "large"], "no finished run on large; there are little"),
        (["a", "b", "--metric", "retained"], "did you mean retained_accuracy"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(tmp_path, refused, argv, told):
    runs(tmp_path, "a", [80, 81], 200)
    runs(tmp_path, "b", [70, 71], 200)
    assert told in refused("compare", tmp_path, *argv)
