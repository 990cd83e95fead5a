"""What all estimators share: how parameters are checked, the method they make, the lock, and how they are saved."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from metareplay import networks
from metareplay.errors import BadInput
from metareplay.estimators.core import Build, Core
from metareplay.estimators.shared import Guard, Numbers
from metareplay.files import write_atomically
from metareplay.learners import engines
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.runs.checkpoint import pack, unpack
from metareplay.settings import hyperparameters, nearest

SETTINGS: dict[str, dict[str, Any]] = {
    "online": {"lr": 0.01},
    "taskinput": {"lr": 0.01},
    "independent": {"lr": 0.03},
    "ewc": {"lr": 0.01, "n_memories": 10, "memory_strength": 10.0},
    "gem": {"lr": 0.03, "memory_strength": 0.5},
    "eralg4": {"lr": 0.02, "replay_batch_size": 10},
    "eralg5": {"lr": 0.03, "replay_batch_size": 10},
    "meralg1": {"lr": 0.03, "beta": 0.3, "replay_batch_size": 10, "batches_per_example": 5},
    "meralg6": {"lr": 0.03, "gamma": 0.3, "replay_batch_size": 10, "batches_per_example": 5},
    "meralg7": {"lr": 0.03, "gamma": 0.3, "replay_batch_size": 10, "s": 2.0},
}
"""An estimator's settings where none are given, for features of about the same size.

That of ``eralg4``, and the size and horizon of the memory, are chosen by ``python -m benchmarks.estimators --panel``.
"""

NAMES = (
    "lr",
    "beta",
    "gamma",
    "s",
    "batches_per_example",
    "replay_batch_size",
    "memory_strength",
    "n_memories",
)
"""The methods' settings that are parameters of an estimator, besides those of the memory."""

FORMAT = 2
"""Of saved files; raised when older ones can no longer be read."""


def method_class(method: Any) -> type[Method]:
    """The class of a method, by its name or as it is.

    Raises
    ------
    BadInput
        If there is no such method; the message lists those that there are.
    """
    if isinstance(method, type) and issubclass(method, Method):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise BadInput(
            f"method is {method!r}{nearest(str(method), METHODS) or ';'} it must be one of {', '.join(METHODS)}, "
            "or a subclass of metareplay.Method"
        )
    return METHODS[method]


def make_method(estimator: Any) -> Method:
    """The method that an estimator's parameters ask for, with its settings.

    ``memories`` and ``recency`` are not looked at where the method has no such memory; another setting that it does
    not have is an error.

    Raises
    ------
    BadInput
        If the method has no such setting, or it is out of its range.
    """
    method = estimator.method
    chosen = method_class(method)
    known = {parameter.name: parameter for parameter in hyperparameters(chosen)}
    settings = {name: getattr(estimator, name) for name in NAMES if getattr(estimator, name) is not None}
    settings |= dict(estimator.settings or {})
    for name in settings:
        if name not in known:
            has = ", ".join(known)
            raise BadInput(f"{name} is given, but {name_of(chosen)} has no such setting; it has {has}")
    for name, value in (("memories", estimator.memories), ("recency", estimator.recency or 0)):
        if name in known:
            settings.setdefault(name, value)
    if isinstance(method, str):
        settings = SETTINGS[method] | settings
    for name, value in settings.items():
        try:
            known[name].check(value)
        except BadInput as error:
            raise BadInput(str(error).replace(known[name].flag, name, 1)) from None
    return chosen(**settings)


def whole(name: str, value: Any) -> int:
    """A whole number from 1 up, or BadInput."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise BadInput(f"{name} is {value!r}, but must be a whole number from 1 up")
    return int(value)


def one_of(name: str, value: Any, known: Sequence[str]) -> str:
    """One of these texts, or BadInput."""
    if value not in known:
        raise BadInput(f"{name} is {value!r}, but must be one of {', '.join(known)}")
    return str(value)


def check_temperature(value: Any) -> None:
    """BadInput unless that is a temperature."""
    if value != "memory" and (not isinstance(value, int | float | np.number) or not value > 0):
        raise BadInput(f"temperature is {value!r}, but must be a positive number or 'memory'")


def make_build(estimator: Any) -> Build:
    """How an estimator's parameters have its learner built, or BadInput."""
    sizes, network, device = estimator.hidden_layer_sizes, estimator.network, estimator.device
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        raise BadInput(f"hidden_layer_sizes is {sizes!r}, but must be the units of each hidden layer, as (100, 100)")
    hidden = tuple(whole("a number of units in hidden_layer_sizes", units) for units in sizes)
    if network is not None and not callable(network):
        networks.check(network)
    try:
        engine = engines.chosen(estimator.engine, device, "mlp" if network is None else "own")
    except BadInput as error:
        raise BadInput(str(error).replace("--", "")) from None
    return Build(hidden, network, engine, device)


def name_of(method: str | type[Method]) -> str:
    """A method's name, or where a user's class is."""
    if isinstance(method, str):
        return method
    names = [name for name, known in METHODS.items() if known is method]
    return names[0] if names else f"{method.__module__}.{method.__qualname__}"


def _plain(value: Any) -> Any:
    """A class_weight or network as a file can hold it: a dictionary's pairs, a function's name."""
    if isinstance(value, Mapping):
        return {"pairs": [[key, weight] for key, weight in value.items()]}
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else value


class Saving:
    """The lock of an estimator, and its files: arrays and JSON, nothing pickled, so that any file may be opened.

    Attributes
    ----------
    clipped_
        Readings so far that were too far off to be taken as they are (``scale=True``).
    """

    KIND: ClassVar[str]
    _life: Core
    _labels: Numbers

    @property
    def clipped_(self) -> int:
        return 0 if self._life.scale is None else self._life.scale.clipped

    @property
    def _guard(self) -> Guard:
        guard: Guard = self.__dict__.setdefault("_lock", Guard())  # one step, whichever thread comes first
        return guard

    def _set(self, given: dict[str, Any]) -> None:
        """Have the parameters that ``__init__`` was given: its ``locals()``."""
        vars(self).update({name: value for name, value in given.items() if name not in ("self", "__class__")})

    def _weights_by_number(self) -> str | list[float] | None:
        """The parameter ``class_weight`` as the core takes it."""
        given: Any = vars(self)["class_weight"]
        if given is None or given == "balanced":
            return given  # type: ignore[no-any-return]
        if not isinstance(given, Mapping) or not all(np.isreal(weight) and weight > 0 for weight in given.values()):
            raise BadInput(f"class_weight is {given!r}, but must be None, 'balanced', or a positive number by class")
        return [float(given.get(label, 1.0)) for label in self._labels]

    def _parameters(self) -> dict[str, Any]:
        """The parameters as they were given."""
        raise NotImplementedError

    def _learned(self) -> dict[str, Any]:
        """What was learned besides the core, plain."""
        raise NotImplementedError

    def _restore(self, learned: dict[str, Any]) -> None:
        """Take over what ``_learned()`` gave."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator, with all that it has learned, into a file of arrays and JSON.

        Raises
        ------
        BadInput
            If the file cannot be written, or a label or name is neither text, a number nor a truth value.
        """
        parameters = dict(self._parameters())
        random_state = parameters.get("random_state")
        if isinstance(random_state, np.random.RandomState):
            parameters["random_state"] = random_state.get_state(legacy=False)
        chosen, settings = parameters["method"], parameters["settings"]
        parameters |= {"method": name_of(chosen), "settings": None if settings is None else dict(settings)}
        for name in ("network", "class_weight"):
            parameters[name] = _plain(parameters.get(name))
        state: dict[str, Any] = {
            "saved": self.KIND,
            "format": FORMAT,
            "metareplay": metadata.version("metareplay"),
            "learned": {},
        }
        with self._guard.reading():
            if hasattr(self, "_life"):
                chosen = type(self._life.method)
                life = self._life.state()
                life["network"]["network"] = _plain(life["network"]["network"])
                state["learned"] = {"life": life, **self._learned()}
            content = pack(state | {"method": name_of(chosen), "parameters": parameters})
        try:
            write_atomically(Path(path), content)
        except OSError as error:
            raise BadInput(f"cannot write {path}: {error.strerror or error}") from error

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        method: type[Method] | None = None,
        network: Callable[..., Any] | None = None,
    ) -> Self:
        """The estimator that was saved; it goes on to the same bits. No code comes from the file.

        Parameters
        ----------
        method
            The method's class, where it is none of the ten.
        network
            The function that makes its network, where it has one.

        Raises
        ------
        BadInput
            If the file is missing, damaged, something else, or of a version that this one cannot read.
        """
        try:
            state = unpack(Path(path).read_bytes())
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
        except BadInput as error:
            raise BadInput(f"{path} is damaged, or no saved {cls.KIND} ({error})") from error
        if state.get("saved") != cls.KIND:
            what = f"a {state['saved']}" if "saved" in state else "something else"
            raise BadInput(f"{path} is {what}, but must be a saved {cls.KIND}")
        if state.get("format") != FORMAT:
            version = state.get("metareplay", "0.1.0.dev0")
            raise BadInput(
                f"{path} was saved by metareplay {version} (format {state.get('format')}), but this version reads "
                f"format {FORMAT}: learn it again, or load it with metareplay {version}"
            )
        if method is None and state.get("method") not in METHODS:
            raise BadInput(f"{path} was learned by {state.get('method')}: give that class, load(path, method=…)")
        own = state["parameters"].get("network")
        if own is not None:
            if network is None:
                raise BadInput(f"{path} has the network {own}: give what makes it, load(path, network=…)")
            state["parameters"]["network"] = network
            if state["learned"]:
                state["learned"]["life"]["network"]["network"] = network
        try:
            return cls._of_state(state, method or method_class(state["method"]))
        except Exception as error:  # what a changed file may say has no end
            raise BadInput(f"{path} is damaged, or from another version ({error})") from error

    @classmethod
    def _of_state(cls, state: Mapping[str, Any], method: type[Method]) -> Self:
        parameters, learned = dict(state["parameters"]), state["learned"]
        parameters["hidden_layer_sizes"] = tuple(parameters["hidden_layer_sizes"])
        for name in ("network", "class_weight"):
            if name not in inspect.signature(cls).parameters:
                del parameters[name]
        if isinstance(parameters.get("class_weight"), dict):
            parameters["class_weight"] = dict(parameters["class_weight"]["pairs"])
        if parameters["method"] not in METHODS:
            parameters["method"] = method
        if isinstance(parameters.get("random_state"), dict):
            random_state = np.random.RandomState()
            random_state.set_state(parameters["random_state"])
            parameters["random_state"] = random_state
        estimator = cls(**parameters)
        if learned:
            estimator._life = Core.of_state(method, learned["life"])
            estimator._restore(learned)
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        with self._guard.reading():
            inherited: Any = super().__getstate__()
            state = {name: value for name, value in inherited.items() if name != "_lock"}
            if "_life" in state:
                state["_life"] = (type(self._life.method), self._life.state())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_life" in state:
            state = state | {"_life": Core.of_state(*state["_life"])}
        inherited: Any = getattr(super(), "__setstate__", self.__dict__.update)
        inherited(state)
