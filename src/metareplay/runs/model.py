"""The network that a run ends with: saved with the record, loaded to go on with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metareplay.data.images import BaseImages, Images
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.learners.base import Learner
from metareplay.methods.base import Method
from metareplay.networks import ModuleNetwork, Network, Perceptron
from metareplay.runs.checkpoint import State, unpack
from metareplay.runs.normaliser import Normaliser, parts
from metareplay.runs.record import Record, read_part, read_summary

if TYPE_CHECKING:
    from torch.nn import Module

NETWORKS = {"Perceptron": Perceptron, "ModuleNetwork": ModuleNetwork}
TABLE = {"examples", "index", "value", "table", "labels", "tasks"}
"""What of a learner's state are the examples that it remembers."""


def weights(
    network: Network, learner: Learner, method: Method, allowed: NDArray[np.bool_] | None, normaliser: Normaliser | None
) -> State:
    """All that is needed to make the learner again as it is tested, without the examples in its table."""
    with method.readied():
        state = learner.state()
    return {
        "network": {"kind": type(network).__name__, **asdict(network)},
        "allowed": allowed,
        "normaliser": normaliser and normaliser.state(),
        "learner": {name: value for name, value in state.items() if name not in TABLE},
    }


def read(run: Path | str) -> tuple[State, str]:
    """The ``weights`` saved in a run's folder, and their SHA-256; BadInput if there are none, or they are damaged."""
    folder = Path(run)
    saved = read_summary(folder).get("weights")
    if not isinstance(saved, dict):
        raise BadInput(f"the run in {folder} was saved without its weights; run it again: metareplay run … --again")
    return unpack(read_part(folder, saved, " with --again")), saved["sha256"]


def network_of(state: State) -> Network:
    """The network that some ``weights`` are of."""
    kind, described = NETWORKS[state["network"]["kind"]], dict(state["network"])
    del described["kind"]
    made: Network = kind(**{name: tuple(part) if isinstance(part, list) else part for name, part in described.items()})
    return made


def restore(learner: Learner, state: State, normaliser: Normaliser | None) -> None:
    """Give a learner and what normalises its inputs some ``weights``; its table and steps stay."""
    saved = state.get("normaliser")  # older ones have none
    if saved and normaliser:
        normaliser.load_state(saved)
    elif saved or normaliser:
        raise BadInput("of a run and the one that it goes on --from, one normalises its inputs: --normalise for both")
    before = learner.state()
    learner.load_state(before | state["learner"] | {"steps": before["steps"]})


class Model:
    """What a run has learned: its ``record``, its ``network``, and its ``learner`` at the end, without a table.

    ``metareplay.load`` makes one.

    Examples
    --------
    >>> record = metareplay.run(stream, metareplay.Online(lr=0.03))
    >>> model = metareplay.Model(record, record.weights)
    >>> model.predict(stream.tasks[0].test).shape, [weights.shape for weights, biases in model.layers()]
    ((500,), [(64, 100), (100, 100), (100, 10)])
    """

    def __init__(self, record: Record, state: State, device: str = "cpu") -> None:
        self.record, self.network = record, network_of(state)
        engine, batch = record.configuration["engine"], record.configuration["batch_size"]  # which a module may need
        self.learner = engines.learner(self.network, batch, batch, np.random.default_rng(0), engine, device)
        saved = state.get("normaliser")
        self.normaliser = Normaliser(self.network.inputs, saved["decay"]) if saved else None
        restore(self.learner, state, self.normaliser)
        self.learner.restrict(state["allowed"])

    def __repr__(self) -> str:
        return f"Model({self.network}, learned by {self.record!r})"

    @classmethod
    def of(cls, record: Record, state: State, device: str = "cpu") -> Model:
        """A model of weights from a file; BadInput if they make none."""
        try:
            return cls(record, state, device)
        except (BadInput, MemoryError):
            raise
        except Exception as error:  # what comes from a file may be anything
            text = " ".join(str(error).split())
            raise BadInput(f"the weights of the run do not fit this version of metareplay ({text})") from error

    def scores(self, x: Images | ArrayLike, task: int = 0) -> NDArray[np.float32]:
        """Scores (logits) ``(n, classes)``; about −1e30 for classes that the scenario excludes for the task.

        Parameters
        ----------
        x
            ``(n, …)`` uint8 images or float inputs; or ``Images``, such as ``stream.tasks[0].test``.
        task
            Which task they are of, where the network has private layers or the scenario tells the tasks apart.
        """
        if not isinstance(x, Images):
            given = np.asarray(x)
            pixels = given.reshape(len(given), -1) if given.ndim else given
            if pixels.ndim != 2 or pixels.shape[1] != self.network.inputs:
                raise BadInput(f"inputs of shape {given.shape} were given, but must be (n, {self.network.inputs})")
            pixels = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
            x = Images(BaseImages(pixels), np.zeros(len(pixels), np.int64))
        return np.concatenate([self.learner.scores(part, task) for part in parts(x, self.normaliser)])

    def predict(self, x: Images | ArrayLike, task: int = 0) -> NDArray[np.int64]:
        """The class with the highest score for each example; ``(n,)``."""
        return np.asarray(self.scores(x, task).argmax(1))

    def layers(self) -> list[tuple[Any, Any]]:
        """Views of each layer's weights ``(in, out)`` and biases ``(out,)``; of a perceptron."""
        return self.learner.layers()

    def to_torch(self, task: int = 0) -> Module:
        """A ``torch.nn.Module`` with these weights, of its own, in evaluation mode; one task's where it has several.

        Where the run normalised its inputs, so do a BatchNorm1d and a Hardtanh, which are to stay in that mode;
        BadInput if it is not a perceptron's.
        """
        import torch

        if self.normaliser and isinstance(self.network, ModuleNetwork):
            raise BadInput("the module learned from normalised inputs, which it does not take by itself: use scores()")
        if isinstance(self.network, ModuleNetwork):
            module: Module = self.learner.module(task)  # type: ignore[attr-defined]  # only PyTorch computes these
            return module
        made: list[Module] = []
        if self.normaliser:
            centre, spread, limit = self.normaliser.moments()
            norm = torch.nn.BatchNorm1d(len(centre), eps=0, affine=False)
            norm.running_mean, norm.running_var = (torch.tensor(v, dtype=torch.float32) for v in (centre, spread**2))
            made = [norm, torch.nn.Hardtanh(-limit, limit)]
        for both in self.layers():
            matrix, biases = (np.asarray(part)[task] if both[1].ndim == 2 else np.asarray(part) for part in both)
            linear = torch.nn.Linear(*matrix.shape)
            linear.weight.data, linear.bias.data = torch.tensor(matrix.T.copy()), torch.tensor(biases.copy())
            made += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*made[:-1]).eval()


def load(run: Path | str, device: str = "cpu") -> Model:
    """What a run has learned, from its folder.

    BadInput if there is no record, it was saved with ``--no-weights``, or something is damaged.

    Examples
    --------
    >>> metareplay.run(stream, metareplay.Online(lr=0.03)).save("runs/mine")
    >>> metareplay.load("runs/mine")
    Model(Perceptron(...), learned by Record(online on digits-rotations, seed 0: retained accuracy ... %))
    """
    state, _ = read(run)
    return Model.of(Record.load(run), state, device)
