"""Continual learning as a river classifier (extra ``river``)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from river import base
from river.utils import dataframe

from metareplay.errors import BadInput
from metareplay.estimators import saved
from metareplay.estimators.feature_names import FeatureNames
from metareplay.estimators.open_ended_life import OpenEndedLife, probabilities
from metareplay.estimators.parameters import hidden, make_method, whole
from metareplay.methods import METHODS
from metareplay.methods.base import Method

if TYPE_CHECKING:
    from narwhals.stable.v2.typing import IntoDataFrame, IntoSeries

FEWEST_INPUTS = 16
"""Inputs that the network has at first; where there are too few, it gets twice as many. Those in wait cost nothing."""

LARGEST = float(np.finfo(np.float32).max)

Label = bool | str | int


class ContinualRiverClassifier(base.MiniBatchClassifier):
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    A perceptron trained by one of the ten methods of this package; by default meta-experience replay (Riemer et al.,
    ICLR 2019, Algorithm 1), which learns each example together with others from a small memory. Classes and features
    may appear, and features may go, at any time. Time for each example and memory for all are
    constant.

    Parameters
    ----------
    method
        One of ``online``, ``eralg4``, ``meralg1``, ``meralg6``, ``meralg7``, which need nothing but examples; one of
        ``taskinput``, ``independent``, ``ewc``, ``gem``, ``eralg5``, which must be told the task of each
        (``learn_one(x, y, task=…)``); or a subclass of :class:`metareplay.Method`.
    memories
        The examples that are kept to be replayed, for methods that keep any.
    lr, beta, gamma, s, batches_per_example, replay_batch_size, memory_strength, n_memories
        The method's settings, as ``metareplay run BENCHMARK METHOD --help`` explains them. None: what does well on
        features of about the same size (``metareplay.estimators.parameters.SETTINGS``).
    settings
        Settings that have no parameter here, by name: ``{"mean_of_squares": True}``.
    hidden_layer_sizes
        Units in each hidden layer; ``()`` for a linear model.
    scale
        Whether features are brought to mean 0 and standard deviation 1, by what has been seen of them so far; one that
        is missing counts as at its mean. Give False for inputs that are scaled already and for counts of words, where
        missing is zero.
    max_features
        The most features that are taken in; when more have come, those that are new are left out, and a warning says
        so.
    tasks
        The most tasks that will come, for methods that are told the task.
    seed
        Decides the initial weights, the memory and the replay; None for another each time.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics, preprocessing
    >>> from metareplay.estimators import ContinualRiverClassifier
    >>> model = preprocessing.StandardScaler() | ContinualRiverClassifier(seed=0)
    >>> metric = evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())
    >>> metric.get() > 0.88
    True
    """

    def __init__(
        self,
        method: str | type[Method] = "meralg1",
        memories: int = 500,
        lr: float | None = None,
        beta: float | None = None,
        gamma: float | None = None,
        s: float | None = None,
        batches_per_example: int | None = None,
        replay_batch_size: int | None = None,
        memory_strength: float | None = None,
        n_memories: int | None = None,
        settings: Mapping[str, Any] | None = None,
        hidden_layer_sizes: tuple[int, ...] = (100, 100),
        scale: bool = True,
        max_features: int = 10_000,
        tasks: int = 10,
        seed: int | None = None,
    ) -> None:
        self.method = method
        self.memories = memories
        self.lr = lr
        self.beta = beta
        self.gamma = gamma
        self.s = s
        self.batches_per_example = batches_per_example
        self.replay_batch_size = replay_batch_size
        self.memory_strength = memory_strength
        self.n_memories = n_memories
        self.settings = settings
        self.hidden_layer_sizes = hidden_layer_sizes
        self.scale = scale
        self.max_features = max_features
        self.tasks = tasks
        self.seed = seed
        self._method = make_method(self)
        self._hidden = hidden(hidden_layer_sizes)
        self._most_tasks = whole("tasks", tasks)
        self._features = FeatureNames(whole("max_features", max_features))
        self._labels: dict[Label, int] = {}
        self._tasks: dict[Hashable, int] = {}
        self._life: OpenEndedLife | None = None

    @property
    def _multiclass(self) -> bool:
        return True

    # Learning

    def learn_one(self, x: dict[Hashable, Any], y: Label, task: Hashable = None) -> None:
        """Learn one example.

        Parameters
        ----------
        x
            Its features by name: numbers.
        y
            Its class, maybe one that never came before.
        task
            Its task, for methods that need it.

        Raises
        ------
        BadInput
            If something cannot be used; then nothing is learned.
        Diverged
            If its loss is not finite.
        """
        names = list(x)
        self._learn(names, _numbers(names, x)[None], [y], task)

    def learn_many(self, X: IntoDataFrame, y: IntoSeries, task: Hashable = None) -> None:
        """Learn the rows of a data frame in their order, as ``learn_one`` would."""
        frame = dataframe.into_frame(X)
        values = dataframe.to_numpy(frame)
        _check_finite(frame.columns, values)
        labels = dataframe.into_series(y).to_list()
        if len(labels) != len(values):
            raise BadInput(f"Found input variables with inconsistent numbers of samples: {[len(values), len(labels)]}")
        if labels:
            self._learn(list(frame.columns), values, labels, task)

    def _learn(self, names: list[Any], values: NDArray[np.float64], y: list[Label], task: Hashable) -> None:
        number_of_task = self._numbered_task(task)
        places = self._features.learn(names)
        inputs = max(FEWEST_INPUTS, 1 << (len(self._features.places) - 1).bit_length())
        life = self._life or self._begin(inputs)
        life.grow(inputs=inputs)
        values, places = _with_places(values, places)
        labels = self._labels
        try:
            numbers = [labels.setdefault(label, len(labels)) for label in y]
            life.learn(values, np.array(numbers), number_of_task, places)
        finally:
            life.grow(classes=len(labels))

    def _begin(self, inputs: int) -> OpenEndedLife:
        seed = int(np.random.SeedSequence().generate_state(1)[0]) if self.seed is None else self.seed
        self._life = OpenEndedLife(self._method, self._hidden, inputs, 1, self._most_tasks, bool(self.scale), 1, seed)
        return self._life

    def _numbered_task(self, task: Hashable) -> int:
        if not self._method.needs_task_in_training:
            return 0
        if task is None:
            raise BadInput(f"{saved.name_of(type(self._method))} must be told the task: learn_one(x, y, task=…)")
        if task not in self._tasks and len(self._tasks) == self._most_tasks:
            raise BadInput(
                f"task {task!r} would be one more than the {self._most_tasks} that tasks={self._most_tasks} allows; "
                "say how many will come"
            )
        return self._tasks.setdefault(task, len(self._tasks))

    # Answering

    def predict_proba_one(  # type: ignore[override]  # task, by its name
        self, x: dict[Hashable, Any], task: Hashable = None
    ) -> dict[Label, float]:
        """The probability of each class met so far."""
        names = list(x)
        scores = self._scores(names, _numbers(names, x)[None], task)
        return dict(zip(self._labels, probabilities(scores)[0].tolist(), strict=True)) if self._labels else {}

    def predict_one(  # type: ignore[override]  # task, by its name
        self, x: dict[Hashable, Any], task: Hashable = None
    ) -> Label | None:
        """The likeliest class; None before anything was learned."""
        names = list(x)
        return self._answers(self._scores(names, _numbers(names, x)[None], task))[0]

    def predict_proba_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoDataFrame:
        """The probability of each class met so far, a column each."""
        frame = dataframe.into_frame(X)
        scores = self._scores(list(frame.columns), dataframe.to_numpy(frame), task)
        columns = dict(zip(self._labels, probabilities(scores).T, strict=True)) if self._labels else {}
        return dataframe.to_native_frame(columns, like=frame)

    def predict_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoSeries:
        """The likeliest class of each row."""
        frame = dataframe.into_frame(X)
        answers = self._answers(self._scores(list(frame.columns), dataframe.to_numpy(frame), task))
        return dataframe.to_native_series(answers, name=None, like=frame)

    def _scores(self, names: list[Any], values: NDArray[np.float64], task: Hashable) -> NDArray[np.float32]:
        """Logits ``(n, classes)``, classes in the order in which they were met."""
        _check_finite(names, values)
        if self._life is None:
            return np.empty((len(values), 0), np.float32)
        number = 0
        if self._method.needs_task_in_testing:
            if task not in self._tasks:
                known = list(self._tasks)
                raise BadInput(f"nothing was learned of task {task!r}; known are {known}: predict_one(x, task=…)")
            number = self._tasks[task]
        values, places = _with_places(values, self._features.at(names))
        return self._life.scores(values, number, places)

    def _answers(self, scores: NDArray[np.float32]) -> list[Label | None]:
        if not self._labels:
            return [None] * len(scores)
        labels = list(self._labels)
        return [labels[number] for number in scores.argmax(1).tolist()]

    # Keeping

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator, all that it has learned included, into a file of arrays and JSON.

        Raises
        ------
        BadInput
            If the file cannot be written, or a label or name is neither text, a number nor a truth value.
        """
        learned: dict[str, Any] = {}
        if self._life is not None:
            learned = {
                "life": self._life.state(),
                "labels": list(self._labels),
                "tasks": list(self._tasks),
                "features": list(self._features.places),
                "left_out": self._features.left_out,
            }
            for name in ("labels", "tasks", "features"):
                for value in learned[name]:
                    _check_plain(name, value)
        parameters = saved.plain(self._get_params())
        method = saved.name_of(type(self._method))
        saved.write(path, "ContinualRiverClassifier", {"method": method, "parameters": parameters, "learned": learned})

    @classmethod
    def load(cls, path: str | os.PathLike[str], method: type[Method] | None = None) -> Self:
        """The estimator that was saved; it goes on to the same bits. No code comes from the file.

        Parameters
        ----------
        method
            The method's class, where it is none of the ten.

        Raises
        ------
        BadInput
            If the file is missing, damaged or something else.
        """

        def build(state: dict[str, Any], method: type[Method]) -> Any:
            parameters, learned = state["parameters"], state["learned"]
            parameters["hidden_layer_sizes"] = tuple(parameters["hidden_layer_sizes"])
            if parameters["method"] not in METHODS:
                parameters["method"] = method
            estimator = cls(**parameters)
            if learned:
                estimator._life = OpenEndedLife.of_state(method, learned["life"])
                estimator._method = estimator._life.method
                estimator._labels = {label: number for number, label in enumerate(learned["labels"])}
                estimator._tasks = {task: number for number, task in enumerate(learned["tasks"])}
                estimator._features.places = {name: place for place, name in enumerate(learned["features"])}
                estimator._features.left_out = learned["left_out"]
            return estimator

        loaded: Self = saved.read(path, "ContinualRiverClassifier", method, build)
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._life is not None:
            state["_method"] = None
            state["_life"] = (type(self._method), self._life.state())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state["_life"] is not None:
            self._life = OpenEndedLife.of_state(*state["_life"])
            self._method = self._life.method


def _numbers(names: list[Any], x: Mapping[Hashable, Any]) -> NDArray[np.float64]:
    """The values of an example's features, all finite."""
    try:
        values = np.fromiter(x.values(), np.float64, len(names))
    except (TypeError, ValueError):
        for name, value in x.items():
            if not isinstance(value, int | float | np.number | np.bool_):
                raise BadInput(
                    f"feature {name!r} is {value!r}, but must be a number: put an encoder before the classifier, "
                    "such as river.preprocessing.OneHotEncoder"
                ) from None
        raise
    _check_finite(names, values)
    return values


def _check_finite(names: Any, values: NDArray[np.float64]) -> None:
    if not np.abs(values).max(initial=0.0) <= LARGEST:  # NaN is not either
        place = np.argwhere(~(np.abs(values) <= LARGEST))[0, -1]
        what = "NaN" if np.isnan(values).any() else "infinity or a value too large for dtype('float32')"
        raise BadInput(f"Input x contains {what} (feature {names[place]!r})")


def _check_plain(what: str, value: Any) -> None:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, str | int | float | bool):
        raise BadInput(f"one of the {what} is {value!r}: only text, numbers and truth values can be saved; pickle it")


def _with_places(
    values: NDArray[np.float64], places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Without the features that have no place."""
    if places.size and places.min() < 0:
        return np.ascontiguousarray(values[:, places >= 0]), places[places >= 0]
    return np.ascontiguousarray(values), places
