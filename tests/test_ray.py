"""A suite on a Ray cluster of several nodes leaves what it leaves on one machine, whatever dies meanwhile."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")

import ray
from ray.cluster_utils import Cluster

from metareplay import BadInput, Record
from metareplay.requests import Request
from metareplay.runs import Run
from metareplay.suites.outcome import SuiteProgress
from metareplay.suites.ray import execute

# Ray's own, about sockets and processes that it leaves to the end of this one.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PATIENT = '''\
import metareplay

class Patient(metareplay.Method):
    """Several SGD steps on each batch as it comes."""

    lr: float = metareplay.setting(0.01, "(0, inf)", help="the learning rate of every SGD step")

    def observe(self, rows):
        for _ in range(3):
            self.learner.sgd(rows, self.lr)
'''

MEMORIES = {"memories": 200}
SOON_OVER = {"tasks": 2, "samples_per_task": 30}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without processors, as a laptop might be, and two machines that work."""
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def assert_same_but_for_times(ours: Record, theirs: Record) -> None:
    for field in dataclasses.fields(Record):
        if field.name in ("environment", "started") or field.name.endswith("_seconds"):
            continue
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        assert a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b, field.name


def test_a_cluster_that_loses_a_node_leaves_every_run_once_and_as_on_one_machine(
    cluster: Cluster, tmp_path: Path
) -> None:
    own = tmp_path / "mine" / "patient.py"
    own.parent.mkdir()
    own.write_text(PATIENT)
    long = [Request("digits-rotations", "meralg1", MEMORIES, {}, {"seed": seed, "epochs": 2}) for seed in range(4)]
    requests = [*long, Request("digits-rotations", f"{own}:Patient", {}, SOON_OVER)]
    nodes = {node.node_id[:6]: node for node in cluster.list_all_nodes()}
    lost: list[str] = []

    def lose_a_node(progress: SuiteProgress) -> None:
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
        assert_same_but_for_times(Record.load(out / here.key), here.run())
        assert not (out / here.key / "checkpoint.npz").exists()


def test_what_is_done_is_not_run_again_and_what_fails_says_why(cluster: Cluster, tmp_path: Path) -> None:
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
    threading.Timer(4, lambda: lock.__exit__(None, None, None)).start()
    second = execute([good, busy], tmp_path, address=cluster.address)
    assert [outcome.state for outcome in second] == ["done", "done"], "what another process has in hand is waited for"
    assert (tmp_path / str(first[0].key) / "record.json").read_bytes() == record


def test_where_there_is_no_cluster_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(BadInput, match="ray start --head"):
        execute([], tmp_path, address="127.0.0.1:1")
    with pytest.raises(BadInput, match="on a machine of the cluster"):
        execute([], tmp_path, address="ray://somewhere:10001")


def test_without_an_address_a_cluster_is_started_on_this_machine(tmp_path: Path) -> None:
    request: Any = Request("digits-rotations", "online", {}, SOON_OVER)
    (outcome,) = execute([request], tmp_path, jobs=1)
    assert outcome.state == "done"
    assert not ray.is_initialized()
