"""Networks by name and from a user's file: what they are, who decides their weights, and what is refused."""

import json

import numpy as np
import pytest

from commands import python
from metareplay import METHODS, Experiment, Stream
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.networks import NETWORKS, Perceptron, describe
from metareplay.runs.folder import Run
from metareplay.runs.request import Request

torch = pytest.importorskip("torch")

from torch import nn

from metareplay.learners.pytorch import PyTorchLearner

FACTORIES = """
import torch
from torch import nn

asked = []

def make(shape, classes, width=1.0):
    asked.append((shape, classes, width))
    units = max(1, round(24 * width))
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(units), nn.ReLU(), nn.Dropout(0.25), nn.Linear(units, classes))

def plain(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

def raises(shape, classes):
    raise KeyError("no such thing\\nand a second line")

def wide(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes + 1))

def foreign_shape(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(5, classes))

def two_types(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.Linear(5, classes).double())

def frozen(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(42, classes)).requires_grad_(False)

def normalised(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.BatchNorm1d(5), nn.Linear(5, classes))

class Wrapped(nn.Module):
    def __init__(self, used, forward, **parts):
        super().__init__()
        self.used, self.given = nn.Sequential(nn.Flatten(), used), forward
        for name, part in parts.items():
            self.add_module(name, part)
    def forward(self, x):
        return self.given(self.used(x), x)

def unused(shape, classes):
    return Wrapped(nn.LazyLinear(classes), lambda scores, x: scores, lazy=nn.LazyLinear(3))

def without_a_gradient(shape, classes):
    return Wrapped(nn.LazyLinear(classes), lambda scores, x: scores.detach())

def two_outputs(shape, classes):
    return Wrapped(nn.LazyLinear(classes), lambda scores, x: (scores, x))

once = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

def the_same(shape, classes):
    return once

frozen_trunk = nn.Linear(42, 5).requires_grad_(False)

def on_one_frozen_trunk(shape, classes):
    return nn.Sequential(nn.Flatten(), frozen_trunk, nn.Linear(5, classes))

trunk = nn.Linear(42, 5)

def on_one_trunk(shape, classes):
    return nn.Sequential(nn.Flatten(), trunk, nn.Linear(5, classes))

def no_arguments():
    return None

text = "no function"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORIES)
    return path


def built(network, seed=0, batch_size=1):
    return PyTorchLearner(network, 3, batch_size, np.random.default_rng(seed))


def pictures(shape, classes=3, tasks=2):
    rng = np.random.default_rng(0)

    def examples(n):
        return rng.integers(256, size=(n, *shape)).astype(np.uint8), np.arange(n) % classes

    return Stream.from_arrays("pictures", [(*examples(12), *examples(6)) for _ in range(tasks)])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(28, 28), (3, 32, 32), (2, 12, 19)])
def test_a_named_network_scores_each_class_whatever_the_images_size(name, shape):
    network = describe(name, shape, 7, (5,))
    learner = engines.learner(network, 3, 1, np.random.default_rng(0), "torch")
    learner.put(np.arange(2), np.ones((2, int(np.prod(shape))), np.float32), np.zeros(2, np.int64), 0)
    assert learner.forward(np.arange(2)).shape == (2, 7)


def test_the_reduced_resnet_is_the_published_one():
    module = describe("resnet18-reduced", (3, 32, 32), 100).modules()[0]
    maps = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            assert part.bias is None
            part.register_forward_hook(lambda part, x, y: maps.append(tuple(y.shape[1:])))
    normalised = [part.num_features for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 100)
    assert len(maps) == len(normalised) == 20  # 17 convolutions of 3×3 and 3 shortcuts
    assert [maps.count(shape) for shape in ((20, 32, 32), (40, 16, 16), (80, 8, 8), (160, 4, 4))] == [5, 5, 5, 5]

    def stage(before, after):
        shortcut = (before != after) * (before * after + 2 * after)
        return 9 * (before * after + 3 * after * after) + 4 * 2 * after + shortcut

    expected = 9 * 3 * 20 + 2 * 20 + stage(20, 20) + stage(20, 40) + stage(40, 80) + stage(80, 160) + 161 * 100
    assert sum(part.numel() for part in module.parameters()) == expected == 1_109_240


def test_images_are_seen_in_their_shape_and_one_without_channels_has_one():
    seen = []
    learner = built(describe("cnn-small", (3, 8, 10), 4))
    learner._modules.copies[0].register_forward_hook(lambda part, x, y: seen.append(x[0]))
    x = np.arange(240, dtype=np.float32)[None]
    learner.put(np.array([0]), x, np.zeros(1, np.int64), 0)
    learner.forward(np.array([0]))
    assert np.array_equal(seen[0], x.reshape(1, 3, 8, 10))
    assert pictures((9, 11)).shape == (9, 11)
    assert describe("cnn-small", (9, 11), 3).shape == (1, 9, 11)
    assert describe("mlp", (9, 11), 3, (4,)) == Perceptron((99, 4, 3))


def test_vectors_are_no_images_and_images_can_be_too_small():
    for name in ("cnn-small", "resnet18-reduced"):
        with pytest.raises(BadInput, match="64 numbers that form none: use network mlp"):
            describe(name, (64,), 10)
    with pytest.raises(BadInput, match=r"at least 4×4 pixels, not 3×9"):
        built(describe("cnn-small", (3, 9), 10))
    with pytest.raises(BadInput, match="batch normalisation cannot learn from one number"):
        built(describe("resnet18-reduced", (8, 8), 10))
    built(describe("resnet18-reduced", (8, 8), 10), batch_size=2)


def test_a_factory_is_told_the_shape_and_the_classes(file):
    learner = built(describe(f"{file}:make", (28, 28), 10))
    assert learner._modules.copies[0][1].in_features == 784, "a lazy layer has found its size"
    built(describe(f"{file}:make", (784,), 10))
    assert _asked(file)[-2:] == [((1, 28, 28), 10, 1.0), ((784,), 10, 1.0)]


def _asked(file):
    from metareplay import user_code

    return user_code.load(f"{file}:asked", "what was asked")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "cannot be made for inputs of shape (1, 6, 7) and 3 classes: KeyError: 'no such thing"),
        ("wide", "makes (1, 4) of 1 × (1, 6, 7), but must make scores (1, 3), one for each of the 3 classes"),
        ("foreign_shape", "fails on 1 × (1, 6, 7): RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("two_types", "are float32, float64, but must all be of one type"),
        ("frozen", "has no parameters that could be trained"),
        ("normalised", "batch normalisation cannot learn from one number per channel; take GroupNorm"),
        ("unused", "has a lazy layer that it does not use"),
        ("without_a_gradient", "does not require grad"),
        ("two_outputs", "makes tuple of 1 × (1, 6, 7), but must make scores (1, 3)"),
        ("no_arguments", "takes 0 positional arguments but 2 were given"),
        ("text", "which cannot be called; it must be a function of (shape, classes)"),
        ("nothing", "there is no 'nothing' in"),
    ],
)
def test_a_network_of_no_use_is_refused_in_one_line_before_anything_is_written(file, tmp_path, name, words):
    with pytest.raises(BadInput) as caught:  # noqa: PT012 - either of two lines may refuse it
        experiment = Experiment(stream=pictures((6, 7)), method=METHODS["online"](), network=f"{file}:{name}")
        Run(tmp_path / "runs" / experiment.key).carry_out(experiment)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["cnn-small", "resnet18-reduced", "make"])
def test_the_generator_that_is_handed_in_decides_the_weights(file, name):
    network = describe(name if name in NETWORKS else f"{file}:{name}", (12, 12), 3)
    torch.manual_seed(5)
    one = built(network, 1).parameters()
    torch.manual_seed(6)
    before = torch.get_rng_state()
    same, other = built(network, 1).parameters(), built(network, 2).parameters()
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before), "PyTorch's global generator is left alone"


def test_independent_shares_the_maps_out_among_the_tasks(file):
    independent = METHODS["independent"]()

    def copies(name, tasks):
        network = independent.network(describe(name, (3, 32, 32), 10), tasks)
        return built(network)._modules.copies

    for tasks, maps in ((1, 20), (3, 6), (20, 1), (30, 1)):
        nets = copies("resnet18-reduced", tasks)
        assert len(nets) == tasks
        assert [net.first[0].out_channels for net in nets] == [maps] * tasks
        assert nets[0].last.in_features == 8 * maps
    convolutions = [part for part in copies("cnn-small", 4)[3].modules() if isinstance(part, nn.Conv2d)]
    assert [part.out_channels for part in convolutions] == [8, 16]
    assert [net[1].out_features for net in copies(f"{file}:make", 3)] == [8, 8, 8]
    assert _asked(file)[-1] == ((3, 32, 32), 10, 1 / 3)
    assert len(copies(f"{file}:plain", 2)) == 2, "without the keyword, every task has a whole network"
    with pytest.raises(BadInput, match="gave the same parameters to two tasks"):
        copies(f"{file}:the_same", 2)


def test_copies_for_each_task_may_share_only_what_is_not_trained(file):
    def copies(name):
        return built(METHODS["independent"]().network(describe(f"{file}:{name}", (6, 7), 3), 2))._modules.copies

    with pytest.raises(BadInput, match="gave the same parameters to two tasks"):
        copies("on_one_trunk")
    first, second = copies("on_one_frozen_trunk")
    assert first[1].weight is second[1].weight
    assert not torch.equal(first[2].weight, second[2].weight), "they start differently"


PERCEPTRONS = ("taskinput", "independent", "cbp", "redo", "ncm", "slda")
"""Methods that divide a perceptron among tasks, make its units anew, or write its last layer."""


def test_what_needs_a_perceptron_says_so_and_other_methods_train_the_network_that_was_asked_for():
    network = describe("cnn-small", (8, 8), 3)
    for name, method in METHODS.items():
        if name not in PERCEPTRONS:
            assert method().network(network, 4) is network
        elif name != "independent":
            with pytest.raises(BadInput, match=rf"{name} .* use network mlp"):
                Experiment(stream=pictures((8, 8)), method=method(), network="cnn-small")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("jax", "cpu", "mlp"), "engine is 'jax', but must be one of fused, torch"),
        (("fused", "cpu", "cnn-small"), "take engine torch for cnn-small"),
        (("fused", "cuda", "mlp"), "computes only on the CPU"),
        ((None, "cuda:999", "mlp"), "device is cuda:999, but PyTorch finds"),
        ((None, "gpu", "mlp"), "device is 'gpu', but must be cpu, cuda, cuda:NUMBER or mps"),
        *(((None, device, "mlp"), "must be cpu, cuda") for device in ("cuda:x", "", "cuda:", "cuda:01", "cpu:0")),
    ],
)
def test_an_engine_or_device_that_is_not_there_is_refused_in_one_line(asked, words):
    with pytest.raises(BadInput) as caught:
        engines.chosen(*asked)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_devices_that_are_not_there_say_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BadInput, match="no CUDA device here; device cpu always works"):
        engines.chosen("torch", "cuda", "mlp")
    with pytest.raises(BadInput, match="device is mps, but PyTorch finds no such device"):
        engines.chosen("torch", "mps", "mlp")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert engines.chosen(None, "cuda:1", "mlp") == "torch"
    with pytest.raises(BadInput, match="only 2 of them, counted from 0"):
        engines.chosen("torch", "cuda:2", "mlp")


def test_flags_choose_network_engine_and_device(file):
    def chosen(**run):
        return Request("digits-rotations", "online", run=run).resolved()[2]

    assert chosen()["engine"] == "fused"  # where it can be
    assert chosen(engine="torch")["engine"] == "torch"
    run = chosen(network=f"{file}:make", seed=3)
    assert (run["engine"], run["device"], run["network"], run["seed"]) == ("torch", "cpu", f"{file}:make", 3)
    with pytest.raises(BadInput, match="hidden is for the network mlp, not for cnn-small"):
        chosen(network="cnn-small", hiddens=5)
    with pytest.raises(BadInput, match="take engine torch"):
        chosen(network="cnn-small", engine="fused")


def test_describing_networks_does_not_import_pytorch():
    code = (
        "import sys, metareplay.networks as n; n.describe('cnn-small', (28, 28), 10).for_each_task(3); "
        "import metareplay.runs.request, metareplay.learners.engines; sys.exit('torch' in sys.modules)"
    )
    assert python(code).returncode == 0


def test_a_run_from_the_command_line(file, tmp_path, capsys):
    from metareplay.cli import main

    short = ["--tasks", "2", "--samples-per-task", "5", "--quiet", "--out", str(tmp_path / "runs"), "--json", "-"]
    command = ["run", "digits-rotations", "meralg1", "--memories", "4", "--replay-batch-size", "2", *short]
    assert main([*command, "--network", f"{file}:make"]) == 0
    configuration = json.loads(capsys.readouterr().out)["configuration"]
    assert (configuration["network"], configuration["engine"]) == ("nets.py:make", "torch")
    assert len(configuration["network_sha256"]) == 64
    assert main([*command, "--engine", "torch"]) == 0
    assert json.loads(capsys.readouterr().out)["configuration"]["network_sha256"] is None
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert main([*command, "--network", f"{file}:wide"]) == 2
    assert main([*command, "--device", "abacus"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert len(list((tmp_path / "runs").iterdir())) == 2, "nothing of it is left"
    file.write_text(FACTORIES.replace("24", "25"))
    assert main([*command, "--network", f"{file}:make"]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 3, "of a changed file it is another run"
