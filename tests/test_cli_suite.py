"""``metareplay suite``, as its users meet it: what it says before, while and after it runs, and how it ends."""

import re
import time
from pathlib import Path

import pytest

from commands import on_terminal
from metareplay.cli import main, suite
from metareplay.data.download import Published
from metareplay.runs.folder import Run, find
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.streams.catalogue import BENCHMARKS
from metareplay.suites.driver import Outcome, SuiteDisplay, SuiteProgress
from metareplay.suites.plan import Planned, at_hand

SMALL = """
name = "small"
seeds = 2
benchmarks = [{ name = "digits-rotations", tasks = 2, samples_per_task = 30 }]
[methods.online]
[methods.eralg4]
memories = 20
"""

FAILING = SMALL + "[[methods.meralg1]]\nlr = 1e9\nmemories = 500"

LONGER = """
seeds = 4
benchmarks = [{ name = "digits-rotations", samples_per_task = 300 }]
[methods.meralg1]
memories = 500
"""

HANDED_ON = "from pathlib import Path\n\n\ndef note(experiment, what):\n    Path('tracked').touch()\n"


@pytest.fixture(autouse=True)
def _small(plain, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    Path("small.toml").write_text(SMALL)


def states(out="runs"):
    return sorted(run.status().state for run in find(Path(out)))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("suite", "NAME|FILE.toml"),
        ("suite nothing", "there is no suite 'nothing'; metareplay comes with digits, mer-paper"),
        ("suite none.toml", "none.toml cannot be read: No such file"),
        ("suite small.toml --seeds 0", "--seeds is 0, but must lie in [1, inf)"),
        ("suite small.toml --jobs 0", "--jobs is 0, but must lie in [1, inf)"),
        ("suite small.toml --executor slurm", "--executor is 'slurm', but must be one of local, ray"),
        ("suite small.toml --address auto", "needs --executor ray"),
        ("suite small.toml --out small.toml", "--out is small.toml, but must be a folder"),
        ("suite small.toml --dryrun", "did you mean --dry-run?"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, told, refused):
    assert told in refused(*arguments.split())
    assert [path.name for path in Path().iterdir()] == ["small.toml"]


def test_a_suite_with_mistakes_runs_nothing(capsys):
    Path("small.toml").write_text(SMALL + "[methods.gem]\nmemory = 3\n[methods.ewk]\n")
    assert main(["suite", "small.toml"]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "metareplay: small.toml has 2 mistakes; nothing was run:"
    assert [line.split()[1:3] for line in others] == [["9:", "methods.gem.memory"], ["10:", "methods.ewk"]]
    assert not Path("runs").exists()


def test_a_dry_run_says_what_would_run_and_leaves_nothing(capsys):
    assert main(["suite", "small.toml", "--dry-run", "--jobs", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    title, _, online, eralg4, *sums = shown.out.splitlines()
    assert title == "small"
    cells = "digits-rotations", "online", "tasks 2, samples_per_task 30", "2", "0", "60", "about 1 s"
    assert tuple(re.split(r"\s{2,}", online)) == cells
    assert eralg4.split()[-6:-3] == ["2", "0", "60"]
    assert sums[0] == "4 runs; in runs: none of them yet"
    assert sums[1] == "to do: 4 runs, 240 SGD steps"
    assert sums[2] == "about 1 s of one core, 1 s with 2 at a time"
    assert not Path("runs").exists()


def test_a_dry_run_knows_what_is_there(capsys):
    experiment = Request("digits-rotations", "online", {}, {"tasks": 2, "samples_per_task": 30}, {}).experiment()
    Run(Path("runs") / experiment.key).carry_out(experiment)
    assert main(["suite", "small.toml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "4 runs; in runs: 1 done\n" in shown
    assert "to do: 3 runs, 180 SGD steps\n" in shown


def test_a_dry_run_without_the_data_downloads_nothing(data_folder, capsys):
    assert main(["suite", "mer-paper", "--dry-run", "--seeds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "57 runs; in runs: none of them yet\n" in shown
    assert "the data of 57 are not here yet" in shown
    assert "to do: 57 runs, 67 648 897 SGD steps\n" in shown
    assert list(data_folder.iterdir()) == []


def test_data_that_are_here_are_read_and_checked_once_however_many_runs_want_them(tmp_path, data_folder, monkeypatch):
    looked = []
    monkeypatch.setattr(Published, "present", lambda source, folder: bool(looked.append(folder)) or True)
    assert all(at_hand(BENCHMARKS[name]) for name in ("mnist-rotations", "mnist-split") * 3)
    assert looked == [data_folder / "mnist"]


def test_a_suite_runs_once_and_says_how_to_see_its_results(capsys):
    Path("note.py").write_text(HANDED_ON)
    command = ["suite", "small.toml", "--jobs", "1", "--tracker", "note.py:note"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "small: 4 of 4 runs are done; they are in runs",
        "to see them: metareplay results --out runs",
        "as a page:   metareplay report runs -o report.html",
    ]
    assert "metareplay: There are no settings for eralg4 on digits-rotations with 20 memories" in shown.err
    assert Path("tracked").exists()
    assert states() == ["done"] * 4
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("record*")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("record*")} == before
    capsys.readouterr()
    assert main(["results"]) == 0
    assert "4 of 4 runs in runs are done" in capsys.readouterr().out


def test_a_run_that_fails_is_told_the_others_go_on_and_the_status_is_1(capsys):
    Path("failing.toml").write_text(FAILING)
    assert main(["suite", "failing.toml", "--jobs", "1", "--quiet", "--seeds", "1", "--out", "other"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "small: 2 of 3 runs are done; they are in other"
    first, second = shown.err.splitlines()
    again = "metareplay suite failing.toml --jobs 1 --quiet --seeds 1 --out other"
    assert first == f"metareplay: 1 of 3 runs failed; to try them again: {again}"
    assert second.startswith("  digits-rotations, meralg1, tasks 2, samples_per_task 30, ")
    assert "the loss is not finite at example" in second
    assert states("other") == ["done", "done", "failed"]


@pytest.mark.slow
def test_a_terminal_shows_the_whole_and_each_worker(monkeypatch):
    Path("longer.toml").write_text(LONGER)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    text = on_terminal("suite", "longer.toml", "--jobs", "2")
    for part in ("of 4 runs done", "worker 1: digits-rotations, meralg1, ", "memories 500", "worker 2: ", " left"):
        assert part in text


def played(seconds, quiet=False):
    requests = [Request("digits-rotations", "online", run={"seed": seed}) for seed in range(len(seconds))]
    plan = [Planned(request, "new", 100, each) for request, each in zip(requests, seconds, strict=True)]
    return requests, SuiteDisplay(plan, quiet)


def at(examples):
    return Progress(0, 1, examples, 100, examples, None)


def test_time_left_follows_from_what_runs_were_expected_to_take(monkeypatch):
    requests, display = played([10.0, 30.0])
    left, now = display, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    now = 100.0
    left.update(SuiteProgress(2, [], {"worker 1": (requests[0], at(10))}))
    assert left.seconds() is None  # no time has passed since it was first seen
    now = 109.0
    left.update(SuiteProgress(2, [], {"worker 1": (requests[0], at(100))}))
    assert left.to_do() == pytest.approx(30.0)
    assert left.seconds() == pytest.approx(30.0)  # nine seconds for nine
    control = Request("digits-rotations", "er-matched", run={"seed": 1000})
    left.update(SuiteProgress(3, [], {"worker 1": (requests[0], at(100)), "worker 2": (control, at(1))}))
    assert left.seconds() is None  # how long what was not planned takes, is not known
    now = 109.0 + 15.0
    first = Outcome(requests[0], "a", "done")
    left.update(SuiteProgress(2, [first], {"worker 1": (requests[1], None)}))
    assert left.to_do() == pytest.approx(30.0)


def test_runs_that_were_there_before_do_not_make_the_rest_look_fast(monkeypatch):
    requests = [Request("digits-rotations", "online", run={"seed": seed}) for seed in range(3)]
    plan = [Planned(r, state, 1, 10.0) for r, state in zip(requests, ("done", "new", "new"), strict=True)]
    left, now = SuiteDisplay(plan), 5.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    there = [Outcome(requests[0], "a", "done")]
    left.update(SuiteProgress(3, there, {"worker 1": (requests[1], at(50))}))  # it goes on from its checkpoint
    now = 10.0
    left.update(SuiteProgress(3, there, {"worker 1": (requests[1], at(75))}))
    assert left.seconds() == pytest.approx(25.0)  # 2.5 of 20 seconds' work took 5; 12.5 are to do


def test_without_a_terminal_failures_are_lines_and_progress_a_line_now_and_then(monkeypatch, capsys):
    requests, display = played([10.0, 10.0])
    with display:
        display(SuiteProgress(2, [], {"worker 1": (requests[0], at(50))}))
        failed = Outcome(requests[0], "a", "failed", "the loss is not finite")
        display(SuiteProgress(2, [failed], {}))
        display(SuiteProgress(2, [failed], {}))
        display.last_line -= 60
        display(SuiteProgress(2, [failed], {}))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "metareplay: digits-rotations, online, seed 0 failed: the loss is not finite",
        "0 of 2 runs done · 1 failed · time left not known yet",
    ]


def test_ctrl_c_in_an_executor_says_how_far_it_came(monkeypatch, capsys):
    def stopped(requests, out, **given):
        given["report"](SuiteProgress(4, [Outcome(requests[0], "a", "done")], {}))
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "execute", stopped)
    assert main(["suite", "small.toml", "--quiet", "--out", "my runs"]) == 130
    assert capsys.readouterr().err == (
        "metareplay: stopped: 1 of 4 runs are done, in my runs; "
        "to go on: metareplay suite small.toml --quiet --out 'my runs'\n"
    )


def test_what_another_process_has_in_hand_is_told_and_is_no_failure(monkeypatch, capsys):
    def elsewhere(requests, out, **given):
        return [Outcome(request, "a", "elsewhere", "process 1") for request in requests]

    monkeypatch.setattr(suite, "execute", elsewhere)
    assert main(["suite", "small.toml"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "small: 0 of 4 runs are done; they are in runs\n"
    assert "4 runs are under way in another process, and were left to it" in shown.err


def test_data_that_are_not_here_are_fetched_once_when_the_suite_is_checked(
    data_folder, shared_mnist, monkeypatch, capsys
):
    from metareplay.data import catalogue as sources

    fetched = []
    get = sources.get

    def from_here(name, source=None, progress=True):
        if name == "mnist":
            fetched.append(name)
        return get(name, shared_mnist if name == "mnist" else None, progress=False)

    monkeypatch.setattr("metareplay.cli.suite.sources.get", from_here)
    Path("mnist.toml").write_text(
        'benchmarks = [{ name = "mnist-rotations", samples_per_task = 60_001 }, "mnist-permutations"]\n'
        'methods = ["online"]\n'
    )
    assert main(["suite", "mnist.toml"]) == 2
    assert "mnist.toml, line 1: benchmarks[0].samples_per_task is 60001" in capsys.readouterr().err
    assert not fetched
    assert not Path("runs").exists()
    text = Path("mnist.toml").read_text().replace("60_001 }", "2, tasks = 1 }")
    Path("mnist.toml").write_text(
        text.replace('"mnist-permutations"', '{ name = "mnist-split", samples_per_task = 1 }')
    )
    assert main(["suite", "mnist.toml", "--quiet"]) == 0
    assert set(fetched) == {"mnist"}


def test_a_dry_run_says_what_controls_and_further_seeds_come_to(here, capsys):
    Path("mine.toml").write_text(
        """seeds = 2
        compare = ["online", "eralg4"]
        controls = ["er-matched"]
        benchmarks = [{ name = "digits-rotations", tasks = 2, samples_per_task = 20 }]
        methods.online = {}
        methods.eralg4 = { memories = [20, 50] }
        """
    )
    assert main(["suite", "mine.toml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "besides: 2 controls, 9 learning rates each, and then every seed: 22 runs" in shown
    assert "seeds as it takes" not in shown
    assert main(["suite", "mine.toml", "--dry-run", "--until", "established", "--most", "8"]) == 0
    assert "besides: seeds as it takes, 8 at most: up to 18 more runs, about 1 s" in capsys.readouterr().out
