"""Task lists in .pt files: what is written is what PyTorch reads, and what is read can do no harm."""

import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from killed_runs import Trap
from metareplay import files
from metareplay.cli import main
from metareplay.data import catalogue as sources
from metareplay.errors import BadInput, RunFailed
from metareplay.streams import task_list as gem_format
from metareplay.streams.kinds import angles, permutations, rotations, splits

torch = pytest.importorskip("torch")


def task(description=0.5, n=4, inputs=3, **changes):
    x = torch.arange(n * inputs, dtype=torch.float32).reshape(n, inputs)
    y = torch.arange(n) % 2
    return [description, changes.get("x", x), changes.get("y", y)]


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def legacy(path, content):
    return saved(path, content, _use_new_zipfile_serialization=False)


def examples(images):
    return images.inputs(np.arange(len(images))), images.labels


def assert_same_tasks(one, other):
    assert [task.description for task in one.tasks] == [task.description for task in other.tasks]
    assert one.classes == other.classes
    assert one.scenarios == other.scenarios
    for ours, theirs in zip(one.tasks, other.tasks, strict=True):
        for side in ("train", "test"):
            for array, expected in zip(examples(getattr(ours, side)), examples(getattr(theirs, side)), strict=True):
                assert array.dtype == expected.dtype
                assert np.array_equal(array, expected)


def streams():
    digits = sources.get("digits")
    return {
        "rotations": rotations(digits, tasks=3, min_angle=-20, max_angle=40, stream_seed=7),
        "permutations": permutations(digits, tasks=2),
        "split": splits(digits, tasks=4),
    }


@pytest.mark.parametrize(
    ("kind", "descriptions"),
    [
        ("rotations", angles(3, -20, 40, 7)),
        ("permutations", ["random permutation"] * 2),
        ("split", [(0, 3), (3, 6), (6, 8), (8, 10)]),
    ],
)
def test_what_is_written_is_read_back_by_us_and_by_pytorch(kind, descriptions, tmp_path):
    stream, path = streams()[kind], tmp_path / "tasks.pt"
    gem_format.write(stream, path)
    back = gem_format.read(path)
    assert_same_tasks(back, stream)
    assert back.name == "tasks.pt"
    assert list(tmp_path.iterdir()) == [path]
    for mapped in (True, False):
        lists = torch.load(path, weights_only=True, mmap=mapped)
        for side, tasks in zip(("train", "test"), lists, strict=True):
            assert [description for description, _, _ in tasks] == descriptions
            for (_, x, y), made in zip(tasks, stream.tasks, strict=True):
                expected_x, expected_y = examples(getattr(made, side))
                assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
                assert np.array_equal(x.numpy(), expected_x)
                assert np.array_equal(y.numpy(), expected_y)
                assert x.data_ptr() % 64 == y.data_ptr() % 64 == 0


def test_the_same_stream_gives_the_same_bytes_in_a_sound_zip_archive_of_the_promised_size(tmp_path):
    contents = []
    for seed in (0, 0, 1):
        gem_format.write(permutations(sources.get("digits"), tasks=2, stream_seed=seed), tmp_path / "tasks.pt")
        contents.append((tmp_path / "tasks.pt").read_bytes())
        sha256 = hashlib.sha256(contents[-1]).hexdigest()
        assert gem_format.read(tmp_path / "tasks.pt").data_sha256 == sha256
    assert contents[0] == contents[1] != contents[2]
    stream = permutations(sources.get("digits"), tasks=10)
    gem_format.write(stream, tmp_path / "tasks.pt")
    with zipfile.ZipFile(tmp_path / "tasks.pt") as archive:
        assert archive.testzip() is None
    assert (tmp_path / "tasks.pt").stat().st_size == pytest.approx(gem_format.size(stream), rel=0.01)


def test_tasks_that_share_tensors_share_them_after_a_round_trip(tmp_path):
    x, y = torch.rand(5, 3), torch.arange(5)
    path = saved(tmp_path / "tasks.pt", [[[0, x, y], [1, x, y]], [[0, x, y], [1, torch.rand(5, 3), y]]])
    for name in ("tasks.pt", "again.pt"):
        stream = gem_format.read(path)
        bases = [id(images.base) for made in stream.tasks for images in (made.train, made.test)]
        assert len(set(bases)) == 2
        path = tmp_path / "again.pt"
        gem_format.write(stream, path)
        assert name


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_task_list_is_read_as_it_is(tasks, inputs, classes, old, seed):
    rng = np.random.default_rng(seed)

    def part():
        y = np.append(np.arange(classes), rng.integers(0, classes, rng.integers(1, 6)))  # labels without a gap
        x = rng.standard_normal((len(y), inputs)).astype(np.float32)
        return [float(rng.random()), torch.from_numpy(x), torch.from_numpy(y)]

    lists = [[part() for _ in range(tasks)] for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        path = (legacy if old else saved)(Path(folder, "tasks.pt"), lists)
        stream = gem_format.read(path)
    assert stream.inputs == inputs
    assert stream.classes == classes
    for n, made in enumerate(stream.tasks):
        for images, (_, x, y) in ((made.train, lists[0][n]), (made.test, lists[1][n])):
            assert np.array_equal(images.inputs(np.arange(len(images))), x.numpy())
            assert np.array_equal(images.labels, y.numpy())


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (12.345, "12.35°"),
        (90, "90.00°"),
        ("random permutation", "random permutation"),
        ("red \x1b[31m\n", r"red \x1b[31m\n"),
        ((0, 2), "classes 0 to 1"),
        ([0, 2], "classes 0 to 1"),
    ],
)
def test_descriptions_are_angles_words_or_class_bounds(description, words, tmp_path):
    path = saved(tmp_path / "tasks.pt", [[task(description)], [task(description)]])
    assert gem_format.read(path).tasks[0].description == words


def test_a_changed_file_is_read_anew(tmp_path):
    for n in (4, 5):
        path = saved(tmp_path / "tasks.pt", [[task(n=n)], [task(n=n)]])
        assert len(gem_format.read(path).tasks[0].train) == n


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_inputs_stay_in_the_file_until_they_are_needed(tmp_path):
    def own_megabytes():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon"))

    part = [["large", torch.zeros(40_000, 784), torch.zeros(40_000, dtype=torch.int64)]]
    path = saved(tmp_path / "tasks.pt", [part, [task(inputs=784)]])
    del part
    before = own_megabytes()
    stream = gem_format.read(path, progress=False)
    assert own_megabytes() - before < 40, "the file has 125 MB"
    assert len(stream.tasks[0].train) == 40_000


def plain_pickle(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


@pytest.mark.parametrize("save", [saved, legacy, plain_pickle])
def test_a_file_that_would_run_code_is_refused(save, tmp_path):
    marker = tmp_path / "marker"
    path = save(tmp_path / "tasks.pt", [[task(Trap(marker))], [task()]])
    with pytest.raises(BadInput, match=r"loading it would call \S+, and a file may not run code here") as raised:
        gem_format.read(path)
    assert "\n" not in str(raised.value)
    assert not marker.exists()
    assert torch.load(path, weights_only=False) if save is not plain_pickle else pickle.loads(path.read_bytes())
    assert marker.exists(), "it would have"


def nan():
    x = torch.zeros(4, 3)
    x[2, 1] = float("nan")
    return x


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, r"must be a list of two lists, \[train, test\]"),
        ([[task()]], r"must be a list of two lists"),
        ([[task()], task()[1]], r"must be a list of two lists"),
        ([[], []], "0 tasks for training and 0 for testing"),
        ([[task(), task()], [task()]], "2 tasks for training and 1 for testing"),
        ([[task()[:2]], [task()]], r"the training part of task 0 must be \[description, x, y\]"),
        ([[task()], [3]], r"the test part of task 0 must be \[description, x, y\]"),
        ([[task(x=[1.0])], [task()]], "x_train of task 0 is of type list, but must be a tensor"),
        ([[task(y=torch.zeros(4))], [task()]], "y_train of task 0 of tasks.pt is of float32, but labels must be whole"),
        ([[task(), task()], [task(), task(inputs=4)]], "x_test of task 1 of tasks.pt has 4 inputs, but x_train of tas"),
        ([[task(x=nan())], [task()]], "x_train of task 0 of tasks.pt has nan in example"),
        ([[task(x=torch.zeros(1, 1).expand(10**9, 10**6))], [task()]], "its tensors stand for over 67.* MB, much more"),
        ([[task(x=torch.zeros(4, 3).to_sparse())], [task()]], "x_train of task 0 is not a dense tensor"),
        ([[task(x=torch.zeros(4, 3, device="meta"))], [task()]], "x_train of task 0 is not a dense tensor"),
        ([[task(None)], [task()]], "the description of task 0 is of type NoneType"),
        ([[task(float("nan"))], [task()]], "the description of task 0 is of type float"),
        ([[task(np.float64(3))], [task()]], r"loading it would call numpy\S*scalar"),
        (torch.nn.Linear(2, 2), "loading it would call torch.nn.modules.linear.Linear"),
    ],
)
def test_what_is_no_task_list_is_told_in_one_line(content, told, tmp_path):
    path = saved(tmp_path / "tasks.pt", content)
    with pytest.raises(BadInput, match=told) as raised:
        gem_format.read(path)
    assert str(raised.value).startswith(f"{path} cannot be used as a task list: ")
    assert "\n" not in str(raised.value)


X = torch.arange(24.0).reshape(4, 6) / 32
DENSE = {
    "transposed": X.T.contiguous().T,
    "permuted columns": torch.from_numpy(X.numpy()[:, [3, 1, 0, 2, 5, 4]])[:, [2, 1, 3, 0, 5, 4]],
    "Fortran's order": torch.from_numpy(np.asfortranarray(X.numpy())),
    "narrowed": torch.nn.functional.pad(X, (2, 3)).narrow(1, 2, 6),
    "every second": X.repeat_interleave(2, 0)[::2],
    "half": X.half(),
    "bfloat16": X.bfloat16(),
    "float64": X.double(),
    "with a gradient": X.clone().requires_grad_(),
    "an image": X.reshape(4, 2, 3),
}


@pytest.mark.parametrize("how", DENSE)
@pytest.mark.parametrize("save", [saved, legacy])
def test_every_dense_tensor_that_pytorch_can_write_is_read(how, save, tmp_path):
    y = torch.tensor([0, 1, 0, 1], dtype=torch.int32)
    path = save(tmp_path / "tasks.pt", [[[0.5, DENSE[how], y]], [[0.5, X[:1].expand(4, 6), y[:1].expand(4)]]])
    task = gem_format.read(path).tasks[0]
    np.testing.assert_array_equal(examples(task.train)[0], X.numpy())
    np.testing.assert_array_equal(examples(task.test)[0], X.numpy()[:1].repeat(4, 0))
    assert task.train.labels.tolist() == [0, 1, 0, 1]


def test_views_of_one_storage_are_read_each_as_what_it_is(tmp_path):
    x, y = torch.arange(60.0).reshape(10, 6), torch.arange(10) % 3
    path = saved(tmp_path / "tasks.pt", [[["a", x[:5], y[:5]], ["b", x[5:], y[5:]]], [["a", x[::2], y[::2]]] * 2])
    a, b = gem_format.read(path).tasks
    for images, rows in ((a.train, slice(5)), (b.train, slice(5, 10)), (a.test, slice(0, 10, 2))):
        np.testing.assert_array_equal(examples(images)[0], x.numpy()[rows])
        assert images.labels.tolist() == y[rows].tolist()
    assert a.test.base is b.test.base


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"hello, world", b"<html>404</html>", b"PK\x03\x04", b"\x80\x04}\x94.", bytes(1000)]
)
def test_a_foreign_file_is_told_in_one_line(content, tmp_path):
    (tmp_path / "tasks.pt").write_bytes(content)
    with pytest.raises(BadInput, match=r"damaged, or was not written by torch\.save"):
        gem_format.read(tmp_path / "tasks.pt")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    plain_path = saved(tmp_path / "plain.pt", [[task()], [task()]])
    packing = zipfile.ZipFile(tmp_path / "tasks.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(plain_path) as plain, packing as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(BadInput, match="it is compressed"):
        gem_format.read(tmp_path / "tasks.pt")


def test_a_file_that_is_not_there_or_a_folder_or_a_pipe(tmp_path):
    with pytest.raises(BadInput, match=f"there is no file {tmp_path / 'none.pt'}"):
        gem_format.read(tmp_path / "none.pt")
    os.mkfifo(tmp_path / "pipe.pt")  # is not waited for
    for path in (tmp_path, tmp_path / "pipe.pt"):
        with pytest.raises(BadInput, match="cannot be read: it is a pipe, a device or a folder, not a regular file"):
            gem_format.read(path)


def test_an_old_file_larger_than_the_free_memory_fails_before_it_is_loaded(tmp_path, monkeypatch):
    path = legacy(tmp_path / "tasks.pt", [[task()], [task()]])
    monkeypatch.setattr(Path, "read_text", lambda self: "MemTotal: 9 kB\nMemAvailable: 0 kB\n")
    with pytest.raises(RunFailed, match=r"old format.*only 0 bytes are free"):
        gem_format.read(path)


def test_without_pytorch_the_error_has_the_command_that_installs_it(tmp_path, monkeypatch):
    path = saved(tmp_path / "tasks.pt", [[task()], [task()]])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadInput, match=r"pip install '\.\[torch\]'"):
        gem_format.read(path)
    with pytest.raises(BadInput, match=r"pip install '\.\[torch\]'"):
        gem_format.write(streams()["split"], tmp_path / "new.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.pt"]


def test_writing_takes_little_memory_however_long_the_stream(tmp_path):
    stream = permutations(sources.get("digits"), tasks=100)
    tracemalloc.start()
    try:
        gem_format.write(stream, tmp_path / "tasks.pt", progress=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "tasks.pt").stat().st_size > 40_000_000
    assert peak < 4_000_000


def test_too_little_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(RunFailed, match=r"tasks\.pt: 1\.4 MB are needed, but only 1\.0 kB are free in "):
        gem_format.write(streams()["rotations"], tmp_path / "tasks.pt")
    assert list(tmp_path.iterdir()) == []


def full(descriptor):
    raise OSError(28, "No space left on device")


def stop(images):
    yield b""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "name", "failure", "error"),
    [(os, "fsync", full, RunFailed), (gem_format, "_inputs", stop, KeyboardInterrupt)],
)
def test_a_write_that_fails_leaves_what_was_there(module, name, failure, error, tmp_path, monkeypatch):
    (tmp_path / "tasks.pt").write_bytes(b"what was there")
    monkeypatch.setattr(module, name, failure)
    with pytest.raises(error):
        gem_format.write(streams()["rotations"], tmp_path / "tasks.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.pt"]
    assert (tmp_path / "tasks.pt").read_bytes() == b"what was there"


def test_what_is_no_file_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    for name in ("pipe.pt", "folder.pt"):
        with pytest.raises(BadInput, match=f"{name} cannot be written: it is a folder, a device or the like"):
            gem_format.write(streams()["split"], tmp_path / name)
    with pytest.raises(BadInput, match=f"there is no folder {tmp_path / 'none'}"):
        gem_format.write(streams()["split"], tmp_path / "none" / "tasks.pt")
    assert (tmp_path / "pipe.pt").is_fifo()
    assert (tmp_path / "folder.pt").is_dir()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_writer_left_goes_away_and_a_living_ones_stays(tmp_path):
    path = tmp_path / "tasks.pt"
    with files.placed(path, 10) as (first, living):
        dead = living.with_name(f"{living.name[:-4]}dead")
        dead.write_bytes(b"gigabytes")
        first.write(b"first")
        with files.placed(path, 10) as (second, _):
            second.write(b"second")
            assert {file.name for file in tmp_path.iterdir()} >= {living.name}
            assert not dead.exists()
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


torch = pytest.importorskip("torch")


pytestmark = pytest.mark.usefixtures("here")


def make(arguments):
    return main(["data", "make", *arguments.split()])


def test_the_flags_of_the_original_generator_decide_the_stream(capsys):
    assert make("rotations -o mine.pt --data digits --tasks 3 --min-rot -30 --max-rot 60 --seed 5") == 0
    shown = capsys.readouterr()
    assert shown.out == "mine.pt: 3 tasks, 64 inputs, 10 classes, 1.4 MB\n"
    assert shown.err == ""
    expected = rotations(sources.get("digits"), tasks=3, min_angle=-30, max_angle=60, stream_seed=5)
    read = gem_format.read("mine.pt")
    assert [task.description for task in read.tasks] == [task.description for task in expected.tasks]
    for task, other in zip(read.tasks, expected.tasks, strict=True):
        which = np.arange(len(task.train))
        assert np.array_equal(task.train.inputs(which), other.train.inputs(which))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "input-permuted, or label-permuted? `metareplay data make --help` explains"),
        ("rotation -o a.pt", "there is no kind 'rotation'; did you mean rotations?"),
        ("rotations", "required: -o/--output"),
        ("rotations -o none/a.pt --data digits", "--output is none/a.pt, but there is no folder none"),
        ("rotations -o a.pt --data digit", "there is no data set 'digit'; did you mean digits? there are digits,"),
        ("rotations -o a.pt --data digits --min-rot 9 --max-rot 3", "--min-rot is 9.0 and --max-rot 3.0, but the le"),
        ("permutations -o a.pt --max-rot 9", "--max-rot does not apply here: it belongs to rotations;"),
        ("split -o a.pt --seed 1", "--seed does not apply here: it belongs to rotations, permutations, online-permute"),
        ("split -o a.pt --data digits --tasks 11", "--tasks is 11, but digits has 10 classes"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_no_file(arguments, told, refused, tmp_path):
    assert told in refused("data", "make", *arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_what_is_large_is_written_only_where_that_is_said(monkeypatch, capsys):
    monkeypatch.setattr("metareplay.cli.data.ASK", 1000)
    words = ["data", "make", "split", "-o", "split.pt", "--data", "digits"]
    assert main(words) == 2
    assert "split.pt would take " in (told := capsys.readouterr().err)
    assert "say --yes to write it" in told
    assert not list(Path().glob("*.pt"))
    assert main([*words, "--yes"]) == 0
    assert Path("split.pt").stat().st_size > 1000
