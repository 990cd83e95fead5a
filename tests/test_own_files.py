"""Folders of images and CSV files: what lies there becomes a stream; what cannot is one line with its name."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metareplay import benchmark
from metareplay.cli import main
from metareplay.errors import BadInput
from metareplay.streams import own_files
from metareplay.streams.stream import CLASS, DOMAIN, TASK

RNG = np.random.default_rng(0)


def grey(value=0):
    return np.full((2, 3), value, np.uint8)


def put(file, pixels, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def folder_of_classes(path, classes="ab", n=5, start=0):
    """``n`` images of each class, each with a grey level of its own."""
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
    """The first pixel of each image."""
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


def test_names_that_are_no_unicode_can_be_used_and_shown(tmp_path, capsys):
    for name in (b"caf\xe9", b"tea"):
        own = Path(os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9" + b"/" + name))
        folder_of_classes(own)
    assert [task.description for task in own_files.read(own.parent).tasks] == ["caf\\udce9", "tea"]
    (own / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    assert main(["run", str(own.parent), "online", "--out", str(tmp_path / "runs")]) == 2
    assert "\\udcff.png is damaged, or no image" in capsys.readouterr().err


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
        (damaged(b""), r"a/0.png is damaged, or no image"),
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


def test_a_file_s_columns_beside_label_are_inputs(tmp_path):
    (task,) = benchmark(str(table(tmp_path / "mine.csv", ROWS))).tasks
    assert task.description == "mine"
    x = np.concatenate([side.inputs(np.arange(len(side))) for side in (task.train, task.test)])
    y = np.concatenate([task.train.labels, task.test.labels])
    assert sorted(x.tolist()) == [[i / 2, -i] for i in range(10)]
    assert (y == -x[:, 1] % 2).all()


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
        (b"label\n1\n", "begins with label, but must"),
        (b"x,label,label\n1,2,3\n", "begins with x, label, label, but must"),
        (b"x;label\n1;2\n", "begins with x;label, but must"),
        (b"x,label\n", "has the names of its columns, but no rows"),
        (b"x,label\n1,a\n2\n", "has 1 cells in line 3, but 2 columns"),
        (b"x,label\n1,a,\n", "has 3 cells in line 2, but 2 columns"),
        (b"x,label\n1,a\n,b\n", "not only finite numbers beside it, in line 3"),
        (b"x,label\nnan,a\n", "not only finite numbers beside it, in line 2"),
        (b"x,label\n1e300,a\n", "not only finite numbers beside it, in line 2"),
        (b'x,label\n"a\nb",a\n', "not only finite numbers beside it, in line 3"),
        (b"x,label\n1,\n", "has no label, .* in line 2"),
        (b"x,label\n1,NaN\n", "has no label, .* in line 2"),
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


def test_tables_must_have_the_same_columns(tmp_path):
    table(tmp_path / "a.csv", ROWS)
    table(tmp_path / "b.csv", [["y", "label", "x"], *ROWS[1:]])
    with pytest.raises(BadInput, match=r"b.csv has other columns than .*a.csv"):
        own_files.read(tmp_path)


def test_the_hash_is_that_of_the_content(tmp_path):
    def sha256(path):
        return own_files.read(path).data_sha256

    one, other = (folder_of_classes(tmp_path / name / "data") for name in ("here", "there"))
    before = sha256(one)
    assert before == sha256(other), "wherever it lies"
    put(other / "a" / "0.png", grey(99))
    assert before != sha256(other)
    put(other / "a" / "0.png", grey(0))
    assert before == sha256(other)
    (other / "b" / "4.png").rename(other / "a" / "4b.png")
    assert before != sha256(other), "labels count"


def test_a_run_learns_from_them(here, capsys):
    folder_of_classes(Path("pets"), "abcd")
    table(Path("sensors/1.csv"), ROWS)
    for words in (
        "pets online --tasks 2 --hiddens 5",
        "sensors online --hiddens 5",
        "sensors/1.csv online --hiddens 5",
    ):
        assert main(["run", *words.split()]) == 0
        assert "retained accuracy" in capsys.readouterr().out
