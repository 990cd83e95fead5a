"""Damaged files of a user's own: folders of .npz, task lists, results of main.py."""

import argparse
import io
from collections import OrderedDict

import numpy as np
import pytest

from fuzz.mutate import survivors
from metareplay.errors import BadInput, RunFailed
from metareplay.original.results import Results, read
from metareplay.streams import own_files, task_list

X, Y = np.random.default_rng(0).random((6, 4), np.float32), np.arange(6) % 3


def through(path, read):
    def read_from(content):
        path.write_bytes(content)
        return read(path)

    return read_from


def usable(stream):
    for task in stream.tasks:
        for images in (task.train, task.test):
            assert np.isfinite(images.inputs(np.arange(len(images)))).all()
            assert 0 <= images.labels.min() <= images.labels.max() < stream.classes


def test_folders_of_npz_files(tmp_path):
    arrays, originals = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}, []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        originals.append(file.getvalue())
    (tmp_path / "mine").mkdir()
    read = through(tmp_path / "mine" / "task.npz", lambda path: usable(own_files.read(path.parent)))
    survivors(read, originals, (BadInput,))


def test_task_lists(tmp_path):
    torch = pytest.importorskip("torch")
    part, originals = [0.5, torch.from_numpy(X), torch.from_numpy(Y)], []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save([[part, part], [part, part]], file, _use_new_zipfile_serialization=zipped)
        originals.append(file.getvalue())
    read = through(tmp_path / "tasks.pt", lambda path: usable(task_list.read(path, progress=False)))
    survivors(read, originals, (BadInput, RunFailed))


LABELS = np.array([0, 0, 1])
ACCURACIES = np.array([[0.1, 0.2], [0.7, 0.3], [0.6, 0.9]])
WRITTEN = Results(LABELS, ACCURACIES, {"model": "gem", "lr": 0.1}, 12.5, {"net.0.weight": np.ones((3, 2), np.float32)})


def same_or_refused(path):
    """What is read has the metrics of what was written, as far as the file's own statistics tell."""
    found = read(path)
    for name, value in WRITTEN.metrics.items():
        assert abs(found.metrics[name] - value) < (1e-3 if name != "learning_accuracy" else 2e-3), name


def test_texts_of_results(tmp_path):
    survivors(through(tmp_path / "a.txt", same_or_refused), [WRITTEN.text().encode()], (BadInput,))


def test_pt_files_of_results(tmp_path):
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    content = (
        torch.tensor(LABELS, dtype=torch.float32),
        torch.tensor(ACCURACIES, dtype=torch.float32),
        OrderedDict(w=torch.ones(3, 2)),
        [
            torch.tensor(WRITTEN.metrics[name])
            for name in ("retained_accuracy", "backward_transfer", "forward_transfer")
        ],
        WRITTEN.line,
        argparse.Namespace(**WRITTEN.options),
    )
    torch.save(content, file, _use_new_zipfile_serialization=False)
    read = through(tmp_path / "a.pt", same_or_refused)
    survivors(read, [WRITTEN.pt(), file.getvalue()], (BadInput, RunFailed))
