"""A record is on disk as it was made, or not at all."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from metareplay import METHODS, BadInput, BaseImages, Experiment, Images, Record, RunFailed, Stream, Task, records


def little_stream() -> Stream:
    rng = np.random.default_rng(0)
    base = BaseImages(rng.integers(0, 255, (40, 16), dtype=np.uint8))
    labels = rng.integers(3, size=40)
    tasks = []
    for number in range(3):
        order = np.random.default_rng(number).permutation(16).astype(np.int32)
        train, test = np.arange(25), np.arange(25, 40)
        tasks.append(
            Task(f"order {number}", Images(base, labels[:25], order, train), Images(base, labels[25:], order, test))
        )
    return Stream("little", tuple(tasks), 3, {"tasks": 3, "min_angle": 0.1}, "ab" * 32)


@pytest.fixture(scope="module")
def record() -> Record:
    """A record with everything in it: shuffled and returning tasks, evaluations on the way."""
    method = METHODS["meralg1"](lr=0.1, beta=0.3, memories=10, replay_batch_size=3)  # type: ignore[call-arg]
    order = (2, 0, 1, 0)
    return Experiment(stream=little_stream(), method=method, seed=3, hidden=(5,), eval_every=7, task_order=order).run()


@pytest.fixture
def saved(record: Record, tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "abc"
    record.save(folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same(one: Record, other: Record) -> None:
    for field in dataclasses.fields(Record):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert a.tobytes() == b.tobytes()
        else:
            assert a == b
            assert type(a) is type(b)


def test_a_record_comes_back_bit_for_bit(record: Record, saved: Path) -> None:
    again = Record.load(saved)
    assert_same(record, again)
    assert again.metrics == record.metrics
    assert json.dumps(again.summary()) == json.dumps(record.summary())


def test_a_record_is_one_folder_of_two_files_and_nothing_else(saved: Path) -> None:
    assert names(saved) == ["record.json", "record.npz"]
    assert names(saved.parent) == ["abc"]
    assert saved.stat().st_mode & 0o777 == 0o755


def test_the_json_says_what_was_asked_of_it(saved: Path) -> None:
    def no_such_number(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    summary = json.loads((saved / "record.json").read_text(), parse_constant=no_such_number)
    asked = (
        "retained_accuracy learning_accuracy backward_transfer forward_transfer accuracy baseline online_accuracy "
        "steps train_seconds eval_seconds benchmark method seed hyperparameters"
    )
    assert set(asked.split()) <= set(summary)
    assert summary["benchmark"] == "little"
    assert summary["method"] == "meralg1"
    assert summary["seed"] == 3
    assert summary["hyperparameters"]["beta"] == 0.3
    assert np.shape(summary["accuracy"]) == (4, 4)
    assert all(0 <= accuracy <= 1 for row in summary["accuracy"] for accuracy in row)
    assert {"metareplay", "numpy", "numba", "python", "processor"} <= set(summary["environment"])


def test_saving_again_replaces_the_record_whole(record: Record, saved: Path) -> None:
    other = dataclasses.replace(record, steps=record.steps + 1)
    other.save(saved)
    assert Record.load(saved).steps == record.steps + 1
    assert names(saved.parent) == ["abc"]


def test_a_folder_with_other_things_in_it_is_never_replaced(record: Record, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(RunFailed, match=r"thesis\.tex"):
        record.save(precious.parent)
    assert precious.read_text() == "years of work"
    assert names(tmp_path) == ["home"]


def test_a_record_that_cannot_be_written_says_where(record: Record, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(RunFailed, match=r"cannot save the record in .*results/abc"):
        record.save(tmp_path / "results" / "abc")
    assert names(tmp_path) == ["results"]


def test_an_interrupted_save_leaves_nothing(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records.json, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record.save(tmp_path / "abc")
    assert names(tmp_path) == []


def test_an_interrupted_save_leaves_the_record_that_was_there(
    record: Record, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(records.json, "dump", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dataclasses.replace(record, steps=0).save(saved)
    assert_same(Record.load(saved), record)
    assert names(saved.parent) == ["abc"]


@pytest.mark.parametrize("room", [0, 100, 1500])
def test_a_full_disk_fails_the_run_and_leaves_nothing(saved: Path, tmp_path: Path, room: int) -> None:
    assert 100 < (saved / "record.npz").stat().st_size < 1500 + (saved / "record.json").stat().st_size
    code = f"""
import resource, sys
from pathlib import Path
from metareplay import Record, RunFailed
record = Record.load(Path({str(saved)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
try:
    record.save(Path({str(tmp_path / "full" / "abc")!r}))
except RunFailed as error:
    sys.exit(str(error))
"""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "cannot save the record" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path / "full") == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != room


# Damage


def test_where_there_is_no_record_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BadInput, match="no record of a run in"):
            Record.load(folder)


@pytest.mark.parametrize("file", ["record.json", "record.npz"])
def test_a_record_cut_short_anywhere_is_refused(saved: Path, file: str) -> None:
    whole = (saved / file).read_bytes()
    for length in [0, 1, 2, 30, *range(0, len(whole) - 1, max(1, len(whole) // 25)), len(whole) - 1]:
        (saved / file).write_bytes(whole[:length])
        with pytest.raises(BadInput, match="is damaged"):
            Record.load(saved)


def test_a_record_with_any_byte_of_its_arrays_changed_is_refused_or_the_same(record: Record, saved: Path) -> None:
    file = saved / "record.npz"
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(whole), size=60):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(broken)
        try:
            again = Record.load(saved)
        except BadInput:
            refused += 1
        else:  # times and flags of the archive, which mean nothing here
            assert_same(record, again)
    assert refused > 20


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", "hello", '{"configuration": 1}', "\xff\xfe\xfd"])
def test_json_of_something_else_is_refused(saved: Path, text: str) -> None:
    (saved / "record.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match="is damaged"):
        Record.load(saved)


def one_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(3))
    return file.getvalue()


def other_archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("thesis.tex", "years of work")
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [one_array(), other_archive(), pickle.dumps([1, 2, 3]), b"hello"],
    ids=["one array", "other archive", "pickle", "words"],
)
def test_arrays_of_something_else_are_refused(saved: Path, content: bytes) -> None:
    (saved / "record.npz").write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        Record.load(saved)


def rewrite(saved: Path, **changed: NDArray[Any]) -> None:
    with np.load(saved / "record.npz") as arrays:
        content = dict(arrays) | changed
    np.savez(saved / "record.npz", **content)


@pytest.mark.parametrize(
    "changed",
    [
        {"correct": np.zeros((2, 3), np.int64)},
        {"correct": np.zeros(5, np.int64)},
        {"visits": np.array([0, 1, 7, 0])},
        {"visits": np.array(["a", "b"])},
        {"test_sizes": np.array([15, 15])},
        {"evaluated_visit": np.zeros(3, np.int64)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(saved: Path, changed: dict[str, NDArray[Any]]) -> None:
    rewrite(saved, **changed)
    with pytest.raises(BadInput, match="is damaged"):
        Record.load(saved)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.write_text, (self.file, "sprung")


def test_nothing_in_a_record_is_unpickled(saved: Path, tmp_path: Path) -> None:
    rewrite(saved, visits=np.array([Trap(tmp_path / "trap")], object))
    with pytest.raises(BadInput, match="is damaged"):
        Record.load(saved)
    assert not (tmp_path / "trap").exists()
