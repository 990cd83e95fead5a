"""The original's result files: theirs are read, ours are like theirs."""

import argparse
import functools
import itertools
import pickle
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from killed_runs import Trap
from metareplay.errors import BadInput
from metareplay.learners.fused import FusedPerceptron
from metareplay.methods import METHODS
from metareplay.networks import Perceptron
from metareplay.original import results
from metareplay.original.results import Results, read, state

# Three tasks of ten test examples; the second evaluation lies within the first task.
LABELS = [0, 0, 0, 1, 2]
ACCURACIES = [[0.1, 0.2, 0.3], [0.5, 0.2, 0.3], [0.9, 0.3, 0.2], [0.7, 0.8, 0.4], [0.6, 0.5, 1.0]]


TEXT = """\
0.1000 0.2000 0.3000
|
0.9000 0.3000 0.2000
0.7000 0.8000 0.4000
0.6000 0.5000 1.0000

Final Accuracy: 0.7000
Backward: -0.2000
Forward:  0.0667
"""
OPTIONS = {"model": "gem", "lr": 0.1, "cuda": False, "memory_strength": 0}
LINE = f"{OPTIONS} # 0.700 -0.200 0.067 # 12.25"


def theirs(labels=LABELS, accuracies=ACCURACIES, options=None, **more):
    return (
        torch.tensor(labels, dtype=torch.float),
        torch.tensor(accuracies),
        OrderedDict([("net.net.0.weight", torch.ones(4, 6)), ("net.net.0.bias", torch.zeros(4))]),
        [torch.tensor(0.7), torch.tensor(-0.2), torch.tensor(0.0667)],
        LINE,
        argparse.Namespace(**OPTIONS) if options is None else options,
    )


@pytest.mark.parametrize("zipped", [True, False])  # PyTorch wrote the older form until version 1.6
def test_an_old_pt_file_is_read(tmp_path, zipped):
    path = tmp_path / "gem_mnist_rotations.pt_2018_12_01_10_11_12_0.pt"
    torch.save(theirs(), path, _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert found.options == OPTIONS
    assert found.seconds == 12.25
    assert found.line == LINE
    assert found.state["net.net.0.weight"].shape == (4, 6)
    np.testing.assert_array_equal(found.visits, [0, 1, 2])
    assert found.metrics == pytest.approx(
        {"retained_accuracy": 0.7, "learning_accuracy": 0.9, "backward_transfer": -0.2, "forward_transfer": 0.2 / 3}
    )


def test_an_old_text_file_is_read_and_ours_is_the_same(tmp_path):
    path = tmp_path / "old.txt"
    path.write_text(TEXT)
    found = read(path)
    assert found.metrics["learning_accuracy"] == pytest.approx(0.9)
    assert found.metrics["forward_transfer"] == pytest.approx(0.2 / 3)
    assert found.text() == TEXT
    assert Results(np.array(LABELS), np.array(ACCURACIES)).text() == TEXT


def test_an_old_pt_file_of_shuffled_tasks_gives_right_metrics(tmp_path):
    """Theirs were wrong: the rows were read as if the tasks had come in order, and the first is always labelled 0."""
    path = tmp_path / "old.pt"
    order = [2, 0, 1]  # the task that comes first, second, third
    columns = np.array(ACCURACIES)[:, np.argsort(order)]
    torch.save(theirs([0, 2, 2, 0, 1], columns.tolist()), path)
    found = read(path)
    np.testing.assert_array_equal(found.visits, order)
    np.testing.assert_allclose(found.accuracy, np.array(ACCURACIES)[2:], rtol=1e-6)
    assert found.metrics["backward_transfer"] == pytest.approx(-0.2)
    assert found.metrics["forward_transfer"] == pytest.approx(0.2 / 3)


def test_what_we_write_is_read_as_the_originals_users_read_theirs(tmp_path):
    path = tmp_path / "ours.pt"
    weights = {"net.net.0.weight": np.ones((4, 6), np.float32), "net.net.0.bias": np.zeros(4, np.float32)}
    path.write_bytes(Results(np.array(LABELS), np.array(ACCURACIES), OPTIONS, 12.25, weights).pt())

    result_t, result_a, state_dict, stats, one_liner, args = torch.load(path, weights_only=False)
    expected = theirs()
    for ours, their in ((result_t, expected[0]), (result_a, expected[1]), *zip(stats, expected[3], strict=True)):
        assert type(ours) is type(their)
        assert ours.dtype == their.dtype
        torch.testing.assert_close(ours, their, rtol=0, atol=1e-4)
    assert type(state_dict) is OrderedDict
    assert {name: tensor.shape for name, tensor in state_dict.items()} == {
        name: tensor.shape for name, tensor in expected[2].items()
    }
    assert one_liner == LINE
    assert args == argparse.Namespace(**OPTIONS)
    again = read(path)
    assert again.line == LINE
    np.testing.assert_allclose(again.accuracies, ACCURACIES, rtol=1e-6)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["among the options", "for the options", "for everything", "a plain pickle"])
def test_a_file_that_would_run_code_is_refused(tmp_path, place, zipped):
    path, mark = tmp_path / "evil.pt", tmp_path / "it ran"
    evil = Trap(mark)
    if place == "a plain pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        content = {
            "among the options": theirs(options=argparse.Namespace(model=evil)),
            "for the options": theirs(options=evil),
            "for everything": evil,
        }[place]
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadInput, match=r"may not run code|was not written by torch.save") as refused:
        read(path)
    assert not mark.exists()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"hello", "no result file of main.py, .txt or .pt, or it is damaged$"),
        ("a.txt", b"\xff\xfe", "or it is damaged$"),
        ("a.txt", b"0.1 0.2\n|\n0.1 0.2\n\n", "R has 1 rows for 2 tasks"),
        ("a.txt", b"0.1 0.2\n|\n0.1 0.2\n0.1\n\n", "no result file"),
        ("a.txt", b"nan\n|\nnan\n\n", "not all numbers"),
        ("a.txt", b"nan 0.1\n|\n0.1 0.2\n0.1 0.2\n\n", "not all numbers"),
        ("a.pt", b"", "no result file"),
        ("a.pt", b"hello", "it is damaged, or was not written"),
    ],
)
def test_a_damaged_or_foreign_file_is_said_to_be_one(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=reason) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.9000", "0.8900", "statistics do not follow"),
        ("0.6000 0.5000", "0.6100 0.5000", "statistics do not follow"),
        ("Backward: -0.2000", "Backward: 0.2000", "statistics do not follow"),
        ("Forward:  0.0667\n", "", "statistics do not follow"),
        ("0.4000", "4.4000", "do not lie between 0 and 1"),
        ("0.4000", "0.40000", "do not have four decimals"),
    ],
)
def test_a_text_file_whose_statistics_are_not_its_accuracies_is_refused(tmp_path, old, new, reason):
    (tmp_path / "a.txt").write_text(TEXT.replace(old, new))
    with pytest.raises(BadInput, match=reason):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        (0, torch.tensor([0.0, 0, 0, 1, 2.5]), "after which task"),
        (1, torch.tensor(ACCURACIES) * 0.9, "statistics do not follow"),
        (1, torch.tensor(ACCURACIES) * 1.1, "between 0 and 1"),
        (3, [torch.tensor(0.7), torch.tensor(-0.3), torch.tensor(0.0667)], "statistics do not follow"),
        (4, LINE.replace("0.700", "0.800"), "its line and its statistics"),
        (4, LINE.replace("gem", "ewc"), "its line and its options"),
        (2, {"a": torch.zeros(1).expand(10**9)}, "much more than the file has"),
    ],
)
def test_a_pt_file_whose_parts_do_not_fit_together_is_refused(tmp_path, part, value, reason, zipped):
    content = list(theirs())
    content[part] = value
    torch.save(tuple(content), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadInput, match=reason):
        read(tmp_path / "a.pt")


def test_a_pt_file_with_another_checksum_or_compressed_is_refused(tmp_path):
    torch.save(theirs(), tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    place = content.index(np.float32([0.2, 0.3, 0.5]).tobytes())
    content[place] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(BadInput, match=r"the checksum of .* in it is another one"):
        read(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/data.pkl", bytes(10**7))
    with pytest.raises(BadInput, match="it is compressed"):
        read(tmp_path / "b.pt")


def test_the_command_prints_metrics_learning_accuracy_among_them(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(TEXT)
    torch.save(theirs(), tmp_path / "a.pt")
    assert results.main([str(tmp_path / "a.txt"), str(tmp_path / "a.pt")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["RA", "LA", "BTI", "FT"]
    assert [row.split()[:4] for row in rows] == [["70.0", "90.0", "-20.0", "6.7"]] * 2
    assert results.main([str(tmp_path / "b.txt")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_pytorch_a_pt_file_names_what_is_missing_and_a_text_file_is_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_text(TEXT)
    torch.save(theirs(), tmp_path / "a.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert results.main([str(tmp_path / "a.txt"), str(tmp_path / "a.pt")]) == 2
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2
    assert "pip install '.[torch]'" in shown.err
    assert shown.err.count("\n") == 1


INPUTS, HIDDEN, CLASSES, TASKS = 7, 12, 4, 3


def mlp(hidden, layers):
    """The perceptron of GEM and MER: every second part of ``net`` is a ReLU."""
    parts = []
    for fan_in, fan_out in itertools.pairwise([INPUTS, *[hidden] * layers, CLASSES]):
        parts += [nn.ReLU()] * bool(parts) + [nn.Linear(fan_in, fan_out)]
    return nn.ModuleDict({"net": nn.Sequential(*parts)})


def original_module(model, layers):
    """The original's model as its modules are nested, and what it makes of an input and a task."""
    if model == "taskinput":
        first = [nn.Linear(INPUTS, HIDDEN if layers else CLASSES) for _ in range(TASKS)]
        hidden = [nn.Linear(HIDDEN, HIDDEN) for _ in range(layers - 1)]
        last = [nn.Linear(HIDDEN, CLASSES)] * bool(layers)
        lists = {"i_layer": first, "h_layer": [nn.ModuleList(hidden)], "o_layer": last}
        module = nn.ModuleDict({name: nn.ModuleList(parts) for name, parts in lists.items()})

        def scores(x, task):
            return functools.reduce(lambda x, layer: layer(torch.relu(x)), [*hidden, *last], first[task](x))

        return module, scores
    if model == "independent":
        nets = [mlp(HIDDEN // TASKS, layers) for _ in range(TASKS)]
        return nn.ModuleDict({"nets": nn.ModuleList(nets)}), lambda x, task: nets[task]["net"](x)
    net = mlp(HIDDEN, layers)
    return nn.ModuleDict({"net": net}), lambda x, task: net["net"](x)


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
@pytest.mark.parametrize("model", ["online", "independent", "taskinput"])
def test_the_state_loads_into_plain_pytorch_layers_that_give_the_same_scores(model, layers):
    rng = np.random.default_rng(0)
    network = METHODS[model]().network(Perceptron((INPUTS, *[HIDDEN] * layers, CLASSES)), TASKS)
    learner = FusedPerceptron(network, 1, 1, rng)
    for part in (part for layer in learner.layers() for part in layer):
        part[...] = rng.normal(size=part.shape)
    module, scores = original_module(model, layers)
    module.load_state_dict({name: torch.tensor(values) for name, values in state(model, learner.layers()).items()})
    for task in range(TASKS):
        x = rng.random((1, INPUTS)).astype(np.float32)
        learner.put(np.arange(1), x, np.zeros(1, np.int64), task)
        torch.testing.assert_close(
            scores(torch.tensor(x), task), torch.tensor(learner.forward(np.arange(1))), rtol=1e-4, atol=1e-4
        )
