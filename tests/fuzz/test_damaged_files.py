"""Damaged files of runs, suites, base data and users: each is read as it was, or refused in words."""

import argparse
import gzip
import io
import json
import struct
from collections import OrderedDict
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from fuzz.mutate import survivors
from killed_runs import little, same
from made_up_archives import cifar10_files, tar_gz, zipped
from metareplay import BadInput, Record, Trainer
from metareplay.data import decode
from metareplay.errors import Refused, RunFailed
from metareplay.original.results import Results, read
from metareplay.runs.checkpoint import Unusable, pack, unpack
from metareplay.runs.folder import CHECKPOINT, CONFIGURATION, Run, find
from metareplay.runs.model import Model
from metareplay.runs.record import read_summary
from metareplay.streams import own_files, task_list
from metareplay.suites.suite import Suite
from mirrors import put


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    experiment = little("meralg1")
    run = Run(tmp_path_factory.mktemp("runs") / experiment.key)
    run.carry_out(experiment)
    return run


@pytest.mark.parametrize("pattern", ["record.json", "record-*.npz"])
def test_a_damaged_record_is_refused(whole, pattern):
    (path,) = whole.folder.glob(pattern)
    content, record = path.read_bytes(), Record.load(whole.folder)

    def read(mutant):
        path.write_bytes(mutant)
        whole.status()
        assert same(Record.load(whole.folder), record)
        read_summary(whole.folder)

    survivors(read, [content], (BadInput,))
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_or_continues_the_run(whole):
    trainer = Trainer(little("meralg1"))
    trainer.evaluate(-1)
    content = pack(trainer.state())

    def read(mutant):
        again, state = Trainer(little("meralg1")), unpack(mutant)
        assert pack(state) == content
        again.load_state(state)
        again.train()

    survivors(read, [content], (Unusable,))


def test_a_state_with_other_values_is_refused_or_can_be_trained_on():
    trainer = Trainer(little("ewc"))
    trainer.evaluate(-1)
    state = trainer.state()
    plain = {name: value for name, value in state.items() if isinstance(value, int | float | str)}

    def read(mutant):
        changed = json.loads(mutant)
        again = Trainer(little("ewc"))
        again.load_state(unpack(pack(state | changed)))
        again.train()

    refused = (BadInput, ValueError, RecursionError, AttributeError, TypeError)  # no JSON, or no dictionary
    survivors(read, [json.dumps(plain).encode()], refused)


def test_damaged_weights_are_refused_or_make_a_model(whole):
    record = Record.load(whole.folder)
    (path,) = whole.folder.glob("weights-*.npz")

    def read(mutant):
        Model.of(record, unpack(mutant))

    survivors(read, [path.read_bytes()], (BadInput,))


@pytest.mark.parametrize("name", [CONFIGURATION, CHECKPOINT, "failed.json"])
def test_damaged_notes_leave_a_run_that_can_be_listed(tmp_path, name):
    experiment = little("meralg1")
    run = Run(tmp_path / experiment.key)
    run.folder.mkdir()
    content = json.dumps({"configuration": experiment.configuration(), "message": "why"}).encode()
    (run.folder / CONFIGURATION).write_bytes(content)

    def read(mutant):
        (run.folder / name).write_bytes(mutant)
        assert [found.status().state for found in find(tmp_path)] != ["done"]

    survivors(read, [content if name != CHECKPOINT else pack({"seen": 3})], ())


WHOLE = """\ufeffname = "a study"
seeds = [0, 2]
benchmarks = ["digits-permutations", { name = "digits-rotations", tasks = [2, 3] }]
run = { hiddens = 10, order = ["tasks", "iid"] }
[methods]
online = {}
"eralg4" = { memories = [20, 30], lr = 0.1 }
[[exclude]]
method = 'eralg4' # and
memories = 30
[[include]]
benchmark = "digits-split"
method = ["ewc", "gem"]
"""


def test_a_damaged_suite_file_is_read_or_refused_in_words(tmp_path):
    file = tmp_path / "study.toml"

    def read(content):
        file.write_bytes(content)
        try:
            Suite.read(file)
        except BadInput as error:  # several mistakes are several lines, of which each is one
            raise BadInput(str(error).replace("\n  line", " line").replace("\n  it", " it")) from None

    originals = [WHOLE.encode(), (files("metareplay.suites") / "digits.toml").read_bytes()]
    assert survivors(read, originals, (BadInput,)) > 0


IMAGES = struct.pack(">HBBIII", 0, 8, 3, 4, 3, 2) + bytes(range(24))


def array(content):
    return np.frombuffer(content, np.uint8)


def test_idx_files():
    def read(content):
        values = decode.idx(array(content))
        assert 0 < values.size < len(content)

    survivors(read, [IMAGES, struct.pack(">HBBI", 0, 8, 1, 5) + b"\0\1\2\3\4"], (Refused,))


def test_archives():
    survivors(lambda content: decode.cifar_10([array(content)]), [tar_gz(cifar10_files(1))], (Refused,))
    balanced = dict.fromkeys(decode.BALANCED, gzip.compress(IMAGES))
    survivors(lambda content: decode.emnist_balanced([array(content)]), [zipped(balanced)], (Refused,))
    survivors(
        lambda content: decode.omniglot([array(content)]), [zipped({"a/b/character01/01_01.png": b""})], (Refused,)
    )


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
    for new in (True, False):
        file = io.BytesIO()
        torch.save([[part, part], [part, part]], file, _use_new_zipfile_serialization=new)
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


def test_folders_of_images_and_tables(tmp_path):
    noise, originals = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8), []
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "WEBP"):
        Image.fromarray(noise).save(file := io.BytesIO(), kind)
        originals.append(file.getvalue())
    for name in "ab":
        for number in range(5):
            put(tmp_path / "images" / name, {f"{number}.png": originals[0]})
    one = tmp_path / "images" / "a" / "0.png"
    survivors(through(one, lambda path: usable(own_files.read(tmp_path / "images"))), originals, (BadInput,))
    text = "x,label,y\n" + "".join(f"{i / 2},{i % 2},{-i}\n" for i in range(10))
    table = put(tmp_path / "tables", {"a.csv": b""}) / "a.csv"
    survivors(through(table, lambda path: usable(own_files.read(path.parent))), [text.encode()], (BadInput,))
