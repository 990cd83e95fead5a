"""Every method, step by step, against a loop written for this test alone from its paper's formulas (``tests/naive``).

To add a method: its loop, and a ``Case``. Each is tried on both engines, in batches of one and of several, in streams
whose tasks share classes and in streams whose tasks do not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from metareplay import METHODS
from metareplay.learners.fused import FusedPerceptron
from metareplay.networks import ModuleNetwork, Perceptron

torch = pytest.importorskip("torch")

from metareplay.learners.pytorch import PyTorchLearner
from naive import Example, Naive, consolidation, meta, plasticity, prototypes, published, replay

SHAPE, CLASSES, TASKS = (1, 6, 6), 8, 4
INPUTS = SHAPE[1] * SHAPE[2]
VISITS = (0, 1, 1, 3, 1)  # a task may return, and follow on itself
EXAMPLES = 10  # of each visit


@dataclass(frozen=True)
class Case:
    """A method by its id, its naive loop, settings that leave no part of it unused, and what it is not for."""

    id: str
    loop: type[Naive]
    settings: dict[str, Any]
    not_in: tuple[str, ...] = ()


REPLAY = {"lr": 0.1, "memories": 20, "replay_batch_size": 5}
EWC = {"lr": 0.1, "strength": 5.0, "n_memories": 6, "decay": 0.7}
OLD_EWC = {"lr": 0.1, "memory_strength": 10.0, "n_memories": 6}
MER = REPLAY | {"batches_per_example": 2}
META = REPLAY | {"glances": 2, "clip": 0.5}

CLSER = {"stable_decay": 0.9, "stable_rate": 0.4, "plastic_decay": 0.7, "plastic_rate": 0.8, "strength": 0.5}
ADAM = {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "eps": 0.01, "weight_decay": 0.3}
CBP = ADAM | {"replacement_rate": 0.03, "utility_decay": 0.9, "maturity": 4}

CASES = [
    Case("agem", replay.AGEM, REPLAY),
    Case("clser", replay.CLSER, REPLAY | CLSER),
    Case("der", replay.DERPP, REPLAY | {"alpha": 0.3}),
    Case("derpp", replay.DERPP, REPLAY | {"alpha": 0.3, "beta": 0.7}),
    Case("erace", replay.ERACE, REPLAY),
    Case("ergap", replay.GapER, REPLAY | {"batches_per_example": 3, "few": 10, "calm": 0.1, "conflict": 0.2}),
    Case("gdumb", replay.GDumb, {"lr": 0.1, "memories": 20, "passes": 3, "fit_batch_size": 6}),
    Case("gss", replay.GSS, REPLAY | {"candidates": 3}),
    Case("mir", replay.MIR, REPLAY | {"candidates": 10}),
    Case("si", consolidation.SI, {"lr": 0.1, "c": 0.05, "xi": 0.001}),
    Case("ewc-online", consolidation.OnlineEWC, EWC),
    Case("ewc-online", consolidation.OnlineEWC, EWC | {"empirical": True}),
    Case("mas", consolidation.MAS, {"lr": 0.1, "strength": 0.5, "n_memories": 6}),
    Case("lwf", consolidation.LwF, {"lr": 0.1, "strength": 1.5, "temperature": 3.0}),
    Case("ncm", prototypes.NCM, {}, not_in=("cnn",)),
    Case("slda", prototypes.SLDA, {"shrinkage": 0.1}, not_in=("cnn",)),
    Case("cmaml", meta.CMAML, META | {"outer_lr": 0.3}),
    Case("sync", meta.Sync, META | {"outer_lr": 0.3, "lr_of_lr": 2.0}),
    Case("lamaml", meta.LaMAML, META | {"lr_of_lr": 2.0}),
    Case("eralg4", published.MERLite, REPLAY | {"interpolate_every": 3, "rate": 0.3}),
    Case("online", plasticity.SGDW, {"lr": 0.1, "weight_decay": 0.3}),
    Case("l2init", plasticity.L2Init, {"lr": 0.1, "strength": 0.3}),
    Case("shrink-perturb", plasticity.ShrinkPerturb, {"lr": 0.1, "weight_decay": 0.3, "sigma": 0.2}),
    Case("adamw", plasticity.AdamW, ADAM),
    Case("upgd", plasticity.UPGD, {"lr": 0.1, "beta": 0.9, "sigma": 0.2, "weight_decay": 0.3}),
    Case("cbp", plasticity.CBP, CBP | {"base": "sgd", "lr": 0.1, "weight_decay": 0.3}, ("cnn",)),
    Case("cbp", plasticity.CBP, CBP | {"base": "adamw"}, ("cnn",)),
    Case("redo", plasticity.ReDo, {"lr": 0.1, "weight_decay": 0.3, "tau": 0.4, "period": 10}, ("cnn",)),
]
OF_MER_PAPER = [
    Case("fresh", published.Fresh, {"lr": 0.1}),
    Case("ewc", published.EWC, OLD_EWC),
    Case("ewc", published.EWC, OLD_EWC | {"mean_of_squares": True}),
    Case("gem", published.GEM, {"lr": 0.05, "memories": 40, "memory_strength": 0.0}),
    Case("gem", published.GEM, {"lr": 0.05, "memories": 40, "memory_strength": 0.5}),
    Case("er-matched", published.Replaying, REPLAY | {"batches_per_example": 2}),
    Case("eralg5", published.Algorithm5, REPLAY),
    Case("eralg5", published.Algorithm5, REPLAY | {"mean_over_tasks": True}),
    Case("meralg1", published.Algorithm1, MER | {"beta": 0.3, "gamma": 1.0}),
    Case("meralg1", published.Algorithm1, MER | {"beta": 0.3, "gamma": 0.5}),
    Case("meralg6", published.Algorithm6, MER | {"gamma": 0.5}),
    Case("meralg7", published.Algorithm7, REPLAY | {"gamma": 0.5, "s": 3.0}),
]


@dataclass(frozen=True)
class World:
    """An engine, a network, a batch size and a scenario."""

    engine: str
    network: Perceptron | ModuleNetwork
    batch_size: int
    scenario: str

    @property
    def kinds(self):
        """What ``Case.not_in`` may name."""
        return {self.engine, self.scenario, "cnn" if isinstance(self.network, ModuleNetwork) else "perceptron"}


def little_cnn(shape, classes):
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, classes)
    )


PERCEPTRON = Perceptron((INPUTS, 16, 12, CLASSES))
WORLDS = {
    "fused": World("fused", PERCEPTRON, 1, "class"),
    "fused, batches": World("fused", PERCEPTRON, 4, "domain"),
    "torch": World("torch", PERCEPTRON, 1, "task"),
    "torch, cnn": World("torch", ModuleNetwork(little_cnn, SHAPE, CLASSES), 4, "class"),
}


def visits(world, rng):
    """For each visit its task and batches: noisy prototypes of the classes, permuted in each task's own way."""
    prototypes = rng.random((CLASSES, INPUTS)) * (rng.random((CLASSES, INPUTS)) < 0.4)
    orders = [rng.permutation(INPUTS) for _ in range(TASKS)]
    for task in VISITS:
        domain = world.scenario == "domain"
        y = rng.integers(CLASSES, size=EXAMPLES) if domain else 2 * task + rng.integers(2, size=EXAMPLES)
        x = (prototypes[y] * rng.uniform(0.5, 1.5, (EXAMPLES, INPUTS)))[:, orders[task]].astype(np.float32)
        starts = range(0, EXAMPLES, world.batch_size)  # the last batch may be shorter
        yield task, [(x[i : i + world.batch_size], y[i : i + world.batch_size]) for i in starts]


def allowed(world, met):
    """Which classes count in each task once some tasks are met."""
    own = np.repeat(np.eye(TASKS, dtype=bool), 2, axis=1)
    if world.scenario == "class":
        return np.tile(own[sorted(met)].any(0), (TASKS, 1))
    return own if world.scenario == "task" else None


def passed_through(network):
    """The network as a function of its parameters; ``near`` takes how near it comes to a ReLU's kink."""
    if isinstance(network, ModuleNetwork):
        (module,) = network.modules()
        names = [name for name, _ in module.named_parameters()]
        return lambda theta, x, near: torch.func.functional_call(
            module, dict(zip(names, theta, strict=True)), (x.view(-1, *SHAPE),)
        )

    def perceptron(theta, x, near):
        for number, (weights, biases) in enumerate(zip(theta[::2], theta[1::2], strict=True)):
            if number:
                sizes = x.detach().abs()
                near(sizes[sizes > 0] / sizes.max())
                x = x.relu()
            x = x @ weights + biases
        return x

    return perceptron


def distance(ours, theirs):
    squares = [((one.detach() - other.detach()) ** 2).sum() for one, other in zip(ours, theirs, strict=True)]
    return float(sum(squares)) ** 0.5


class Race:
    """A method and its naive loop from the same start; the loop then follows the method's parameters."""

    def __init__(self, case, world):
        self.method = METHODS[case.id](**case.settings)
        network = self.method.network(world.network, TASKS)
        assert network == world.network
        slots = world.batch_size + self.method.capacity(TASKS, world.batch_size)
        rng = np.random.default_rng(0)
        self.float32 = world.engine == "fused"
        self.learner = (
            FusedPerceptron(network, slots, world.batch_size, rng)
            if isinstance(network, Perceptron) and self.float32
            else PyTorchLearner(network, slots, world.batch_size, rng, dtype=torch.float64)
        )
        self.method.start(self.learner, np.random.default_rng(1), TASKS)
        twin = np.random.default_rng(1)
        self.naive = case.loop(passed_through(network), self.parts(), twin, TASKS, case.settings)
        self.compared = self.unclear = 0

    def parts(self):
        """Copies of the parameters in float64, of a perceptron layer by layer."""
        if isinstance(self.learner.network, Perceptron):
            arrays = [np.array(part) for layer in self.learner.layers() for part in layer]
        else:
            arrays = [piece.detach().numpy().copy() for piece in self.learner._pieces(self.learner._theta)]
        return [torch.tensor(array, dtype=torch.float64) for array in arrays]

    def both(self, step):
        """Let both take a step, and compare."""
        before, self.naive.nearest = self.parts(), np.inf
        step(self.method)
        step(self.naive)
        after = self.parts()
        if self.float32 and self.naive.nearest < 3e-6:  # rounding may have chosen otherwise
            self.unclear += 1
        else:
            self.compared += 1
            rounding = 2.0**-22 * distance(before, [0 * part for part in before]) if self.float32 else 0
            assert distance(self.naive.theta, after) <= 1e-5 * distance(self.naive.theta, before) + rounding
        with torch.no_grad():
            for theirs, ours in zip(self.naive.theta, after, strict=True):
                theirs.copy_(ours)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("case", [*CASES, *OF_MER_PAPER], ids=lambda case: case.id)
def test_a_method_does_what_its_naive_loop_does(case, world):
    if world.kinds & set(case.not_in):
        pytest.skip("the method is not for this")
    race, met, previous = Race(case, world), set(), None
    method, naive, learner = race.method, race.naive, race.learner
    for task, batches in visits(world, np.random.default_rng(2)):
        race.both(lambda one: one.begin_task(task, previous))  # noqa: B023
        met.add(task)
        previous = task
        counting = allowed(world, met)
        learner.restrict(counting)
        naive.allowed = None if counting is None else torch.tensor(counting)
        for x, y in batches:
            rows = np.arange(len(y))
            learner.put(rows, x, y, task)
            examples = [Example(torch.tensor(one).double(), int(label), task) for one, label in zip(x, y, strict=True)]
            race.both(lambda one: one.observe(rows if one is method else examples))  # noqa: B023
        with method.readied():
            answers = torch.tensor(np.asarray(learner.forward(rows), np.float64))
        expected = naive.counting(naive.answers(examples), examples).detach()
        counts = torch.isfinite(expected)
        torch.testing.assert_close(answers[counts], expected[counts], rtol=2e-4, atol=2e-4)
    assert race.compared > 10 * race.unclear
    assert method.counters == pytest.approx(naive.counters)
    if isinstance(naive, published.GEM):
        assert set(naive.turned) == {True, *([False] if world.scenario != "class" else [])}, (
            "some are turned, and some not"
        )
