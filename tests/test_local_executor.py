"""Many runs on one machine: each is done once, whoever dies, and all the machine is used."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from killed_runs import same
from metareplay import Record, RunFailed
from metareplay.data import download as fetch
from metareplay.data.download import DataFile
from metareplay.files import write_atomically
from metareplay.runs.folder import Run
from metareplay.runs.request import Request
from metareplay.suites import local
from metareplay.suites.outcome import Outcome, SuiteProgress
from metareplay.suites.queue import Queue

TINY = {"tasks": 2, "samples_per_task": 60}


def tiny(method: str = "online", seed: int = 0, **settings: Any) -> Request:
    return Request("digits-rotations", method, settings, TINY, {"seed": seed})


def long(seed: int) -> Request:
    """A run of a second or two."""
    settings = {"batches_per_example": 10, "replay_batch_size": 20, "memories": 200}
    return Request("digits-rotations", "meralg1", settings, {"tasks": 3, "samples_per_task": 900}, {"seed": seed})


def assert_done(outcomes: Sequence[Outcome], out: Path) -> None:
    """All are done, each with the record that it should have, and nothing else is left."""
    for outcome in outcomes:
        assert (outcome.state, outcome.message) == ("done", "")
        assert outcome.key is not None
        assert Run(out / outcome.key).status().state == "done"
        assert len(list((out / outcome.key).iterdir())) == 4
        assert same(Record.load(out / outcome.key), outcome.request.experiment().run())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A file of methods that are not as they should be."""
    file = tmp_path / "mine.py"
    file.write_text(
        """
import os, sys, threading
from metareplay import Method, setting

class Divides(Method):
    def observe(self, rows):
        return 1 / (len(rows) - 1)

class Exits(Method):
    def observe(self, rows):
        sys.exit("enough")

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

class Killed(Method):
    def observe(self, rows):
        os.kill(os.getpid(), 9)  # as the system does where memory is short

class OneThread(Method):
    def observe(self, rows):
        wanted = [os.environ[name + "_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
        assert wanted == ["1"] * 4, wanted
        assert os.path.dirname(__file__) not in sys.path[:1]
"""
    )
    return str(file)


# What is done


def test_each_run_is_done_once_and_no_worker_is_started_for_what_is_there(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [tiny(seed=seed) for seed in (2, 0, 1)] + [tiny("ewc"), tiny(seed=0)]
    told: list[SuiteProgress] = []
    outcomes = local.execute(requests, out, jobs=2, report=told.append)
    assert [outcome.request for outcome in outcomes] == requests
    assert_done(outcomes, out)
    assert len(list(out.iterdir())) == 4
    assert {progress.all for progress in told} == {5}
    assert told[-1].done == 5
    assert set().union(*(progress.running for progress in told)) == {"worker 1", "worker 2"}

    def none(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(local.Worker, "__post_init__", none)
    notes: list[str] = []
    again = local.execute(requests, out, jobs=2, note=notes.append)
    assert [outcome.state for outcome in again] == ["done"] * 5
    assert notes == []


def test_an_error_fails_its_run_alone_and_is_told_in_one_line(
    out: Path, mine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    requests = [
        tiny(f"{mine}:Divides"),
        tiny(f"{mine}:Exits"),
        tiny("online", lr=1e30),
        tiny(),
        Request("digits-rotation", "online"),
        tiny("online", memories=5),
        tiny(f"{mine}:OneThread"),
        tiny(f"{mine}:Prints"),
    ]
    outcomes = local.execute(requests, out, jobs=1)
    told = {outcome.request.method: outcome.message for outcome in outcomes}
    assert [outcome.state for outcome in outcomes] == ["failed"] * 3 + ["done"] + ["failed"] * 2 + ["done"] * 2
    assert f"ZeroDivisionError: division by zero ({mine}, line 7)" in told[f"{mine}:Divides"]
    assert f"SystemExit: enough ({mine}, line 11)" in told[f"{mine}:Exits"]
    assert "the loss is not finite at example" in outcomes[2].message
    assert "did you mean digits-rotations?" in outcomes[4].message
    assert outcomes[4].key is None
    assert "memories is no option of online" in outcomes[5].message
    for outcome in outcomes:
        assert "\n" not in outcome.message
        if outcome.key:
            assert Run(out / outcome.key).status().state == outcome.state
    written = capfd.readouterr()
    assert written.out == ""
    assert "here I am" in written.err
    assert "Traceback" not in written.err


def test_the_runs_of_one_seed_come_before_the_next_and_the_longest_first(out: Path) -> None:
    queue = Queue([tiny(seed=1), tiny(seed=0), tiny("meralg1", seed=1), tiny("meralg1", seed=0)], out, print)
    queue.prepare()
    order = [(job.requests[0].method, job.requests[0].run["seed"]) for job in queue.waiting]
    assert order == [("meralg1", 0), ("online", 0), ("meralg1", 1), ("online", 1)]


def test_a_folder_that_cannot_be_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed, match=r"file/runs cannot keep runs: Not a directory; name another folder"):
        local.execute([tiny()], tmp_path / "file" / "runs")


def test_a_tracker_is_called_in_the_workers(out: Path, tmp_path: Path) -> None:
    (tmp_path / "tracker.py").write_text(
        f"""
def follow(experiment, event):
    with open({str(tmp_path / "log")!r}, "a") as log:
        print(type(event).__name__, file=log)
"""
    )
    (outcome,) = local.execute([tiny()], out, tracker=f"{tmp_path / 'tracker.py'}:follow")
    assert outcome.state == "done"
    assert (tmp_path / "log").read_text().split() == ["Evaluation"] * 3 + ["Record"]


def test_a_method_that_changes_while_the_suite_is_under_way_is_not_mixed_up(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    source = "from metareplay import Method\nclass Mine(Method):\n    def observe(self, rows):\n        pass\n"
    file.write_text(source)
    queue = Queue([tiny(f"{file}:Mine")], out, print)
    queue.prepare()
    file.write_text(source + "# better\n")
    queue.__dict__["prepare"] = lambda: None
    execution = local.Execution(queue, 1, lambda progress: None, None)
    try:
        execution.go()
    finally:
        execution.stop()
    (outcome,) = execution.in_order()
    assert outcome.state == "failed"
    assert "changed while the suite was under way" in outcome.message


# Deaths of workers


@pytest.mark.slow
def test_a_worker_that_always_dies_costs_its_run_and_no_other(out: Path, mine: str) -> None:
    requests = [tiny(f"{mine}:Killed"), *(tiny(seed=seed) for seed in range(6))]
    notes: list[str] = []
    outcomes = local.execute(requests, out, jobs=2, note=notes.append)
    assert outcomes[0].state == "failed"
    assert "its worker was ended by SIGKILL, 4 times: there may be too little memory" in outcomes[0].message
    assert len(notes) == 3
    assert all("it goes on from its checkpoint" in note for note in notes)
    assert_done(outcomes[1:], out)
    status = Run(out / str(outcomes[0].key)).status()
    assert status.state == "failed"
    assert status.message == outcomes[0].message


@pytest.mark.slow
def test_a_worker_that_leaves_a_process_behind_is_missed_all_the_same(out: Path, mine: str) -> None:
    begin = time.monotonic()
    outcomes = local.execute([tiny(f"{mine}:Leaves")], out, jobs=1, note=lambda text: None)
    assert time.monotonic() - begin < 60
    assert outcomes[0].state == "failed"
    assert "its worker ended with status 7, 4 times" in outcomes[0].message


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[local.Worker]:
    """The workers that were given a run, in turn."""
    taken: list[local.Worker] = []
    take = local.Worker.take

    def noted(self: local.Worker, *args: Any) -> None:
        take(self, *args)
        taken.append(self)

    monkeypatch.setattr(local.Worker, "take", noted)
    return taken


@pytest.mark.slow
def test_runs_whose_workers_are_killed_at_random_give_the_same_records(out: Path, workers: list[local.Worker]) -> None:
    requests = [long(seed) for seed in range(3)] + [tiny("gem", seed=seed) for seed in range(3)]
    over = threading.Event()
    killed: list[int] = []
    rng = random.Random(1)

    def kill() -> None:
        while not over.wait(rng.uniform(0.5, 2.0)):
            alive = [worker for worker in workers if worker.job and worker.job.deaths < 2 and worker.job.progress]
            alive = [worker for worker in alive if worker.process.poll() is None]
            if alive and len(killed) < 5:
                killed.append(rng.choice(alive).process.pid)
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    notes: list[str] = []
    try:
        outcomes = local.execute(requests, out, jobs=2, note=notes.append)
    finally:
        over.set()
        thread.join()
    assert killed
    assert sum("was ended by SIGKILL" in note for note in notes) <= len(killed)
    assert_done(outcomes, out)


def test_workers_that_die_between_two_runs_are_replaced(
    out: Path, workers: list[local.Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = Queue.over

    def over_and_dead(self: Queue, *args: Any) -> None:
        over(self, *args)
        workers[-1].process.kill()
        workers[-1].process.wait()

    monkeypatch.setattr(Queue, "over", over_and_dead)
    outcomes = local.execute([tiny(seed=0), tiny(seed=1)], out, jobs=1, note=lambda text: None)
    assert_done(outcomes, out)
    assert len({worker.process.pid for worker in workers}) == 2


# The end of the driver


SUITE = """
benchmarks = [{ name = "digits-rotations", tasks = 3, samples_per_task = 900 }]
seeds = 3

[methods.meralg1]
batches_per_example = 10
replay_batch_size = 20
memories = 200
"""


@pytest.fixture
def suite(tmp_path: Path, out: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``metareplay suite`` as a terminal does: in a process group of its own."""
    (tmp_path / "suite.toml").write_text(SUITE)

    def start() -> subprocess.Popen[str]:
        arguments = ["suite", str(tmp_path / "suite.toml"), "--out", str(out), "--jobs", "2"]
        return subprocess.Popen(
            [sys.executable, "-m", "metareplay", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def under_way(out: Path, runs: int) -> bool:
    return out.is_dir() and len(list(out.glob("*/configuration.json"))) >= runs


def gone(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def requests_of_suite() -> list[Request]:
    return [long(seed) for seed in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["all by Ctrl-C", "driver by Ctrl-C", "driver by SIGTERM", "driver by SIGKILL"])
def test_a_suite_that_is_stopped_ends_in_two_seconds_and_goes_on_to_the_same_records(
    suite: Callable[..., subprocess.Popen[str]], out: Path, whom: str
) -> None:
    driver = suite()
    wait_until(lambda: under_way(out, 2) or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    workers = children(driver.pid)
    assert len(workers) == 2
    begin = time.monotonic()
    if whom == "all by Ctrl-C":
        os.killpg(driver.pid, signal.SIGINT)
    else:
        number = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}
        driver.send_signal(number[whom.removeprefix("driver by ")])
    wait_until(lambda: gone(driver.pid) and all(map(gone, workers)), 10)
    took = time.monotonic() - begin
    stdout, stderr = driver.communicate()
    assert took < 2
    assert "Traceback" not in stderr
    states = [Run(folder).status().state for folder in out.iterdir()]
    assert set(states) <= {"stopped", "done", "broken"}
    if whom != "driver by SIGKILL":
        assert driver.returncode == 130
        assert stdout == ""
        assert re.search(rf"stopped: \d of 3 runs are done, in {out}; to go on: metareplay suite .*suite.toml", stderr)
    outcomes = local.execute(requests_of_suite(), out, jobs=2)
    assert_done(outcomes, out)


@pytest.mark.slow
def test_two_suites_at_once_on_one_folder_do_each_run_once(out: Path, tmp_path: Path) -> None:
    (tmp_path / "tracker.py").write_text(
        f"""
import os
def follow(experiment, event):
    if getattr(event, "visit", -1) == -1:  # the first evaluation, or the record
        with open({str(tmp_path / "log")!r}, "a") as log:
            log.write(experiment.key + " " + type(event).__name__ + "\\n")
"""
    )
    requests = [tiny(method, seed) for seed in range(6) for method in ("online", "ewc")] + [long(0)]
    code = """
import json, sys
from pathlib import Path
from metareplay.runs.request import Request
from metareplay.suites.local import execute
requests = [Request(**request) for request in json.loads(sys.argv[1])]
outcomes = execute(requests, Path(sys.argv[2]), jobs=1, tracker=sys.argv[3])
print([outcome.state for outcome in outcomes if outcome.state != "done"])
"""
    plain = json.dumps([local.asdict(request) for request in requests])
    command = [sys.executable, "-c", code, plain, str(out), f"{tmp_path / 'tracker.py'}:follow"]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for driver in drivers:
        stdout, stderr = driver.communicate()
        assert (driver.returncode, stdout.strip()) == (0, "[]"), stderr
    log = (tmp_path / "log").read_text().split("\n")[:-1]
    keys = [request.experiment().key for request in requests]
    assert sorted(log) == sorted(f"{key} {event}" for key in keys for event in ("Evaluation", "Record"))
    for key in keys:
        assert Run(out / key).status().state == "done"


# Memory


def private_and_shared(array: np.ndarray) -> tuple[int, int]:
    """Bytes of the array's pages that are this process's own, and that it could share."""
    address = array.ctypes.data
    inside, sizes = False, {"Private_Dirty": 0, "Shared_Clean": 0, "Private_Clean": 0, "Shared_Dirty": 0}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(part, 16) for part in mapping.groups())
            inside = begin <= address < end
        elif inside and (name := line.split(":")[0]) in sizes:
            sizes[name] += 1024 * int(line.split()[1])
    return sizes["Private_Dirty"], sizes["Shared_Clean"] + sizes["Private_Clean"]


@pytest.fixture
def big_file(tmp_path: Path) -> DataFile:
    content = np.random.default_rng(0).integers(0, 256, 8_000_000, dtype=np.uint8).tobytes()
    write_atomically(tmp_path / "images", content)  # to the disk: what waits to be written counts as changed
    return DataFile("images", len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells how memory is shared")
def test_processes_share_one_copy_of_the_base_data(big_file: DataFile, tmp_path: Path) -> None:
    content = fetch.mapped(tmp_path, big_file)
    assert int(content.sum()) > 0
    own, shared = private_and_shared(content)
    assert own == 0
    assert shared >= big_file.size
    with pytest.raises(ValueError, match="read-only"):
        content[0] = 1


def test_what_is_mapped_is_verified(big_file: DataFile, tmp_path: Path) -> None:
    with (tmp_path / "images").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"changed")
    with pytest.raises(fetch.Unusable, match="SHA-256"):
        fetch.mapped(tmp_path, big_file)
    (tmp_path / "images").write_bytes(b"")
    with pytest.raises(fetch.Unusable, match="truncated"):
        fetch.mapped(tmp_path, big_file)
    (tmp_path / "images").unlink()
    with pytest.raises(fetch.Absent):
        fetch.mapped(tmp_path, big_file)
