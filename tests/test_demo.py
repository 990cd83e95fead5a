"""The demo: its tables say what the runs found, and the commands it offers exist."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from metareplay.cli import demo, main
from metareplay.results.table import Table
from metareplay.streams.catalogue import benchmark

TASKS = 3
ACCURACIES = {
    "online": np.array([[[90, 10, 0], [50, 80, 20], [30, 60, 70]], [[94, 10, 0], [50, 82, 20], [34, 60, 74]]], float),
    "meralg1": np.full((2, TASKS, TASKS), 95.0),
}


def shown(*parts, width=80):
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part.terminal() if isinstance(part, Table) else part)
    return console.file.getvalue()


def cells(table, row):
    (line,) = (line for line in table.splitlines() if line.split()[: len(row.split())] == row.split())
    return line.split()[len(row.split()) :]


def test_the_tables_and_the_conclusion_say_what_the_runs_found_in_80_columns():
    stream = benchmark("digits-rotations", tasks=TASKS)
    table = shown(demo.every_task(stream, ACCURACIES))
    assert cells(table, f"1 {stream.tasks[0].description}") == ["92.0", "32.0", "-60.0", "95.0", "95.0", "+0.0"]
    assert cells(table, "mean") == ["81.7", "54.7", "-27.0", "95.0", "95.0", "+0.0"]
    # Of two seeds the half width is t(0.975; 1) = 12.706 times half their difference: 3.33, 2.67 and 0.67 points.
    assert cells(table, "± 95 %")[1::2] == ["21.2", "16.9", "4.2", "0.0", "0.0", "0.0"]
    assert cells(table, "is called") == ["LA", "RA", "BTI"] * 2
    table = shown(demo.first_task(ACCURACIES))
    assert cells(table, "online") == ["92", "50", "32"]
    assert cells(table, "meralg1") == ["95", "95", "95"]
    text = " ".join(shown(demo.conclusion(ACCURACIES), width=200).split())
    assert "read 92 % of task 1's digits when it had just learned them, and 32 % at the end" in text
    assert "learned 82 % and retained 55 %" in text
    assert "learned 95 % and retained 95 %" in text
    assert "That it retains more is, over 2 seeds, too few seeds to tell (needs at least 6) (p = 0.5," in text
    six = {name: np.tile(runs, (3, 1, 1)) for name, runs in ACCURACIES.items()}
    assert "over 6 seeds, established (p = 0.031," in " ".join(shown(demo.conclusion(six), width=200).split())
    stream = benchmark("digits-rotations")
    runs = {name: np.full((3, 10, 10), 50.0) for name in ACCURACIES}
    for table in (demo.every_task(stream, runs), demo.first_task(runs)):
        assert Console(width=200).measure(table.terminal()).maximum <= 80


def test_the_commands_it_offers_exist(monkeypatch):
    monkeypatch.setattr("sys.argv", ["metareplay"])
    commands = re.findall(r"^  metareplay (.*?) *$", shown(demo.what_next(Path("nowhere")), width=200), re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        with pytest.raises(SystemExit) as left:
            main([*command.split(), "--help"])
        assert left.value.code == 0


@pytest.mark.slow
def test_the_whole_demo(capsys, here):
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    assert main(["demo"]) == 0
    shown = capsys.readouterr().out
    assert "Forgetting" in shown
    assert "Try next" in shown
    page = here / "runs" / "demo" / "report.html"
    assert page.as_uri() in shown
    assert "meralg1 retained most" in page.read_text()
