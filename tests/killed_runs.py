"""Runs that are killed and go on, for ``test_resume.py``: a program, since a process with threads forks badly.

    python killed_runs.py FOLDER SCENARIO...    killed before each file operation in turn

It prints as JSON what happened, and fails where a record is not what it should be.
"""

import builtins
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from metareplay import METHODS, BaseImages, Experiment, Images, Record, Stream, Task, Trainer
from metareplay.runs.checkpoint import DAMAGED, FileCheckpoints, pack
from metareplay.runs.folder import CHECKPOINT, FAILURE, LOCK, Run

SETTINGS: dict[str, dict[str, Any]] = {
    "ewc": {"memory_strength": 10.0, "n_memories": 5},
    "gem": {"memories": 12, "memory_strength": 0.5},
    "eralg4": {"memories": 10, "replay_batch_size": 4},
    "eralg5": {"memories": 10, "replay_batch_size": 4},
    "meralg1": {"memories": 10, "replay_batch_size": 3, "batches_per_example": 2, "beta": 0.3, "gamma": 0.7},
    "meralg6": {"memories": 10, "replay_batch_size": 3, "batches_per_example": 2, "gamma": 0.3},
    "meralg7": {"memories": 10, "replay_batch_size": 4, "gamma": 0.5, "s": 3.0},
}


def little_stream(train: int = 25, tasks: int = 3) -> Stream:
    rng = np.random.default_rng(0)
    base = BaseImages(rng.integers(0, 255, (train + 15, 16), dtype=np.uint8))
    labels = rng.integers(3, size=train + 15)
    made = []
    for number in range(tasks):
        order = np.random.default_rng(number).permutation(16).astype(np.int32)
        learned = Images(base, labels[:train], order, np.arange(train))
        made.append(Task(f"{number}", learned, Images(base, labels[train:], order, np.arange(train, train + 15))))
    return Stream("little", tuple(made), 3, {"tasks": tasks}, "ab" * 32)


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """No file can be longer than this: to a writer as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.write_text, (self.file, "sprung")


def little(name: str, stream: Stream | None = None, **options: Any) -> Experiment:
    rate = {"lr": 0.1} if hasattr(METHODS[name], "lr") else {}
    method = METHODS[name](**rate, **SETTINGS.get(name, {}))
    return Experiment(stream=stream or little_stream(), method=method, **({"seed": 3, "hidden": (9, 6)} | options))


def same(one: Record, other: Record) -> bool:
    for field in dataclasses.fields(Record):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "started" or field.name.endswith("_seconds"):
            continue
        if field.name == "weights":  # which a record that was read back does not have
            a, b = (pack(one.weights), pack(other.weights)) if one.weights and other.weights else (None, None)
        if field.name == "environment":
            a, b = a | {"host": ""}, b | {"host": ""}
        if isinstance(a, np.ndarray):
            if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
                return False
        elif a != b:
            return False
    return True


def forked(action: Callable[[], Any]) -> int:
    process = os.fork()
    if process == 0:
        try:
            action()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return process


class EveryFew(FileCheckpoints):
    """A checkpoint after every sixth batch."""

    asked = 0

    def due(self, border: bool) -> bool:
        self.asked += 1
        return self.asked % 6 == 0


def die_before(operation: int) -> None:
    """Be killed before the so manyth operation on files from now on; a write counts twice, before it and half-way."""
    left = operation

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            tick()
            return function(*args, **options)

        return counted

    for name in ("replace", "rename", "fsync", "unlink", "remove", "mkdir", "rmdir", "open", "fchmod", "close"):
        setattr(os, name, ticking(getattr(os, name)))
    fcntl.flock = ticking(fcntl.flock)
    really_open = builtins.open

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        stream = really_open(file, mode, *args, **options)
        if "w" not in mode:
            return stream
        tick()
        write = stream.write

        class Torn:
            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                stream.close()

            def write(self, content: Any) -> int:
                tick()
                write(content[: len(content) // 2])
                stream.flush()
                tick()
                return int(write(content[len(content) // 2 :]))

        return Torn()

    builtins.open = opened


def operations(folder: Path, scenario: str) -> dict[str, Any]:
    experiment = little("meralg1", little_stream(6, 2), samples_per_task=6)
    expected = Trainer(experiment).train()
    predicted = ~expected.predicted_right
    old = dataclasses.replace(expected, predicted_right=predicted)
    run = Run(folder / experiment.key)
    again = scenario == "again"
    states: Counter[str] = Counter()
    for operation in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        prepare(scenario, run, old)

        def life(operation: int = operation) -> None:
            die_before(operation)
            run.carry_out(experiment, again=again, checkpoints=EveryFew(run.folder / CHECKPOINT))

        _, status = os.waitpid(forked(life), 0)
        killed = os.WIFSIGNALED(status)
        assert killed or os.WEXITSTATUS(status) == 0, f"it failed at operation {operation}"
        found = run.status()
        states[found.state] += 1
        record = run.record()
        assert (found.state == "done") == (record is not None)
        if scenario == "again":
            assert record is not None
            assert same(record, old) or same(record, expected), f"another record after operation {operation}"
            assert killed or same(record, expected)
        elif record is not None:
            assert same(record, expected), f"another record after operation {operation}"
        if found.state == "broken":
            begun = (run.folder / "configuration.json").exists()
            assert not begun or scenario == "damaged", f"broken after operation {operation}: {found.message}"
        finished = run.carry_out(experiment, checkpoints=EveryFew(run.folder / CHECKPOINT))
        assert same(finished, expected) or (again and killed and same(finished, old))
        assert run.status().state == "done"
        names = sorted(path.name for path in run.folder.iterdir() if not path.name.endswith(DAMAGED))
        assert len(names) == 5, f"{names} after operation {operation}"
        assert names[:2] == [LOCK, "configuration.json"]
        if not killed:
            break
    return {"operations": operation - 1, "states": states}


def prepare(scenario: str, run: Run, old: Record) -> None:
    if scenario != "fresh":
        run.folder.mkdir(parents=True)
    if scenario == "again":
        with run.locked(little("meralg1", little_stream(6, 2), samples_per_task=6)):
            old.save(run.folder)
    if scenario == "damaged":
        old.save(run.folder)
        (run.folder / "record.json").write_bytes((run.folder / "record.json").read_bytes()[:-9])
        (run.folder / CHECKPOINT).write_bytes(b"not at all")
        (run.folder / FAILURE).write_text('{"message": "the disk was full"}')
        (run.folder / ".writing-checkpoint.npz-abc").write_text("half of")


class Often(FileCheckpoints):
    """A checkpoint every millisecond."""

    def due(self, border: bool) -> bool:
        return time.monotonic() - self.last > 0.001


if __name__ == "__main__":
    os.fsync = lambda descriptor: None  # which is for power cuts, and takes long on some disks
    where, *which = sys.argv[1:]
    print(json.dumps({one: operations(Path(where) / one, one) for one in which}))
