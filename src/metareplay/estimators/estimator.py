"""What all estimators share: their parameters, the core that these ask for, the lock, and files."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metareplay import __version__, networks
from metareplay.errors import BadInput, failing
from metareplay.estimators.core import Build, Core
from metareplay.files import write_atomically
from metareplay.learners import engines
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.runs.checkpoint import pack, unpack
from metareplay.settings import hyperparameters, nearest, setting

SETTINGS: dict[str, dict[str, Any]] = {
    "online": {"lr": 0.01},
    "taskinput": {"lr": 0.01},
    "independent": {"lr": 0.03},
    "ewc": {"lr": 0.01, "n_memories": 10, "memory_strength": 10.0},
    "gem": {"lr": 0.03, "memory_strength": 0.5},
    "ergap": {"lr": 0.025, "replay_batch_size": 10, "calm": 0.2},
    "eralg4": {"lr": 0.02, "replay_batch_size": 10},
    "eralg5": {"lr": 0.03, "replay_batch_size": 10},
    "meralg1": {"lr": 0.03, "beta": 0.3, "replay_batch_size": 10, "batches_per_example": 5},
    "meralg6": {"lr": 0.03, "gamma": 0.3, "replay_batch_size": 10, "batches_per_example": 5},
    "meralg7": {"lr": 0.03, "gamma": 0.3, "replay_batch_size": 10, "s": 2.0},
}
"""An estimator's settings where none are given, for features of about the same size; other methods have their own.

Those of ``ergap``, and the size and horizon of the memory, are chosen by ``python -m benchmarks.estimators --panel``.
"""
NAMES = ("lr", "beta", "gamma", "s", "batches_per_example", "replay_batch_size", "memory_strength", "n_memories")
"""The methods' settings that are parameters of an estimator, besides those of the memory."""
FORMAT = 4  # of saved files; raised when older ones can no longer be read


class Numbers(dict[Any, int]):
    """Labels, or the names of tasks or features, by their number: the order in which they were met."""

    def of(self, names: Iterable[Any]) -> NDArray[np.int64]:
        """The number of each; new ones get the next."""
        return np.array([self.setdefault(name, len(self)) for name in names], np.int64)

    def of_tasks(
        self, names: list[Any] | None, n: int, method: type[Method], call: str, most: int | None = None
    ) -> NDArray[np.int64]:
        """The number of each example's task, 0 if none is needed; new ones, to ``most``, to learn; or BadInput."""
        learning = method.needs_task_in_training or method.needs_boundaries
        if not (method.needs_task_in_testing if most is None else learning):
            return np.zeros(n, np.int64)
        if names is None:
            also = " to predict too" if most is None else ""
            raise BadInput(f"{name_of(method)} needs the task of each example{also}: {call}")
        new = [name for name in dict.fromkeys(names) if name not in self]
        if new and most is None:
            raise BadInput(f"nothing was learned of task {new[0]!r}; known are {list(self)}: {call}")
        if most is not None and len(self) + len(new) > most:
            text = f"task {new[most - len(self)]!r} would be one more than the {most} that tasks={most} allows; "
            raise BadInput(f"{text}give the number that will come")
        return self.of(names)


class Guard:
    """Lets one thread write, or any number read, in about the order in which they come."""

    def __init__(self) -> None:
        self._turn, self._left, self._readers = Lock(), Condition(), 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._turn, self._left:
            self._readers += 1
        try:
            yield
        finally:
            with self._left:
                self._readers -= 1
                self._left.notify()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._turn:
            with self._left:
                self._left.wait_for(lambda: not self._readers)
            yield


def name_of(method: type[Method]) -> str:
    """A method's name, or where a user's class is."""
    own = f"{method.__module__}.{method.__qualname__}"
    return next((name for name, known in METHODS.items() if known is method), own)


@dataclass(kw_only=True, eq=False, repr=False)
class Estimator:
    """The parameters of all estimators, and how one is saved: as arrays and JSON, so that any file may be opened."""

    method: str | type[Method] = field(default="ergap", kw_only=False)
    memories: int = 5000
    lr: float | None = None
    beta: float | None = None
    gamma: float | None = None
    s: float | None = None
    batches_per_example: int | None = None
    replay_batch_size: int | None = None
    memory_strength: float | None = None
    n_memories: int | None = None
    recency: int | None = 5000
    settings: Mapping[str, Any] | None = None
    hidden_layer_sizes: Sequence[int] = (100, 100)
    network: str | Callable[..., Any] | None = None
    engine: str | None = None
    device: str = "cpu"
    scale: bool = setting(True, help="whether features are brought to mean 0 and standard deviation 1")
    tasks: int = setting(10, "[1, inf)", help="the most tasks that will come")

    @property
    def clipped_(self) -> int:
        """Readings so far that were too far off to be taken as they are (``scale=True``)."""
        return 0 if self._life.scale is None else self._life.scale.clipped

    @property
    def _guard(self) -> Guard:
        guard: Guard = self.__dict__.setdefault("_lock", Guard())  # one step, whichever thread comes first
        return guard

    def _made_method(self) -> Method:
        """The method with its settings, all checked; ``memories`` and ``recency`` count where it has such a memory."""
        for parameter in hyperparameters(type(self)):
            parameter.check(getattr(self, parameter.name))
        self._layers()
        chosen: Any = METHODS.get(self.method, self.method) if isinstance(self.method, str) else self.method
        if not isinstance(chosen, type) or not issubclass(chosen, Method):
            text = f"method is {chosen!r}{nearest(str(chosen), METHODS) or ';'} it must be one of {', '.join(METHODS)}"
            raise BadInput(f"{text}, or a subclass of metareplay.Method")
        other = "" if chosen.ready is Method.ready else "it prepares another network to be tested"
        if why := chosen.waived.get("estimators", other):
            raise BadInput(f"method is {name_of(chosen)}, which no estimator can have: {why}; give another, as ergap")
        if hasattr(self, "loss") and chosen is METHODS["ergap"]:
            raise BadInput("method is ergap, which compares examples of a class, but targets have none; give eralg4")
        known = {parameter.name: parameter for parameter in hyperparameters(chosen)}
        settings = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
        settings |= self.settings or {}
        for name in (name for name in settings if name not in known):
            raise BadInput(f"{name} is given, but {name_of(chosen)} has no such setting; it has {', '.join(known)}")
        usual = SETTINGS.get(self.method, {}).copy() if isinstance(self.method, str) else {}
        memory = {"memories": self.memories, "recency": self.recency or 0}
        usual |= {name: value for name, value in memory.items() if name in known}
        return chosen(**usual | settings)

    def _layers(self) -> dict[str, Any]:
        """What of the parameters a core's build takes."""
        sizes: Any = self.hidden_layer_sizes
        several = isinstance(sizes, Sequence | np.ndarray) and not isinstance(sizes, str)
        if not several or not all(isinstance(n, int | np.integer) and n > 0 and n is not True for n in sizes):
            text = f"hidden_layer_sizes is {sizes!r}, but must be the units of each hidden layer, as (100, 100)"
            raise BadInput(text)
        if self.network is not None and not callable(self.network):
            networks.check(self.network)
        engine = engines.chosen(self.engine, self.device, "mlp" if self.network is None else "own")
        return {"hidden": tuple(sizes), "network": self.network, "engine": engine, "device": self.device}

    def _begin(self, method: Method, inputs: int, classes: int, seed: int | None, batch_size: int = 1) -> None:
        seed = int(np.random.SeedSequence().generate_state(1)[0] if seed is None else seed)
        tasks, scaled, loss = int(self.tasks), bool(self.scale), getattr(self, "loss", None)  # a regressor's
        build = Build(inputs, classes, tasks, scaled, batch_size, seed, loss=loss, **self._layers())
        try:
            self._life = Core(method, build)
        except MemoryError as error:
            many = f"{method.capacity(tasks, batch_size)} memories of {inputs} features are too many ({error})"
            also = ", or scale=False, which keeps of sparse inputs what is not zero" if scaled else ""
            raise BadInput(f"{many}: give fewer memories{also}") from None

    def _meet_nothing(self) -> None:
        self._labels, self._tasks, self._features = Numbers(), Numbers(), Numbers()

    def _answers(self, y: list[Any]) -> NDArray[Any]:
        return np.array(y, np.float64)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator, with all that it has learned, into a file of arrays and JSON.

        BadInput if that cannot be written, or a label or name is neither text, a number nor a truth value.
        """
        state: dict[str, Any] = {"saved": type(self).__name__, "format": FORMAT}
        state |= {"metareplay": __version__, "method": self.method, "learned": None}
        with self._guard.reading():
            if hasattr(self, "_life"):
                core = self._life.state()
                core["build"]["network"] = None
                state |= {"method": type(self._life.method), "learned": self._learned() | {"core": core}}
            state["parameters"] = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
            content = pack(state | {"method": _plain(state["method"])})
        with failing(BadInput, f"cannot write {path}"):
            write_atomically(Path(path), content)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], method: type[Method] | None = None, network: Callable[..., Any] | None = None
    ) -> Self:
        """The estimator that was saved; it goes on to the same bits. No code comes from the file.

        A ``method`` of yours, and what makes a ``network`` of yours, are given again. BadInput if the file is missing,
        damaged, something else, or of a version that this one cannot read.
        """
        with failing(BadInput, f"cannot read {path}"):
            content = Path(path).read_bytes()
        try:
            state = unpack(content)
        except BadInput as error:
            raise BadInput(f"{path} is damaged, or no saved {cls.__name__} ({error})") from error
        if (saved := state.get("saved")) != cls.__name__:
            raise BadInput(
                f"{path} is {f'a {saved}' if saved else 'something else'}, but must be a saved {cls.__name__}"
            )
        _check_format(path, state.get("format"), state.get("metareplay", "0.1.0.dev0"))
        if method is None and state.get("method") not in METHODS:
            raise BadInput(f"{path} was learned by {state.get('method')}: give that class, load(path, method=…)")
        own = state["parameters"].get("network")
        if own is not None and network is None:
            raise BadInput(f"{path} has the network {own}: give what makes it, load(path, network=…)")
        try:
            parameters, learned = {name: _given(value) for name, value in state["parameters"].items()}, state["learned"]
            method = method or METHODS[state["method"]]
            if parameters["method"] not in METHODS:
                parameters["method"] = method
            estimator = cls(**parameters | {"network": own and network})
            if learned:
                learned["core"]["build"]["network"] = estimator.network
                estimator._life = Core.of_state(method, learned["core"])
                estimator._restore(learned)
        except Exception as error:  # what a changed file may say has no end
            raise BadInput(f"{path} is damaged, or from another version ({error})") from error
        return estimator

    def _learned(self) -> dict[str, Any]:
        """What was learned besides the core, plain."""
        learned = {name: list(getattr(self, f"_{name}", ())) for name in ("labels", "tasks", "features")}
        for what, names in learned.items():
            for name in names:
                if not isinstance(name.item() if isinstance(name, np.generic) else name, str | int | float | bool):
                    text = f"one of the {what} is {name!r}: only text, numbers and truth values can be saved; pickle it"
                    raise BadInput(text)
        return learned

    def _restore(self, learned: dict[str, Any]) -> None:
        self._meet_nothing()
        for name in ("labels", "tasks", "features"):
            getattr(self, f"_{name}").of(learned[name])

    def __getstate__(self) -> dict[str, Any]:
        with self._guard.reading():
            inherited: Any = super().__getstate__()
            state = {name: value for name, value in inherited.items() if name != "_lock"}
            if "_life" in state:
                state["_life"] = (type(self._life.method), self._life.state())
        return state | {"_format": (FORMAT, __version__)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _check_format("the pickle", *state.get("_format", (FORMAT, __version__)))
        state = {name: value for name, value in state.items() if name != "_format"}
        if "_life" in state:
            state["_life"] = Core.of_state(*state["_life"])
        inherited: Any = getattr(super(), "__setstate__", self.__dict__.update)
        inherited(state)


@dataclass(kw_only=True, eq=False, repr=False)
class Classifying(Estimator):
    """What the classifiers share."""

    class_weight: str | Mapping[Any, float] | None = None
    temperature: float | str = 1.0

    def _made_method(self) -> Method:
        given = self.temperature
        if given != "memory" and (not isinstance(given, int | float | np.number) or not given > 0):
            raise BadInput(f"temperature is {given!r}, but must be a positive number or 'memory'")
        return super()._made_method()

    def _begin(self, *given: Any) -> None:
        super()._begin(*given)
        self._life.class_weight = self._weights()

    def _answers(self, y: list[Any]) -> NDArray[np.int64]:
        numbers = self._labels.of(y)
        if isinstance(self._life.class_weight, list):
            self._life.class_weight = self._weights()  # classes may be new
        return numbers

    def _weights(self) -> str | list[float] | None:
        given: Any = self.class_weight
        if given is None or given == "balanced":
            return given  # type: ignore[no-any-return]
        if not isinstance(given, Mapping) or not all(np.isreal(w) and 0 < w < np.inf for w in given.values()):
            raise BadInput(f"class_weight is {given!r}, but must be None, 'balanced', or a positive number by class")
        return [float(given.get(label, 1.0)) for label in self._labels]


def _check_format(what: Any, given: Any, version: str) -> None:
    if given != FORMAT:
        text = f"{what} was saved by metareplay {version} (format {given}), but this version reads format {FORMAT}: "
        raise BadInput(f"{text}learn it again, or load it with metareplay {version}")


def _plain(value: Any) -> Any:
    """A parameter as a file can hold it: a dictionary's pairs, a function's name."""
    if isinstance(value, np.random.RandomState):
        return {"random_state": value.get_state(legacy=False)}
    if isinstance(value, Mapping):
        return {"pairs": [[key, each] for key, each in value.items()]}
    if isinstance(value, type) and issubclass(value, Method):
        return name_of(value)
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else value


def _given(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict) and "random_state" in value:
        random_state = np.random.RandomState()
        random_state.set_state(value["random_state"])
        return random_state
    return dict(value["pairs"]) if isinstance(value, dict) else value
