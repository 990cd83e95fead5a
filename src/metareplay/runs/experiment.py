"""What is run, checked once, and its key."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from metareplay import user_code
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.networks import Network, Perceptron, describe
from metareplay.runs import model
from metareplay.runs.checkpoint import State
from metareplay.settings import brief, hyperparameters, nearest, setting
from metareplay.streams import order as orders
from metareplay.streams.order import Order
from metareplay.streams.stream import Stream

RESULTS = 1  # changes when the same configuration gives other numbers than before: part of every run's key
MOST_EXAMPLES = 10**10
LATER = {"imbalance": 1.0, "normalise": None, "watch_units": False}  # in a key where they differ: older ones stay
RANDOMNESS = ("examples", "order", "weights", "method", "tasks", "mixed")
"""What a run's seed decides, each with a generator of its own; the method's is split again into memory and replay."""


def randomness(seed: int, purpose: str, *which: int) -> np.random.Generator:
    """A generator for one purpose of a run, and for one of several things of that kind."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(RANDOMNESS.index(purpose), *which)))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to run: ``metareplay.Trainer(experiment).train()`` runs it.

    Numbers and arrays of NumPy's are taken for plain ones. BadInput if an option is of another type or out of its
    range, or they do not go together.

    Parameters
    ----------
    stream, method
        The tasks, in their order; and how to learn, with its settings.
    seed
        Each thing that it decides has its own child of ``numpy.random.SeedSequence(seed)``, so that changing one leaves
        the others as they were.
    hidden, network
        Units of each hidden layer; one of ``networks.NETWORKS``, or ``FILE.py:FACTORY``.
    samples_per_task, epochs
        Training examples of each task that are seen, at most: a smaller task shows all; None for the stream's own
        number, 0 for all. How often they are seen, each time in a new order.
    batch_size
        The last batch of a task may be shorter; none crosses tasks.
    evaluate, eval_every
        When to evaluate on all tasks. ``borders``: before the first task and at the end of each. ``every N``: after
        every N batches too; the same as ``eval_every=N``. ``end``: once, when all is learned. ``never``: only what was
        predicted before it was learned is recorded. Metrics that need more are then ``Undefined``.
    order, task_order
        One of ``streams.order.ORDERS``, which says what they are; with ``iid`` each batch is of one task. The seed
        decides all but ``tasks``. The tasks visited, by number, or as text: ``0-2``, ``4,2,4``; None for each once.
    imbalance
        1: all examples. Else class c of C keeps imbalance^(−c / (C − 1)) of them.
    watch_units, normalise
        Whether ``unit_measures`` are recorded when a visit ends, of the first 2000 test images of its task; None,
        or the decay of ``runs.model.Normaliser``.
    scenario, engine, device
        One of the stream's ``scenarios``, None for the first; None for ``fused`` if it can do it.
    from_
        The folder of a run whose network this one goes on with, instead of initial weights.

    Examples
    --------
    >>> experiment = metareplay.Experiment(stream=stream, method=metareplay.Online(), batch_size=10)
    >>> metareplay.Trainer(experiment).train().steps
    10
    """

    stream: Stream
    method: Method
    seed: int = setting(0, "[0, inf)", help="the seed of the examples seen, their order, initial weights and replay")
    hidden: tuple[int, ...] = (100, 100)
    samples_per_task: int | None = setting(None, "[0, inf)", help="how many training examples of each task are seen")
    epochs: int = setting(1, "[1, inf)", help="how often a task's examples are seen before the next task comes")
    batch_size: int = setting(1, "[1, inf)", help="how many examples come at once")
    evaluate: str = setting("borders", help="when all tasks are tested: borders; every N batches too; end; or never")
    eval_every: int = setting(0, "[0, inf)", help="how many batches lie between evaluations; 0: only at tasks' borders")
    order: str = setting(
        "tasks",
        help="the order of the stream: tasks, one after another; shuffled, these in a random order; iid, the examples "
        "of all tasks mixed, the upper bound; 'recurring N', all tasks N times, with other examples each time; "
        "'gradual WIDTH', neighbours mixed around the border; or 'blurry SHARE', with a share of others' examples",
    )
    imbalance: float = setting(1.0, "[1, 1000000]", help="how many times the last class's examples the first one has")
    task_order: tuple[int, ...] | str | None = None
    watch_units: bool = setting(False, help="whether dead units, rank and weight of layers are recorded as tasks end")
    normalise: float | None = setting(
        None,
        "(0, 1)",
        help="inputs less their running mean, over their running spread: what the means keep of themselves at each "
        "example, such as 0.999; none: inputs as they are",
    )
    scenario: str | None = setting(None, help="among which classes to choose: domain-, task- or class-incremental")
    network: str = setting(
        "mlp",
        help="what is trained: mlp, which has those layers; cnn-small; resnet18-reduced; or FILE.py:FACTORY, a "
        "function of yours that takes (shape, classes) and returns a torch.nn.Module",
    )
    engine: str | None = setting(
        None,
        help="what computes: fused, compiled code for mlp on the CPU; or torch, PyTorch, which other networks and "
        "devices take by themselves",
    )
    device: str = setting("cpu", help="where the engine torch computes: cpu, cuda, cuda:NUMBER or mps")
    from_: str | None = setting(None, help="a run to go on from, by its folder: this begins with what that one learned")
    initial: State | None = field(init=False, repr=False, compare=False, default=None)
    """What the run ``from_`` learned, as it was when this was made."""
    sources: dict[str, str | None] = field(init=False, repr=False, compare=False)
    """SHA-256 of a user's own method and network, with all modules that they bring, as they were when loaded."""

    def __post_init__(self) -> None:
        such_as = ("stream", Stream, 'benchmark("digits-rotations")'), ("method", Method, "ER(lr=0.1)")
        for part, expected, such in such_as:
            if not isinstance(given := getattr(self, part), expected):
                raise BadInput(f"{part} is {brief(given)}, but must be an object such as metareplay.{such}")
        for option in hyperparameters(type(self)):
            given = getattr(self, option.name)
            self._set(option.name, option.check(str(given) if isinstance(given, Path) else given))
        self._set("hidden", _whole_numbers(self.hidden, "hidden", 1))
        if self.task_order is not None:
            given = numbers(self.task_order) if isinstance(self.task_order, str) else self.task_order
            self._set("task_order", _whole_numbers(given, "--task-order", 0))
        for name, value in zip(("evaluate", "eval_every"), evaluations(self.evaluate, self.eval_every), strict=True):
            self._set(name, value)
        kind, number = orders.read(self.order)
        self._set("order", f"{kind} {number:g}" if number else kind)
        if self.order != "tasks" and self.task_order is not None:
            raise BadInput(f"the order of tasks is given, so --order must be 'tasks', not {self.order!r}")
        allowed = self.stream.scenarios
        if self.scenario is None:
            self._set("scenario", allowed[0])
        if self.scenario not in allowed:
            known = f"{', '.join(allowed)}{nearest(str(self.scenario), allowed)}"
            raise BadInput(f"--scenario is {self.scenario!r}, but {self.stream.name} allows only {known}")
        self._set("engine", engines.chosen(self.engine, self.device, self.network))
        network = self.method.network(self.described_network, len(self.stream.tasks))  # says so if they do not fit
        if self.watch_units and (not isinstance(network, Perceptron) or any(network.private)):
            raise BadInput("--watch-units looks at a perceptron's units that all tasks share, which this run has not")
        self._check_examples()
        own_network = self.network if user_code.split(self.network) else None
        self._set("sources", {"method_sha256": _sha256(type(self.method)), "network_sha256": _sha256(own_network)})
        if self.from_ is not None:
            initial, sha256 = model.read(self.from_)
            self._set("initial", initial)
            self.sources["from_sha256"] = sha256

    def __repr__(self) -> str:
        changed = [
            f"{option.name}={value!r}"
            for option in fields(self)[2:]
            if option.init and (value := getattr(self, option.name)) not in (option.default, None)
        ]
        return f"Experiment({', '.join([repr(self.stream), repr(self.method), *changed])})"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_examples(self) -> None:
        if not self.visits:
            raise BadInput("the order of tasks is empty, but at least one must be visited")
        for task in self.visits:
            if task >= (tasks := len(self.stream.tasks)):
                raise BadInput(f"task {task} is in the order of tasks, but {self.stream.name} has {tasks}")
        most = max(len(self.stream.tasks[task].train) for task in set(self.visits))
        if self.samples is not None and self.samples > most:
            there = f"no task of {self.stream.name} has more than {most}"
            raise BadInput(f"--samples-per-task is {self.samples}, but {there}")
        if not self.spans.borders and self.method.needs_boundaries:
            name = method_name(type(self.method))
            what = f"--order is {self.order!r}, which has no borders between tasks, but {name} must know them: take "
            raise BadInput(f"{what}another order, or a method of which `metareplay methods` does not say so")
        if (fewest := self.spans.counts.min()) < 1:
            text = f"but then a task comes with {fewest} examples: let it come less often"
            raise BadInput(f"--order is {self.order!r}, {text}")
        if (examples := int(self.spans.counts.sum())) > MOST_EXAMPLES:
            raise BadInput(f"a run of {examples} examples is too long: {MOST_EXAMPLES} are the most; lower --epochs")

    @property
    def samples(self) -> int | None:
        """Training examples seen of each task, at most; None for all."""
        return (self.stream.samples_per_task if self.samples_per_task is None else self.samples_per_task) or None

    @property
    def visits(self) -> tuple[int, ...]:
        """The tasks visited, by number, in order."""
        if self.task_order is not None:
            return tuple(self.task_order)  # type: ignore[arg-type]  # numbers by now, whatever was given
        tasks = np.arange(len(self.stream.tasks))
        if self.order == "shuffled":
            tasks = randomness(self.seed, "tasks").permutation(tasks)
        kind, number = orders.read(self.order)
        return tuple(tasks.tolist()) * (int(number) if kind == "recurring" else 1)

    @cached_property
    def spans(self) -> Order:
        """All examples, in the order in which they come."""
        shown = self.stream, self.visits, self.samples, self.epochs, self.batch_size, self.imbalance
        kind, number = orders.read(self.order)
        return Order(kind, number, *shown, partial(randomness, self.seed))

    @property
    def described_network(self) -> Network:
        """The network that is asked for; the method may change it."""
        return describe(self.network, self.stream.shape, self.stream.classes, self.hidden)

    def configuration(self) -> dict[str, Any]:
        """Everything that decides the record, resolved, as plain values."""
        return {
            "results": RESULTS,
            "benchmark": self.stream.name,
            "stream": dict(self.stream.settings),
            "data_sha256": self.stream.data_sha256,
            "method": method_name(type(self.method)),
            "method_sha256": self.sources["method_sha256"],
            "hyperparameters": asdict(self.method),
            "seed": self.seed,
            "hidden": list(self.hidden),
            "samples_per_task": self.samples,
            **{name: getattr(self, name) for name in ("epochs", "batch_size", "evaluate", "eval_every", "order")},
            "task_order": list(self.visits),
            "scenario": self.scenario,
            **{name: value for name, usual in LATER.items() if (value := getattr(self, name)) != usual},
            "engine": self.engine,
            "device": self.device,
            "network": f"{own[0].name}:{own[1]}" if (own := user_code.split(self.network)) else self.network,
            **self.sources,
        }

    @property
    def key(self) -> str:
        """A hash of the configuration: the name of the run's folder."""
        return key_of(self.configuration())


def evaluations(evaluate: str, eval_every: int) -> tuple[str, int]:
    """Both options that say when to evaluate, ``every N`` as a number; BadInput if they contradict each other."""
    word, _, number = evaluate.partition(" ")
    if word == "every" and number.isdecimal() and len(number) < 19 and int(number):
        if eval_every not in (0, int(number)):
            raise BadInput(f"--evaluate is {evaluate!r}, but --eval-every is {eval_every}: give one of them")
        return "borders", int(number)
    if evaluate not in ("borders", "end", "never"):
        raise BadInput(f"--evaluate is {evaluate!r}, but must be borders, end, never or 'every N', N from 1")
    if evaluate != "borders" and eval_every:
        raise BadInput(f"--evaluate is {evaluate}, so --eval-every cannot be {eval_every}: leave one of them out")
    return evaluate, eval_every


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a text such as ``0-2,5``; BadInput if it is none."""
    ends = [part.split("-") for part in text.split(",")]
    if all(len(part) < 3 and all(end.strip().isdecimal() and len(end) < 7 for end in part) for part in ends):
        ranges = [range(int(part[0]), int(part[-1]) + 1) for part in ends]
        if all(ranges):  # 4-2 has no numbers
            return tuple(n for part in ranges for n in part)
    raise BadInput(f"--task-order is {brief(text)}, but must be numbers of tasks, from 0, as in 0-2 or 4,2,0")


def _whole_numbers(given: Any, name: str, least: int) -> tuple[int, ...]:
    """One or several whole numbers, of NumPy's too, as plain ones."""
    numbers = given.tolist() if isinstance(given, np.ndarray | np.generic) else given
    several = numbers if isinstance(numbers, list | tuple | range) else [numbers]
    plain = tuple(value.item() if isinstance(value, np.generic) else value for value in several)
    if any(type(value) is not int or value < least for value in plain):
        raise BadInput(f"{name} is {given!r}, but must be whole numbers of at least {least}")
    return plain


def key_of(configuration: dict[str, Any]) -> str:
    """The key of the experiment that has a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def but_the_seed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What runs of one configuration share: all but the seed, and what a seed decides."""
    drawn = ("seed", "task_order") if configuration.get("order") == "shuffled" else ("seed",)
    return {name: value for name, value in configuration.items() if name not in drawn}


def method_name(method: type[Method]) -> str:
    """A method's name on the command line: its id, or where a user's own class is."""
    if METHODS.get(method.id) is method:
        return method.id
    file = getattr(sys.modules.get(method.__module__), "__file__", None) or ""  # typed in: none, or <stdin>
    return f"{Path(file).name if file.endswith('.py') else method.__module__}:{method.__qualname__}"


def _sha256(what: Any) -> str | None:
    """SHA-256 of all sources of a user's own class or ``FILE.py:NAME``: changing one makes another run."""
    sources = user_code.sources(what) if what else {}
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest() if sources else None
