"""Any network behind the same primitives: held against plain PyTorch, buffers and draws included."""

import numpy as np
import pytest

from killed_runs import little
from metareplay.data.images import BaseImages
from metareplay.errors import BadInput, RunFailed
from metareplay.learners.base import Diverged
from metareplay.networks import ModuleNetwork
from metareplay.runs.checkpoint import pack, unpack
from metareplay.streams.stream import Images
from test_resume import assert_deaths_change_nothing

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy

from metareplay.learners.pytorch import PyTorchLearner
from test_networks import pictures


def same(one, other):
    return pack({"it": one}) == pack({"it": other})


SHAPE, CLASSES, TASKS, SLOTS = (1, 12, 12), 4, 3, 10
INPUTS = 144

FACTORIES = """
import torch
from torch import nn

def dropout(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, classes))

def two_kinds(shape, classes):
    '''Maps and single numbers, both normalised; the second from batches only.'''
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 8), nn.BatchNorm1d(8),
        nn.ReLU(), nn.Linear(8, classes),
    )

def partly_frozen(shape, classes):
    module = dropout(shape, classes)
    module[1].requires_grad_(False)
    return module

class Counting(nn.Module):
    '''Puts another tensor in its buffer's place, and fails on the hundredth pass.'''
    def __init__(self, classes):
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, classes))
    def forward(self, x):
        if self.training:
            self.passes = self.passes + 1
        if self.passes == 100:
            raise ArithmeticError("a hundred\\nis enough")
        return self.layers(x)

def counting(shape, classes):
    return Counting(classes)
"""

NETWORKS = ["cnn-small", "resnet", "dropout"]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    return request.param


@pytest.fixture
def describe(tmp_path):
    """Networks by a short name: ours, made small, and a user's."""
    file = tmp_path / "nets.py"
    file.write_text(FACTORIES)

    def describe(name):
        ours = {
            "cnn-small": ModuleNetwork("cnn-small", SHAPE, CLASSES, share=8),
            "resnet": ModuleNetwork("resnet18-reduced", SHAPE, CLASSES, share=10),
        }
        return ours.get(name) or ModuleNetwork(f"{file}:{name}", SHAPE, CLASSES)

    return describe


def make(network, device="cpu", dtype=torch.float64, seed=0, batch_size=2):
    learner = PyTorchLearner(network, SLOTS, batch_size, np.random.default_rng(seed), device, dtype)
    x, y, tasks = examples()
    for slot in range(SLOTS):
        learner.put(np.array([slot]), x[slot : slot + 1], y[slot : slot + 1], int(tasks[slot]))
    return learner


def examples():
    rng = np.random.default_rng(7)
    x = rng.random((SLOTS, INPUTS)).astype(np.float32)
    return x, rng.integers(CLASSES, size=SLOTS), np.arange(SLOTS) % TASKS


class Plain:
    """The same module trained in the usual way, by ``torch.optim.SGD`` in float64."""

    def __init__(self, learner, network):
        self.module = learner.module()
        x, y, self.tasks = examples()
        device = next(self.module.parameters()).device
        self.x, self.y = torch.tensor(x).double().to(device), torch.tensor(y).to(device)
        self.module.train()

    def scores(self, rows):
        return self.module(self.x[rows].view(-1, *SHAPE))

    def sgd(self, rows, lr):
        optimizer = torch.optim.SGD([part for part in self.module.parameters() if part.requires_grad], lr)
        optimizer.zero_grad()
        cross_entropy(self.scores(rows), self.y[rows]).backward()
        optimizer.step()

    def parameters(self):
        parts = [part for part in self.module.parameters() if part.requires_grad]
        return np.concatenate([part.detach().cpu().numpy().ravel() for part in parts])

    def buffers(self):
        return [buffer.cpu().numpy() for buffer in self.module.buffers()]


def buffers(learner):
    return [value for name, value in learner.state().items() if name.startswith("buffer")]


def assert_same_module(learner, plain):
    np.testing.assert_allclose(learner.parameters(), plain.parameters(), rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(buffers(learner), plain.buffers(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


deterministic = pytest.mark.parametrize("name", ["cnn-small", "resnet"])


@deterministic
def test_a_reptile_step_keeps_a_share_of_the_change_and_all_of_the_statistics(name, describe, device):
    learner = make(describe(name), device)
    plain = Plain(learner, describe(name))
    rows = np.array([[0, 1, 2], [3, 3, 4]])
    learner.reptile(rows, 0.1, 0.3)
    for batch in rows:
        start = [part.detach().clone() for part in plain.module.parameters()]
        for row in batch:
            plain.sgd(np.array([row]), 0.1)
        with torch.no_grad():
            for part, before in zip(plain.module.parameters(), start, strict=True):
                part.copy_(before + 0.3 * (part - before))
    assert_same_module(learner, plain)


@deterministic
def test_scores_are_the_modules_in_evaluation(name, describe, device):
    learner = make(describe(name), device)
    learner.sgd_each(np.arange(SLOTS), 0.05)
    plain = Plain(learner, describe(name))
    plain.module.eval()
    rows = np.array([4, 0, 9])
    expected = plain.scores(rows).detach().cpu().numpy()
    np.testing.assert_allclose(learner.forward(rows), expected, rtol=1e-9, atol=1e-11)
    x, y, _ = examples()
    images = Images(BaseImages(np.repeat(x, 60, axis=0)), np.repeat(y, 60))
    scores = learner.scores(images, 0)
    assert scores.shape == (600, CLASSES), "more than are laid out at a time"
    np.testing.assert_allclose(scores[[240, 0, 599]], expected, rtol=1e-9, atol=1e-11)


def test_running_statistics_follow_what_is_learned_and_nothing_else(describe, device):
    learner = make(describe("resnet"), device)

    def moves(act):
        before = buffers(learner)
        act()
        return not all(same(a, b) for a, b in zip(before, buffers(learner), strict=True))

    rows, start = np.array([0, 1]), learner.parameters()
    assert moves(lambda: learner.sgd(rows, 0.1))
    assert moves(lambda: learner.sgd_each(rows, 0.1))
    assert moves(lambda: learner.reptile(rows[None], 0.1, 0.5))
    assert moves(lambda: learner.gradient(rows))
    assert not moves(lambda: learner.gradients([rows]))
    assert not moves(lambda: learner.dots(rows, [rows]))
    assert not moves(lambda: learner.forward(rows))
    assert not moves(lambda: learner.scores(Images(BaseImages(examples()[0]), examples()[1]), 0))
    assert not moves(lambda: learner.interpolate(start, 0.5))
    assert not moves(lambda: learner.descend(start, 0.01))


def test_a_buffer_may_be_replaced_by_its_module(describe):
    learner = make(describe("counting"))
    assert learner.state()["buffer 0.passes"] == 0, "trying it out leaves no trace"
    learner.sgd_each(np.arange(5), 0.01)
    learner.gradients([np.arange(3), np.arange(2)])
    assert learner.state()["buffer 0.passes"] == 5


def test_a_module_that_fails_while_it_learns_is_told_in_one_line(describe):
    learner = make(describe("counting"))
    with pytest.raises(RunFailed) as caught:
        learner.sgd_each(np.zeros(150, np.int64), 0.001)
    assert "counting fails on 1 × (1, 12, 12): ArithmeticError: a hundred" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_normalising_single_numbers_needs_batches(describe):
    network = describe("two_kinds")
    with pytest.raises(BadInput, match=r"fails on 1 × .*batch normalisation cannot learn from one number per channel"):
        make(network, batch_size=1)
    learner = make(network, batch_size=2)
    learner.sgd(np.array([0, 1]), 0.1)
    with pytest.raises(RunFailed, match="take GroupNorm, larger images or batches"):
        learner.sgd(np.array([0]), 0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_that_is_not_taken_leaves_everything_as_it_was(name, describe, device):
    learner = make(describe(name), device)
    learner.put(np.array([3]), np.full((1, INPUTS), np.nan, np.float32), np.zeros(1, np.int64), 0)
    learner.sgd(np.array([0, 1]), 0.01)
    before = learner.state()
    for act in (
        lambda: learner.sgd(np.array([3]), 0.1),
        lambda: learner.gradient(np.array([3])),
        lambda: learner.gradients([np.array([0]), np.array([3])]),
        lambda: learner.sgd_each(np.array([3, 0]), 0.1),
    ):
        with pytest.raises(Diverged) as caught:
            act()
        assert (caught.value.step, caught.value.row) == (1, 3)
        assert same(learner.state(), before)


def test_what_a_module_draws_is_its_own(describe, device):
    def life(disturb):
        learner = make(describe("dropout"), device)
        for row in range(6):
            disturb()
            learner.sgd(np.array([row, row + 1]), 0.1)
        return np.asarray(learner.parameters())

    other = make(describe("dropout"), device, seed=1)
    quiet = life(lambda: None)
    assert same(quiet, life(lambda: torch.rand(7))), "others may draw"
    assert same(quiet, life(lambda: torch.manual_seed(3))), "others may seed"
    assert same(quiet, life(lambda: other.sgd(np.array([0]), 0.1))), "two learners in one process"
    learner = make(describe("dropout"), device)
    before = torch.get_rng_state()
    learner.sgd_each(np.arange(5), 0.1)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_draws_anew_in_every_step_and_not_in_evaluation(describe):
    learner = make(describe("dropout"))
    rows = np.array([0, 1])
    assert not np.array_equal(learner.gradient(rows), learner.gradient(rows))
    before = learner.state()
    assert same(learner.forward(rows), learner.forward(rows))
    learner.dots(rows, [rows])
    assert same(learner.state(), before)


def act(learner, seed):
    rng = np.random.default_rng(seed)
    learner.reptile(rng.integers(SLOTS, size=(2, 3)), 0.05, 0.3)
    learner.sgd(rng.integers(SLOTS, size=4), 0.05)
    learner.copy(0, 5)
    learner.descend(learner.gradient(rng.integers(SLOTS, size=3)), 0.05)
    learner.dots(np.array([0]), [np.array([1])])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", [*NETWORKS, "partly_frozen", "counting"])
def test_a_learner_goes_on_from_its_file_to_the_same_bits(name, dtype, describe):
    learner = make(describe(name), dtype=dtype)
    act(learner, 0)
    kept = pack(learner.state())
    act(learner, 1)
    other = make(describe(name), dtype=dtype, seed=1)
    other.load_state(unpack(kept))
    act(other, 1)
    assert same(learner.state(), other.state())
    rows = np.arange(SLOTS)
    assert same(learner.forward(rows), other.forward(rows))
    assert learner.forward(rows).dtype == (np.float32 if dtype == torch.float32 else np.float64)


@pytest.mark.parametrize(
    ("name", "method"),
    [("mlp", "gem"), ("dropout", "meralg1"), ("cnn-small", "independent"), ("resnet18-reduced", "ewc")],
)
def test_a_run_that_is_killed_and_goes_on_ends_with_the_same_bits(name, method, describe):
    network = describe(name).name if name == "dropout" else name
    options = {"samples_per_task": 4, "hidden": (9,), "engine": "torch", "network": network}
    assert_deaths_change_nothing(little(method, pictures((12, 12), CLASSES, 3), **options), least=2)


def test_what_needs_no_gradient_stays_as_it_is(describe):
    learner = make(describe("partly_frozen"))
    before = learner.state()["fixed 0.1.weight"]
    act(learner, 0)
    assert same(learner.state()["fixed 0.1.weight"], before)
    assert len(learner.parameters()) == 20 * CLASSES + CLASSES


@pytest.mark.parametrize("name", ["cnn-small", "resnet"])
def test_every_task_has_its_own_copy_statistics_included(name, describe, device):
    learner = make(describe(name).for_each_task(TASKS), device)

    def values(task):
        module = learner.module(task)
        return [value.detach().cpu().numpy() for value in (*module.parameters(), *module.buffers())]

    before = [values(task) for task in range(TASKS)]
    learner.sgd(np.array([1, 4, 7]), 0.1)  # all of task 1
    for task in range(TASKS):
        changed = [not same(a, b) for a, b in zip(before[task], values(task), strict=True)]
        assert all(changed) if task == 1 else not any(changed)
    learner.copy_task(1, 2)
    assert all(same(a, b) for a, b in zip(values(1), values(2), strict=True))
    learner.sgd(np.array([2, 5]), 0.1)
    assert not any(same(a, b) for a, b in zip(values(1)[:1], values(2)[:1], strict=True)), "copied, not shared"
    mixed = learner.forward(np.arange(SLOTS))
    for row in range(SLOTS):
        np.testing.assert_allclose(mixed[row : row + 1], learner.forward(np.array([row])), rtol=1e-9, atol=1e-12)


ALLOWED = np.array([[True, True, False, False], [False, True, True, False], [False, False, True, True]])


def restricted(network, device="cpu"):
    learner = make(network, device)
    x, _, tasks = examples()
    for slot in range(SLOTS):  # labels that are allowed
        learner.put(np.array([slot]), x[slot : slot + 1], np.array([tasks[slot] + slot % 2]), int(tasks[slot]))
    learner.restrict(ALLOWED)
    return learner


@pytest.mark.parametrize("name", NETWORKS)
def test_classes_that_are_not_allowed_have_no_part(name, describe, device):
    learner = restricted(describe(name), device)
    rows = np.arange(SLOTS)
    tasks = rows % TASKS
    scores = learner.forward(rows)
    assert (scores[~ALLOWED[tasks]] < -1e29).all()
    assert (np.abs(scores[ALLOWED[tasks]]) < 1e3).all()
    images = Images(BaseImages(examples()[0]), np.zeros(SLOTS, np.int64))
    assert (learner.scores(images, 2)[:, :2] < -1e29).all()
    learner.sgd_each(np.array([0, 3, 6]), 0.1)  # all of task 0
    learner.restrict(None)
    before = np.asarray(learner.parameters())[-CLASSES:]
    learner.restrict(ALLOWED)
    learner.sgd(np.array([0, 3, 9]), 0.1)
    after = np.asarray(learner.parameters())[-CLASSES:]
    assert ((before != after) == ALLOWED[0]).all()
    learner.restrict(None)
    assert (np.abs(learner.forward(rows)) < 1e3).all()


def test_arrays_that_cannot_be_written_are_taken(describe):
    learner = make(describe("cnn-small"), dtype=torch.float32)
    x, y, _ = examples()
    x.flags.writeable = y.flags.writeable = False
    learner.put(np.arange(SLOTS), x, y, 0)
    learner.sgd_each(np.broadcast_to(np.int64(3), 2), 0.1)
    start = np.asarray(learner.parameters())
    start.flags.writeable = False
    learner.interpolate(start, 0.5)
