"""A report's tables and commands: they say what records say, safe in LaTeX, CSV, a shell and a terminal."""

import builtins
import csv
import dataclasses
import importlib.util
import io
import json
import math
import re
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from commands import ran
from made_records import first_problem, record, results, study, untested
from metareplay.cli import main, show
from metareplay.cli.run import show_result
from metareplay.methods import METHODS
from metareplay.results import tables
from metareplay.results.charts import styles
from metareplay.results.page import page
from metareplay.results.table import Column, Row, Table, latex
from metareplay.results.tables import command
from metareplay.runs.experiment import key_of
from metareplay.runs.folder import Status
from metareplay.runs.metrics import METRICS
from metareplay.runs.request import Request

NASTY = r"""my_100%&$#{}~^\file.py:<b>"Best"</b>|'[0]"""


def percent(values):
    mean, n = sum(values) / len(values), len(values)
    text = f"{100 * mean:.1f}"
    if n == 1:
        return text
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    return f"{text} ± {100 * scipy.stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n):.1f}"


def retained(method, memories, seeds, benchmark="little"):
    level = {"online": 0.5, "ewc": 0.6, "eralg4": 0.8, "meralg1": 0.85}[method] - (0.1 if memories == 20 else 0)
    records = [record(method, seed, benchmark=benchmark, memories=memories, level=level) for seed in range(seeds)]
    return [sum(right / 1000 for right in made.correct[-1]) / 4 for made in records]


def answer(records, size=0):
    found = next(iter(tables.answers(results(records)).values()))
    return next(one for one in found if one.size == size)


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_methods_are_ranked_by_what_they_retained_with_their_intervals(seeds):
    ranked = answer(study(seeds), 50)
    values = {
        name: retained(name, memories, seeds)
        for name, memories in (("meralg1", 50), ("eralg4", 50), ("ewc", None), ("online", None))
    }
    expected = sorted(values, key=lambda name: -sum(values[name]))
    assert [line.cells[:3] for line in ranked.table.rows] == [
        (name, rank, percent(values[name])) for rank, name in enumerate(expected, 1)
    ]
    assert ranked.text.startswith(f"{expected[0]} retained most: {percent(values[expected[0]])} %.")


def test_ten_seeds_establish_large_differences_and_leave_small_ones_open():
    records = [record(method, seed, level=level) for method, level in (("a", 0.8), ("b", 0.5)) for seed in range(10)]
    records += [record("c", seed, level=0.7995) for seed in range(10)]
    ranked = answer(records)
    verdicts = {line.cells[0]: line.cells[3] for line in ranked.table.rows}
    assert verdicts["b"] == "yes"
    assert sorted(map(str, verdicts.values())) == ["None", "not established", "yes"]
    assert {line.cells[0] for line in ranked.table.rows if line.strong} == {"a", "c"}
    assert "Not established is that it is better than" in ranked.text


def test_runs_that_were_never_tested_have_no_answer():
    made = results([untested("a"), untested("b", memories=10)])
    (found,) = tables.answers(made)["little"]
    assert found.text == "Retained accuracy is undefined, because tasks were never tested: evaluate = never."
    assert [row.cells[2:6] for row in found.table.rows] == [(None, None, None, None)] * 2
    assert "--evaluate never" in str(tables.commands(made.groups).rows[0].cells[1])


def test_the_papers_table_has_methods_by_benchmarks():
    table = tables.paper(results(study(3)))
    assert [(column.above, column.title) for column in table.columns[1:]] == [
        (benchmark, metric) for benchmark in ("little", "little-turned") for metric in ("RA", "LA", "BTI")
    ]
    rows = {line.cells[0]: line.cells[1:] for line in table.rows}
    assert list(rows) == [
        "ewc", "online", "eralg4, 50 memories", "meralg1, 50 memories", "eralg4, 20 memories", "meralg1, 20 memories",
    ]  # fmt: skip
    assert [row.rule for row in table.rows] == [False, False, True, False, True, False]
    assert rows["meralg1, 20 memories"][0] == percent(retained("meralg1", 20, 3))
    assert rows["online"][3] == percent(retained("online", None, 3, "little-turned"))


def test_what_was_not_run_is_a_dash_and_what_is_undefined_says_why():
    table = tables.paper(results([record("a"), record("b", benchmark="other")]))
    assert [line.cells[1:].count(None) for line in table.rows] == [3, 3]
    made = results([record("a", tasks=1)])
    table = tables.metrics(made, made.groups)
    cells = dict(zip((column.title for column in table.columns), table.rows[0].cells, strict=True))
    assert set(cells) >= {metric.short for metric in METRICS.values()}
    assert cells["BTI"] is None
    assert any(note.startswith("BTI is undefined, because") for note in table.notes)


def test_the_distance_to_mixed_tasks_is_taken_seed_by_seed():
    def mixed(seed):
        made = record("a", seed, level=0.9, order="iid")
        return dataclasses.replace(made, evaluated_visit=np.array([-1, 3, 3, 3, 3]))

    made = results([*(record("a", seed) for seed in range(3)), *(mixed(seed) for seed in range(3))])
    one = next(problem for name, problem in made.problems.items() if "iid" not in name)
    cells = tables.metrics(made, one).rows[0].cells
    expected = [mixed(s).accuracy[-1].mean() - record("a", s).accuracy[-1].mean() for s in range(3)]
    assert cells[-1] == "+" + percent(expected)


def test_missing_seeds_and_failed_runs_are_listed_with_their_reason():
    records = [record("a", seed) for seed in range(6)] + [record("b", seed) for seed in (0, 3)]
    lines = tables.missing(results(records)).rows
    assert [line.cells[:2] for line in lines] == [("little, b", "seeds missing")]
    assert "1–2, 4–5" in lines[0].cells[2]
    absent = Status(Path("0123"), "failed", "the loss is not finite", None, record("gem", 2).configuration)
    (line,) = tables.missing(results([record("a")], [absent])).rows
    assert line.cells == ("little, gem, seed 2", "failed", "the loss is not finite (0123)")
    assert tables.ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"
    assert tables.ranges([4]) == "4"
    assert tables.ranges([]) == ""


def test_costs_are_means_over_seeds():
    costs = tables.costs(first_problem(study(3)))
    cells = next(row.cells for row in costs.rows if row.cells[0] == "meralg1, 50 memories")
    seconds = [record("meralg1", seed, memories=50, level=0.85).train_seconds for seed in range(3)]
    assert cells == ("meralg1, 50 memories", 3, "200", "2 000", "40", f"{sum(seconds) / 3:.2g}", "1.5", "0.36", "0.05")


@pytest.mark.parametrize("evaluate", [{"eval_every": 5}, {"evaluate": "end"}])
def test_a_rows_command_asks_for_the_very_configuration(tmp_path, evaluate):
    asked = Request(
        "digits-rotations",
        "independent",
        {"finetune": False, "lr": 0.02},
        {"tasks": 3, "samples_per_task": 20, "max_angle": 90.0},
        {"seed": 4, "layers": 3, "hiddens": 30, "batch_size": 2, "order": "shuffled", **evaluate},
    ).experiment()
    words = shlex.split(command(asked.configuration(), [4]))
    assert main([*words[1:], "--quiet", "--out", str(tmp_path)]) == 0
    assert next(tmp_path.glob("*/record.json")).parent.name == asked.key


def test_a_command_is_safe_in_a_shell_and_runs_every_seed():
    line = command(record(NASTY, benchmark="$(rm -r x)").configuration, [0, 2])
    words = ran("bash", "-c", f"metareplay() {{ printf '%s\\n' \"$@\"; }}; {line}").stdout.splitlines()
    assert words[:3] == ["run", "$(rm -r x)", NASTY]
    assert [words[at + 1] for at, word in enumerate(words) if word == "--seed"] == ["0", "2"]


def test_what_no_flag_can_say_is_told_behind_the_command():
    configuration = record("online", hidden=[30, 20], task_order=[0, 1, 0, 1], from_sha256="0" * 64).configuration
    line, told = command(configuration, [0]).split("#")
    assert "with --from" in told
    assert "--widths 30,20" in line
    assert "--task-order 0-1,0-1" in line


def test_the_csv_has_a_row_for_each_configuration_with_unrounded_numbers():
    rows = list(csv.DictReader(io.StringIO(tables.tidy(results([*study(3), record(NASTY, 1)])).csv())))
    assert len(rows) == 13
    (one,) = (row for row in rows if (row["problem"], row["configuration"]) == ("little", "eralg4, 50 memories"))
    values = retained("eralg4", 50, 3)
    assert float(one["retained_accuracy"]) == pytest.approx(np.mean(values), abs=1e-15)
    assert float(one["retained_accuracy_high"]) - np.mean(values) == pytest.approx(
        scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(values)
    )
    assert one["seeds"] == "0 1 2"
    assert NASTY in {row["method"] for row in rows}
    assert {row["retained_accuracy_low"] for row in rows if row["method"] == NASTY} == {""}


def unescaped(text):
    """What LaTeX would print, for the escapes that we know."""
    commands = {
        r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~", r"\textless{}": "<",
        r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"', "{[}": "[", "{]}": "]",
        r"$\pm$": "±", "$-$": "−", "--": "–",
    }  # fmt: skip
    pattern = "|".join(map(re.escape, commands)) + r"|\\[{}$&#%_]"
    return re.sub(pattern, lambda found: commands.get(found[0], found[0][-1]), text)


def test_whatever_a_method_is_called_latex_prints_it():
    assert unescaped(latex(NASTY)) == NASTY
    bare = re.sub(r"\\[a-z]+\{\}|\\[{}$&#%_]|\{[\[\]]\}", "", latex(NASTY))
    assert not set(bare) & set(r"\{}$&#%_^~<>|" + '"')


def test_the_latex_table_is_whole():
    text = tables.paper(results([*study(3), record(NASTY)])).latex()
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert [line for line in lines if "rule" in line and "cmid" not in line] == [
        r"\toprule", r"\midrule", r"\midrule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip
    assert r" & \multicolumn{3}{c}{little} & \multicolumn{3}{c}{little-turned} \\" in lines
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in lines
    rows = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 8
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {6}
    assert f"meralg1, 50 memories & {percent(retained('meralg1', 50, 3)).replace('±', '$' + chr(92) + 'pm$')} &" in text


def test_what_a_spreadsheet_would_take_for_a_formula_is_text():
    texts = ["=1+1", "+A1", "-A1", "@SUM(A1)", "＝1", "-1.5", "+2.3 ± 0.4", "1e-5", "a=b"]
    table = Table((Column("one"),), tuple(Row((text,)) for text in [*texts, -0.5, None]))
    found = [row[0] for row in csv.reader(io.StringIO(table.csv())) if row][1:]
    assert found == ["'=1+1", "'+A1", "'-A1", "'@SUM(A1)", "'＝1", "-1.5", "+2.3 ± 0.4", "1e-5", "a=b", "-0.5", ""]


def test_no_face_of_a_table_has_a_character_that_a_terminal_obeys():
    nasty = "a\x1b]0;title\x07\n\u202e\udcff"
    table = Table(
        (Column(nasty, nasty, meaning=nasty), Column("b")), (Row((nasty, nasty), nasty, nasty),), nasty, (nasty,)
    )
    out = io.StringIO()
    Console(file=out, width=500).print(table.terminal())
    for face in (out.getvalue(), table.latex(), table.csv()):
        assert "x1b]0;title" in face
        assert face.replace("\n", "").isprintable()


def test_a_method_looks_the_same_in_every_report_and_no_two_look_alike():
    own = [f"file.py:Method{number}" for number in range(4)]
    alone = {name: styles([name])[name].colour for name in own}
    together = styles([*METHODS, *own])
    assert {name: together[name].colour for name in own} == alone
    assert all(together[name] == styles([name])[name] for name in METHODS)
    found = styles([*METHODS, *(f"file.py:Method{number}" for number in range(20))])
    assert len(set(found.values())) == len(found)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_stands_out_on_white_and_on_dark_paper():
    for look in styles([*METHODS, *(f"file.py:Method{number}" for number in range(50))]).values():
        own = luminance(look.colour) + 0.05
        assert (1 + 0.05) / own >= 3
        assert own / (luminance("#14171c") + 0.05) >= 3


def test_methods_alike_to_colour_blind_eyes_differ_in_shape_or_dashes():
    # Viénot, Brettel and Mollon 1999, for those who see no red, and no green; linear RGB.
    seen = {
        "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    for transform in seen.values():
        colours = {}
        looks = styles(METHODS)
        for name, look in looks.items():
            linear = np.array([(int(look.colour[at : at + 2], 16) / 255) ** 2.2 for at in (1, 3, 5)])
            colours[name] = np.clip(np.array(transform) @ linear, 0, 1) ** (1 / 2.2)
        for one in looks:
            for other in looks:
                if one < other and np.linalg.norm(colours[one] - colours[other]) < 0.12:
                    assert (looks[one].shape, looks[one].dashes) != (looks[other].shape, looks[other].dashes)


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
FIRST, MANY = Counter(key[0] for key in KEYS).most_common(1)[0]
BEGUN = record("gem", 7, memories=50).configuration
FAILED = key_of(BEGUN)


def fail(runs, message):
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


def test_many_tasks_fit_a_terminal_and_twenty_do_without_leaving_one_out():
    lines = show.matrix(record("a", tasks=100), 80)
    assert max(len(line.plain) for line in lines[1:]) <= 80
    assert lines[1].plain.split()[-1] == "100"
    assert lines[-1].plain.split()[0] == "100"
    assert "25 × 17 of 100 × 100" in lines[0].plain
    lines = show.matrix(record("a", tasks=20), 80)
    assert lines[1].plain.split()[1:] == [str(task + 1) for task in range(20)]
    assert max(len(line.plain) for line in lines) <= 80


def test_one_task_has_no_matrix_and_a_curve_that_never_changes_is_flat(runs, capsys):
    made = record("one", tasks=1)
    made.save(runs / key_of(made.configuration))
    assert "There is no accuracy matrix" in shown_run(capsys, key_of(made.configuration))
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
