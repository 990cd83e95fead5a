"""One life of one learner: a stream, a method and a seed make a record."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metareplay import user_code
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.networks import Network, describe
from metareplay.runs.checkpoint import Checkpoints, Unusable
from metareplay.runs.record import Record
from metareplay.runs.trainer import Report, Tracker, Trainer, randomness
from metareplay.streams.stream import Stream

ORDERS = ("tasks", "shuffled", "iid")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to run; ``run()`` runs it.

    Parameters
    ----------
    stream
        The tasks, in their order.
    method
        How to learn, with its settings.
    seed
        Decides which examples are seen, their order, initial weights, memory and replay; each has its own child of
        ``numpy.random.SeedSequence(seed)``, so that changing one leaves the others as they were.
    hidden
        Units of each hidden layer.
    samples_per_task
        Training examples of each task that are seen; None for the stream's own number, 0 for all.
    epochs
        How often they are seen, each time in a new order.
    batch_size
        Examples that come at once. The last batch of a task may be shorter; none crosses tasks.
    eval_every
        Evaluate on all tasks every so many batches too; 0 for only before the first task and at the end of each.
    order
        ``tasks``: one task after another. ``shuffled``: the same, the tasks in a random order. ``iid``: the examples
        of all tasks mixed, what continual learning would reach if nothing were forgotten; each batch is of one task.
        The seed decides both.
    task_order
        The tasks visited, by number; None for each once, in ``order``. A task may return.
    scenario
        Among which classes the learner has to choose: one of the stream's ``scenarios``; None for the first of these.
    engine, device
        What computes: ``fused``, compiled code for perceptrons; or ``torch``, PyTorch on a device such as ``cpu``. None
        for ``fused`` if it can do it.
    network
        ``mlp``, the perceptron with those hidden layers; or another of ``networks.NETWORKS``; or ``FILE.py:FACTORY``, a
        function in a file of yours that takes (shape, classes) and returns a ``torch.nn.Module``.
    """

    stream: Stream
    method: Method
    seed: int = 0
    hidden: tuple[int, ...] = (100, 100)
    samples_per_task: int | None = None
    epochs: int = 1
    batch_size: int = 1
    eval_every: int = 0
    order: str = "tasks"
    task_order: tuple[int, ...] | None = None
    scenario: str | None = None
    engine: str | None = None
    device: str = "cpu"
    network: str = "mlp"

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("epochs", 1), ("batch_size", 1), ("eval_every", 0)):
            given = getattr(self, name)
            if not isinstance(given, int | np.integer) or given < least:
                flag = name.replace("_", "-")
                raise BadInput(f"--{flag} is {given!r}, but must be a whole number of at least {least}")
            object.__setattr__(self, name, int(given))
        if min(self.hidden, default=1) < 1:
            raise BadInput(f"hidden layers have {self.hidden} units, but each needs at least one")
        if self.samples_per_task is not None and self.samples_per_task < 0:
            raise BadInput(f"--samples-per-task is {self.samples_per_task}, but must be at least 1, or 0 for all")
        if self.order not in ORDERS:
            raise BadInput(f"--order is {self.order!r}, but must be one of {', '.join(ORDERS)}")
        if self.order != "tasks" and self.task_order is not None:
            raise BadInput(f"the order of tasks is given, so --order must be 'tasks', not {self.order!r}")
        allowed = self.stream.scenarios
        if self.scenario is None:
            object.__setattr__(self, "scenario", allowed[0])
        if self.scenario not in allowed:
            raise BadInput(f"--scenario is {self.scenario!r}, but {self.stream.name} allows only {', '.join(allowed)}")
        object.__setattr__(self, "engine", engines.chosen(self.engine, self.device, self.network))
        self.method.network(self.described_network, len(self.stream.tasks))  # says so if they do not go together
        if not self.visits:
            raise BadInput("the order of tasks is empty, but at least one must be visited")
        for task in self.visits:
            if not 0 <= task < len(self.stream.tasks):
                raise BadInput(
                    f"task {task} is in the order of tasks, but {self.stream.name} has {len(self.stream.tasks)}"
                )
            wanted, there = self.samples, len(self.stream.tasks[task].train)
            if wanted is not None and wanted > there:
                raise BadInput(
                    f"--samples-per-task is {wanted}, but task {task} of {self.stream.name} has only {there}"
                )

    @property
    def samples(self) -> int | None:
        """Training examples seen of each task; None for all."""
        given = self.stream.samples_per_task if self.samples_per_task is None else self.samples_per_task
        return given or None

    @property
    def visits(self) -> tuple[int, ...]:
        """The tasks visited, by number, in order."""
        if self.task_order is not None:
            return self.task_order
        tasks = np.arange(len(self.stream.tasks))
        if self.order == "shuffled":
            tasks = randomness(self.seed, "tasks").permutation(tasks)
        return tuple(tasks.tolist())

    @property
    def described_network(self) -> Network:
        """The network that is asked for; the method may change it."""
        return describe(self.network, self.stream.shape, self.stream.classes, self.hidden)

    def configuration(self) -> dict[str, Any]:
        """Everything that decides the record, resolved, as plain values."""
        return {
            "benchmark": self.stream.name,
            "stream": dict(self.stream.settings),
            "data_sha256": self.stream.data_sha256,
            "method": method_name(type(self.method)),
            "method_sha256": _source_sha256(type(self.method)),
            "hyperparameters": asdict(self.method),
            "seed": self.seed,
            "hidden": list(self.hidden),
            "samples_per_task": self.samples,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "eval_every": self.eval_every,
            "order": self.order,
            "task_order": list(self.visits),
            "scenario": self.scenario,
            "engine": self.engine,
            "device": self.device,
            **_network(self.network),
        }

    @property
    def key(self) -> str:
        """A hash of the configuration: the name of the run's folder."""
        return key_of(self.configuration())

    def run(
        self,
        progress: Report | None = None,
        tracker: Tracker | None = None,
        checkpoints: Checkpoints | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> Record:
        """Live it from the first example, or from its last checkpoint, to the last evaluation.

        Parameters
        ----------
        progress
            Called about ten times a second.
        tracker
            Called with this experiment and an ``Evaluation`` after every evaluation, and with the record at the end.
            A run that goes on from a checkpoint repeats those evaluations that came after it.
        checkpoints
            Where the run keeps its state, and goes on from if there is any.
        note
            Told in one line if the state that was kept is of no use, so that the run begins again.

        Raises
        ------
        Diverged
            If a loss is not finite; the message says at which example and what to lower.
        """
        life = Trainer(self)
        try:
            state = checkpoints.load() if checkpoints else None
            if state is not None:
                life.load_state(state)
        except Unusable as error:
            note(f"{error}: beginning again")
            life = Trainer(self)  # half of the state may be loaded
        return life.train(progress, tracker, checkpoints)


def run(stream: Stream, method: Method, **options: Any) -> Record:
    """Run a method on a stream: ``Experiment(stream=stream, method=method, **options).run()``."""
    return Experiment(stream=stream, method=method, **options).run()


def key_of(configuration: dict[str, Any]) -> str:
    """The key of the experiment that has a configuration."""
    canonical = json.dumps(configuration, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def method_name(method: type[Method]) -> str:
    """A method's name on the command line: its id, or where a user's own class is."""
    for name, known in METHODS.items():
        if method is known:
            return name
    file = _file(method)
    return f"{file.name if file else method.__module__}:{method.__qualname__}"


def _source_sha256(method: type[Method]) -> str | None:
    """SHA-256 of the file of a user's own method: changing it makes another run."""
    if method in METHODS.values():
        return None
    file = _file(method)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else None


def _network(name: str) -> dict[str, str | None]:
    """A network's name, and SHA-256 of the file of a user's own: changing it makes another run."""
    parts = user_code.split(name)
    if parts is None:
        return {"network": name, "network_sha256": None}
    file, factory = parts
    return {"network": f"{file.name}:{factory}", "network_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _file(method: type[Method]) -> Path | None:
    """Where a class is written; None for one typed in, as in a notebook."""
    try:
        file = Path(inspect.getfile(method))
    except (TypeError, OSError):
        return None
    return file if file.is_file() else None
