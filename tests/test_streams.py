"""Streams: maps of pixels, splits, what tasks share, and the pictures of them."""

import dataclasses
import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from made_up_archives import cifar100_files, published, tar_gz
from metareplay import cli
from metareplay.data import catalogue
from metareplay.data import catalogue as sources
from metareplay.data.images import BaseImages, Images, ImageSet
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.networks import Perceptron
from metareplay.streams import gallery
from metareplay.streams.catalogue import BENCHMARKS, benchmark, find
from metareplay.streams.kinds import (
    alphabets,
    angles,
    input_permuted,
    label_permuted,
    nth,
    online_permuted,
    orders,
    permutations,
    rotation_map,
    rotations,
    splits,
)
from metareplay.streams.stream import CLASS, TASK, Stream
from mirrors import put


def noise(n, height, width):
    return np.random.default_rng(0).integers(0, 256, (n, height, width), np.uint8)


def made_up(n=1000, side=28):
    pixels, labels = noise(n, side, side).reshape(n, -1), np.arange(n) % 10
    own = Images(BaseImages(pixels, shape=(side, side)), labels)
    return ImageSet("made-up", own, own, 10, "abc")


@given(st.integers(-12, 36).map(lambda n: 15.0 * n) | st.floats(-1e4, 1e4), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=500)
def test_a_rotation_map_is_pillows_rotation_for_any_angle_and_shape(angle, height, width):
    images, index_map = noise(4, height, width), rotation_map(angle, (height, width))
    mine = images.reshape(4, -1)[:, index_map] * (index_map >= 0)
    theirs = [np.asarray(Image.fromarray(image).rotate(angle)).ravel() for image in images]
    np.testing.assert_array_equal(mine, theirs)


@given(st.integers(1, 40), st.integers(0, 2**40), st.floats(-360, 360), st.floats(0.1, 720))
def test_each_angle_lies_in_its_slice(tasks, seed, low, span):
    drawn = np.array(angles(tasks, low, low + span, seed))
    place = (drawn - low) / span * tasks - np.arange(tasks)
    assert drawn.shape == (tasks,)
    assert (place > -1e-6).all()
    assert (place < 1 + 1e-6).all()


def test_angles_are_uniform_within_their_slices_however_wide_the_range_is():
    place = np.array(angles(20_000, 0.0, 180.0, 0)) / 180 * 20_000 % 1
    counts = np.bincount((place * 20).astype(int), minlength=20)
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    np.testing.assert_allclose(np.array(angles(5, 0.0, 90.0, 3)) * 2, angles(5, 0.0, 180.0, 3))


@given(st.integers(1, 20), st.integers(1, 900), st.integers(0, 2**40))
def test_every_order_holds_every_input_once(tasks, inputs, seed):
    for order in orders(tasks, inputs, seed):
        np.testing.assert_array_equal(np.sort(order), np.arange(inputs))
    np.testing.assert_array_equal(np.sort(nth(50 * inputs, inputs, seed)), np.arange(inputs))  # of 800 tasks, or more


def test_every_task_is_permuted_alike_in_training_and_testing_and_more_tasks_leave_the_first_as_they_were():
    stream = permutations(made_up(), tasks=20)
    maps = [np.asarray(task.train.index_map) for task in stream.tasks]
    identity = np.arange(784)
    for number, order in enumerate(maps):
        assert np.mean(order == identity) < 0.02
        assert all(np.mean(order == other) < 0.02 for other in maps[:number])
    assert stream.tasks[0].description == "random permutation"
    images = made_up(50)
    task = permutations(images, tasks=1).tasks[0]
    order = orders(1, 784, 0)[0]
    expected = images.train.inputs(np.arange(50))[:, order]
    np.testing.assert_array_equal(task.train.inputs(np.arange(50)), expected)
    np.testing.assert_array_equal(task.test.inputs(np.arange(50)), expected)
    np.testing.assert_array_equal(orders(3, 784, 5), orders(10, 784, 5)[:3])


def test_an_order_depends_on_its_task_and_the_seed_alone():
    found = {nth(task, 784, seed).tobytes() for task in range(20) for seed in range(3)}
    assert len(found) == 60
    assert hashlib.sha256(nth(799, 784, 0).tobytes()).hexdigest() == LAST_OF_800
    stream = online_permuted(made_up(10), tasks=5)
    for number, task in enumerate(stream.tasks):
        assert task.train.index_map is task.test.index_map
        np.testing.assert_array_equal(task.train.index_map, nth(number, 784, 0))


LAST_OF_800 = "fc885c6c502ac3d113b8ba1b4cd7495b4de0dd731b46718f05191c2f394b82ce"


def test_pixels_are_centred_where_the_stream_says_so():
    images = made_up(20)
    plain, centred = online_permuted(images, tasks=3), input_permuted(images, tasks=3)
    for one, other in zip(plain.tasks, centred.tasks, strict=True):
        x = one.train.inputs(np.arange(20)).astype(np.float64)
        np.testing.assert_allclose(other.train.inputs(np.arange(20)), (x - 0.5) / 0.5, atol=1e-7)
        assert other.train.base.pixels is images.train.base.pixels, "no image is copied"
    digits = input_permuted(sources.get("digits"), tasks=1).tasks[0].train.inputs(np.arange(1297))
    assert (digits.min(), digits.max()) == (-1, 1)


def test_labels_are_renamed_alike_in_training_and_in_testing_and_images_stay():
    images = made_up(50)
    stream = label_permuted(images, tasks=6)
    names = [nth(task, 10, 0) for task in range(6)]
    assert len({tuple(own) for own in names}) == 6
    for task, own in zip(stream.tasks, names, strict=True):
        np.testing.assert_array_equal(task.train.labels, own[images.train.labels])
        np.testing.assert_array_equal(task.test.labels, own[images.test.labels])
        x = images.train.inputs(np.arange(50)).astype(np.float64)
        np.testing.assert_allclose(task.train.inputs(np.arange(50)), 2 * x - 1, atol=1e-6)


def test_dense_inputs_are_scored_as_they_are_learned():
    """Black is −1 there, so that no input may be left out as zero."""
    stream = find("digits-input-permuted").stream(tasks=2)
    learner = engines.learner(Perceptron((64, 20, 10)), 500, 500, np.random.default_rng(0))
    test = stream.tasks[1].test
    learner.put(np.arange(500), test.inputs(np.arange(500)), test.labels, 1)
    np.testing.assert_allclose(learner.scores(test, 1), learner.forward(np.arange(500)), atol=1e-5)


@pytest.mark.parametrize("make", [rotations, permutations, online_permuted, input_permuted])
def test_the_stream_seed_decides_the_tasks_and_nothing_else_does(make):
    def maps(seed):
        np.random.seed(seed + 17)  # noqa: NPY002 - global state, which must not matter
        return [np.asarray(task.test.index_map).tolist() for task in make(made_up(10), tasks=5, stream_seed=seed).tasks]

    assert maps(1) == maps(1)
    assert maps(1) != maps(2)


def test_the_published_streams_of_seed_0_never_change():
    """They decide every result: a change of NumPy or Pillow that moved them must not go unseen."""
    rotated = np.stack([rotation_map(angle, (28, 28)) for angle in angles(20, 0.0, 180.0, 0)])
    permuted = np.stack(orders(100, 784, 0))
    assert rotated.dtype == permuted.dtype == np.int32
    assert hashlib.sha256(rotated.tobytes()).hexdigest() == ROTATIONS
    assert hashlib.sha256(permuted.tobytes()).hexdigest() == PERMUTATIONS


ROTATIONS = "d0a4ec979ead3fc2dc308f208c2ef690633e7cfa7f9ca266123c11dcc2f803d0"
PERMUTATIONS = "5a577fc9fd96e64ac6bf59b49bac5a125679b6f56279d7afd335ed673cc4fc94"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_tasks_share_one_base_and_cost_only_their_maps(name):
    images = made_up(1300)
    if BENCHMARKS[name].kind in (splits, alphabets):  # no two tasks have a class in common
        tasks = BENCHMARKS[name].tasks
        labels = np.arange(1300) % (2 * tasks)
        groups = tuple((f"alphabet {task}", (2 * task, 2 * task + 1)) for task in range(tasks))
        own = dataclasses.replace(images.train, labels=labels)
        images = dataclasses.replace(images, train=own, test=own, classes=2 * tasks, groups=groups)
    find(name).stream(images=images, samples_per_task=1)  # what is imported and cached on first use does not count
    tracemalloc.start()
    stream = find(name).stream(images=images, samples_per_task=1)
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert allocated < 100_000 + 5000 * len(stream.tasks)
    for task in stream.tasks:
        assert task.train.base.pixels is images.train.base.pixels
        assert task.test.base.pixels is images.test.base.pixels
        assert task.train.index_map is task.test.index_map


def test_benchmarks_have_their_published_sizes():
    sizes = {name: (b.tasks, b.samples_per_task) for name, b in BENCHMARKS.items()}
    assert sizes == {
        "digits-rotations": (10, 1297), "digits-permutations": (10, 1297), "mnist-rotations": (20, 1000),
        "mnist-permutations": (20, 1000), "mnist-many-permutations": (100, 200), "digits-split": (5, 0),
        "digits-online-permuted": (30, 0), "digits-input-permuted": (30, 500), "digits-label-permuted": (30, 500),
        "mnist-online-permuted": (800, 0), "mnist-input-permuted": (200, 5000), "mnist-label-permuted": (400, 2500),
        "mnist-split": (5, 1000), "emnist-label-permuted": (400, 2500), "fashion-mnist-rotations": (20, 1000),
        "fashion-mnist-permutations": (20, 1000), "cifar10-split": (5, 0), "cifar100-split": (20, 0),
        "omniglot": (50, 0), "omniglot-small": (8, 0),
    }  # fmt: skip


def test_a_stream_records_what_it_was_made_with_and_options_tell_their_defaults():
    stream = find("digits-rotations").stream(tasks=3, max_angle=90.0, stream_seed=4, samples_per_task=100)
    assert stream.name == "digits-rotations"
    assert stream.settings == {"tasks": 3, "min_angle": 0.0, "max_angle": 90.0, "stream_seed": 4}
    assert (len(stream.tasks), stream.samples_per_task, stream.classes) == (3, 100, 10)
    assert stream.data_sha256 == sources.get("digits").sha256
    assert find("digits-permutations").stream().settings == {"tasks": 10, "stream_seed": 0}
    defaults = {"tasks": 100, "stream_seed": 0, "samples_per_task": 200, "held_out": 0.0}
    assert {o.name: o.default for o in find("mnist-many-permutations").options} == defaults
    flags = "--tasks --min-angle --max-angle --stream-seed --samples-per-task --held-out"
    assert [o.flag for o in find("digits-rotations").options] == flags.split()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits-rotations", {"tasks": 0}, r"tasks is 0, but must lie in \[1, 10000\]"),
        ("digits-rotations", {"min_angle": 90.0, "max_angle": 45.0}, r"min_angle is 90.0 and max_angle 45.0"),
        ("digits-rotations", {"max_angle": float("nan")}, r"max_angle is nan"),
        ("digits-rotations", {"min_angle": -1.7e308, "max_angle": 1.7e308}, r"min_angle"),
        ("digits-permutations", {"samples_per_task": -1}, r"samples_per_task is -1"),
        ("digits-permutations", {"max_angle": 90.0}, "max_angle is no option of digits-permutations"),
        ("mnist-permutations", {"tasks": -1}, r"tasks is -1"),  # before anything is downloaded
        ("digits-split", {"tasks": 11}, "tasks is 11, but digits has 10 classes"),
        ("digits-rotations", {"max_angel": 1.0}, r"max_angel is no option of .*; did you mean max_angle\?"),
        ("mnist-rotation", {}, r"'mnist-rotation'; did you mean mnist-rotations\?"),
        ("", {}, "there is no benchmark ''; `metareplay benchmarks` lists all"),
    ],
)
def test_an_option_out_of_range_is_bad_input(name, options, message):
    with pytest.raises(BadInput, match=message):
        find(name).stream(**options)


def test_what_forms_no_image_cannot_be_rotated_or_drawn():
    with pytest.raises(BadInput, match="form no image"):
        rotations(of_classes(), tasks=2)
    x, y = np.ones((4, 7), np.float32), np.array([0, 1, 0, 1])
    with pytest.raises(BadInput, match="form no images"):
        gallery.rows(Stream.from_arrays("mine", [(x, y, x, y)]))


def test_a_benchmark_holds_images_out_where_it_is_asked_to():
    asked = find("digits-rotations").stream(tasks=2, held_out=0.25)
    made = find("digits-rotations").stream(tasks=2).validation(0.25)
    assert asked.settings == made.settings
    assert asked.settings != find("digits-rotations").stream(tasks=2).settings
    assert all((a.test.rows == b.test.rows).all() for a, b in zip(asked.tasks, made.tasks, strict=True))


@pytest.mark.parametrize("make", [rotations, permutations, splits, input_permuted, label_permuted])
@pytest.mark.parametrize("held_out", [0.25, 20, np.int64(20)])
def test_a_validation_stream_tests_on_training_images_that_it_does_not_learn(make, held_out):
    stream = make(made_up(400, 4), tasks=3)
    chosen = stream.validation(held_out)
    assert (chosen.name, chosen.classes, chosen.data_sha256) == (stream.name, stream.classes, stream.data_sha256)
    assert dict(chosen.settings) == {**stream.settings, "held_out": held_out}
    for before, after in zip(stream.tasks, chosen.tasks, strict=True):
        n, count = len(before.train), round(len(before.train) * held_out) if held_out < 1 else held_out
        assert (len(after.train), len(after.test)) == (n - count, count)
        assert after.test.base is before.train.base

        def inputs(images):
            return sorted(map(bytes, images.inputs(np.arange(len(images)))))

        assert sorted(inputs(after.train) + inputs(after.test)) == inputs(before.train)
        share = (
            np.bincount(after.test.labels, minlength=10) - np.bincount(before.train.labels, minlength=10) * count / n
        )
        assert np.abs(share).max() < 1  # each class in proportion
    if make is not splits:  # the same images in every task
        assert len({task.test.rows.tobytes() for task in chosen.tasks}) == 1


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (0, "held_out is 0, but must be"),
        (1.5, "held_out is 1.5, but must be"),
        ("a", "held_out is 'a', but must be"),
        (float("nan"), "held_out is nan, but must be"),
        (1000, "holds 1000 of the 1000 training images of task 0 of made-up-rotations out; at least one"),
        (1e-9, "holds 0 of the 1000"),
    ],
)
def test_a_share_that_leaves_nothing_is_bad_input(held_out, message):
    with pytest.raises(BadInput, match=message):
        rotations(made_up(1000, 4), tasks=2).validation(held_out)


def test_no_more_is_learned_of_a_task_than_validation_leaves():
    stream = find("digits-rotations").stream(tasks=2)
    assert stream.samples_per_task == 1297
    assert stream.validation(297).samples_per_task == 1000
    assert find("digits-rotations").stream(samples_per_task=10).validation(297).samples_per_task == 10


def of_classes(classes=10, n=100):
    """Images whose first pixel is their class, in no order."""
    labels = np.random.default_rng(0).permutation(np.arange(n) % classes)
    pixels = np.repeat(labels[:, None], 4, 1).astype(np.uint8)
    train, test = Images(BaseImages(pixels), labels), Images(BaseImages(pixels[::2]), labels[::2])
    return ImageSet("made-up", train, test, classes, "abc")


@given(st.integers(1, 30), st.integers(1, 30))
def test_every_class_is_in_one_task_of_a_split(classes, tasks):
    images = of_classes(classes, 400)
    if tasks > classes:
        with pytest.raises(BadInput, match=f"tasks is {tasks}, but made-up has {classes} classes"):
            splits(images, tasks=tasks)
        return
    stream = splits(images, tasks=tasks)
    shares = [task.classes for task in stream.tasks]
    assert sum(shares, ()) == tuple(range(classes)), "consecutive, and each once"
    sizes = [len(share) for share in shares]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    for task in stream.tasks:
        for part in (task.train, task.test):
            assert np.unique(part.labels).tolist() == list(task.classes)
            np.testing.assert_allclose(part.inputs(np.arange(len(part)))[:, 0] * 255, part.labels, rtol=1e-6)
    assert sum(len(task.train) for task in stream.tasks) == 400
    assert sum(len(task.test) for task in stream.tasks) == 200


def test_a_split_says_which_classes_a_task_has_and_is_class_incremental_unless_asked_otherwise():
    found = splits(of_classes(5), tasks=3)
    assert [task.description for task in found.tasks] == ["classes 0 to 1", "classes 2 to 3", "class 4"]
    assert found.scenarios == (CLASS, TASK)
    assert splits(of_classes(), scenarios=(TASK, CLASS)).scenarios == (TASK, CLASS)
    with pytest.raises(BadInput, match="task 4 of stream 'made-up-split' has no training or no test examples"):
        splits(dataclasses.replace(of_classes(4), classes=5), tasks=5)


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


def test_colours_are_shown_as_they_are(tmp_path):
    archive = tar_gz(cifar100_files())
    source = published(catalogue.CIFAR100, [archive], 100)
    images = source.get(tmp_path / "cache", put(tmp_path, {source.files[0].name: archive}), progress=False)
    rows = gallery.rows(BENCHMARKS["cifar100-split"].stream(images=images))
    assert rows[0][1].shape == (10, 32, 32, 3)
    red_green_blue = images.train.base.pixels[0].reshape(3, 32, 32)
    np.testing.assert_array_equal(rows[0][1][0], red_green_blue.transpose(1, 2, 0))


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
