"""A user's own data: what lies there becomes a stream, and what cannot is one line that names the task or the file."""

import csv
import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metareplay import Stream, benchmark
from metareplay.cli import main
from metareplay.errors import BadInput
from metareplay.streams import own_files
from metareplay.streams import own_files as folder
from metareplay.streams.catalogue import BENCHMARKS, find
from metareplay.streams.stream import CLASS, DOMAIN, SCENARIOS, TASK


def task(seed=0, n=30, shape=(5,), classes=3):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, *shape)).astype(np.float32), np.arange(n) % classes
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]


def changed(part, value):
    second = list(task(1))
    second[part] = value(second[part])
    return [task(0), tuple(second)]


def test_arrays_become_a_stream():
    tasks = [task(0), dict(zip(("x_train", "y_train", "x_test", "y_test"), task(1), strict=True))]
    stream = Stream.from_arrays("mine", tasks, descriptions=["one", "other"])
    assert (stream.name, stream.inputs, stream.classes) == ("mine", 5, 3)
    assert [each.description for each in stream.tasks] == ["one", "other"]
    assert stream.settings == {"tasks": 2}
    assert [each.description for each in Stream.from_arrays("mine", tasks).tasks] == ["task 0", "task 1"]
    for seed, each in enumerate(stream.tasks):
        x_train, y_train, x_test, y_test = task(seed)
        np.testing.assert_array_equal(each.train.inputs(np.arange(15)), x_train)
        np.testing.assert_array_equal(each.test.inputs(np.arange(15)), x_test)
        np.testing.assert_array_equal(each.train.labels, y_train)
        np.testing.assert_array_equal(each.test.labels, y_test)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8, np.int64, np.uint32, bool])
def test_numbers_of_any_type_become_float32_as_they_are(kind):
    x = (np.arange(20).reshape(4, 5) % 100).astype(kind)
    y = [0, 1, 0, 1]
    images = Stream.from_arrays("mine", [(x, y, x.tolist(), y)]).tasks[0]
    for part in (images.train, images.test):
        inputs = part.inputs(np.arange(4))
        assert inputs.dtype == np.float32
        np.testing.assert_array_equal(inputs, x.astype(np.float32))


def test_bytes_are_grey_levels_shapes_are_kept_and_there_are_as_many_classes_as_labels_say():
    x = np.array([[0, 51, 255]], np.uint8)
    inputs = Stream.from_arrays("mine", [(x, [0], x, [0])]).tasks[0].train.inputs(np.array([0]))
    np.testing.assert_allclose(inputs, [[0, 0.2, 1]], rtol=1e-6)
    base = Stream.from_arrays("mine", [task(shape=(3, 4, 2))]).tasks[0].train.base
    assert (base.width, base.shape) == (24, (3, 4, 2))
    assert Stream.from_arrays("mine", [task(shape=(24,))]).tasks[0].train.base.shape is None
    assert Stream.from_arrays("mine", [task(shape=(24,))], shape=(4, 6)).tasks[0].test.base.shape == (4, 6)
    assert Stream.from_arrays("mine", [task(classes=3), task(classes=4)]).classes == 4
    assert Stream.from_arrays("mine", [task()], classes=10).classes == 10


@pytest.mark.parametrize(
    ("labels", "classes", "numbered"),
    [
        ([500000, 500003, 500001], 3, [0, 2, 1]),
        ([10, 20, 30], 3, [0, 1, 2]),
        ([0, 2, 3], 4, [0, 2, 3]),  # a class that happens not to occur keeps its number
        ([0, 3, 3], 4, [0, 3, 3]),  # half of the numbers from 0 to 3 occur
        ([0, 4, 4], 2, [0, 1, 1]),
        ([2**62, 1, 2**62], 2, [1, 0, 1]),
    ],
)
def test_labels_with_wide_gaps_are_numbered_in_ascending_order(labels, classes, numbered):
    x = np.eye(3)
    stream = Stream.from_arrays("mine", [(x, labels, x, labels[::-1])])
    assert stream.classes == classes
    assert stream.tasks[0].train.labels.tolist() == numbered
    assert stream.tasks[0].test.labels.tolist() == numbered[::-1]
    with pytest.raises(BadInput, match=r"labels from \d+ to \d+, but they must lie in 0 … 1"):
        Stream.from_arrays("mine", [(x, labels, x, labels)], classes=2)


def test_scenarios_follow_from_the_labels_of_training_and_testing_unless_told():
    x = np.ones((4, 2))

    def stream(*classes, **options):
        return Stream.from_arrays("mine", [(x, own, x, own) for own in classes], **options)

    assert stream([0, 1, 2, 0], [2, 1, 0, 0]).scenarios == (DOMAIN,)
    assert stream([0, 1, 0, 1], [2, 3, 2, 3]).scenarios == (CLASS, TASK)
    assert stream([0, 1, 0, 1], [1, 2, 1, 2]).scenarios == SCENARIOS
    assert stream([0, 1, 0, 1], [2, 3, 2, 3], scenarios=[TASK]).scenarios == (TASK,)
    assert [each.classes for each in stream([0, 1, 0, 1], [2, 3, 2, 3]).tasks] == [(0, 1), (2, 3)]
    with pytest.raises(BadInput, match="'by task'"):
        stream([0, 1, 0, 1], scenarios=["by task"])
    x = np.ones((1, 2))
    stream = Stream.from_arrays("mine", [(x, [0], x, [1]), (x, [2], x, [3])])
    assert [each.classes for each in stream.tasks] == [(0, 1), (2, 3)]


def test_float32_and_bytes_are_not_copied_and_what_is_shared_is_kept_once():
    for kind in (np.float32, np.uint8):
        x, x_test, y = np.ones((1000, 500), kind), np.ones((500, 500), kind), np.zeros(1000, np.int64)
        tracemalloc.start()
        stream = Stream.from_arrays("mine", [(x, y, x_test, y[:500]), (x, y, x_test, y[:500])])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000
        first, second = stream.tasks
        assert first.test.base is second.test.base
        assert first.train.base is second.train.base
        assert np.shares_memory(first.train.base.pixels, x)


def test_a_stream_s_hash_is_that_of_its_content():
    def sha256(*tasks, **options):
        return Stream.from_arrays("mine", tasks, **options).data_sha256

    x_train, y_train, x_test, y_test = task()
    one = sha256(task())
    assert len(one) == 64
    assert one == sha256(task())
    assert one == sha256(tuple(array.copy(order="F") for array in task()))
    assert sha256(task(), task()) == sha256(*[task()] * 2), "shared or not"
    others = [
        sha256(task(1)),
        sha256((x_train + 1e-6, y_train, x_test, y_test)),
        sha256((x_train, y_train[::-1], x_test, y_test)),
        sha256((x_train, y_train, x_test, y_test[::-1])),
        sha256((x_train[:-1], y_train[:-1], x_test, y_test)),
        sha256((x_test, y_test, x_train, y_train)),
        sha256(task(), task()),
        sha256(task(), shape=(5, 1)),
    ]
    assert len({one, *others}) == 9


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "mine has no tasks"),
        ([task()[:3]], r"task 0 of mine has 3 parts, but must have four: \(x_train, y_train, x_test, y_test\)"),
        ([task(), {"x": 1}], "task 1 of mine has x, but must have x_train, y_train, x_test, y_test"),
        (changed(0, lambda x: np.where(x == x[3, 2], np.nan, x)), "x_train of task 1 .* nan in example 3, input 2"),
        (changed(0, lambda x: x.astype(float) * 1e300), "x_train of task 1 of mine has -?inf in example 0, input 0"),
        (changed(0, lambda x: x[:, :4]), "x_train of task 1 of mine has 4 inputs, but x_train of task 0 of mine has 5"),
        (changed(0, lambda x: x[:0]), r"x_train of task 1 of mine has shape \(0, 5\), but must be .*, and not empty"),
        (changed(0, lambda x: x[:, 0]), r"x_train of task 1 of mine has shape \(15,\), but must be \(examples, inputs"),
        (changed(0, lambda x: x.astype(object)), "x_train of task 1 of mine is an array of object, but must be of num"),
        (changed(0, lambda x: [[1.0], [1.0, 2.0]]), "x_train of task 1 of mine is no array: its rows have different"),
        (changed(1, lambda y: y[:-1]), "task 1 of mine has 15 examples in x_train, but 14 labels in y_train"),
        (changed(1, lambda y: y.astype(float)), r"y_train of task 1 of mine is of float64, .* y.astype\(int\)"),
        (changed(1, lambda y: y > 0), "y_train of task 1 of mine is of bool, but labels must be whole numbers"),
        (changed(1, lambda y: y[:, None]), r"y_train of task 1 of mine has shape \(15, 1\), but must be \(examples,\)"),
        (changed(1, lambda y: y - 1), "task 1 of stream 'mine' has labels from -1 to 1, but they must lie in 0 … 2"),
        (changed(1, lambda y: y.astype(np.uint64) + 2**63), "y_train of task 1 of mine has the label 922337203685477"),
    ],
)
def test_arrays_that_cannot_be_used_are_bad_input(tasks, message):
    with pytest.raises(BadInput, match=message) as caught:
        Stream.from_arrays("mine", tasks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 2}, "task 0 of stream 'mine' has labels from 0 to 2, but they must lie in 0 … 1"),
        ({"shape": (2, 3)}, r"x_train of task 0 of mine has 5 inputs, but the shape \(2, 3\) has 6"),
        ({"descriptions": ["one"]}, "mine has 2 tasks, but 1 descriptions"),
    ],
)
def test_options_that_do_not_fit_the_arrays_are_bad_input(options, message):
    with pytest.raises(BadInput, match=message):
        Stream.from_arrays("mine", [task(0), task(1)], **options)


def save(where, arrays=None, **others):
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(where, **dict(zip(names, arrays or task(), strict=True)) | others)


def test_a_folder_s_files_are_its_tasks_in_the_order_of_their_names_and_read_anew_when_there_is_another(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for number in (10, 2, 1):
        save(mine / f"task{number}.npz", task(number), notes=np.arange(3))
    (mine / "README.txt").write_text("not a task")
    stream = folder.read(mine)
    assert stream.name == "mine"
    assert [each.description for each in stream.tasks] == ["task1", "task2", "task10"]
    for each, number in zip(stream.tasks, (1, 2, 10), strict=True):
        np.testing.assert_array_equal(each.train.inputs(np.arange(15)), task(number)[0])
    arrays = Stream.from_arrays("other", [task(number) for number in (1, 2, 10)])
    assert stream.data_sha256 == arrays.data_sha256
    save(tmp_path / "a.npz")
    first = folder.read(tmp_path)
    assert folder.read(tmp_path) is first
    save(tmp_path / "b.npz")
    assert len(folder.read(tmp_path).tasks) == 2


def written(change):
    def spoil(file):
        save(file)
        file.write_bytes(change(file.read_bytes()))

    return spoil


def zip_of(content):
    def spoil(file):
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("x_train", "y_train", "x_test", "y_test"):
                archive.writestr(f"{name}.npy", content)

    return spoil


def terabytes():
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 5)})
    return header.getvalue()


def single_array():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


OBJECTS = dict(zip(("x_train", "y_train", "x_test", "y_test"), (np.array([{}], object), *task()[1:]), strict=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: np.savez(file, x=1), "has no x_train and no y_train and no x_test and no y_test; it has x"),
        (lambda file: np.savez(file, x_train=1, y_train=1, x_test=1), "has no y_test; it has x_train, y_train, x_test"),
        (lambda file: file.write_bytes(b"some text"), "is damaged, or is no .npz file"),
        (lambda file: file.write_bytes(pickle.dumps({"x_train": 1})), "is damaged, or is no .npz file"),
        (lambda file: file.mkdir(), "cannot be read: it is a pipe, a device or a folder"),
        (lambda file: np.savez(file, **OBJECTS), "holds Python objects, which are not read"),
        (written(lambda content: content[:-200]), "is damaged, or is no .npz file"),
        (written(lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:]), "no .npz file.*Bad CRC-3"),
        (zip_of(b"text"), "holds Python objects|is damaged|x_train of task 1"),
        (lambda file: file.write_bytes(single_array()), "is damaged, or is no .npz file"),
        (zip_of(terabytes()), "has more data than there is memory for|is damaged"),
    ],
)
def test_a_file_that_is_no_task_is_named(spoil, message, tmp_path):
    save(tmp_path / "a.npz")
    spoil(tmp_path / "b.npz")
    with pytest.raises(BadInput, match=message) as caught:
        folder.read(tmp_path)
    assert str(caught.value).count(str(tmp_path / "b.npz")) == 1 or "task 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_and_task_lists_are_found_by_their_path(here):
    mine = here / "mine"
    mine.mkdir()
    save(mine / "a.npz")
    for text in ("mine", "mine/", "./mine", str(mine)):
        found = find(text)
        assert (found.name, found.description.split(":")[0]) == ("mine", "your own data")
        assert [option.flag for option in found.options] == ["--samples-per-task", "--held-out"]
        assert benchmark(text).samples_per_task == 0, "all"
    assert find(".").name == here.name
    assert benchmark("mine", samples_per_task=7).samples_per_task == 7
    assert pickle.loads(pickle.dumps(find("mine"))) == find("mine")
    with pytest.raises(BadInput, match="tasks is no option of mine"):
        benchmark("mine", tasks=2)


def test_a_task_list_by_its_path_has_the_scenarios_of_its_labels(here):
    torch = pytest.importorskip("torch")

    def part(first):
        labels = torch.arange(10) % 2 + first
        return [(first, first + 2), torch.randn(10, 5), labels]

    torch.save([[part(0), part(2)], [part(0), part(2)]], "mine.pt")
    stream = benchmark("mine.pt", samples_per_task=3)
    assert (stream.name, stream.samples_per_task) == ("mine.pt", 3)
    assert stream.scenarios == (CLASS, TASK)
    assert [each.classes for each in stream.tasks] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing.pt", "there is no nothing.pt; a user's own data are a folder, a .csv file or a .pt task list"),
        ("empty", "empty has no .npz files, no .csv files and no folders of images: see docs"),
        ("file.npz", "file.npz is none of a user's own data, which are a folder, a .csv file or a .pt task list"),
        ("./digits-split", "digits-split has the name of a benchmark: rename it"),
        ("nothing", "there is no benchmark 'nothing'; `metareplay benchmarks` lists"),
    ],
)
def test_data_that_are_not_there_are_bad_input(text, message, here):
    for name in ("empty", "digits-split"):
        Path(name).mkdir()
    Path("file.npz").touch()
    with pytest.raises(BadInput, match=message):
        benchmark(text)
    assert find("digits-split") is BENCHMARKS["digits-split"], "a folder does not hide a benchmark"


def test_a_run_of_own_data_from_the_command_line(here, capsys):
    Path("mine").mkdir()
    x = np.ones((6, 5))
    save(Path("mine/a.npz"), (x, np.arange(6) % 2, x, np.arange(6) % 2))
    save(Path("mine/b.npz"), (x, np.arange(6) % 2 + 2, x, np.arange(6) % 2 + 2))
    command = "run mine/ online --hiddens 5 --samples-per-task 4 --scenario task-incremental --quiet --json -"
    assert main(command.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["benchmark"] == "mine"
    assert result["configuration"]["scenario"] == TASK
    assert result["configuration"]["samples_per_task"] == 4
    assert main(["run", "mine/", "online", "--scenario", "domain-incremental"]) == 2
    assert "mine allows only class-incremental, task-incremental" in capsys.readouterr().err
    folder_of_classes(Path("pets"), "abcd")
    table(Path("sensors/1.csv"), ROWS)
    for words in ("pets online --tasks 2", "sensors online", "sensors/1.csv online"):
        assert main(["run", *words.split(), "--hiddens", "5"]) == 0
        assert "retained accuracy" in capsys.readouterr().out


RNG = np.random.default_rng(0)


def grey(value=0):
    return np.full((2, 3), value, np.uint8)


def put(file, pixels, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def folder_of_classes(path, classes="ab", n=5, start=0):
    for c, name in enumerate(classes):
        for i in range(n):
            put(path / name / f"{i}.png", grey(start + c * n + i))
    return path


def table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def levels(images):
    return (images.inputs(np.arange(len(images)))[:, 0] * 255).round().astype(int).tolist()


def test_a_folder_of_classes_is_one_task_or_as_many_as_are_asked_for(tmp_path):
    path = folder_of_classes(tmp_path / "pets", "abcd")
    (task,) = benchmark(str(path)).tasks
    assert task.classes == (0, 1, 2, 3)
    assert sorted(levels(task.train) + levels(task.test)) == list(range(20))
    assert (len(task.train), len(task.test)) == (16, 4)
    stream = benchmark(str(path), tasks=2)
    assert (stream.name, stream.scenarios, stream.shape) == ("pets", (CLASS, TASK), (2, 3))
    assert [each.classes for each in stream.tasks] == [(0, 1), (2, 3)]
    for each in stream.tasks:
        assert [level // 5 for level in levels(each.train)] == each.train.labels.tolist()
        assert len(each.test) == 2, "a fifth of each class"


def test_the_same_name_is_the_same_class_in_every_task(tmp_path):
    for name in ("night", "day"):
        folder_of_classes(tmp_path / "roads" / name, "xy")
    stream = benchmark(str(tmp_path / "roads"))
    assert [task.description for task in stream.tasks] == ["day", "night"]
    assert (stream.classes, stream.scenarios) == (2, (DOMAIN,))
    folder_of_classes(tmp_path / "roads" / "rain", "z")
    assert [task.classes for task in benchmark(str(tmp_path / "roads")).tasks] == [(0, 1), (0, 1), (2,)]


@pytest.mark.parametrize("where", ["{side}/{task}", "{task}/{side}"])
def test_folders_train_and_test_say_what_is_tested_on(tmp_path, where):
    for task in ("one", "two"):
        folder_of_classes(tmp_path / where.format(side="train", task=task), "ab", 3)
        folder_of_classes(tmp_path / where.format(side="test", task=task), "ab", 1, start=100)
    stream = benchmark(str(tmp_path))
    assert [task.description for task in stream.tasks] == ["one", "two"]
    for each in stream.tasks:
        assert (levels(each.train), levels(each.test)) == ([0, 1, 2, 3, 4, 5], [100, 101])


def test_what_is_to_be_tested_on_is_never_taken_for_a_task(tmp_path):
    for side in ("Train", "TEST"):
        folder_of_classes(tmp_path / "mine" / side)
    assert len(own_files.read(tmp_path / "mine").tasks) == 1
    for side in ("train", "val"):
        folder_of_classes(tmp_path / "other" / side)
    with pytest.raises(BadInput, match="has train, but as a task of its own"):
        own_files.read(tmp_path / "other")
    for side in ("train", "test"):
        table(tmp_path / "tables" / f"{side}.csv", [["x", "label"], [1, "u"], [2, "v"]])
    with pytest.raises(BadInput, match=r"has test, but as a task of its own.*folders train and test"):
        own_files.read(tmp_path / "tables")


def test_classes_and_tables_have_train_and_test_too(tmp_path):
    for side, n in (("train", 3), ("test", 1)):
        folder_of_classes(tmp_path / "images" / side, "ab", n)
        for task in ("task10", "task2"):
            table(tmp_path / "tables" / side / f"{task}.csv", [["x", "label"], *([n, "u"], [n, "v"])])
    (task,) = benchmark(str(tmp_path / "images")).tasks
    assert (len(task.train), len(task.test)) == (6, 2)
    tables = benchmark(str(tmp_path / "tables"))
    assert [each.description for each in tables.tasks] == ["task2", "task10"]
    assert tables.tasks[1].train.inputs(np.arange(2)).tolist() == [[3], [3]]
    assert tables.tasks[1].test.inputs(np.arange(2)).tolist() == [[1], [1]]
    (tmp_path / "tables" / "test" / "task2.csv").unlink()
    with pytest.raises(BadInput, match="has the task 'task2' in only one of train and test"):
        benchmark(str(tmp_path / "tables"))


@given(st.lists(st.integers(0, 3), min_size=5, max_size=200))
def test_a_fifth_is_held_out_and_each_class_in_proportion(labels):
    y = np.array(labels)
    out = own_files._held_out(y)
    assert out.sum() == round(len(y) / 5)
    for label in range(4):
        n = (y == label).sum()
        assert abs(out[y == label].sum() - n * out.sum() / len(y)) <= 1
    assert (out == own_files._held_out(y)).all()


def test_images_are_those_that_pillow_sees(tmp_path):
    pixels = RNG.integers(0, 256, (5, 4, 6, 3), np.uint8)
    for i, suffix in enumerate(("png", "bmp", "tiff", "ppm", "webp")):
        put(tmp_path / "one" / "a" / f"{i}.{suffix}", pixels[i], **{"lossless": True} if suffix == "webp" else {})
    task = own_files.read(tmp_path).tasks[0]
    x = np.concatenate([side.inputs(np.arange(len(side))) for side in (task.train, task.test)]).reshape(5, 3, 4, 6)
    rows = {row.tobytes() for row in (x * 255).round().astype(np.uint8)}
    assert rows == {each.transpose(2, 0, 1).tobytes() for each in pixels}


def test_hidden_files_are_none_of_the_data_and_one_image_with_colours_makes_all_of_them_have_three(tmp_path):
    path = folder_of_classes(tmp_path)
    before = own_files.read(path).data_sha256
    (path / ".DS_Store").write_bytes(b"Mac")
    (path / "a" / ".DS_Store").write_bytes(b"Mac")
    (path / ".cache").mkdir()
    assert own_files.read(path).data_sha256 == before
    folder_of_classes(tmp_path)
    assert own_files.read(tmp_path).shape == (2, 3)
    put(tmp_path / "a" / "colour.png", RNG.integers(0, 256, (2, 3, 3), np.uint8))
    assert own_files.read(tmp_path).shape == (3, 2, 3)


def damaged(content):
    return lambda path: (path / "a" / "0.png").write_bytes(content)


def encoded(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **{"format": "PNG", **options})
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged(encoded(grey())[:-30]), r"a/0.png is damaged, or no image of PNG, JPEG"),
        (damaged(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 3\n"), r"a/0.png is damaged, or no image"),
        (damaged(encoded(np.zeros((2, 3), np.uint16))), "a/0.png is of Pillow's mode I;16, but must have 8 bits"),
        (damaged(encoded(np.zeros((4, 5), np.uint8))), "a/1.png has 3×2 pixels, but .*a/0.png has 5×4"),
        (damaged(encoded(np.zeros((10000, 10000), bool))), r"a/0.png is damaged, .*decompression bomb"),
        (lambda path: (path / "a" / "more").mkdir(), "a has no images"),
        (lambda path: (path / "a" / "notes.txt").write_text("nice"), "a/notes.txt is damaged, or no image"),
        (lambda path: [file.unlink() for file in path.glob("*/*")], "has no images: it needs a folder"),
        (lambda path: [file.unlink() for file in path.glob("*/[1-4]*")], "has too few examples to test on a fifth"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used_are_bad_input(tmp_path, change, message):
    change(folder_of_classes(tmp_path))
    with pytest.raises(BadInput, match=message) as caught:
        benchmark(str(tmp_path))
    assert "\n" not in str(caught.value)


ROWS = [["x", "label", "y"], *([i / 2, f"{i % 2}", -i] for i in range(10))]


def test_a_file_s_columns_beside_label_are_inputs_the_same_in_every_file(tmp_path):
    (task,) = benchmark(str(table(tmp_path / "mine.csv", ROWS))).tasks
    assert task.description == "mine"
    x = np.concatenate([side.inputs(np.arange(len(side))) for side in (task.train, task.test)])
    y = np.concatenate([task.train.labels, task.test.labels])
    assert sorted(x.tolist()) == [[i / 2, -i] for i in range(10)]
    assert (y == -x[:, 1] % 2).all()
    table(tmp_path / "a.csv", ROWS)
    table(tmp_path / "b.csv", [["y", "label", "x"], *ROWS[1:]])
    with pytest.raises(BadInput, match=r"b.csv has other columns than .*a.csv"):
        own_files.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["\ufeffx,label\n1,a\n", "x,label\r\n1,a\r\n", 'x , label\n" 1",a\n\n', "x,label\n1e0,a"]
)
def test_files_are_read_as_spreadsheets_write_them(tmp_path, text):
    for side in ("train", "test"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.csv").write_text(text, encoding="utf-8", newline="")
    (task,) = own_files.read(tmp_path).tasks
    assert task.train.inputs(np.arange(1)).tolist() == [[1]]


def test_labels_are_numbered_as_people_count(tmp_path):
    table(tmp_path / "a.csv", [["x", "label"], *([int(label), label] for label in ("10", "2", "7") * 5)])
    table(tmp_path / "b.csv", [["x", "label"], *([float(label), label] for label in ("2.0", "7.", "+10") * 5)])
    for task in own_files.read(tmp_path).tasks:
        assert [
            {2: 0, 7: 1, 10: 2}[int(x)] for x in task.train.inputs(np.arange(12))[:, 0]
        ] == task.train.labels.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "mine.csv begins with nothing, but must with the names of its columns, of which one is label"),
        (b"1,2,3\n4,5,6\n", "begins with 1, 2, 3, but must"),
        (b"x;label\n1;2\n", "begins with x;label, but must"),
        (b"x,label\n", "has the names of its columns, but no rows"),
        (b"x,label\n1,a\n2\n", "has 1 cells in line 3, but 2 columns"),
        (b"x,label\n1,a\n,b\n", "not only finite numbers beside it, in line 3"),
        (b"x,label\n1e300,a\n", "not only finite numbers beside it, in line 2"),
        (b'x,label\n"a\nb",a\n', "not only finite numbers beside it, in line 3"),
        (b"x,label\n1,\n", "has no label, .* in line 2"),
        (b",x,label\n0,1,a\n1,2,b\n", "has a column without a name"),
        (b"x,label\n1,caf\xe9\n", "is no CSV file in UTF-8"),
        (b"x,label\n1,a\n2,a\n", "has too few examples to test on a fifth"),
        (b"x,label\n" + b"1,a\n" * 5 + b"2" * 200_000 + b",a\n", r"is no CSV file in UTF-8 \(field larger"),
    ],
)
def test_files_that_cannot_be_used_are_bad_input(tmp_path, content, message):
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        own_files.read(tmp_path)
    assert "\n" not in str(caught.value)
