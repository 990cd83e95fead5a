"""The reduced ResNet-18 on made-up images in CIFAR-100's official format, from the archive to the record."""

import numpy as np
import pytest

from made_up_archives import cifar100_files, published, tar_gz
from metareplay import cli
from metareplay.data import catalogue as sources
from metareplay.methods import METHODS
from metareplay.runs.experiment import Experiment
from metareplay.runs.trainer import Trainer
from metareplay.streams.catalogue import BENCHMARKS
from mirrors import put

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

MEMORIES = {"gem": 40, "meralg1": 30}
VISITS = (0, 19)
"""Of the twenty tasks; the others are only tested on."""


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """The folder of a small archive, in the place of the official one."""
    archive = tar_gz(cifar100_files(train=1000, test=100))
    monkeypatch.setitem(sources.SOURCES, "cifar100", published(sources.CIFAR100, [archive], 100))
    return put(tmp_path / "theirs", {sources.CIFAR100.files[0].name: archive})


@pytest.mark.parametrize("method", ["independent", "gem", "meralg1"])
def test_every_method_learns_with_the_scores_outside_a_task_masked(cifar100, data_folder, method):
    images = sources.get("cifar100", cifar100, progress=False)
    stream = BENCHMARKS["cifar100-split"].stream(images=images, samples_per_task=4)
    settings = {"memories": MEMORIES[method]} if method in MEMORIES else {}
    if method == "meralg1":
        settings |= {"replay_batch_size": 3}
    run = {"batch_size": 4, "task_order": VISITS, "network": "resnet18-reduced", "engine": "torch"}
    life = Trainer(Experiment(stream=stream, method=METHODS[method](lr=0.03, **settings), **run))
    before = life.learner.parameters()
    record = life.train()
    after = life.learner.parameters()
    assert record.configuration["scenario"] == "task-incremental"
    assert record.accuracy.shape == (2, 2)
    assert np.isfinite(record.accuracy).all()
    assert not np.array_equal(before, after)
    for number in (0, 19, 12):
        task = stream.tasks[number]
        scores = life.learner.scores(task.test, number)
        assert np.isfinite(scores).all()
        own = np.isin(np.arange(100), task.classes)
        assert (scores[:, ~own] < -1e29).all()
        assert (scores[:, own] > -1e6).all()
    if method != "independent":  # the last layer is one: classes of tasks that were not visited have learned nothing
        bias = slice(-100, None)
        taught = np.repeat(np.isin(np.arange(20), VISITS), 5)
        assert (before[bias][~taught] == after[bias][~taught]).all()
        assert (before[bias][taught] != after[bias][taught]).any()


def test_from_the_archive_to_the_result_on_the_command_line(cifar100, data_folder, tmp_path, capsys):
    assert cli.main(["data", "get", "cifar100", "--from", str(cifar100)]) in (0, None)
    assert "1000 images for training, 100 for testing" in capsys.readouterr().out
    command = "run cifar100-split online --network resnet18-reduced --tasks 5 --samples-per-task 4 --batch-size 4"
    assert cli.main([*command.split(), "--quiet", "--out", str(tmp_path / "runs")]) in (0, None)
    assert "RA " in capsys.readouterr().out
