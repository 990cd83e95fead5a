"""``metareplay report`` and ``metareplay show``, as their users meet them."""

import builtins
import csv
import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import METAREPLAY, on_terminal, ran
from made_records import record, results, study
from metareplay.cli import main, show
from metareplay.cli.run import show_result
from metareplay.results.page import page
from metareplay.runs.experiment import key_of

pytestmark = pytest.mark.usefixtures("plain")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for made in study():
        made.save(folder / key_of(made.configuration))
    return folder


@pytest.fixture
def runs(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "runs")


KEYS = [key_of(made.configuration) for made in study()]
SOME = KEYS[3]
FIRST, MANY = Counter(key[0] for key in KEYS).most_common(1)[0]
BEGUN = record("gem", 7, memories=50).configuration
FAILED = key_of(BEGUN)


def fail(runs, message):
    """A run that was begun and failed."""
    folder = runs / FAILED
    folder.mkdir(parents=True)
    (folder / "configuration.json").write_text(json.dumps({"configuration": BEGUN}))
    (folder / "failed.json").write_text(json.dumps({"message": message}))


@pytest.mark.slow
def test_everything_that_is_asked_for_is_written_and_named(runs, capsys):
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    fail(runs, "the loss is not finite")
    arguments = "report runs -o page.html --latex table.tex --csv table.csv --figures figures"
    assert main(arguments.split()) == 0
    shown = capsys.readouterr().out
    for name in ("page.html", "table.tex", "table.csv", "figures"):
        assert name in shown
    assert Path("page.html").absolute().as_uri() in shown
    page = Path("page.html").read_text()
    assert "little, gem, 50 memories, seed 7" in page
    assert f"the loss is not finite ({FAILED})" in page
    assert Path("table.tex").read_text().count(r"\\") == 8
    assert len(Path("table.csv").read_text().splitlines()) == 13
    drawn = sorted(path.name for path in Path("figures").iterdir())
    assert len(drawn) == 2 * 2 * 11  # problems, formats, figures
    for path in Path("figures").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"<svg" if path.suffix == ".svg" else b"%PDF")
    ranking = Path("figures/little-turned-retained.svg").read_text()
    assert "meralg1" in ranking
    assert ranking.count('stroke-opacity="0"') + ranking.count('opacity="0"') == 0


@pytest.mark.slow
def test_without_flags_it_writes_a_page(runs, capsys):
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    assert main(["report"]) == 0
    assert Path("report.html").stat().st_size > 500_000
    assert sorted(path.name for path in Path().iterdir()) == ["report.html", "runs"]


def test_a_page_has_tasks_in_a_random_order_and_networks_without_hidden_units():
    shuffled = [record("a", seed, tasks=2, order="shuffled", task_order=[seed, 1 - seed]) for seed in range(2)]
    bare = replace(record("b", benchmark="other", hidden=[]), units=np.full((4, 1, 3), [np.nan, np.nan, 0.1]))
    shown = page(results([*shuffled, bare]))
    assert "2 tasks, " in shown
    assert "NaN" not in shown.partition('<script type="application/json"')[2].partition("</script>")[0]


def test_tables_need_nothing_to_be_installed(runs, monkeypatch):
    without_the_extra(monkeypatch)
    assert main(["report", "runs", "--latex", "table.tex", "--csv", "table.csv"]) == 0
    assert Path("table.tex").stat().st_size > 0


@pytest.mark.parametrize("asked", ["", "-o page.html", "--figures figures"])
def test_without_the_extra_one_line_says_how_to_install_it(runs, monkeypatch, refused, asked):
    without_the_extra(monkeypatch)
    assert "pip install '.[report]'" in refused("report", *asked.split())
    assert [path.name for path in Path().iterdir()] == ["runs"]


def without_the_extra(monkeypatch):
    find, load = importlib.util.find_spec, builtins.__import__
    extra = ("vl_convert", "jinja2")

    def missing(name, *rest):
        return None if name in extra else find(name, *rest)

    def refused(name, *rest, **more):
        if name.split(".")[0] in extra:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *rest, **more)

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    monkeypatch.setattr(builtins, "__import__", refused)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("report nowhere", "there is no folder nowhere"),
        ("report empty", "there are no runs in empty"),
        ("report failed", f"no run in failed is done ({FAILED} failed)"),
        ("report runs -o nowhere/report.html", "there is no folder nowhere"),
        ("report runs -o empty", "that is a folder"),
        ("report runs --latex nowhere/t.tex", "--latex is nowhere/t.tex"),
        ("report runs --figures a-file", "--figures is a-file, but that is a file"),
        ("report runs extra", "'extra' is one argument too many"),
        ("report runs --pdf x", "there is no flag --pdf"),
        ("show", "WHAT"),
        ("show zzz", "there is no run 'zzz' in runs"),
        ("show runs", "runs is a folder of 36 runs"),
        (f"show {FIRST}", f"{MANY} runs in runs begin with {FIRST}"),
        ("show x --out empty", "none at all in empty"),
        (f"show {FAILED} --out failed", "it is failed: the loss is not finite"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(runs, arguments, told, refused):
    Path("empty").mkdir()
    Path("a-file").write_text("")
    fail(Path("failed"), "the loss is not finite")
    before = sorted(Path().rglob("*"))
    assert told in refused(*arguments.split())
    assert [path for path in sorted(Path().rglob("*")) if path not in before and path.name != ".lock"] == []


def test_what_cannot_be_written_fails_with_one_line_and_leaves_nothing(runs):
    command = f"ulimit -f 1; exec {' '.join(METAREPLAY)} report runs --csv table.csv"  # a file may have 1 KiB
    done = ran("bash", "-c", command)
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["runs"]


def shown_run(capsys, what):
    assert main(["show", what]) == 0
    return capsys.readouterr().out


def test_a_run_is_found_by_its_folder_its_key_and_how_that_begins(runs, capsys):
    made = record("extra", 5)
    key = key_of(made.configuration)
    made.save(runs / key)
    texts = {shown_run(capsys, what) for what in (f"runs/{key}", key, key[:8])}
    (text,) = texts
    assert "little, extra, seed 5" in text


def test_the_matrix_and_the_curves_are_the_records(runs, capsys):
    made = record("extra", 5)
    made.save(runs / key_of(made.configuration))
    text = shown_run(capsys, key_of(made.configuration))
    assert "\x1b" not in text
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["after", "1"])
    for moment in range(4):
        assert [int(cell) for cell in lines[start + 1 + moment].split()] == [
            moment + 1,
            *(round(100 * accuracy) for accuracy in made.accuracy[moment]),
        ]
    assert f"{100 * made.accuracy[-1].mean():.1f} % at the end" in text
    (bars,) = (line for line in lines if line and set(line) <= set(show.BARS) and len(line) == 4)
    averages = [made.accuracy[moment, : moment + 1].mean() for moment in range(4)]
    assert bars[averages.index(max(averages))] == "█"


def test_on_a_terminal_the_matrix_has_colours(runs, monkeypatch):
    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    text = on_terminal("show", SOME)
    assert "\x1b[38;2;" in text
    assert "48;2;" in text


def test_many_tasks_fit_a_terminal_and_twenty_do_without_leaving_one_out():
    lines = show.matrix(record("a", tasks=100), 80)
    assert max(len(line.plain) for line in lines[1:]) <= 80
    assert lines[1].plain.split()[-1] == "100"
    assert lines[-1].plain.split()[0] == "100"
    assert "25 × 17 of 100 × 100" in lines[0].plain
    lines = show.matrix(record("a", tasks=20), 80)
    assert lines[1].plain.split()[1:] == [str(task + 1) for task in range(20)]
    assert max(len(line.plain) for line in lines) <= 80


def test_numbers_are_read_well_on_every_shade():
    for accuracy in range(0, 101, 5):
        style = show.shade(accuracy / 100)
        weights = (0.2126, 0.7152, 0.0722)
        shades = [
            sum(weight * (part / 255) ** 2.2 for weight, part in zip(weights, colour.get_truecolor(), strict=True))
            for colour in (style.color, style.bgcolor)
        ]
        assert (max(shades) + 0.05) / (min(shades) + 0.05) >= 4.5


def test_one_task_has_no_matrix_and_still_is_shown(runs, capsys):
    made = record("one", tasks=1)
    made.save(runs / key_of(made.configuration))
    assert "There is no accuracy matrix" in shown_run(capsys, key_of(made.configuration))


def test_a_curve_that_never_changes_is_flat():
    assert show.spark([0.5] * 4, 80) == show.BARS[0] * 4
    assert show.spark([0, 7, 3.5], 80) == "▁█▅"
    assert len(show.spark(list(range(1000)), 80)) <= 80


@pytest.mark.parametrize("evaluate", ["end", "never"])
def test_runs_that_were_tested_at_the_end_or_never_are_reported_by_what_they_show(runs, evaluate, capsys):
    little = ["digits-rotations", "online", "--tasks", "2", "--samples-per-task", "20", "--quiet"]
    assert main(["run", *little, "--evaluate", evaluate]) == 0
    assert main(["report", "runs", "--csv", "report.csv", "--latex", "report.tex"]) == 0
    assert main(["results"]) == 0
    capsys.readouterr()
    with Path("report.csv").open(newline="") as lines:
        (row,) = (row for row in csv.DictReader(lines) if row["benchmark"] == "digits-rotations")
    assert bool(row["retained_accuracy"]) == (evaluate == "end")
    assert row["learning_accuracy"] == ""
    assert float(row["online_accuracy"]) >= 0


def result_of(capsys, evaluated_visit, order="tasks"):
    """What is printed of a run of two tasks that was evaluated then."""
    made = record("online", tasks=2, order=order)
    evaluations = len(evaluated_visit)
    correct = np.array([[1, 1], [8, 1], [5, 3], [6, 9]])[-evaluations:]
    when = {"evaluated_at": np.arange(evaluations), "evaluated_visit": np.array(evaluated_visit)}
    show_result(replace(made, **when, correct=correct, test_sizes=np.array([10, 10])))
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_result_has_a_sign_at_differences_dips_where_one_looked_and_says_once_what_is_undefined(capsys):
    lines = result_of(capsys, [-1, 0, 1, 1])
    assert any(line.startswith("RA 75.0 %") for line in lines)
    assert any(line.startswith("BTI -10.0 %") for line in lines)
    assert any(line.startswith("forgetting +20.0 %") for line in lines)
    assert any(line.startswith("stability gap +30.0 %") for line in result_of(capsys, [-1, 0, 1, 1]))
    seldom = result_of(capsys, [-1, 0, 1])
    assert not any(word in line for line in seldom for word in ("stability gap", "worst dip", "min-ACC", "undefined"))
    lines = result_of(capsys, [-1, 1], order="iid")
    assert "LA, BTI, FT, forgetting, WC-ACC: undefined, because all tasks came mixed, none after another" in lines
    assert sum("undefined" in line for line in lines) == 1
