"""Continual learning in the interface of river (extra ``river``)."""

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from narwhals.stable.v2 import String
from narwhals.stable.v2.typing import IntoDataFrame, IntoSeries
from numpy.typing import NDArray
from river import base
from river.utils import dataframe

from metareplay.errors import BadInput
from metareplay.estimators.estimator import Classifying, Estimator
from metareplay.methods.base import Method
from metareplay.settings import setting

FEWEST_INPUTS = 16
"""Inputs that the network has at first; where there are too few, it gets twice as many. Unused ones cost nothing."""
ENCODE = "put an encoder before the classifier, such as river.preprocessing.OneHotEncoder"
Label = bool | str | int
Floats = NDArray[np.float64]


@dataclass(kw_only=True, eq=False, repr=False)
class RiverEstimator(Estimator):
    """What classifier and regressor share."""

    max_features: int = setting(10_000, "[1, inf)", help="the most features that are taken in")
    seed: int | None = None

    def __post_init__(self) -> None:
        self._method = type(self._made_method())
        self._meet_nothing()
        self.missing_labels_, self._left_out = 0, False
        self._last: tuple[list[Any], NDArray[np.int64]] = ([], np.empty(0, np.int64))

    def learn_one(self, x: dict[Hashable, Any], y: Any, task: Hashable = None, w: float = 1.0) -> None:
        """Learn one example.

        BadInput if something cannot be used, and then nothing is learned; Diverged if its loss is not finite.

        Parameters
        ----------
        x
            Its features by name: numbers.
        y
            Its class, maybe one that never came before, or target. None and NaN are none: the example is skipped, and
            counted in ``missing_labels_``.
        task
            Its task, for methods that need it.
        w
            What its loss counts, whenever it is learned or replayed; one that weighs 0 is skipped.
        """
        self._learn(list(x), self._numbers(x), [y], task, w)

    def learn_many(self, X: IntoDataFrame, y: IntoSeries, task: Hashable = None, w: float = 1.0) -> None:
        """Learn the rows of a data frame in their order, as ``learn_one`` would."""
        _, names, values = _frame(X)
        self._check_finite(names, values)
        answers = dataframe.into_series(y).to_list()
        if len(answers) != len(values):
            raise BadInput(f"Found input variables with inconsistent numbers of samples: {[len(values), len(answers)]}")
        self._learn(names, values, answers, task, w)

    def _learn(self, names: list[Any], values: Floats, y: list[Any], task: Hashable, w: float) -> None:
        with self._guard.writing():
            if not isinstance(w, Real) or not 0 <= w < np.inf:
                raise BadInput(f"w is {w!r}, but must be a weight from 0 up")
            there = [self._is_there(answer) for answer in y]
            if not all(there):
                self.missing_labels_ += len(y) - sum(there)
                values, y = values[there], [answer for answer, is_there in zip(y, there, strict=True) if is_there]
            if not y or w == 0:
                return
            number = self._number(task, "learn_one(x, y, task=…)", self.tasks)
            places = self._new_places(names)
            inputs = max(FEWEST_INPUTS, 1 << (len(self._features) - 1).bit_length())
            if not hasattr(self, "_life"):
                self._begin(self._made_method(), inputs, 1, self.seed)
            self._life.grow(inputs=inputs)
            try:
                values, places = _with_places(values, places)
                weights = None if w == 1 else np.full(len(y), w, np.float32)
                self._life.learn(values, self._answers(y), number, places, weights=weights)
            finally:
                self._life.grow(classes=len(self._labels))

    def _is_there(self, answer: Any) -> bool:
        """Whether it is not None, NaN, NaT or pandas' NA; BadInput if it cannot be learned."""
        if not isinstance(answer, Hashable):
            raise BadInput(f"y is {answer!r}, but must be one value: text, a number or a truth value")
        return answer is not None and type(answer).__name__ != "NAType" and bool(answer == answer)

    def _number(self, task: Hashable, call: str, most: int | None = None) -> int:
        return int(self._tasks.of_tasks(None if task is None else [task], 1, self._method, call, most)[0])

    def _new_places(self, names: list[Any]) -> NDArray[np.int64]:
        """The place of each feature, −1 without room; new ones of an example come sorted, as dictionaries vary."""
        if names != self._last[0]:  # most examples have the names of the one before
            new = [name for name in names if name not in self._features]
            room = self.max_features - len(self._features)
            self._features.of(sorted(new, key=lambda name: (type(name).__name__, repr(name)))[:room])
            if len(new) > room and not self._left_out:
                self._left_out = True
                text = f"more than max_features={self.max_features} features have come: new ones are left out"
                warnings.warn(text, RuntimeWarning, stacklevel=4)
            self._last = (names, self._places(names))
        return self._last[1]

    def _places(self, names: list[Any]) -> NDArray[np.int64]:
        last, places = self._last
        return places if names == last else np.array([self._features.get(name, -1) for name in names], np.int64)

    def predict_one(self, x: dict[Hashable, Any], task: Hashable = None) -> Any:
        """The likeliest class, None before anything was learned; or the target, and then 0."""
        return self._predicted(list(x), self._numbers(x), task)[0]

    def predict_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoSeries:
        """The same of each row."""
        frame, names, values = _frame(X)
        return dataframe.to_native_series(self._predicted(names, values, task), name=None, like=frame)

    def _predicted(self, names: list[Any], values: Floats, task: Hashable) -> list[Any]:
        raise NotImplementedError

    def _scores(self, names: list[Any], values: Floats, task: Hashable) -> NDArray[np.float32]:
        """Logits ``(n, classes)`` of the classes in the order in which they were met."""
        self._check_finite(names, values)
        with self._guard.reading():
            if not hasattr(self, "_life"):
                return np.empty((len(values), 0), np.float32)
            number = self._number(task, "predict_one(x, task=…)")
            values, places = _with_places(values, self._places(names))
            return self._life.scores(values, number, places)

    def _numbers(self, x: Mapping[Hashable, Any]) -> Floats:
        """The values ``(1, n)`` of an example's features, all finite."""
        try:
            values = np.fromiter(x.values(), np.float64, len(x))[None]
        except OverflowError:
            values = np.full((1, len(x)), np.inf)
        except (TypeError, ValueError):
            for name, value in x.items():
                if not isinstance(value, int | float | np.number | np.bool_):
                    raise BadInput(f"feature {name!r} is {value!r}, but must be a number: {ENCODE}") from None
            raise
        self._check_finite(list(x), values)
        return values

    def _check_finite(self, names: Any, values: Floats) -> None:
        largest = np.finfo(np.float64 if self.scale else np.float32).max
        if not np.abs(values).max(initial=0.0) <= largest:  # NaN is not either
            place = np.argwhere(~(np.abs(values) <= largest))[0, -1]
            what = "NaN" if np.isnan(values).any() else "infinity or a value too large for dtype('float32')"
            raise BadInput(f"Input x contains {what} (feature {names[place]!r})")

    def _learned(self) -> dict[str, Any]:
        return super()._learned() | {"left_out": self._left_out, "missing_labels": self.missing_labels_}

    def _restore(self, learned: dict[str, Any]) -> None:
        super()._restore(learned)
        self._method = type(self._life.method)
        self._left_out, self.missing_labels_ = learned["left_out"], learned["missing_labels"]


@dataclass(kw_only=True, eq=False, repr=False)
class ContinualRiverClassifier(Classifying, RiverEstimator, base.MiniBatchClassifier):  # type: ignore[misc]  # task
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    As :class:`metareplay.estimators.ContinualClassifier`, for dictionaries: features too may come and go at any time.

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

    Examples
    --------
    >>> from river import datasets, evaluate, metrics, preprocessing
    >>> from metareplay.estimators import ContinualRiverClassifier
    >>> model = preprocessing.StandardScaler() | ContinualRiverClassifier(seed=0)
    >>> metric = evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())
    >>> metric.get() > 0.85
    True
    """

    @property
    def _multiclass(self) -> bool:
        return True

    def predict_proba_one(  # type: ignore[override]  # task, by its name
        self, x: dict[Hashable, Any], task: Hashable = None
    ) -> dict[Label, float]:
        """The probability of each class met so far."""
        labels, p = self._probabilities(list(x), self._numbers(x), task)
        return dict(zip(labels, p[0].tolist(), strict=True))

    def predict_proba_many(self, X: IntoDataFrame, task: Hashable = None) -> IntoDataFrame:
        """The probability of each class met so far, a column each."""
        frame, names, values = _frame(X)
        labels, p = self._probabilities(names, values, task)
        return dataframe.to_native_frame(dict(zip(labels, p.T, strict=True)), like=frame)

    def _predicted(self, names: list[Any], values: Floats, task: Hashable) -> list[Label | None]:
        scores = self._scores(names, values, task)
        labels = list(self._labels)
        return [labels[number] for number in scores.argmax(1).tolist()] if scores.size else [None] * len(scores)

    def _probabilities(self, names: list[Any], values: Floats, task: Hashable) -> tuple[list[Label], Floats]:
        scores = self._scores(names, values, task)
        p = np.exp(self._life.log_probabilities(scores, self.temperature)) if scores.size else scores.astype(np.float64)
        return list(self._labels)[: scores.shape[1]], p


@dataclass(kw_only=True, eq=False, repr=False)
class ContinualRiverRegressor(RiverEstimator, base.MiniBatchRegressor):
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

    method: str | type[Method] = field(default="eralg4", kw_only=False)
    loss: str = setting("squared", ("squared", "absolute"), help="what is made small")

    def _is_there(self, answer: Any) -> bool:
        there = super()._is_there(answer)
        if there and not (isinstance(answer, int | float | np.integer | np.floating) and -np.inf < answer < np.inf):
            raise BadInput(f"y is {answer!r}, but must be a finite number")
        return there

    def _predicted(self, names: list[Any], values: Floats, task: Hashable) -> list[float]:
        scores = self._scores(names, values, task)
        return list(self._life.targets(scores).tolist()) if scores.size else [0.0] * len(values)


def _frame(X: IntoDataFrame) -> tuple[Any, list[Any], Floats]:
    frame = dataframe.into_frame(X)
    for name in frame.columns:
        dtype = frame[name].dtype
        if dtype.is_temporal() or dtype == String:
            raise BadInput(f"feature {name!r} holds {dtype}, but must hold numbers: {ENCODE}")
    return frame, list(frame.columns), np.asarray(dataframe.to_numpy(frame), np.float64)


def _with_places(values: Floats, places: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Without the features that have no place."""
    if places.size and places.min() < 0:
        return np.ascontiguousarray(values[:, places >= 0]), places[places >= 0]
    return np.ascontiguousarray(values), places
