"""A record is on disk as it was made, or not at all."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from killed_runs import Trap, little, room
from metareplay import BadInput, Record, RunFailed, Trainer, files
from metareplay.results.groups import Finished
from metareplay.runs.record import read_summary


@pytest.fixture(scope="module")
def record():
    made = Trainer(little("meralg1", hidden=(5,), eval_every=7, task_order=(2, 0, 1, 0))).train()
    return dataclasses.replace(made, weights=None)


@pytest.fixture
def saved(record, tmp_path):
    folder = tmp_path / "results" / "abc"
    record.save(folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def arrays(folder):
    (path,) = folder.glob("record-*.npz")
    return path


def assert_same(one, other):
    for field in dataclasses.fields(Record):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert a.tobytes() == b.tobytes()
        else:
            assert a == b
            assert type(a) is type(b)


def test_a_record_comes_back_bit_for_bit_and_its_summary_without_unpacking_the_arrays(record, saved):
    again = Record.load(saved)
    assert_same(record, again)
    assert again.metrics == record.metrics
    assert json.dumps(again.summary()) == json.dumps(record.summary())
    summary = read_summary(saved)
    del summary["arrays"]
    assert json.dumps(summary) == json.dumps(record.summary())


def test_a_record_is_two_files_of_which_the_json_names_the_other_and_leaves_others_alone(saved, record):
    content = arrays(saved).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert json.loads((saved / "record.json").read_text())["arrays"] == {"file": arrays(saved).name, "sha256": sha256}
    assert arrays(saved).name == f"record-{sha256[:8]}.npz"
    assert names(saved) == [arrays(saved).name, "record.json"]
    assert names(saved.parent) == ["abc"]
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o644}
    (saved / "thesis.tex").write_text("years of work")
    record.save(saved)
    assert (saved / "thesis.tex").read_text() == "years of work"
    assert len(names(saved)) == 3


def test_a_record_of_before_anything_was_counted_says_that(record):
    older = Finished({**record.summary(), "gradients": None, "forward_passes": None}, lambda: record)
    assert str(older.numbers["gradients"]) == "undefined, because the run was made before it was counted"


def test_saving_again_replaces_the_record_whole(record, saved):
    before = arrays(saved)
    other = dataclasses.replace(record, steps=record.steps + 1, predicted_right=~record.predicted_right)
    other.save(saved)
    assert_same(Record.load(saved), other)
    assert not before.exists()
    assert len(names(saved)) == 2
    record.save(saved)
    record.save(saved)
    assert_same(Record.load(saved), record)
    assert len(names(saved)) == 2


def interrupted_at(patch, call):
    """Have Ctrl-C come while the so manyth file is given its name."""
    replace, calls = os.replace, iter(range(call + 1))

    def interrupted(source, target):
        if next(calls) == call:
            raise KeyboardInterrupt
        replace(source, target)

    patch.setattr(files.os, "replace", interrupted)


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("change", [{"steps": 0}, {"predicted_right": np.zeros(3, bool)}], ids=["json", "arrays"])
def test_an_interrupted_save_leaves_what_was_there(record, saved, monkeypatch, call, change):
    for folder in (saved, saved.parent / "empty"):
        with monkeypatch.context() as patch:
            interrupted_at(patch, call)
            with pytest.raises(KeyboardInterrupt):
                dataclasses.replace(record, **change).save(folder)
    assert_same(Record.load(saved), record)
    assert len(names(saved)) == 2
    assert names(saved.parent / "empty") == []


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_full_disk_fails_the_run_and_leaves_nothing(record, saved, tmp_path, size):
    assert 100 < arrays(saved).stat().st_size < 2000 < (saved / "record.json").stat().st_size
    with room(size), pytest.raises(RunFailed, match=r"cannot save the record in .*: File too large"):
        record.save(tmp_path / "full" / "abc")
    assert names(tmp_path / "full" / "abc") == []


def assert_refused(saved):
    for read in (Record.load, read_summary):
        with pytest.raises(BadInput, match="is damaged"):
            read(saved)


def test_a_record_that_is_not_there_is_of_something_else_or_has_other_arrays_is_refused(record, saved, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BadInput, match="no record of a run in"):
            Record.load(folder)
    (saved.parent / "thesis.tex").write_text("years of work")
    there = (saved / "record.json").read_bytes()
    for file in ("../thesis.tex", "/etc/passwd", "", "..", 3, None):
        sign(saved, arrays={"file": file, "sha256": hashlib.sha256(b"years of work").hexdigest()})
        assert_refused(saved)
        (saved / "record.json").write_bytes(there)
    dataclasses.replace(record, predicted_right=~record.predicted_right).save(tmp_path / "other")
    arrays(saved).write_bytes(arrays(tmp_path / "other").read_bytes())
    assert_refused(saved)
    arrays(saved).unlink()
    assert_refused(saved)
    for text in ("", "[]", "3", "null", "{}", "hello", '{"configuration": 1}', "\xff\xfe\xfd"):
        (saved / "record.json").write_text(text, encoding="latin-1")
        assert_refused(saved)


def sign(saved, **changed):
    """Change the JSON as somebody could who knows how its sum is made."""
    summary = json.loads((saved / "record.json").read_text()) | changed | {"sha256": "0" * 64}
    unsigned = json.dumps(summary, indent=1) + "\n"
    sha256 = hashlib.sha256(unsigned.encode()).hexdigest()
    (saved / "record.json").write_text(unsigned.replace("0" * 64, sha256, 1))


def replace_arrays(saved, content):
    arrays(saved).write_bytes(content)
    sign(saved, arrays={"file": arrays(saved).name, "sha256": hashlib.sha256(content).hexdigest()})


def test_the_sum_of_the_json_can_be_made_by_others_and_arrays_of_something_else_are_refused(record, saved):
    sign(saved, steps=5)
    assert Record.load(saved).steps == 5
    one_array, other_archive = io.BytesIO(), io.BytesIO()
    np.save(one_array, np.arange(3))
    with zipfile.ZipFile(other_archive, "w") as archive:
        archive.writestr("thesis.tex", "years of work")
    for content in (one_array.getvalue(), other_archive.getvalue(), pickle.dumps([1, 2, 3]), b"hello"):
        replace_arrays(saved, content)
        with pytest.raises(BadInput, match="is damaged"):
            Record.load(saved)


def rewrite(saved, **changed):
    with np.load(arrays(saved)) as there:
        content = dict(there) | changed
    file = io.BytesIO()
    np.savez(file, **content)
    replace_arrays(saved, file.getvalue())


def test_arrays_that_do_not_belong_together_are_refused_and_none_is_unpickled(saved, tmp_path):
    for changed in (
        {"correct": np.zeros((2, 3), np.int64)},
        {"correct": np.zeros(5, np.int64)},
        {"visits": np.array([0, 1, 7, 0])},
        {"visits": np.array(["a", "b"])},
        {"test_sizes": np.array([15, 15])},
        {"evaluated_visit": np.zeros(3, np.int64)},
        {"visits": np.array([Trap(tmp_path / "trap")], object)},
    ):
        whole = arrays(saved).read_bytes()
        rewrite(saved, **changed)
        with pytest.raises(BadInput, match="is damaged"):
            Record.load(saved)
        replace_arrays(saved, whole)
    assert not (tmp_path / "trap").exists()
