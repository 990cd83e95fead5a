"""``metareplay compare``: what it says is established, and what it does not hide."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from made_records import record
from metareplay.cli import main
from metareplay.runs.experiment import key_of

TESTS = 1000
"""Test examples of each task."""


def run(root, method, seed, retained, **configuration):
    """Put the record of a run into a folder of runs; retained in percent."""
    right = round(TESTS * retained / 100)
    made = record(method, seed, tasks=2, **configuration)
    made = replace(made, correct=np.array([[100, 100], [900, 100], [right, right]]), test_sizes=np.array([TESTS] * 2))
    folder = root / key_of(made.configuration)
    made.save(folder)
    return folder


def runs(root, method, retained, memories=None, **other):
    """Put one record for each seed there."""
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
    """The lines, with one blank between words."""
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


def test_five_seeds_are_too_few_whatever_they_show(tmp_path, capsys):
    runs(tmp_path, "meralg1", [80] * 5)
    runs(tmp_path, "online", [10] * 5)
    shown = words(compare(capsys, tmp_path, "meralg1", "online"))
    assert "meralg1 − online 5 +70.0 ± 0.0 0.0625 0.0625 too few seeds to tell (needs at least 6)" in shown


def test_one_seed_says_nothing_of_how_many_are_needed(tmp_path, capsys):
    for seeds in (1, 3):
        runs(tmp_path, "meralg1", [80, 82, 84][:seeds])
        runs(tmp_path, "online", [79, 79, 84][:seeds])
        assert ("to establish a difference" in compare(capsys, tmp_path, "meralg1", "online")) == (seeds == 3)


def test_more_comparisons_need_more_seeds(tmp_path, capsys):
    for method, retained in (("a", 80), ("b", 60), ("c", 40)):
        runs(tmp_path, method, [retained] * 6)
    rows = [row for row in table(capsys, tmp_path, "a", "b", "c") if row["other"]]
    assert [(row["method"], row["other"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {row["verdict"] for row in rows} == {"too few seeds to tell (needs at least 7)"}
    assert {float(row["corrected_p"]) for row in rows} == {3 / 32}


def test_without_a_consistent_difference_none_is_established(tmp_path, capsys):
    runs(tmp_path, "a", [50, 52, 50, 52, 50, 52, 51])
    runs(tmp_path, "b", [52, 50, 52, 50, 52, 50, 51])
    assert table(capsys, tmp_path, "a", "b")[-1]["verdict"] == "not established"


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
    assert sections == [
        "little, epochs=1, 5120 memories",
        "little, epochs=1, 200 memories",
        "little, epochs=3, 200 memories",
    ]
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
    assert [(row["method"], round(100 * float(row["mean"]), 1)) for row in rows if not row["other"]] == [
        ("online:lr=0.1", 50.5),
        ("online:lr=3e-2", 60.5),
        ("ewc", 55.0),
    ]
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
        (["a", "b:lr="], "must be a method and its settings"),
        (["a", "b", "--memories", "7"], "were run on the same problem with 7 memories"),
        (["a", "b", "--memories", "many"], "must be a whole number"),
        (["a", "b", "--benchmark", "large"], "no finished run on large; there are little"),
        (["a", "b", "--metric", "retained"], "did you mean retained_accuracy"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(tmp_path, refused, argv, told):
    runs(tmp_path, "a", [80, 81], 200)
    runs(tmp_path, "b", [70, 71], 200)
    assert told in refused("compare", tmp_path, *argv)


def test_a_folder_that_is_not_there_is_told(tmp_path, refused):
    assert "there is no folder" in refused("compare", tmp_path / "nowhere", "a", "b")
