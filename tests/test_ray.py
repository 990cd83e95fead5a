"""A suite on a Ray cluster of several nodes leaves what it leaves on one machine, whatever dies meanwhile."""

import contextlib
import dataclasses
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from commands import PATIENT

# A token of the tests' own: else Ray would write one into the user's home. Ray reads the mode while it is imported.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")

import ray
from ray.cluster_utils import Cluster

from metareplay import BadInput, Record, Trainer
from metareplay.runs.folder import Run
from metareplay.runs.request import Request
from metareplay.suites import driver
from metareplay.suites import ray as on_ray
from metareplay.suites.ray import CheckpointActor, Payload, execute
from metareplay.suites.ray import Cluster as Backend

# Ray's own, about sockets and processes that it leaves to the end of this one.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MEMORIES = {"memories": 200}
SOON_OVER = {"tasks": 2, "samples_per_task": 30}


@pytest.fixture(scope="module")
def cluster():
    """A head without processors, as a laptop might be, and two machines that work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def assert_same_but_for_times(ours, theirs):
    for field in dataclasses.fields(Record):
        if field.name in ("environment", "started", "weights") or field.name.endswith("_seconds"):
            continue
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        assert a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b, field.name


def test_what_is_done_is_not_run_again_and_what_fails_says_why(cluster, tmp_path, monkeypatch):
    good = Request("digits-rotations", "online", {}, SOON_OVER)
    bad = Request("digits-rotations", "online", {"lr": 1e6}, SOON_OVER)
    busy = Request("digits-rotations", "online", {}, SOON_OVER, {"seed": 5})
    first = execute([good, bad], tmp_path, address=cluster.address)
    assert [outcome.state for outcome in first] == ["done", "failed"]
    assert "lower --lr" in first[1].message
    assert "\n" not in first[1].message
    assert Run(tmp_path / str(first[1].key)).status().state == "failed"
    record = (tmp_path / str(first[0].key) / "record.json").read_bytes()

    experiment = busy.experiment()
    lock = Run(tmp_path / experiment.key).lock()
    lock.__enter__()
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(driver, "SECONDS_IN_SILENCE", -1.0)
    notes = []

    def over(note):
        notes.append(note)
        if "waiting for 1 runs" in note:
            lock.__exit__(None, None, None)

    second = execute([good, busy], tmp_path, address=cluster.address, note=over)
    assert any("waiting for 1 runs" in note for note in notes)
    assert [outcome.state for outcome in second] == ["done", "done"], "what another process has in hand is waited for"
    assert (tmp_path / str(first[0].key) / "record.json").read_bytes() == record


def test_neither_a_full_disk_nor_the_end_of_its_keeper_ends_a_run_and_errors_have_their_line(
    cluster, tmp_path, monkeypatch
):
    own = tmp_path / "wrong.py"
    own.write_text("from metareplay import Method\nclass Wrong(Method):\n    def observe(self, rows):\n        1 / 0\n")

    class FullDisk(CheckpointActor):
        def checkpoint(self, key, what, *given):
            if what == "write":
                raise OSError(28, "No space left on device")
            return super().checkpoint(key, what, *given)

    backends = []
    begin = Backend.__init__

    def noted(self, *args):
        begin(self, *args)
        backends.append(self)

    def end_actor(progress):
        if len(backends) == 1 and any(at and at.visit >= 2 for _, at in progress.running.values()):
            ray.kill(backends[0].actor, no_restart=False)
            backends.append(backends[0])

    monkeypatch.setattr(on_ray, "CheckpointActor", FullDisk)
    monkeypatch.setattr(Backend, "__init__", noted)
    long = Request("digits-rotations", "meralg1", MEMORIES, {}, {"epochs": 2})
    bad = Request("digits-rotations", f"{own}:Wrong", {}, SOON_OVER)
    notes = []
    good, wrong = execute([long, bad], tmp_path / "runs", address=cluster.address, report=end_actor, note=notes.append)
    assert len(backends) == 2
    assert (good.state, good.message) == ("done", "")
    assert notes
    assert all("No space left on device; the run goes on" in note for note in notes if "connecting" not in note)
    assert wrong.state == "failed"
    assert wrong.message.startswith("ZeroDivisionError: division by zero (")
    assert wrong.message.endswith("wrong.py, line 4)")


def test_a_cluster_that_loses_a_node_leaves_every_run_once_and_as_on_one_machine(cluster, tmp_path):
    own = tmp_path / "mine" / "patient.py"
    own.parent.mkdir()
    own.write_text(PATIENT)
    long = [Request("digits-rotations", "meralg1", MEMORIES, {}, {"seed": seed, "epochs": 2}) for seed in range(2)]
    requests = [*long, Request("digits-rotations", f"{own}:Patient", {}, SOON_OVER)]
    nodes = {node.node_id[:6]: node for node in cluster.list_all_nodes()}
    lost = []

    def lose_a_node(progress):
        for worker, (request, at) in progress.running.items():
            if not lost and at is not None and at.visit >= 3 and request in long:
                lost.append(worker)
                name = worker.split(",")[0].removeprefix("node ")
                threading.Thread(target=cluster.remove_node, args=(nodes[name],)).start()

    out = tmp_path / "runs"
    outcomes = execute(requests, out, address=cluster.address, report=lose_a_node)
    assert lost, f"the test did not kill what it meant to: {outcomes}"
    assert [(outcome.state, outcome.message) for outcome in outcomes] == [("done", "")] * len(requests)
    assert [outcome.request for outcome in outcomes] == requests
    assert len({outcome.key for outcome in outcomes}) == len(requests) == len(list(out.iterdir()))
    for request, outcome in zip(requests, outcomes, strict=True):
        here = request.experiment()
        assert outcome.key == here.key
        assert_same_but_for_times(Record.load(out / here.key), Trainer(here).train())
        assert not (out / here.key / "checkpoint.npz").exists()


def test_where_there_is_no_cluster_that_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(BadInput, match="ray start --head"):
        execute([], tmp_path, address="127.0.0.1:1")
    with pytest.raises(BadInput, match="on a machine of the cluster"):
        execute([], tmp_path, address="ray://somewhere:10001")


@pytest.mark.parametrize("line", ["# a file of Windows\r\n", "# -*- coding: latin-1 -*- \xfc\n"])
def test_a_users_file_comes_to_another_machine_byte_by_byte(tmp_path, line):
    own = tmp_path / "patient.py"
    own.write_bytes((line + PATIENT).encode("latin-1"))
    request = Request("digits-rotations", f"{own}:Patient", {}, SOON_OVER)
    experiment = request.experiment()
    there = tmp_path / "there"
    there.mkdir()
    arrived, _ = Payload.pack(request, experiment, None).unpack(experiment.stream, there)
    assert arrived.key == experiment.key


@pytest.mark.parametrize("moment", ["Ray starts", "runs are under way"])
def test_ctrl_c_ends_a_suite_and_what_ray_started_with_a_token_of_its_own(tmp_path, moment):
    (tmp_path / "suite.toml").write_text('seeds = 9\nbenchmarks = ["digits-rotations"]\nmethods = ["meralg1"]\n')
    command = [sys.executable, "-m", "metareplay", "suite", "suite.toml", "--executor", "ray", "--jobs", "2"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    own["HOME"] = str(tmp_path)
    suite = subprocess.Popen(command, cwd=tmp_path, env=own, stderr=subprocess.PIPE, text=True, start_new_session=True)
    rays = []

    def has_come():
        rays[:] = descendants(suite.pid)
        return bool(rays if moment == "Ray starts" else list((tmp_path / "runs").glob("*/record.json")))

    while not has_come():
        assert suite.poll() is None, suite.communicate()
        time.sleep(0.05)
    if moment != "Ray starts":
        found = [Path(f"/proc/{one}/environ").read_bytes() for one in rays if alive(one)]
        assert any(re.search(rb"\0RAY_AUTH_TOKEN=[0-9a-f]{64}\0", b"\0" + one) for one in found)
        assert not (tmp_path / ".ray" / "auth_token").exists(), "it is nowhere on the disk, where all could read it"
    os.killpg(suite.pid, signal.SIGINT)
    assert suite.wait() == 130
    told = suite.stderr.read()
    assert "of 9 runs are done, in runs; to go on: metareplay suite suite.toml --executor ray --jobs 2" in told
    assert "Traceback" not in told
    while any(map(alive, rays)):  # the test's own limit says if what Ray started goes on
        time.sleep(0.1)


def descendants(process):
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in [child, *descendants(child)]]


def alive(process):
    """Whether a process goes on; two agents of Ray's, which look for the others for a minute, do not count."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_text()  # of the dead that nobody waits for, nothing
    except OSError:
        return False
    return bool(command) and "Agent" not in command


PAGE = (Path(__file__).parents[1] / "docs" / "clusters.md").read_text(encoding="utf-8")
_, FIRST, SECOND, SUITE, SLURM = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
STUBS = {
    "srun": """while [ "${1#-}" != "$1" ]; do case $1 in -w|-x) machine=$1; shift 2;; *) shift;; esac; done
[ "$machine" = -x ] && HOME=$HOME/other
exec "$@"
""",
    "scontrol": 'echo "$HEAD"\n',
    "sleep": "until [ -e started ]; do command -p sleep 0.2; done\n",
}


@pytest.fixture
def shell(tmp_path):
    """Start shells in homes of their own, where ``ray start`` leaves nothing behind; all end with the test."""
    address, port = socket.gethostbyname(socket.gethostname()), free_port()
    started = []
    (tmp_path / "my-study.toml").write_text(
        'benchmarks = [{ name = "digits-rotations", tasks = 2, samples_per_task = 50 }]\nmethods = ["online"]\n'
    )
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment["PATH"] = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"HEAD": address, "SCRATCH": str(tmp_path)}

    ours = {"10.0.0.1": address, "6379": str(port), "=32": "=1", "mer-paper": "my-study.toml"}

    def start(home, script, token=""):
        names = ours | {"=TOKEN": f"={token}"}
        # In one pass: what has come in, a port or a token that begins with 32, stays as it is.
        script = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], script)
        script = re.sub(r"^(ray start .*)$", r"\1 --num-cpus=1 --block", script, flags=re.MULTILINE)
        (tmp_path / home).mkdir(exist_ok=True)
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment | {"HOME": str(tmp_path / home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        for child in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def free_port():
    """A port of those that nobody is given who asks for any, as Ray does for dozens of its own meanwhile."""
    for port in random.sample(range(20_000, 32_768), 100):
        with socket.socket() as bound, contextlib.suppress(OSError):
            bound.bind(("", port))
            return port
    raise AssertionError("a hundred ports are taken")


def test_the_page_s_two_machines_that_share_no_home_are_a_cluster(shell):
    first = shell("first", FIRST)
    token = next(found[0] for line in first.stdout if (found := re.search(r"\b[0-9a-f]{64}\b", line)))
    has_started(first)
    shell("second", SECOND, token)
    scripts = {"first": SUITE, "second": f"export RAY_AUTH_TOKEN=TOKEN\n{SUITE}"}
    suites = [shell(home, f"{script.rstrip()} --out runs-{home}", token) for home, script in scripts.items()]
    locked_out = shell("third", SUITE)
    for suite in suites:
        out, _ = suite.communicate()
        assert "5 of 5 runs are done" in out, out
    out, _ = locked_out.communicate()
    assert locked_out.returncode == 2
    assert "does not let this process in" in out
    assert "RAY_AUTH_TOKEN to its token, which `ray get-auth-token` prints" in out
    assert "Traceback" not in out


def has_started(shell):
    """Read until Ray runs there."""
    lines = []
    for line in shell.stdout:
        lines.append(line)
        if "Ray runtime started" in line:
            return
    raise AssertionError("".join(lines))


def test_the_page_s_script_for_slurm_runs_its_suite(shell, tmp_path):
    job = shell("slurm", SLURM)
    has_started(job)
    (tmp_path / "started").touch()
    for line in job.stdout:
        if "runs are done" in line:
            break
    assert "5 of 5 runs are done" in line
