"""Many runs on one machine: each is done once, whoever dies, and all the machine is used.

What a driver does whatever carries the runs out is tested with a backend without processes; workers are processes.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killed_runs import same
from metareplay import Record, Trainer
from metareplay.runs.folder import Run
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.suites import driver, local
from metareplay.suites.driver import Driver, Ended

TINY = {"tasks": 2, "samples_per_task": 60}
LONG = {"batches_per_example": 10, "replay_batch_size": 20, "memories": 200}


def tiny(method="online", seed=0, **settings):
    return Request("digits-rotations", method, settings, TINY, {"seed": seed})


def long(seed):
    return Request("digits-rotations", "meralg1", LONG, {"tasks": 3, "samples_per_task": 600}, {"seed": seed})


def assert_done(outcomes, out):
    """All are done, each with the record that it should have, and nothing else is left."""
    for outcome in outcomes:
        assert (outcome.state, outcome.message) == ("done", "")
        assert Run(out / outcome.key).status().state == "done"
        assert len(list((out / outcome.key).iterdir())) == 5
        assert same(Record.load(out / outcome.key), Trainer(outcome.request.experiment()).train())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs"


DIED = Ended("died", "was ended by SIGKILL")


class InTurn:
    """A backend with room for one run, which it carries out at once, as ``local.carry_out`` does in a worker.

    Parameters
    ----------
    before
        For each run that is started, in turn, what happens to it before it is carried out.
    """

    def __init__(self, out, *before):
        self.out, self.before = out, list(before)
        self.job = None
        self.started = []
        self.stopped = False

    def room(self):
        return self.job is None

    def start(self, job):
        job.worker = "worker"
        self.job = job
        self.started.append(job.key)

    def poll(self, seconds):
        if self.job is None:
            return
        job, first = self.job, self.before.pop(0) if self.before else None
        if isinstance(first, int):
            yield job, Progress(0, 2, 7, 120, 7, None)
            os.kill(os.getpid(), first)
        self.job = None
        if isinstance(first, Ended):
            if first == DIED:
                with Run(self.out / job.key).locked(job.requests[0].experiment()):
                    pass  # as the worker does before it dies
            yield job, first
            return
        yield job, local.carry_out(job.requests[0], job.key, self.out, None, lambda event: None)

    def stop(self):
        self.stopped = True


def carry_out(requests, backend, **told):
    report, note = told.get("report", lambda progress: None), told.get("note", lambda text: None)
    outcomes = Driver(requests, backend.out, report, note).carry_out(backend)
    assert backend.stopped
    return outcomes


def test_each_run_is_done_once_and_nothing_is_started_for_what_is_there(out):
    requests = [tiny(seed=seed) for seed in (2, 0, 1)] + [tiny("ewc"), tiny(seed=0)]
    told = []
    outcomes = carry_out(requests, InTurn(out), report=told.append)
    assert [outcome.request for outcome in outcomes] == requests
    assert_done(outcomes, out)
    assert len(list(out.iterdir())) == 4
    assert {progress.all for progress in told} == {5}
    assert [outcome.state for outcome in told[-1].outcomes] == ["done"] * 5
    again, notes = InTurn(out), list[str]()
    assert [outcome.state for outcome in carry_out(requests, again, note=notes.append)] == ["done"] * 5
    assert again.started == notes == []


def test_the_runs_of_one_seed_come_before_the_next_and_the_longest_first(out):
    requests = [tiny(seed=1), tiny(seed=0), tiny("meralg1", seed=1), tiny("meralg1", seed=0)]
    queue = Driver([], out, lambda progress: None, print)
    queue.add(requests)
    order = [(job.requests[0].method, job.requests[0].run["seed"]) for job in queue.waiting]
    assert order == [("meralg1", 0), ("online", 0), ("meralg1", 1), ("online", 1)]


def test_a_run_whose_worker_dies_comes_next_and_is_given_up_after_three_retries(out):
    notes = []
    backend = InTurn(out, DIED, None)
    assert_done(carry_out([tiny(seed=0), tiny(seed=1)], backend, note=notes.append), out)
    assert backend.started[0] == backend.started[1] != backend.started[2]
    assert notes == [
        "digits-rotations, online, tasks 2, samples_per_task 60, seed 0: "
        "its worker was ended by SIGKILL; it goes on from its checkpoint (1 of 3)"
    ]
    backend = InTurn(out, *[DIED] * 4)
    always, other = carry_out([tiny("ewc"), tiny("ewc", seed=1)], backend)
    assert always.state == "failed"
    assert "its worker was ended by SIGKILL, 4 times: there may be too little memory" in always.message
    status = Run(out / str(always.key)).status()
    assert (status.state, status.message) == ("failed", always.message)
    assert_done([other], out)


def test_what_another_process_runs_is_waited_for_and_that_is_said(out, monkeypatch):
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(driver, "SECONDS_IN_SILENCE", -1.0)
    lock = Run(out / tiny().experiment().key).locked(tiny().experiment())
    lock.__enter__()
    notes = []

    def note(text):
        notes.append(text)
        lock.__exit__(None, None, None)

    backend = InTurn(out, Ended("elsewhere"))
    assert_done(carry_out([tiny(), tiny(seed=1)], backend, note=note), out)
    assert len(notes) == 1
    waits = rf"waiting for 1 runs that other processes do: the run {out}.* is held by process {os.getpid()}"
    assert re.match(waits, notes[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_driver_and_its_backend(out, number):
    first, second, third = carry_out([tiny(seed=seed) for seed in range(3)], InTurn(out, None, int(number)))
    assert first.state == "done"
    assert (second.state, second.message) == ("not started", "stopped at example 7 of 120")
    assert (third.state, third.message) == ("not started", "")


def test_errors_are_one_line_with_the_line_of_the_user_s_file(out, mine):
    wrong = [tiny("online", lr=1e30), Request("digits-rotation", "online"), tiny("online", memories=5)]
    outcomes = carry_out([tiny(f"{mine}:Divides"), *wrong, tiny()], InTurn(out))
    assert [outcome.state for outcome in outcomes] == ["failed"] * 4 + ["done"]
    assert f"ZeroDivisionError: division by zero ({mine}, line 7)" in outcomes[0].message
    assert "the loss is not finite at example" in outcomes[1].message
    assert "did you mean digits-rotations?" in outcomes[2].message
    assert outcomes[2].key is None
    assert "memories is no option of online" in outcomes[3].message
    for outcome in outcomes:
        assert "\n" not in outcome.message
        if outcome.key:
            assert Run(out / outcome.key).status().state == outcome.state


@pytest.mark.parametrize("changed", ["changing.py", "helper.py"])
def test_a_method_or_its_helper_that_changes_while_the_suite_is_under_way_is_not_mixed_up(out, tmp_path, changed):
    (tmp_path / "helper.py").write_text("RATE = 1\n")
    (tmp_path / "changing.py").write_text(
        "import helper\nfrom metareplay import Method\nclass Mine(Method):\n    def observe(self, rows): pass\n"
    )
    backend = InTurn(out)
    start = backend.start

    def change(job):
        start(job)
        with (tmp_path / changed).open("a") as file:
            file.write("# better\n")

    backend.start = change
    (outcome,) = carry_out([tiny(f"{tmp_path / 'changing.py'}:Mine")], backend)
    assert outcome.state == "failed"
    assert "changed while the suite was under way" in outcome.message


@pytest.fixture
def mine(tmp_path):
    """A file of methods that are not as they should be."""
    file = tmp_path / "mine.py"
    file.write_text(
        """
import os, sys, threading
from metareplay import Method, setting

class Divides(Method):
    def observe(self, rows):
        return 1 / (len(rows) - 1)

class Prints(Method):
    def observe(self, rows):
        print("here I am")
        os.write(1, b"here too\\n")

class Leaves(Method):
    def observe(self, rows):
        if os.fork() == 0:
            import time
            time.sleep(3)
        os._exit(7)

class OneThread(Method):
    def observe(self, rows):
        wanted = [os.environ[name + "_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
        assert wanted == ["1"] * 4, wanted
        assert os.path.dirname(__file__) not in sys.path[:1]
"""
    )
    return str(file)


@pytest.fixture
def workers(monkeypatch):
    taken = []
    take = local.Worker.take

    def noted(self, *args):
        take(self, *args)
        taken.append(self)

    monkeypatch.setattr(local.Worker, "take", noted)
    return taken


@pytest.mark.slow
def test_workers_print_to_standard_error_have_one_thread_and_call_trackers_and_the_dead_are_replaced(
    out, mine, workers, tmp_path, monkeypatch, capfd
):
    (tmp_path / "tracker.py").write_text(
        f"""
def follow(experiment, event):
    with open({str(tmp_path / "log")!r}, "a") as log:
        print(type(event).__name__, file=log)
"""
    )
    over = Driver._over

    def over_and_dead(self, job, *args):
        """Also between two runs a worker may die."""
        over(self, job, *args)
        if job.requests[0].method.endswith("Prints"):
            workers[-1].process.kill()
            workers[-1].process.wait()

    monkeypatch.setattr(Driver, "_over", over_and_dead)
    monkeypatch.setattr(driver, "RETRIES", 1)
    requests = [tiny(f"{mine}:{name}") for name in ("Divides", "OneThread", "Prints", "Leaves")] + [tiny(seed=1)]
    notes = []
    tracker = f"{tmp_path / 'tracker.py'}:follow"
    divides, *good, leaves, last = driver.execute(requests, out, jobs=1, tracker=tracker, note=notes.append)
    assert f"ZeroDivisionError: division by zero ({mine}, line 7)" in divides.message
    assert [outcome.state for outcome in good] == ["done", "done"]
    # Its child holds the pipe open: the worker is missed all the same.
    assert (leaves.state, "its worker ended with status 7, 2 times" in leaves.message) == ("failed", True)
    assert any("was ended by SIGKILL; it goes on from its checkpoint (1 of 1)" in note for note in notes)
    assert_done([last], out)
    assert (tmp_path / "log").read_text().split().count("Record") == 3
    written = capfd.readouterr()
    assert written.out == ""
    assert "here I am" in written.err
    assert "Traceback" not in written.err


@pytest.mark.slow
def test_runs_whose_workers_are_killed_give_the_same_records(out, workers):
    killed = []

    def kill(progress):
        for worker in workers:
            job = worker.job
            enough = job and job.progress and job.progress.examples > 300 * (job.deaths + 1)
            if enough and len(killed) < 2 and worker.process.poll() is None:
                killed.append(worker.process.pid)
                os.kill(worker.process.pid, signal.SIGKILL)

    notes = []
    outcomes = driver.execute([long(0), long(1), tiny("gem")], out, jobs=2, report=kill, note=notes.append)
    assert len(killed) == 2
    assert 0 < sum("was ended by SIGKILL" in note for note in notes) <= len(killed)
    assert_done(outcomes, out)


def children(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_until(happened):
    while not happened():  # the limit of every test says if it never does
        time.sleep(0.02)


def gone(process):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["all by Ctrl-C", "the driver by SIGKILL"])
def test_a_suite_that_is_stopped_ends_its_workers_and_goes_on(tmp_path, out, whom):
    settings = "".join(f"{name} = {value}\n" for name, value in LONG.items())
    (tmp_path / "suite.toml").write_text(
        'benchmarks = [{ name = "digits-rotations", tasks = 3, samples_per_task = 600 }]\nseeds = 2\n'
        f"[methods.meralg1]\n{settings}"
    )
    suite = subprocess.Popen(  # as a terminal does: in a process group of its own
        [sys.executable, "-m", "metareplay", "suite", str(tmp_path / "suite.toml"), "--out", str(out), "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: len(list(out.glob("*/configuration.json"))) == 2 or suite.poll() is not None)
    assert suite.poll() is None, suite.communicate()
    workers = children(suite.pid)
    assert len(workers) == 2
    if whom == "all by Ctrl-C":
        os.killpg(suite.pid, signal.SIGINT)
    else:
        suite.kill()
    wait_until(lambda: gone(suite.pid) and all(map(gone, workers)))
    stdout, stderr = suite.communicate()
    assert "Traceback" not in stderr
    assert {Run(folder).status().state for folder in out.iterdir()} <= {"stopped", "done", "broken"}
    if whom == "all by Ctrl-C":
        assert suite.returncode == 130
        assert stdout == ""
        assert re.search(rf"stopped: \d of 2 runs are done, in {out}; to go on: metareplay suite .*suite.toml", stderr)
        assert_done(driver.execute([long(seed) for seed in range(2)], out, jobs=2), out)


@pytest.mark.slow
def test_two_suites_at_once_on_one_folder_do_each_run_once(out, tmp_path):
    (tmp_path / "tracker.py").write_text(
        f"""
import os
def follow(experiment, event):
    if getattr(event, "visit", -1) == -1:  # the first evaluation, or the record
        with open({str(tmp_path / "log")!r}, "a") as log:
            log.write(experiment.key + " " + type(event).__name__ + "\\n")
"""
    )
    requests = [tiny(method, seed) for seed in range(2) for method in ("online", "ewc")] + [long(0)]
    code = """
import json, sys
from pathlib import Path
from metareplay.runs.request import Request
from metareplay.suites.driver import execute
requests = [Request(**request) for request in json.loads(sys.argv[1])]
outcomes = execute(requests, Path(sys.argv[2]), jobs=1, tracker=sys.argv[3])
print([outcome.state for outcome in outcomes if outcome.state != "done"])
"""
    plain = json.dumps([dataclasses.asdict(request) for request in requests])
    command = [sys.executable, "-c", code, plain, str(out), f"{tmp_path / 'tracker.py'}:follow"]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in drivers:
        stdout, stderr = process.communicate()
        assert (process.returncode, stdout.strip()) == (0, "[]"), stderr
    log = (tmp_path / "log").read_text().split("\n")[:-1]
    keys = [request.experiment().key for request in requests]
    assert sorted(log) == sorted(f"{key} {event}" for key in keys for event in ("Evaluation", "Record"))
    for key in keys:
        assert Run(out / key).status().state == "done"
