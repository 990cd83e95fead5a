"""Galleries: a row of images for each task, in a file and in the terminal."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_up_archives import cifar100_files, published, tar_gz
from metareplay import cli
from metareplay.data import catalogue
from metareplay.errors import BadInput
from metareplay.streams import gallery
from metareplay.streams.catalogue import BENCHMARKS, benchmark
from metareplay.streams.stream import Stream
from mirrors import put


def test_a_row_shows_one_image_of_each_class_in_turn():
    stream = benchmark("digits-rotations", tasks=2, min_angle=0.0, max_angle=0.001)
    (description, images), _ = gallery.rows(stream)
    assert description.startswith("1: 0.00°")
    assert images.shape == (10, 8, 8, 3)
    train = stream.tasks[0].train
    for label in range(10):
        first = np.flatnonzero(train.labels == label)[:1]
        expected = (train.inputs(first).reshape(8, 8) * 255).astype(np.uint8)
        np.testing.assert_array_equal(images[label, :, :, 0], expected)
        np.testing.assert_array_equal(images[label, :, :, 2], expected)


def test_classes_come_by_turns_few_examples_make_a_short_row_and_of_many_tasks_some_are_shown():
    stream = benchmark("digits-split")
    labels = stream.tasks[3].train.labels
    assert labels[gallery._in_turn(labels, 10)].tolist() == [6, 7] * 5
    x, y = np.ones((3, 8, 8), np.uint8), np.array([0, 1, 1])
    stream = Stream.from_arrays("mine", [(x, y, x, y)])
    assert gallery.rows(stream)[0][1].shape == (3, 8, 8, 3)
    assert gallery.picture(stream).size[0] > 10 * 32
    found = gallery.rows(benchmark("digits-permutations", tasks=50))
    assert [description.split(":")[0] for description, _ in found] == [str(1 + 3 * row) for row in range(17)]


def test_colours_are_shown_as_they_are(tmp_path):
    archive = tar_gz(cifar100_files())
    source = published(catalogue.CIFAR100, [archive], 100)
    images = source.get(tmp_path / "cache", put(tmp_path, {source.files[0].name: archive}), progress=False)
    rows = gallery.rows(BENCHMARKS["cifar100-split"].stream(images=images))
    assert rows[0][1].shape == (10, 32, 32, 3)
    red_green_blue = images.train.pixels[0].reshape(3, 32, 32)
    np.testing.assert_array_equal(rows[0][1][0], red_green_blue.transpose(1, 2, 0))


def test_what_forms_no_image_cannot_be_drawn():
    x, y = np.ones((4, 7), np.float32), np.array([0, 1, 0, 1])
    with pytest.raises(BadInput, match="form no images"):
        gallery.rows(Stream.from_arrays("mine", [(x, y, x, y)]))


def test_the_command_writes_a_small_image_file(tmp_path, capsys):
    path = tmp_path / "digits.png"
    assert cli.main(["show", "digits-rotations", "-o", str(path)]) in (0, None)
    assert str(path) in capsys.readouterr().out
    assert path.stat().st_size < 200_000
    with Image.open(path) as image:
        assert image.size[1] == 10 * 34 + 12


@pytest.mark.parametrize("name", ["digits.svg", "missing/digits.png"])
def test_a_file_that_cannot_be_is_refused(tmp_path, name, refused):
    assert name in refused("show", "digits-split", "-o", tmp_path / name)


def test_the_terminal_shows_a_row_for_each_task(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert cli.main(["show", "digits-split"]) in (0, None)
    out = capsys.readouterr().out
    assert out.count("classes") == 5
    assert set("░▒▓█") <= set(out)  # without colours, in shades
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(["show", "digits-split"]) in (0, None)
    assert "▀" in capsys.readouterr().out


def test_the_gallery_in_the_docs_is_small_enough_to_ship():
    files = list((Path(__file__).parents[1] / "docs" / "gallery").glob("*.png"))
    assert files
    assert all(file.stat().st_size < 200_000 for file in files)
