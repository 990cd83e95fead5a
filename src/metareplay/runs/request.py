"""What a run is asked to be, in names and plain values: what a command line, a suite file and a worker exchange."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metareplay import methods, networks
from metareplay.errors import BadInput, with_flags
from metareplay.learners import engines
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.runs import recipes
from metareplay.runs.experiment import Experiment, evaluations
from metareplay.settings import Hyperparameter, brief, checked, hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.catalogue import Benchmark

# What is shown where the stream and the network decide.
_SHOWN = {"engine": "fused", "scenario": "the stream's first"}
_OF_A_RUN = {
    # Only Python keeps ``from`` for itself.
    name: replace(option, name=name, default=_SHOWN.get(name, option.default))
    for option in hyperparameters(Experiment)
    for name in [option.name.removesuffix("_")]
    if name != "samples_per_task"  # which is the stream's here
}
NETWORK = (
    Hyperparameter("layers", int, 2, "[0, 1000]", "how many hidden layers the network has"),
    Hyperparameter("hiddens", int, 100, "[1, inf)", "how many units each hidden layer has"),
    Hyperparameter("widths", str, None, "", "the units of hidden layers that differ, as in 300,150", optional=True),
    *(_OF_A_RUN[name] for name in ("network", "engine", "device")),
)
RUN = (
    *(option for option in _OF_A_RUN.values() if option not in NETWORK),
    Hyperparameter("task_order", str, None, "", "which tasks are learned, in order, as in 0-2 or 4,2,0", optional=True),
)


@dataclass(frozen=True)
class Request:
    """A run by names and plain values."""

    benchmark: str  # its name, or a file or folder of the user's own data
    method: str  # its id, or ``FILE.py:CLASS``
    settings: Mapping[str, Any] = field(default_factory=dict)  # hyper-parameters that differ from the recipe's
    stream: Mapping[str, Any] = field(default_factory=dict)  # options of the benchmark, such as ``tasks``
    run: Mapping[str, Any] = field(default_factory=dict)  # options of ``NETWORK`` and ``RUN``, such as ``seed``

    @property
    def memories(self) -> int | None:
        """How many examples the method is asked to keep; the other settings' defaults depend on it."""
        memories = self.settings.get("memories")
        return memories if isinstance(memories, int) else None

    def defaults(self) -> tuple[dict[str, Any], str | None]:
        """The hyper-parameters where none are given, and what the user should know of them."""
        benchmark, method = benchmarks.find(self.benchmark), methods.find(self.method)
        own = {parameter.name: parameter.default for parameter in hyperparameters(method)}
        if self.method not in METHODS:  # there are no recipes for a user's own
            return own, None
        settings, note = recipes.settings(benchmark.name, self.method, self.memories if "memories" in own else None)
        return own | settings, note

    def resolved(self) -> tuple[Benchmark, Method, dict[str, Any]]:
        """Benchmark, method with settings, and the run's options; no download; BadInput if one is unknown or wrong."""
        benchmark, kind = benchmarks.find(self.benchmark), methods.find(self.method)
        settings = self._checked(self.settings, hyperparameters(kind), f"of {self.method}")
        self._checked(self.stream, benchmark.options, f"of {self.benchmark}")
        run = self._checked(self.run, (*NETWORK, *RUN), "of a run")
        try:
            method = kind(**self.defaults()[0] | settings)
        except BadInput:
            raise
        except Exception as error:  # a user's own __init__ or __post_init__
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadInput(f"{self.method} cannot be made with its settings: {text}") from error
        run["evaluate"], run["eval_every"] = evaluations(run.get("evaluate", "borders"), run.get("eval_every", 0))
        run["from_"] = run.pop("from", None)
        given = {option.name: run.pop(option.name) for option in NETWORK if option.name in run}
        layers, hiddens, widths, network, _, device = (given.get(o.name, o.default) for o in NETWORK)
        networks.check(network)
        if network != "mlp" and (useless := given.keys() & {"layers", "hiddens", "widths"}):
            raise BadInput(f"--{min(useless)} is for the network mlp, not for {network}")
        hidden = (hiddens,) * layers
        if widths is not None:
            if useless := given.keys() & {"layers", "hiddens"}:
                raise BadInput(f"--widths gives every layer's units, so --{min(useless)} cannot be given too")
            units = widths.split(",")
            if not all(count.strip().isdecimal() and len(count) < 8 and 0 < int(count) < 10**6 for count in units):
                raise BadInput(f"--widths is {brief(widths)}, but must be units of each layer, as in 300,150")
            hidden = tuple(map(int, units))
        run |= {"hidden": hidden, "network": network, "device": device}
        run["engine"] = engines.chosen(given.get("engine"), device, network)
        return benchmark, method, run

    def experiment(self, progress: bool = False) -> Experiment:
        """What to run, all checked before a download, whose ``progress`` may be shown."""
        benchmark, method, run = self.resolved()
        return Experiment(stream=benchmark.stream(**self.stream, progress=progress), method=method, **run)

    def _checked(self, given: Mapping[str, Any], parameters: Sequence[Hyperparameter], whose: str) -> dict[str, Any]:
        """The values, each of its type; an error names the published one."""
        found: dict[str, Any] = {}
        for name, value in given.items():
            try:
                found |= checked({name: value}, parameters, whose)
            except BadInput as error:
                memories = self.memories if name != "memories" else None
                published = recipes.published(benchmarks.find(self.benchmark).name, self.method, name, memories)
                raise BadInput(f"{with_flags(error)}. {published}" if published else with_flags(error)) from None
        return found
