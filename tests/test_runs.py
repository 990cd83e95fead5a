"""A run's folder says how the run stands, and is believed only where all of it is whole."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from killed_runs import EveryFew, Often, little, room, same
from metareplay import METHODS, Diverged, Record, RunFailed
from metareplay.files import Held, write_atomically
from metareplay.runs.checkpoint import pack
from metareplay.runs.experiment import key_of
from metareplay.runs.folder import CHECKPOINT, CONFIGURATION, FAILURE, LOCK, Run, Unsaved, find
from metareplay.runs.trackers import Evaluation
from metareplay.runs.trainer import Trainer


@pytest.fixture(scope="module")
def experiment():
    return little("meralg1")


@pytest.fixture(scope="module")
def expected(experiment):
    return Trainer(experiment).train()


@pytest.fixture
def run(experiment, tmp_path):
    return Run(tmp_path / "runs" / experiment.key)


def names(run):
    return sorted(path.name for path in run.folder.iterdir())


class Stopped(BaseException):
    """As if by Ctrl-C."""


def stop_in_the_second_task(run, experiment, again=False):
    def stop(experiment, event):
        if isinstance(event, Evaluation) and event.visit == 1:
            raise Stopped

    with pytest.raises(Stopped):
        run.carry_out(experiment, tracker=stop, again=again, checkpoints=Often(run.folder / CHECKPOINT))


def test_a_run_is_carried_out_once_and_then_read(run, experiment, expected):
    record = run.carry_out(experiment)
    assert same(record, expected)
    kinds = [re.sub("-[0-9a-f]{8}", "", name) for name in names(run)]
    assert kinds == [LOCK, CONFIGURATION, "record.npz", "record.json", "weights.npz"]
    began = (run.folder / CONFIGURATION).read_text()
    again = run.carry_out(experiment)
    assert again.started == record.started
    assert again.train_seconds == record.train_seconds
    assert (run.folder / CONFIGURATION).read_text() == began
    status = run.status()
    assert status.state == "done"
    assert status.configuration == json.loads(json.dumps(experiment.configuration()))
    assert status.summary["retained_accuracy"] == expected.metrics["retained_accuracy"]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(run, experiment, expected):
    stop_in_the_second_task(run, experiment)
    status = run.status()
    assert status.state == "stopped"
    assert status.configuration["method"] == "meralg1"
    assert 25 <= status.examples < 50
    seen = []
    record = run.carry_out(experiment, lambda progress: seen.append(progress.examples))
    assert same(record, expected)
    assert seen[0] >= status.examples
    assert CHECKPOINT not in names(run)


def test_again_begins_at_the_beginning_and_the_old_record_stays_until_it_is_replaced(run, experiment):
    first = run.carry_out(experiment)
    write_atomically(run.folder / CHECKPOINT, pack({"key": experiment.key, "nonsense": 1}))
    notes = []
    second = run.carry_out(experiment, again=True, note=notes.append)
    assert notes == []
    assert same(first, second)
    assert second.train_seconds != first.train_seconds
    kept = run.record()
    assert kept.train_seconds == second.train_seconds
    first = run.carry_out(experiment)
    stop_in_the_second_task(run, experiment, again=True)
    assert run.status().state == "done"
    assert run.carry_out(experiment).train_seconds == first.train_seconds
    assert CHECKPOINT not in names(run)


def test_a_run_that_fails_says_why_until_it_is_started_again(tmp_path):
    experiment = dataclasses.replace(little("online"), method=METHODS["online"](lr=1e30))
    run = Run(tmp_path / experiment.key)
    with pytest.raises(Diverged):
        run.carry_out(experiment)
    status = run.status()
    assert status.state == "failed"
    assert "the loss is not finite at example" in status.message
    assert "traceback" not in json.loads((run.folder / FAILURE).read_text())
    with run.locked(experiment):
        assert FAILURE not in names(run)


BROKEN = """
import sys
from metareplay import Method, setting

class Divides(Method):
    def observe(self, rows):
        return 1 / (len(rows) - 1)

class Exits(Method):
    def observe(self, rows):
        sys.exit("enough")

class Hungry(Method):
    def observe(self, rows):
        raise MemoryError
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Divides", "ZeroDivisionError: division by zero ({file}, line 7)"),
        ("Exits", "SystemExit: enough ({file}, line 11)"),
        ("Hungry", "there is not enough memory"),
    ],
)
def test_an_error_in_a_users_method_is_told_in_one_line_with_its_place(tmp_path, name, words):
    from metareplay import methods

    file = tmp_path / "mine.py"
    file.write_text(BROKEN)
    experiment = dataclasses.replace(little("online"), method=methods.find(f"{file}:{name}")())
    run = Run(tmp_path / "runs" / experiment.key)
    with pytest.raises(RunFailed) as failed:
        run.carry_out(experiment)
    words = words.format(file=file)
    assert str(failed.value) == f"{words}; {run.folder / FAILURE} has the whole traceback"
    assert run.status().state == "failed"
    assert run.status().message == words
    assert "in observe" in json.loads((run.folder / FAILURE).read_text())["traceback"]


def test_an_error_of_our_own_keeps_its_traceback(run, experiment, monkeypatch):
    monkeypatch.setattr(Trainer, "learn", lambda self, span: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.carry_out(experiment)
    assert "ZeroDivisionError: division by zero" in str(run.status().message)


def test_a_run_of_another_process_is_left_to_it(run, experiment):
    code = """
import sys
from pathlib import Path
from killed_runs import little
from metareplay.runs.folder import Run
with Run(Path(sys.argv[1])).locked(little("meralg1")):
    print("running", flush=True)
    sys.stdin.read()
"""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command, pipe = [sys.executable, "-c", code, str(run.folder)], subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        assert process.stdout.readline() == "running\n"
        try:
            assert run.status().state == "running"
            words = rf"the run .*{run.key} is held by process {process.pid} on .*: wait for it, or stop it"
            with pytest.raises(Held, match=words):
                run.carry_out(experiment)
            assert run.status().state == "running"
        finally:
            process.kill()
    assert run.status().state == "stopped"
    run.carry_out(experiment)


def test_a_record_can_be_read_while_it_is_made_again(run, experiment):
    run.carry_out(experiment)
    with run.locked(experiment):
        assert run.status().state == "done"
        (run.folder / CHECKPOINT).write_text("another's")
        assert run.carry_out(experiment) is not None
        assert (run.folder / CHECKPOINT).read_text() == "another's"
        (run.folder / "record.json").write_text("{")
        assert run.status().state == "running"


def test_asking_how_a_run_stands_does_not_stand_in_its_way(run, experiment):
    over = threading.Event()

    def ask():
        while not over.is_set():
            run.status()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(5):
            run.carry_out(experiment, again=True)
    finally:
        over.set()
        asking.join()


def test_a_lock_that_cannot_be_one_is_said_to_be_none(run, experiment):
    (run.folder / LOCK).mkdir(parents=True)
    with pytest.raises(RunFailed, match=rf"{run.folder}.* cannot be written: Is a directory; name another folder"):
        run.carry_out(experiment)
    assert run.status().state == "broken"


@pytest.mark.parametrize("keep", [0, 1, 500, -1])
def test_a_record_that_is_damaged_is_made_again_and_never_taken_for_whole(run, experiment, expected, keep):
    run.carry_out(experiment)
    for file in ("record.json", next(name for name in names(run) if name.startswith("record-"))):
        path = run.folder / file
        path.write_bytes(path.read_bytes()[:keep])
        status = run.status()
        assert status.state == "broken"
        assert "is damaged" in str(status.message)
        notes = []
        assert same(run.carry_out(experiment, note=notes.append), expected)
        assert len(notes) == 1
        assert "is damaged" in notes[0]
        assert "must be run again, which begins now" in notes[0]
        assert run.status().state == "done"
        aside = [name for name in names(run) if ".damaged" in name]
        assert aside[: 2 + file.startswith("record-")]
        assert len(names(run)) == 5 + len(aside)


def test_a_damaged_checkpoint_is_set_aside_and_costs_what_it_held_and_no_more(run, experiment, expected):
    stop_in_the_second_task(run, experiment)
    path = run.folder / CHECKPOINT
    half = path.read_bytes()[:-50]
    path.write_bytes(half)
    assert run.status().state == "broken"
    notes = []
    assert same(run.carry_out(experiment, note=notes.append), expected)
    assert len(notes) == 1
    assert "is damaged" in notes[0]
    assert "beginning again" in notes[0]
    assert (run.folder / f"{CHECKPOINT}.damaged").read_bytes() == half


def test_a_folder_without_its_own_configuration_is_broken_and_can_be_run(run, experiment):
    run.folder.mkdir(parents=True)
    assert find(run.folder.parent) == []
    another = little("meralg1", batch_size=2).configuration()
    for content in ([], {}, {"configuration": {}}, {"configuration": [1]}, {"configuration": another}):
        (run.folder / CONFIGURATION).write_text(json.dumps(content))
        assert run.status().state == "broken"
        assert run.status().configuration is None
    run.carry_out(experiment)
    assert [found.key for found in find(run.folder.parent)] == [experiment.key]
    assert find(run.folder.parent / "nowhere") == []


def test_a_checkpoint_that_cannot_be_read_now_ends_the_run_and_stays(run, experiment, expected, monkeypatch):
    stop_in_the_second_task(run, experiment)
    content = (run.folder / CHECKPOINT).read_bytes()

    def failing(path):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("metareplay.runs.checkpoint.read_regular", failing)
        with pytest.raises(RunFailed, match="cannot be read now: Input/output error; start the run again when it can"):
            run.carry_out(experiment)
    assert (run.folder / CHECKPOINT).read_bytes() == content
    assert same(run.carry_out(experiment), expected)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_a_record_that_is_no_regular_file_stops_nothing_for_ever(run, experiment, make):
    run.folder.mkdir(parents=True)
    make(run.folder / "record.json")
    assert run.status().state == "broken"
    assert "not a regular file" in str(run.status().message)
    with pytest.raises(RunFailed, match=r"record\.json.*not a regular file|not a regular file"):
        run.carry_out(experiment)


def test_a_record_counts_only_in_the_folder_of_its_own_run(run, experiment, expected):
    other = little("online")
    Run(run.folder.parent / other.key).carry_out(other)
    shutil.copytree(run.folder.parent / other.key, run.folder)
    assert run.status().state == "broken"
    assert f"is of the run {other.key}" in str(run.status().message)
    notes = []
    assert same(run.carry_out(experiment, note=notes.append), expected)
    assert f"is of the run {other.key}" in notes[0]
    assert run.status().state == "done"
    for path in run.folder.glob("*.damaged"):
        path.rename(path.with_suffix(""))
    assert same(Record.load(run.folder), Trainer(other).train())  # what another run had learned is not lost


def test_a_copy_beside_a_run_is_no_second_run(run, experiment):
    run.carry_out(experiment)
    for name in (f"{run.key}.bak", "before", f"{run.key} (copy)"):
        shutil.copytree(run.folder, run.folder.parent / name)
    assert [found.key for found in find(run.folder.parent)] == [run.key]
    run.folder.rename(run.folder.parent / "renamed")
    found = find(run.folder.parent)
    assert len(found) == 4  # none of them is where it belongs, and which to believe is not for us to say
    assert {one.status().state for one in found} == {"broken"}


MINE = """
import metareplay
from helper import RATE

class Mine(metareplay.METHODS["online"]):
    def observe(self, rows):
        self.learner.sgd(rows, RATE * self.lr)
"""


def mine(folder, rate):
    from metareplay import methods

    (folder / "helper.py").write_text(f"RATE = {rate}")
    (folder / "mine.py").write_text(MINE)
    return dataclasses.replace(little("online"), method=methods.find(f"{folder / 'mine.py'}:Mine")(lr=0.1))


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("nonsense(")])
def test_a_users_file_may_change_or_vanish_while_its_run_is_under_way(tmp_path, change):
    experiment = mine(tmp_path, 1.0)
    run, key = Run(tmp_path / "runs" / experiment.key), experiment.key

    def meddle(experiment, event):
        for name in ("mine.py", "helper.py"):
            if (tmp_path / name).exists():
                change(tmp_path / name)

    run.carry_out(experiment, tracker=meddle, checkpoints=Often(run.folder / CHECKPOINT))
    status = run.status()
    assert status.state == "done"
    assert key_of(status.configuration) == key
    assert same(run.carry_out(mine(tmp_path, 1.0)), Trainer(experiment).train())


def full(path, content, follow=True):
    raise OSError(28, "No space left on device")


def test_a_record_that_cannot_be_kept_is_shown_and_its_checkpoint_stays(run, experiment, expected, monkeypatch):
    checkpoints = Often(run.folder / CHECKPOINT)
    with monkeypatch.context() as patch:
        patch.setattr("metareplay.runs.record.write_atomically", full)
        with pytest.raises(Unsaved, match="No space left on device") as unkept:
            run.carry_out(experiment, checkpoints=checkpoints)
    assert same(unkept.value.record, expected)
    assert run.status().state == "failed"
    assert CHECKPOINT in names(run)
    seen = []
    assert same(run.carry_out(experiment, lambda progress: seen.append(progress.examples)), expected)
    assert 0 not in seen


@pytest.mark.parametrize("size", [0, 1200])
def test_on_a_full_disk_nothing_half_written_is_left(run, experiment, expected, size):
    with room(size), pytest.raises(RunFailed, match="File too large"):
        run.carry_out(experiment, checkpoints=EveryFew(run.folder / CHECKPOINT))
    assert run.status().state in ("failed", "stopped", "broken")
    assert not [name for name in names(run) if name.startswith((".writing", "record"))]
    assert same(run.carry_out(experiment), expected)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_in_a_read_only_folder_no_run_can_be_but_one_can_be_read(run, experiment, expected):
    run.carry_out(experiment)
    (run.folder / FAILURE).write_text("left behind")
    root = run.folder.parent
    root.chmod(0o555)
    other = little("online")
    with pytest.raises(RunFailed, match=r"cannot be written: (Read-only file system|Permission denied); name another"):
        Run(root / other.key).carry_out(other)
    with pytest.raises(RunFailed, match="cannot be written"):
        run.carry_out(experiment, again=True)
    assert same(run.carry_out(experiment), expected)
    assert run.status().state == "done"
    assert [found.key for found in find(root)] == [experiment.key]
