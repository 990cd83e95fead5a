"""Continual learning in the interface of scikit-learn."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_regressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from metareplay.errors import BadInput
from metareplay.estimators.estimator import Classifying, Estimator, Numbers
from metareplay.methods.base import Method
from metareplay.runs.experiment import randomness
from metareplay.settings import setting

NUMBERS_AT_A_TIME = 2**20  # rows are made dense and scaled in pieces of at most so many numbers (8 MB)
KINDS = {"b": "truth values", "U": "text"}


@dataclass(kw_only=True, eq=False, repr=False)
class ScikitEstimator(Estimator, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What classifier and regressor share."""

    epochs: int = setting(10, "[1, inf)", help="how often fit goes through its examples")
    batch_size: int = setting(1, "[1, inf)", help="the examples that are learned at once")
    random_state: int | np.random.RandomState | None = None

    def fit(self, X: Any, y: Any, task: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn a data set from the beginning: ``epochs`` times, each time in another order.

        BadInput or ValueError if the data or a parameter cannot be used; Diverged if a loss is not finite.

        Parameters
        ----------
        X
            ``(n, features)``: an array, a SciPy sparse matrix or array, or a data frame.
        y
            ``(n,)`` classes, or targets of a regression.
        task
            The task of all or ``(n,)`` of each, for methods that need it. Tasks come one after another, in the order
            in which they are first named.
        sample_weight
            ``(n,)``, what each one's loss counts, whenever it is learned or replayed; None: 1. An example that weighs
            0 is as if it were not there, to the bit.
        """
        with self._guard.writing():
            method = self._made_method()
            X, y, names, weights = self._given(X, y, task, sample_weight, bool(self.scale), reset=True)
            if len(y) == 0:
                raise BadInput("every sample_weight is 0: there is nothing to learn")
            if not is_regressor(self) and (y == y[0]).all():
                text = f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains "
                raise BadInput(f"{text}only one class: {y.tolist()[0]!r}; partial_fit can begin with one")
            tasks = Numbers()
            number_of = tasks.of_tasks(names, len(y), type(method), "partial_fit(X, y, task=…)", self.tasks)
            self._start(method, np.unique(y), X.shape[1], tasks)
            answers = self._answers(y.tolist())
            for part in self._parts(np.arange(len(y))):
                self._life.take_in(_dense(X, part), self._life.places)
            self._life.take_in_answers(answers)
            for visit, number in enumerate(dict.fromkeys(number_of.tolist())):
                rows = np.flatnonzero(number_of == number)
                order = randomness(self._life.build.seed, "order", visit)
                for _ in range(self.epochs):
                    self._learn(X, answers, weights, number, order.permutation(rows), known=True)
        return self

    def _partial_fit(
        self, X: Any, y: Any, classes: ArrayLike | None, task: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> Self:
        with self._guard.writing():
            first = not hasattr(self, "_life")
            method = self._made_method() if first else self._life.method
            scale = bool(self.scale) if first else self._life.scale is not None
            X, y, names, weights = self._given(X, y, task, sample_weight, scale, reset=first)
            announced = y[:0] if classes is None else np.unique(column_or_1d(classes))
            assert_all_finite(announced, input_name="classes")
            if not first and not is_regressor(self):
                _check_same_kind(y, self.classes_)
            if len(announced):
                _check_same_kind(y, announced)
            tasks = Numbers() if first else self._tasks
            most = self.tasks if first else self._life.build.tasks
            number_of = tasks.of_tasks(names, len(y), type(method), "partial_fit(X, y, task=…)", most)
            if first:
                self._start(method, announced, X.shape[1], tasks)
            self._know(announced)
            self._life.grow(classes=len(self._labels))
            answers = self._answers(y.tolist())
            self._know(y)
            borders = np.flatnonzero(np.diff(number_of)) + 1
            try:
                for rows in np.split(np.arange(len(y)), borders) if len(y) else ():
                    self._learn(X, answers, weights, int(number_of[rows[0]]), rows)
            finally:
                self._life.grow(classes=len(self._labels))
        return self

    def _start(self, method: Method, labels: NDArray[Any], features: int, tasks: Numbers) -> None:
        seed: Any = self.random_state
        if seed is not None and not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        self.__dict__.pop("classes_", None)
        self._meet_nothing()
        self._tasks = tasks
        self._know(labels)
        self._begin(method, features, max(1, len(self._labels)), seed, int(self.batch_size))

    def _learn(self, X: Any, y: Any, weights: Any, task: int, rows: NDArray[np.int64], known: bool = False) -> None:
        for part in self._parts(rows):
            given = None if weights is None else weights[part]
            self._life.learn(_dense(X, part), y[part], task, self._life.places, known, given)

    def _parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows in pieces of whole batches that are not too large."""
        size = self._life.learner.batch_size
        step = max(1, NUMBERS_AT_A_TIME // self._life.inputs // size) * size
        return [rows[begin : begin + step] for begin in range(0, len(rows), step)]

    def _know(self, labels: NDArray[Any]) -> None:
        """Have these among ``classes_``, and number those that are new."""

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._guard.reading():
            check_is_fitted(self, "_life")
            yield

    def _scores(self, X: Any, task: ArrayLike | None) -> NDArray[np.float32]:
        """Logits ``(n, classes)``, by the numbers of the classes."""
        dtype = np.float32 if self._life.scale is None else np.float64
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=dtype, order="C")
        n, method = X.shape[0], type(self._life.method)
        names = _one_each(task, n) if method.needs_task_in_testing else None
        tasks = self._tasks.of_tasks(names, n, method, "predict(X, task=…)")
        scores = np.empty((n, self._life.classes), np.float32)
        for number in np.unique(tasks):
            for part in self._parts(np.flatnonzero(tasks == number)):
                scores[part] = self._life.scores(_dense(X, part), int(number), self._life.places)
        return scores

    def _made_method(self) -> Method:
        check_random_state(self.random_state)
        return super()._made_method()

    def _given(
        self, X: Any, y: Any, task: ArrayLike | None, sample_weight: ArrayLike | None, scale: bool, reset: bool
    ) -> tuple[Any, NDArray[Any], list[Any] | None, NDArray[np.float32] | None]:
        """Examples, their tasks' names and their weights, without those that weigh nothing."""
        dtype, numeric = np.float64 if scale else np.float32, is_regressor(self)
        X, y = validate_data(self, X, y, reset=reset, accept_sparse="csr", dtype=dtype, order="C", y_numeric=numeric)
        if numeric:
            y = y.astype(np.float64)
        else:
            try:
                check_classification_targets(y)
            except TypeError as error:
                raise BadInput(f"y must hold text alone, numbers alone or truth values alone: {error}") from None
        names = _one_each(task, len(y))
        if sample_weight is None:
            return X, y, names, None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        there = np.flatnonzero(weights)
        if len(there) < len(y):
            X, y, weights = X[there], y[there], weights[there]
            names = None if names is None else [names[row] for row in there]
        return X, y, names, weights.astype(np.float32)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _learned(self) -> dict[str, Any]:
        classes, names = (getattr(self, name, np.empty(0)) for name in ("classes_", "feature_names_in_"))
        return super()._learned() | {"dtype": classes.dtype.str, "names": names.tolist()}

    def _restore(self, learned: dict[str, Any]) -> None:
        super()._restore(learned)
        self._know(np.array(learned["labels"], np.dtype(learned["dtype"])))
        self.n_features_in_ = self._life.inputs
        if learned["names"]:
            self.feature_names_in_ = np.array(learned["names"], object)


@dataclass(kw_only=True, eq=False, repr=False)
class ContinualClassifier(Classifying, ClassifierMixin, ScikitEstimator):  # type: ignore[misc]
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    A perceptron trained by a method of this package; by default experience replay that adapts to its stream: each
    example is learned together with others drawn from a memory. Classes may appear at any time. Time for each example
    and memory for all are constant. Threads may share one: learning excludes all else, and any number may predict at
    once, before or after a call of ``partial_fit`` but never in between.

    Parameters
    ----------
    method
        ``ergap``, ``online``, ``eralg4``, ``meralg1``, ``meralg6``, ``meralg7`` need nothing but examples;
        ``taskinput``, ``independent``, ``ewc``, ``gem``, ``eralg5`` the task of each (``partial_fit(X, y, task=…)``).
        Untried, with the settings of runs: any other method's name, or a subclass of :class:`metareplay.Method`.
    memories
        How many examples are kept to be replayed, for methods that keep any.
    recency
        The horizon of the memory: about how many of the newest examples it samples; None: all that ever came, for
        streams whose early classes do not come back for many thousands of examples.
    lr, beta, gamma, s, batches_per_example, replay_batch_size, memory_strength, n_memories
        The method's settings, as ``metareplay run BENCHMARK METHOD --help`` explains them. None: what does well on
        features of about the same size, as ``scale=True`` makes them (``metareplay.estimators.estimator.SETTINGS``).
    settings
        Settings that have no parameter here, by name: ``{"mean_of_squares": True}``.
    hidden_layer_sizes
        Units in each hidden layer; ``()`` for a linear model.
    network
        Yours: a function of ``(shape, classes)``, or ``FILE.py:FUNCTION``, that gives a ``torch.nn.Module``; ``shape``
        is ``(features,)``. Asked again when classes or features are new, whose parameters begin with what was learned.
    engine, device
        ``fused``, compiled code for the CPU, or ``torch``, for any network on any device; None: what fits.
    scale
        Whether features are brought to mean 0 and standard deviation 1, by what has been seen of them so far. Give
        False for inputs that are scaled already, and for sparse matrices with many columns, which scaling fills.
    epochs
        How often ``fit`` goes through its examples.
    batch_size
        The examples that are learned at once. What a call of ``partial_fit`` has left over is a smaller batch.
    tasks
        The most tasks that will come, for methods that need the task.
    class_weight
        ``balanced``: classes weigh the inverse of how often they came so far; or a positive number for each class (1).
        Either way scaled such that the examples so far weigh 1 on average.
    temperature
        Scores are divided by it before they become probabilities; ``memory``: by the number under which the labels of
        what is in the memory are likeliest.
    random_state
        Decides weights, memory, replay and order in ``fit``: an int, a ``RandomState``, or None, another each time.

    Attributes
    ----------
    classes_
        The classes met so far, ascending; the columns of what ``predict_proba`` and ``decision_function`` return.
    n_features_in_
        Number of features.
    feature_names_in_
        Their names, where ``X`` was a data frame whose columns are named by text.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metareplay.estimators import ContinualClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ContinualClassifier(random_state=0)
    >>> for first in (0, 2, 4, 6, 8):  # two classes after two, none of them announced
    ...     now = (y[:1200] == first) | (y[:1200] == first + 1)
    ...     model = model.partial_fit(X[:1200][now], y[:1200][now])
    >>> model.classes_
    array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    >>> model.score(X[1200:], y[1200:]) > 0.8
    True
    """

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None = None,
        task: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Go on learning: examples one after another, in the order in which they are given.

        In one call or in several, they come to the same bits (where ``batch_size`` is more than 1 and each call but the
        last gives whole batches). BadInput or ValueError if the data or a parameter cannot be used, and then nothing is
        learned; Diverged if a loss is not finite: what came before that example is learned.

        Parameters
        ----------
        X, y, task, sample_weight
            As for ``fit``; also classes that never came before.
        classes
            Classes that will come, where some are known: they are among the answers from now on.
        """
        return self._partial_fit(X, y, classes, task, sample_weight)

    def _know(self, labels: NDArray[Any]) -> None:
        self._labels.of(labels.tolist())
        known = getattr(self, "classes_", labels[:0])
        if len(known) < len(self._labels):
            self.classes_ = np.unique(np.concatenate([known, labels]))
            self._order = self._labels.of(self.classes_.tolist())

    def predict(self, X: Any, task: ArrayLike | None = None) -> NDArray[Any]:
        """The likeliest class of each of ``X (n, features)``: ``(n,)``; ``task`` for methods that need it here too."""
        with self._answering():
            return np.asarray(self.classes_[self._logits(X, task).argmax(1)])

    def predict_log_proba(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The logarithm of the probability of each class: ``(n, classes)``, in the order of ``classes_``."""
        with self._answering():
            return self._life.log_probabilities(self._logits(X, task), self.temperature)

    def predict_proba(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The probability of each class: ``(n, classes)``, in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X, task))

    def decision_function(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The score (logit) of each class, ``(n, classes)``; with two, that of the second less the first, ``(n,)``."""
        with self._answering():
            scores = self._logits(X, task).astype(np.float64)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, task: ArrayLike | None = None) -> float:
        """The share of right answers."""
        return float(accuracy_score(y, self.predict(X, task), sample_weight=sample_weight))

    def _logits(self, X: Any, task: ArrayLike | None) -> NDArray[np.float32]:
        """``(n, classes)``, in the order of ``classes_``."""
        return self._scores(X, task)[:, self._order]


@dataclass(kw_only=True, eq=False, repr=False)
class ContinualRegressor(RegressorMixin, ScikitEstimator):  # type: ignore[misc]
    """A regressor that goes on learning, example by example, and keeps what it learned before.

    As :class:`ContinualClassifier`, with one output. Targets are scaled by their mean and deviation so far; when these
    move, the last layer is changed such that it predicts as before (Pop-Art, van Hasselt et al. 2016). A target counts
    as lying ten deviations from the mean at most.

    Parameters
    ----------
    loss
        ``squared``: half the squared error, for means; ``absolute``: the absolute error, for medians.
    others
        As for :class:`ContinualClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from metareplay.estimators import ContinualRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ContinualRegressor(random_state=0)
    >>> for begin in range(0, 340, 20):
    ...     model = model.partial_fit(X[begin : begin + 20], y[begin : begin + 20])
    >>> model.score(X[340:], y[340:]) > 0.3
    True
    """

    method: str | type[Method] = field(default="eralg4", kw_only=False)
    loss: str = setting("squared", ("squared", "absolute"), help="what is made small")

    def partial_fit(
        self, X: Any, y: Any, task: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Go on learning: as :meth:`ContinualClassifier.partial_fit`, with targets ``y (n,)``."""
        return self._partial_fit(X, y, None, task, sample_weight)

    def predict(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The target of each of ``X (n, features)``: ``(n,)``; ``task`` for methods that need it here too."""
        with self._answering():
            return self._life.targets(self._scores(X, task))

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, task: ArrayLike | None = None) -> float:
        """The coefficient of determination R²."""
        return float(r2_score(y, self.predict(X, task), sample_weight=sample_weight))


def _dense(X: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    part = X[rows]
    return np.asarray(part if isinstance(part, np.ndarray) else part.toarray())


def _one_each(task: ArrayLike | None, n: int) -> list[Any] | None:
    if task is None:
        return None
    given = np.asarray(task)
    if given.shape not in ((), (n,)):
        raise BadInput(f"task has the shape {given.shape}, but must be one for all {n} examples, or one for each")
    return list(np.broadcast_to(given, n).tolist())


def _check_same_kind(labels: NDArray[Any], known: NDArray[Any]) -> None:
    """1 and "1" are not to become one."""
    if _kind(labels) != _kind(known):
        raise BadInput(f"y holds {_kind(labels)}, but the labels that are known are {_kind(known)}")


def _kind(labels: NDArray[Any]) -> str:
    if labels.dtype == object:
        return " and ".join(sorted({_kind(np.asarray(label)) for label in np.unique(labels)}))
    return KINDS.get(labels.dtype.kind, "numbers")
