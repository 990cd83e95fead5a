"""A checkpoint comes back bit for bit, or is refused; and keeping one never costs the run."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from killed_runs import Trap, room
from metareplay import BadInput
from metareplay.runs import checkpoint as checkpoints
from metareplay.runs.checkpoint import FileCheckpoints, Unusable, pack, peek, unpack


def same(one, other):
    """Whether two values are the same, bit for bit, and of the same types."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex()
    return type(one) is type(other) and bool(one == other)


ARRAYS = of_numpy.arrays(
    of_numpy.scalar_dtypes() | of_numpy.unicode_string_dtypes() | of_numpy.array_dtypes(),
    of_numpy.array_shapes(min_dims=0, min_side=0, max_side=4),
)
KEYS = st.text(max_size=4) | st.sampled_from(
    ["$array", "$$array", "$", "a/b", "state", "tree", "array0", "../up", "a\0"]
)
NUMBERS = st.integers(-(2**200), 2**200) | st.floats() | st.booleans() | st.none() | st.text(max_size=5)
VALUES = st.recursive(
    NUMBERS | ARRAYS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS, values, max_size=3),
    max_leaves=8,
)
STATES = st.dictionaries(KEYS, VALUES, max_size=4)


@given(STATES)
def test_a_state_comes_back_bit_for_bit(state):
    assert same(unpack(pack(state)), state)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": {"b": object()}}, "state/a/b is <object"),
        ({"a": [1, b"bytes"]}, "state/a/1 is b'bytes'"),
        ({"a": {3: 4}}, "state/a has the key 3.*must be text"),
        ({"a": np.array([None])}, "state/a is an array of objects"),
        ({"a": np.zeros(2, [("x", object)])}, "state/a is an array of objects"),
        ({"a": 1j}, "state/a is 1j"),
    ],
)
def test_what_would_need_pickling_is_refused_with_its_place(state, words):
    with pytest.raises(BadInput, match=words):
        pack(state)


def test_a_glance_reads_everything_but_the_arrays(tmp_path):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(pack({"seen": 3, "learner": {"parameters": np.zeros(10)}}))
    glance = peek(path)
    assert glance["seen"] == 3
    assert peek(tmp_path / "nowhere") is None
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Unusable):
        peek(path)
    with pytest.raises(Unusable, match=rf"the checkpoint {path} is damaged"):
        FileCheckpoints(path).load()


def archive(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def text(tree):
    return npy(np.frombuffer(tree.encode(), np.uint8))


def test_nothing_in_a_checkpoint_is_unpickled(tmp_path):
    trap = Trap(tmp_path / "trap")
    objects = npy(np.array([trap], object))
    for content in (
        pickle.dumps(trap),
        archive(tree=objects),
        archive(tree=text('{"a": {"$array": 0}}'), array0=objects),
        archive(tree=text('{"a": {"$array": 0}}'), array0=pickle.dumps(trap)),
    ):
        with pytest.raises(Unusable):
            unpack(content)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "tree", ["", "[]", "3", '{"a": {"$array": 7}}', '{"a": {"$array": "../x"}}', '{"a": [', "[" * 9999]
)
def test_an_archive_of_something_else_is_refused(tree):
    with pytest.raises(Unusable):
        unpack(archive(tree=text(tree)))


def test_the_newest_state_is_the_one_that_is_kept(tmp_path):
    kept = FileCheckpoints(tmp_path / "checkpoint.npz")
    assert kept.load() is None
    for seen in (1, 2, 3):
        kept.save({"seen": seen})
    assert kept.load() == {"seen": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]
    kept.clear()
    kept.clear()
    assert kept.load() is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_set_aside_is_never_overwritten(tmp_path):
    kept = FileCheckpoints(tmp_path / "checkpoint.npz")
    for seen in range(3):
        kept.save({"seen": seen})
        kept.set_aside()
    kept.set_aside()
    aside = ["checkpoint.npz.damaged", "checkpoint.npz.damaged1", "checkpoint.npz.damaged2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == aside
    assert [FileCheckpoints(tmp_path / name).load() for name in aside] == [{"seen": seen} for seen in range(3)]


def test_a_small_file_takes_no_more_memory_than_it_has_bytes():
    one = npy(np.zeros(1000))
    many = archive(tree=text(json.dumps({"a": [{"$array": 0}] * 100})), array0=one)
    with pytest.raises(Unusable, match="its arrays are larger than"):
        unpack(many)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("tree.npy", text('{"a": {"$array": 0}}'))
        packed.writestr("array0.npy", npy(np.zeros(10**6)))
    with pytest.raises(Unusable, match="its arrays are larger than"):
        unpack(file.getvalue())
    claim = one.replace(b"(1000,), }  ", b"(10000000,),}")
    with pytest.raises(Unusable, match="larger than its file"):
        unpack(archive(tree=text('{"a": {"$array": 0}}'), array0=claim))


class Clock:
    """Stands still until it is told to go on."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpoints.time, "monotonic", clock)
    return clock


def test_it_is_due_after_some_seconds_and_sooner_where_a_task_ends(tmp_path, clock):
    kept = FileCheckpoints(tmp_path / "checkpoint.npz")
    due = {}
    for clock.now in (100.0, 100.5, 101.5, 110.0, 115.5):
        due[clock.now] = [kept.due(border=False), kept.due(border=True)]
    no, soon, yes = [False, False], [False, True], [True, True]
    assert due == {100.0: no, 100.5: no, 101.5: soon, 110.0: soon, 115.5: yes}
    kept.save({})
    assert not kept.due(border=True)


def test_saving_takes_a_fiftieth_of_the_time_at_most(tmp_path, clock, monkeypatch):
    def slowly(path, content, follow=True):
        clock.now += 4

    monkeypatch.setattr(checkpoints, "write_atomically", slowly)
    kept = FileCheckpoints(tmp_path / "checkpoint.npz")
    clock.now += 16
    kept.save({})
    clock.now += 199
    assert not kept.due(border=True)
    clock.now += 2
    assert kept.due(border=False)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path):
    path, notes = tmp_path / "checkpoint.npz", list[str]()
    kept = FileCheckpoints(path, note=notes.append)
    kept.save({"seen": 1})
    with room(2000):
        for _ in range(3):
            kept.save({"seen": 2, "array": np.zeros(1000)})
    assert kept.load() == {"seen": 1}
    assert notes == [f"cannot keep a checkpoint in {path}: File too large; the run goes on, and tries again later"]
    kept.save({"seen": 3})
    assert kept.load() == {"seen": 3}
    with room(2000):
        kept.save({"seen": 4, "array": np.zeros(1000)})
    assert len(notes) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]
