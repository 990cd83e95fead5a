"""Continual learning as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from metareplay.errors import BadInput
from metareplay.estimators.core import Core, Numbers, probabilities
from metareplay.estimators.parameters import Saving, hidden, make_method, name_of, whole
from metareplay.methods.base import Method
from metareplay.runs.experiment import randomness

NUMBERS_AT_A_TIME = 2**20
"""Rows are made dense and scaled in pieces of at most so many numbers (8 MB)."""
KINDS = {"b": "truth values", "U": "text", "S": "bytes"}


class ContinualClassifier(Saving, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    A perceptron trained by one of the ten methods of this package; by default meta-experience replay (Riemer et al.,
    ICLR 2019, Algorithm 1), which learns each example together with others from a small memory. Classes may appear at
    any time. Time for each example and memory for all are constant. Threads may share one: learning excludes all else,
    and any number may predict at once, before or after a call of ``partial_fit`` but never in between.

    Parameters
    ----------
    method
        One of ``online``, ``eralg4``, ``meralg1``, ``meralg6``, ``meralg7``, which need nothing but examples; one of
        ``taskinput``, ``independent``, ``ewc``, ``gem``, ``eralg5``, which need the task of each
        (``partial_fit(X, y, task=…)``); or a subclass of :class:`metareplay.Method`.
    memories
        How many examples are kept to be replayed, for methods that keep any.
    lr, beta, gamma, s, batches_per_example, replay_batch_size, memory_strength, n_memories
        The method's settings, as ``metareplay run BENCHMARK METHOD --help`` explains them. None: what does well on
        features of about the same size, as ``scale=True`` makes them (``metareplay.estimators.parameters.SETTINGS``).
    settings
        Settings that have no parameter here, by name: ``{"mean_of_squares": True}``.
    hidden_layer_sizes
        Units in each hidden layer; ``()`` for a linear model.
    scale
        Whether features are brought to mean 0 and standard deviation 1, by what has been seen of them so far. Give
        False for inputs that are scaled already, and for sparse matrices with many columns, which scaling fills.
    epochs
        How often ``fit`` goes through its examples.
    batch_size
        The examples that are learned at once. What a call of ``partial_fit`` has left over is a smaller batch.
    tasks
        The most tasks that will come, for methods that need the task.
    random_state
        Decides the initial weights, the memory, the replay, and the order in ``fit``. An int, a
        ``numpy.random.RandomState``, or None for another each time.

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

    KIND: ClassVar[str] = "ContinualClassifier"

    def __init__(
        self,
        method: str | type[Method] = "meralg1",
        *,
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
        hidden_layer_sizes: Sequence[int] = (100, 100),
        scale: bool = True,
        epochs: int = 1,
        batch_size: int = 1,
        tasks: int = 10,
        random_state: int | np.random.RandomState | None = None,
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
        self.epochs = epochs
        self.batch_size = batch_size
        self.tasks = tasks
        self.random_state = random_state

    # Learning

    def fit(self, X: Any, y: Any, task: ArrayLike | None = None) -> Self:
        """Learn a data set from the beginning: ``epochs`` times, each time in another order.

        Parameters
        ----------
        X
            ``(n, features)``: an array, a SciPy sparse matrix or array, or a data frame.
        y
            ``(n,)`` classes.
        task
            The task of all or ``(n,)`` of each, for methods that need it. Tasks come one after another, in the order
            in which they are first named.

        Raises
        ------
        BadInput, ValueError
            If the data or a parameter cannot be used.
        Diverged
            If a loss is not finite.
        """
        with self._guard.writing():
            method = self._chosen_method()
            X, y = self._validated(X, y, bool(self.scale), reset=True)
            tasks = Numbers()
            numbers_of_tasks = self._numbered_tasks(task, len(y), tasks, method, self.tasks)
            classes = np.unique(y)
            if len(classes) < 2:
                raise BadInput(
                    f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains "
                    f"only one class: {classes.tolist()[0]!r}; partial_fit can begin with one"
                )
            labels = Numbers()
            labels.of(classes.tolist())
            self._begin(method, X.shape[1], labels, tasks)
            self._announce(classes)
            if self._life.scale is not None:
                for part in self._parts(np.arange(len(y))):
                    self._life.scale.learn(_dense(X, part), self._places, len(part))
                self._life.scale.settle()
            numbers = labels.of(y.tolist())
            for visit, number in enumerate(dict.fromkeys(numbers_of_tasks.tolist())):
                rows = np.flatnonzero(numbers_of_tasks == number)
                order = randomness(self._life.seed, "order", visit)
                for _ in range(self.epochs):
                    self._learn(X, numbers, number, order.permutation(rows), known=True)
        return self

    def partial_fit(self, X: Any, y: Any, classes: ArrayLike | None = None, task: ArrayLike | None = None) -> Self:
        """Go on learning: examples one after another, in the order in which they are given.

        In one call or in several, they come to the same bits (where ``batch_size`` is more than 1 and each call but the
        last gives whole batches).

        Parameters
        ----------
        X
            ``(n, features)``: an array, a SciPy sparse matrix or array, or a data frame.
        y
            ``(n,)`` classes, also such as never came before.
        classes
            Classes that will come, where some are known: they are among the answers from now on.
        task
            The task of all or ``(n,)`` of each, for methods that need it.

        Raises
        ------
        BadInput, ValueError
            If the data or a parameter cannot be used; then nothing is learned.
        Diverged
            If a loss is not finite; what came before that example is learned.
        """
        with self._guard.writing():
            first = not hasattr(self, "_life")
            method = self._chosen_method() if first else self._life.method
            X, y = self._validated(X, y, bool(self.scale) if first else self._life.scale is not None, reset=first)
            announced = np.empty(0, y.dtype) if classes is None else np.unique(column_or_1d(classes))
            _check_same_kind(y, y if first else self.classes_)
            if len(announced):
                _check_same_kind(y, announced)
            labels, tasks = (Numbers(), Numbers()) if first else (self._labels, self._tasks)
            most = self.tasks if first else self._life.tasks
            numbers_of_tasks = self._numbered_tasks(task, len(y), tasks, method, most)
            labels.of(announced.tolist())
            if first:
                self._begin(method, X.shape[1], labels, tasks)
            self._life.grow(classes=len(labels))
            numbers = labels.of(y.tolist())
            borders = np.flatnonzero(np.diff(numbers_of_tasks)) + 1
            try:
                for rows in np.split(np.arange(len(y)), borders):
                    self._learn(X, numbers, int(numbers_of_tasks[rows[0]]), rows)
            finally:
                self._life.grow(classes=len(labels))
                self._announce(np.concatenate([announced, y]))
        return self

    def _begin(self, method: Method, features: int, labels: Numbers, tasks: Numbers) -> None:
        self.__dict__.pop("classes_", None)
        self._life = Core(
            method, hidden(self.hidden_layer_sizes), features, max(1, len(labels)), int(self.tasks),
            bool(self.scale), int(self.batch_size), self._seed(),
        )  # fmt: skip
        self._places = np.arange(features)
        self._labels = labels
        self._tasks = tasks

    def _announce(self, labels: NDArray[Any]) -> None:
        """Have these among ``classes_``."""
        known = getattr(self, "classes_", labels[:0])
        if len(known) < len(self._labels):
            self.classes_ = np.unique(np.concatenate([known, labels]))
            self._order = self._labels.of(self.classes_.tolist())

    def _learn(
        self, X: Any, numbers: NDArray[np.int64], task: int, rows: NDArray[np.int64], known: bool = False
    ) -> None:
        for part in self._parts(rows):
            self._life.learn(_dense(X, part), numbers[part], task, self._places, known)

    def _parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows in pieces of whole batches that are not too large."""
        size = self._life.learner.batch_size
        step = max(1, NUMBERS_AT_A_TIME // self._life.inputs // size) * size
        return [rows[begin : begin + step] for begin in range(0, len(rows), step)]

    # Answering

    def predict(self, X: Any, task: ArrayLike | None = None) -> NDArray[Any]:
        """The likeliest class of each of ``X (n, features)``: ``(n,)``; ``task`` for methods that need it here too."""
        with self._answering():
            predicted: NDArray[Any] = self.classes_[self._scores(X, task).argmax(1)]
        return predicted

    def predict_proba(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The probability of each class: ``(n, classes)``, in the order of ``classes_``."""
        with self._answering():
            return probabilities(self._scores(X, task))

    def decision_function(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The score (logit) of each class, ``(n, classes)``; with two, that of the second less the first, ``(n,)``."""
        with self._answering():
            scores = self._scores(X, task).astype(np.float64)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, task: ArrayLike | None = None) -> float:
        """The share of right answers."""
        return float(accuracy_score(y, self.predict(X, task), sample_weight=sample_weight))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._guard.reading():
            check_is_fitted(self, "classes_")
            yield

    def _scores(self, X: Any, task: ArrayLike | None) -> NDArray[np.float32]:
        """Logits ``(n, classes)``, in the order of ``classes_``."""
        dtype = np.float32 if self._life.scale is None else np.float64
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=dtype, order="C")
        tasks = np.zeros(X.shape[0], np.int64)
        if self._life.method.needs_task_in_testing:
            names = _one_each(task, X.shape[0])
            tasks = self._tasks.of_known_tasks(names, name_of(type(self._life.method)), "predict(X, task=…)")
        scores = np.empty((X.shape[0], self._life.classes), np.float32)
        for number in np.unique(tasks):
            for part in self._parts(np.flatnonzero(tasks == number)):
                scores[part] = self._life.scores(_dense(X, part), int(number), self._places)
        return scores[:, self._order]

    # What was given

    def _chosen_method(self) -> Method:
        """The method, after a look at every parameter."""
        for name in ("epochs", "batch_size", "tasks"):
            whole(name, getattr(self, name))
        hidden(self.hidden_layer_sizes)
        check_random_state(self.random_state)
        return make_method(self)

    def _seed(self) -> int:
        if self.random_state is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _validated(self, X: Any, y: Any, scale: bool, reset: bool) -> tuple[Any, NDArray[Any]]:
        dtype = np.float64 if scale else np.float32
        X, y = validate_data(self, X, y, reset=reset, accept_sparse="csr", dtype=dtype, order="C")
        check_classification_targets(y)
        return X, y

    def _numbered_tasks(
        self, task: ArrayLike | None, n: int, known: Numbers, method: Method, most: int
    ) -> NDArray[np.int64]:
        if not method.needs_task_in_training:
            return np.zeros(n, np.int64)
        return known.of_tasks(_one_each(task, n), most, name_of(type(method)), "partial_fit(X, y, task=…)")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # Saving

    def _parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self.get_params(deep=False)
        return parameters

    def _learned(self) -> dict[str, Any]:
        return {
            "labels": list(self._labels),
            "dtype": self.classes_.dtype.str,
            "tasks": list(self._tasks),
            "names": getattr(self, "feature_names_in_", np.empty(0)).tolist() or None,
        }

    def _restore(self, learned: dict[str, Any]) -> None:
        self._labels, self._tasks = Numbers(), Numbers()
        self._labels.of(learned["labels"])
        self._tasks.of(learned["tasks"])
        self._announce(np.array(learned["labels"], np.dtype(learned["dtype"])))
        self._places = np.arange(self._life.inputs)
        self.n_features_in_ = self._life.inputs
        if learned["names"]:
            self.feature_names_in_ = np.array(learned["names"], object)


def _dense(X: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows as a new array."""
    part = X[rows]
    dense: NDArray[Any] = part if isinstance(part, np.ndarray) else part.toarray()
    return dense


def _one_each(task: ArrayLike | None, n: int) -> list[Any] | None:
    """A task for each example."""
    if task is None:
        return None
    given = np.asarray(task)
    if given.ndim == 0:
        given = np.full(n, given)
    if given.shape != (n,):
        raise BadInput(f"task has the shape {given.shape}, but must be one for all {n} examples, or one for each")
    return list(given.tolist())


def _check_same_kind(labels: NDArray[Any], known: NDArray[Any]) -> None:
    """Raise BadInput if labels are of another kind than those that are known: 1 and "1" are not to become one."""
    if _kind(labels) != _kind(known):
        raise BadInput(f"y holds {_kind(labels)}, but the labels that are known are {_kind(known)}")


def _kind(labels: NDArray[Any]) -> str:
    """What labels are, for messages and to compare."""
    if labels.dtype == object:
        return " and ".join(sorted({_kind(np.asarray(label)) for label in np.unique(labels)}))
    return KINDS.get(labels.dtype.kind, "numbers")
