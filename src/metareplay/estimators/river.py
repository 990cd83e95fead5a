"""Continual learning as a river classifier (extra ``river``)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from river import base
from river.utils import dataframe

from metareplay.errors import BadInput
from metareplay.estimators.core import Core, log_probabilities
from metareplay.estimators.parameters import Saving, check_temperature, make_build, make_method, name_of, one_of, whole
from metareplay.estimators.shared import Numbers
from metareplay.methods.base import Method

if TYPE_CHECKING:
    from narwhals.stable.v2.typing import IntoDataFrame, IntoSeries

FEWEST_INPUTS = 16
"""Inputs that the network has at first; where there are too few, it gets twice as many. Unused ones cost nothing."""

Label = bool | str | int


class _Estimator(Saving):
    """What classifier and regressor share."""

    _LOSS: str | None = None
    max_features: int
    scale: bool
    tasks: int
    seed: int | None

    def _start(self) -> None:
        """Check the parameters; nothing is learned yet."""
        self._method = type(make_method(self))
        make_build(self)
        whole("tasks", self.tasks)
        whole("max_features", self.max_features)
        self.missing_labels_ = 0
        self._labels = Numbers()
        self._tasks = Numbers()
        self._features = Numbers()
        self._left_out = False
        self._last: tuple[list[Any], NDArray[np.int64]] = ([], np.empty(0, np.int64))

    # Learning

    def _one(self, x: Mapping[Hashable, Any], y: Any, task: Hashable, w: float) -> None:
        names = list(x)
        self._learn(names, self._numbers(names, x)[None], [y], task, w)

    def _many(self, X: IntoDataFrame, y: IntoSeries, task: Hashable, w: float) -> None:
        frame = dataframe.into_frame(X)
        values = dataframe.to_numpy(frame)
        self._check_finite(frame.columns, values)
        answers = dataframe.into_series(y).to_list()
        if len(answers) != len(values):
            raise BadInput(f"Found input variables with inconsistent numbers of samples: {[len(values), len(answers)]}")
        self._learn(list(frame.columns), values, answers, task, w)

    def _learn(self, names: list[Any], values: NDArray[np.float64], y: list[Any], task: Hashable, w: float) -> None:
        with self._guard.writing():
            there = [label is not None and label == label for label in y]  # NaN does not equal itself
            if not all(there):
                self.missing_labels_ += len(y) - sum(there)
                values, y = values[there], [label for label, is_there in zip(y, there, strict=True) if is_there]
            if not 0 <= w < np.inf:
                raise BadInput(f"w is {w!r}, but must be a weight from 0 up")
            if not y or w == 0:
                return
            number_of_task = 0
            if self._method.needs_task_in_training:
                given = None if task is None else [task]
                number_of_task = int(self._tasks.of_tasks(given, self.tasks, self._name, "learn_one(x, y, task=…)")[0])
            places = self._new_places(names)
            inputs = max(FEWEST_INPUTS, 1 << (len(self._features) - 1).bit_length())
            if not hasattr(self, "_life"):
                self._begin(inputs)
            self._life.grow(inputs=inputs)
            try:
                values, places = _with_places(values, places)
                if isinstance(self, ContinualRiverClassifier):
                    answers: NDArray[Any] = self._labels.of(y)
                    self._life.class_weight = self._weights_by_number()
                else:
                    answers = np.array(y, np.float64)
                weights = None if w == 1 else np.full(len(y), w, np.float32)
                self._life.learn(values, answers, number_of_task, places, weights=weights)
            finally:
                self._life.grow(classes=len(self._labels))

    def _begin(self, inputs: int) -> None:
        seed = int(np.random.SeedSequence().generate_state(1)[0]) if self.seed is None else self.seed
        self._life = Core(
            make_method(self), make_build(self), inputs, 1, self.tasks, bool(self.scale), 1, seed, self._LOSS
        )

    @property
    def _name(self) -> str:
        return name_of(self._method)

    def _new_places(self, names: list[Any]) -> NDArray[np.int64]:
        """The place of each feature among the inputs; new ones get theirs while there is room, and are −1 after.

        Names that are new in one example get their places in ascending order, so that it does not matter in which order
        a dictionary holds them.
        """
        if names != self._last[0]:  # most examples have the names of the one before
            new = [name for name in names if name not in self._features]
            room = self.max_features - len(self._features)
            self._features.of(sorted(new, key=lambda name: (type(name).__name__, repr(name)))[:room])
            if len(new) > room and not self._left_out:
                self._left_out = True
                warnings.warn(
                    f"more than max_features={self.max_features} features have come: new ones are left out",
                    RuntimeWarning,
                    stacklevel=4,
                )
            self._last = (names, self._places(names))
        return self._last[1]

    def _places(self, names: list[Any]) -> NDArray[np.int64]:
        last, places = self._last
        return places if names == last else np.array([self._features.get(name, -1) for name in names], np.int64)

    def _scores(
        self, names: list[Any], values: NDArray[np.float64], task: Hashable
    ) -> tuple[list[Label], NDArray[np.float32]]:
        """The classes in the order in which they were met, and their logits ``(n, classes)``."""
        self._check_finite(names, values)
        with self._guard.reading():
            if not hasattr(self, "_life"):
                return [], np.empty((len(values), 0), np.float32)
            number = 0
            if self._method.needs_task_in_testing:
                given = None if task is None else [task]
                number = int(self._tasks.of_known_tasks(given, self._name, "predict_one(x, task=…)")[0])
            x, places = _with_places(values, self._places(names))
            return list(self._labels), self._life.scores(x, number, places)

    # What was given

    def _numbers(self, names: list[Any], x: Mapping[Hashable, Any]) -> NDArray[np.float64]:
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
        self._check_finite(names, values)
        return values

    def _check_finite(self, names: Any, values: NDArray[np.float64]) -> None:
        largest = np.finfo(np.float64 if self.scale else np.float32).max
        if not np.abs(values).max(initial=0.0) <= largest:  # NaN is not either
            place = np.argwhere(~(np.abs(values) <= largest))[0, -1]
            what = "NaN" if np.isnan(values).any() else "infinity or a value too large for dtype('float32')"
            raise BadInput(f"Input x contains {what} (feature {names[place]!r})")

    # Saving

    def _parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self._get_params()  # type: ignore[attr-defined]  # of river's
        return parameters

    def _learned(self) -> dict[str, Any]:
        learned = {name: list(getattr(self, f"_{name}")) for name in ("labels", "tasks", "features")}
        for what, names in learned.items():
            for name in names:
                if not isinstance(name.item() if isinstance(name, np.generic) else name, str | int | float | bool):
                    raise BadInput(
                        f"one of the {what} is {name!r}: only text, numbers and truth values can be saved; pickle it"
                    )
        return learned | {"left_out": self._left_out, "missing_labels": self.missing_labels_}

    def _restore(self, learned: dict[str, Any]) -> None:
        self._method = type(self._life.method)
        for name in ("labels", "tasks", "features"):
            getattr(self, f"_{name}").of(learned[name])
        self._left_out, self.missing_labels_ = learned["left_out"], learned["missing_labels"]


class ContinualRiverClassifier(_Estimator, base.MiniBatchClassifier):
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    A perceptron trained by one of the ten methods of this package; by default experience replay, which
    learns each example together with others drawn from a memory. Classes and features
    may appear, and features may go, at any time. Time for each example and memory for all are constant. Threads may
    share one: learning excludes all else, and any number may predict at once.

    Parameters
    ----------
    method, memories, recency, lr, beta, gamma, s, batches_per_example, replay_batch_size, memory_strength, n_memories,
    settings, hidden_layer_sizes, network, engine, device, tasks, class_weight, temperature
        As for :class:`metareplay.estimators.ContinualClassifier`.
    scale
        The same; a feature that is missing counts as at its mean. Give False for inputs that are scaled already and for
        counts of words, where missing is zero.
    max_features
        The most features that are taken in; when more have come, those that are new are left out, and a warning says
        so.
    seed
        Decides the initial weights, the memory and the replay; None for another each time.

    Attributes
    ----------
    missing_labels_
        Examples so far that were skipped because their label was None or NaN.
    clipped_
        Readings so far that were too far off to be taken as they are (``scale=True``).

    Examples
    --------
    >>> from river import datasets, evaluate, metrics, preprocessing
    >>> from metareplay.estimators import ContinualRiverClassifier
    >>> model = preprocessing.StandardScaler() | ContinualRiverClassifier(seed=0)
    >>> metric = evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())
    >>> metric.get() > 0.85
    True
    """

    KIND: ClassVar[str] = "ContinualRiverClassifier"

    def __init__(
        self,
        method: str | type[Method] = "eralg4",
        memories: int = 5000,
        lr: float | None = None,
        beta: float | None = None,
        gamma: float | None = None,
        s: float | None = None,
        batches_per_example: int | None = None,
        replay_batch_size: int | None = None,
        memory_strength: float | None = None,
        n_memories: int | None = None,
        recency: int | None = 5000,
        settings: Mapping[str, Any] | None = None,
        hidden_layer_sizes: tuple[int, ...] = (100, 100),
        network: str | Callable[..., Any] | None = None,
        engine: str | None = None,
        device: str = "cpu",
        scale: bool = True,
        max_features: int = 10_000,
        tasks: int = 10,
        class_weight: str | Mapping[Any, float] | None = None,
        temperature: float | str = 1.0,
        seed: int | None = None,
    ) -> None:
        self._set(locals())
        self._start()

        check_temperature(temperature)

    @property
    def _multiclass(self) -> bool:
        return True

    # Learning

    def learn_one(self, x: dict[Hashable, Any], y: Label | None, task: Hashable = None, w: float = 1.0) -> None:
        """Learn one example.

        Parameters
        ----------
        x
            Its features by name: numbers.
        y
            Its class, maybe one that never came before. None and NaN are no class: the example is skipped, and counted
            in ``missing_labels_``.
        task
            Its task, for methods that need it.
        w
            What its loss counts, whenever it is learned or replayed; one that weighs 0 is skipped.

        Raises
        ------
        BadInput
            If something cannot be used; then nothing is learned.
        Diverged
            If its loss is not finite.
        """
        self._one(x, y, task, w)

    def learn_many(self, X: IntoDataFrame, y: IntoSeries, task: Hashable = None, w: float = 1.0) -> None:
        """Learn the rows of a data frame in their order, as ``learn_one`` would."""
        self._many(X, y, task, w)

    # Answering

    def predict_proba_one(  # type: ignore[override]  # task, by its name
        self, x: dict[Hashable, Any], task: Hashable = None
    ) -> dict[Label, float]:
        """The probability of each class met so far."""
        names = list(x)
        labels, p = self._probabilities(names, self._numbers(names, x)[None], task)
        return dict(zip(labels, p[0].tolist(), strict=True))

    def predict_one(  # type: ignore[override]  # task, by its name
        self, x: dict[Hashable, Any], task: Hashable = None
    ) -> Label | None:
        """The likeliest class; None before anything was learned."""
        names = list(x)
        return _answers(*self._scores(names, self._numbers(names, x)[None], task))[0]

    def predict_proba_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoDataFrame:
        """The probability of each class met so far, a column each."""
        frame = dataframe.into_frame(X)
        labels, p = self._probabilities(list(frame.columns), dataframe.to_numpy(frame), task)
        return dataframe.to_native_frame(dict(zip(labels, p.T, strict=True)), like=frame)

    def predict_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoSeries:
        """The likeliest class of each row."""
        frame = dataframe.into_frame(X)
        answers = _answers(*self._scores(list(frame.columns), dataframe.to_numpy(frame), task))
        return dataframe.to_native_series(answers, name=None, like=frame)

    def _probabilities(
        self, names: list[Any], values: NDArray[np.float64], task: Hashable
    ) -> tuple[list[Label], NDArray[np.float64]]:
        labels, scores = self._scores(names, values, task)
        if not labels:
            return [], scores.astype(np.float64)
        return labels, np.exp(log_probabilities(scores, self._life.temperature(vars(self)["temperature"])))


class ContinualRiverRegressor(_Estimator, base.MiniBatchRegressor):
    """A regressor that goes on learning, example by example, and keeps what it learned before.

    As :class:`ContinualRiverClassifier`, with one output, and scaled targets as in
    :class:`metareplay.estimators.ContinualRegressor`. A target that is None or NaN is skipped, and counted in
    ``missing_labels_``.

    Parameters
    ----------
    loss
        ``squared``: half the squared error, for means; ``absolute``: the absolute error, for medians.
    others
        As for :class:`ContinualRiverClassifier`.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> from metareplay.estimators import ContinualRiverRegressor
    >>> data = datasets.TrumpApproval()
    >>> metric = evaluate.progressive_val_score(data, ContinualRiverRegressor(seed=0), metrics.MAE())
    >>> metric.get() < 1
    True
    """

    KIND: ClassVar[str] = "ContinualRiverRegressor"

    def __init__(
        self,
        method: str | type[Method] = "eralg4",
        memories: int = 5000,
        lr: float | None = None,
        beta: float | None = None,
        gamma: float | None = None,
        s: float | None = None,
        batches_per_example: int | None = None,
        replay_batch_size: int | None = None,
        memory_strength: float | None = None,
        n_memories: int | None = None,
        recency: int | None = 5000,
        settings: Mapping[str, Any] | None = None,
        hidden_layer_sizes: tuple[int, ...] = (100, 100),
        network: str | Callable[..., Any] | None = None,
        engine: str | None = None,
        device: str = "cpu",
        scale: bool = True,
        max_features: int = 10_000,
        tasks: int = 10,
        loss: str = "squared",
        seed: int | None = None,
    ) -> None:
        self._set(locals())
        self._start()

    @property
    def _LOSS(self) -> str:  # type: ignore[override]
        return one_of("loss", vars(self)["loss"], ("squared", "absolute"))

    def learn_one(self, x: dict[Hashable, Any], y: float | None, task: Hashable = None, w: float = 1.0) -> None:
        """Learn one example, as :meth:`ContinualRiverClassifier.learn_one`, with a target ``y``."""
        self._one(x, y, task, w)

    def learn_many(self, X: IntoDataFrame, y: IntoSeries, task: Hashable = None, w: float = 1.0) -> None:
        """Learn the rows of a data frame in their order, as ``learn_one`` would."""
        self._many(X, y, task, w)

    def predict_one(self, x: dict[Hashable, Any], task: Hashable = None) -> float:
        """The target; 0 before anything was learned."""
        names = list(x)
        return float(self._targets(names, self._numbers(names, x)[None], task)[0])

    def predict_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoSeries:
        """The target of each row."""
        frame = dataframe.into_frame(X)
        targets = self._targets(list(frame.columns), dataframe.to_numpy(frame), task)
        return dataframe.to_native_series(targets, name=None, like=frame)

    def _targets(self, names: list[Any], values: NDArray[np.float64], task: Hashable) -> NDArray[np.float64]:
        _, scores = self._scores(names, values, task)
        return self._life.targets(scores) if scores.shape[1] else np.zeros(len(values))


def _answers(labels: list[Label], scores: NDArray[np.float32]) -> list[Label | None]:
    return [labels[number] for number in scores.argmax(1).tolist()] if labels else [None] * len(scores)


def _with_places(
    values: NDArray[np.float64], places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Without the features that have no place."""
    if places.size and places.min() < 0:
        return np.ascontiguousarray(values[:, places >= 0]), places[places >= 0]
    return np.ascontiguousarray(values), places
