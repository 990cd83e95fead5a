"""Splits: every class is in one task, nothing is copied, and the named benchmarks are what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metareplay.data import catalogue as sources
from metareplay.data.catalogue import MNIST, ImageSet
from metareplay.data.images import BaseImages
from metareplay.errors import BadInput
from metareplay.streams.catalogue import BENCHMARKS, benchmark, find
from metareplay.streams.kinds import splits
from metareplay.streams.stream import CLASS, TASK


def made_up(classes=10, n=100):
    """Images whose first pixel is their class, in no order."""
    labels = np.random.default_rng(0).permutation(np.arange(n) % classes)
    pixels = np.repeat(labels[:, None], 4, 1).astype(np.uint8)
    train, test = BaseImages(pixels), BaseImages(pixels[::2])
    return ImageSet("made-up", train, labels, test, labels[::2], classes, "abc")


@given(st.integers(1, 30), st.integers(1, 30))
def test_every_class_is_in_one_task(classes, tasks):
    images = made_up(classes, 400)
    if tasks > classes:
        with pytest.raises(BadInput, match=f"tasks is {tasks}, but made-up has {classes} classes"):
            splits(images, tasks=tasks)
        return
    stream = splits(images, tasks=tasks)
    shares = [task.classes for task in stream.tasks]
    assert sum((share or () for share in shares), ()) == tuple(range(classes)), "consecutive, and each once"
    sizes = [len(share or ()) for share in shares]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    for task in stream.tasks:
        for part in (task.train, task.test):
            assert np.unique(part.labels).tolist() == list(task.classes or ())
            shown = part.inputs(np.arange(len(part)))[:, 0] * 255
            np.testing.assert_allclose(shown, part.labels, rtol=1e-6)
    assert sum(len(task.train) for task in stream.tasks) == 400
    assert sum(len(task.test) for task in stream.tasks) == 200


def test_tasks_say_which_classes_they_have():
    descriptions = [task.description for task in splits(made_up(5), tasks=3).tasks]
    assert descriptions == ["classes 0 to 1", "classes 2 to 3", "class 4"]


def test_a_split_is_class_incremental_unless_asked_otherwise():
    assert splits(made_up()).scenarios == (CLASS, TASK)
    assert splits(made_up(), scenarios=(TASK, CLASS)).scenarios == (TASK, CLASS)


def test_a_class_without_images_is_bad_input():
    images = made_up(4)
    without = ImageSet("made-up", images.train, images.train_labels, images.test, images.test_labels, 5, "")
    with pytest.raises(BadInput, match="task 4 of stream 'made-up-split' has no training or no test examples"):
        splits(without, tasks=5)


def test_digits_split():
    stream = benchmark("digits-split")
    digits = sources.get("digits")
    assert (stream.name, stream.classes, stream.settings) == ("digits-split", 10, {"tasks": 5})
    assert stream.data_sha256 == digits.sha256
    assert [task.classes for task in stream.tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert sum(len(task.train) for task in stream.tasks) == 1297
    assert not stream.samples_per_task, "all of them"


def test_mnist_split(shared_mnist):
    mnist = MNIST.get(shared_mnist)
    stream = find("mnist-split").stream(images=mnist)
    assert (len(stream.tasks), stream.samples_per_task) == (5, 1000)
    assert [len(task.test) for task in stream.tasks] == [2115, 2042, 1874, 1986, 1983]
    assert sum(len(task.train) for task in stream.tasks) == 60_000


def test_the_number_of_tasks_can_be_chosen():
    stream = benchmark("digits-split", tasks=3, samples_per_task=100)
    assert [task.description for task in stream.tasks] == ["classes 0 to 3", "classes 4 to 6", "classes 7 to 9"]
    flags = [option.flag for option in BENCHMARKS["digits-split"].options]
    assert flags == ["--tasks", "--samples-per-task", "--held-out"]
