"""Continual learning as a scikit-learn classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from metareplay.errors import BadInput
from metareplay.estimators import saved
from metareplay.estimators.labels import Labels, check_same_kind
from metareplay.estimators.open_ended_life import OpenEndedLife, probabilities
from metareplay.estimators.parameters import hidden, make_method, whole
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.runs.trainer import randomness

NUMBERS_AT_A_TIME = 2**20
"""Of rows no more are made dense and scaled at a time than have so many numbers (8 MB)."""


class ContinualClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    A perceptron trained by one of the ten methods of this package; by default meta-experience replay (Riemer et al.,
    ICLR 2019, Algorithm 1), which learns each example together with others from a small memory. Classes may appear at
    any time. Time for each example and memory for all are constant.

    Parameters
    ----------
    method
        One of ``online``, ``eralg4``, ``meralg1``, ``meralg6``, ``meralg7``, which need nothing but examples; one of
        ``taskinput``, ``independent``, ``ewc``, ``gem``, ``eralg5``, which must be told the task of each
        (``partial_fit(X, y, task=…)``); or a subclass of :class:`metareplay.Method`.
    memories
        The examples that are kept to be replayed, for methods that keep any.
    lr, beta, gamma, s, batches_per_example, replay_batch_size, memory_strength, n_memories
        The method's settings, as ``metareplay run BENCHMARK METHOD --help`` explains them. None: what does well on
        features of about the same size, as ``scale=True`` makes them (``metareplay.estimators.SETTINGS``).
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
        The most tasks that will come, for methods that are told the task.
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
        method = self._chosen_method()
        X, y = self._validated(X, y, bool(self.scale), reset=True)
        tasks, numbers_of_tasks = self._numbered_tasks(task, len(y), Labels("task"), method, self.tasks)
        labels = Labels("y")
        labels.add(np.unique(y))
        if len(labels) < 2:
            raise BadInput(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains only "
                f"one class: {labels.sorted.tolist()[0]!r}; partial_fit can begin with one"
            )
        self._begin(method, X.shape[1], labels, tasks)
        if self._life.scale is not None:
            for part in self._parts(np.arange(len(y))):
                self._life.scale.learn(_dense(X, part), self._places, len(part))
            self._life.scale.settle()
        numbers = labels.numbered(y)[0]
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
        first = not hasattr(self, "classes_")
        method = self._chosen_method() if first else self._life.method
        scale = bool(self.scale) if first else self._life.scale is not None
        X, y = self._validated(X, y, scale, reset=first)
        labels = Labels("y") if first else self._labels
        announced = np.empty(0)
        if classes is not None:
            announced = np.unique(column_or_1d(classes))
            check_same_kind("y", y, announced)
            announced = labels.numbered(announced)[1]
        labels.numbered(y)  # refuses those of another kind
        tasks, numbers_of_tasks = self._numbered_tasks(
            task, len(y), Labels("task") if first else self._tasks, method, self.tasks if first else self._life.tasks
        )
        labels.add(announced)
        numbers, new = labels.numbered(y)
        if first:
            self._begin(method, X.shape[1], labels, tasks)
        self._life.grow(classes=len(labels))
        labels.add(new)
        borders = np.flatnonzero(np.diff(numbers_of_tasks)) + 1
        try:
            for rows in np.split(np.arange(len(y)), borders):
                self._learn(X, numbers, int(numbers_of_tasks[rows[0]]), rows)
        finally:
            self._life.grow(classes=len(labels))
            self.classes_ = labels.sorted
        return self

    def _begin(self, method: Method, features: int, labels: Labels, tasks: Labels) -> None:
        self._life = OpenEndedLife(
            method, hidden(self.hidden_layer_sizes), features, max(1, len(labels)), int(self.tasks),
            bool(self.scale), int(self.batch_size), self._seed(),
        )  # fmt: skip
        self._places = np.arange(features)
        self._labels = labels
        self._tasks = tasks
        self.classes_ = labels.sorted

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
        answers = self._scores(X, task).argmax(1)
        predicted: NDArray[Any] = self.classes_[answers]
        return predicted

    def predict_proba(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The probability of each class: ``(n, classes)``, in the order of ``classes_``."""
        return probabilities(self._scores(X, task))

    def decision_function(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The score (logit) of each class, ``(n, classes)``; with two, that of the second less the first, ``(n,)``."""
        scores = self._scores(X, task).astype(np.float64)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, task: ArrayLike | None = None) -> float:
        """The share of right answers."""
        return float(accuracy_score(y, self.predict(X, task), sample_weight=sample_weight))

    def _scores(self, X: Any, task: ArrayLike | None) -> NDArray[np.float32]:
        """Logits ``(n, classes)``, in the order of ``classes_``."""
        check_is_fitted(self, "classes_")
        dtype = np.float32 if self._life.scale is None else np.float64
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=dtype, order="C")
        tasks = self._known_tasks(task, X.shape[0])
        scores = np.empty((X.shape[0], self._life.classes), np.float32)
        for number in np.unique(tasks):
            for part in self._parts(np.flatnonzero(tasks == number)):
                scores[part] = self._life.scores(_dense(X, part), int(number), self._places)
        return scores[:, self._labels.order]

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
        self, task: ArrayLike | None, n: int, tasks: Labels, method: Method, most: int
    ) -> tuple[Labels, NDArray[np.int64]]:
        """All tasks named so far, and the number of each example's; new ones are taken in."""
        if not method.needs_task_in_training:
            return tasks, np.zeros(n, np.int64)
        if task is None:
            raise BadInput(
                f"{saved.name_of(type(method))} must be told which task examples come from: partial_fit(X, y, task=…)"
            )
        numbers, new = tasks.numbered(_one_each(task, n))
        if len(tasks) + len(new) > most:
            raise BadInput(
                f"task {new.tolist()[most - len(tasks)]!r} would be one more than the {most} that tasks={most} allows; "
                "say how many will come"
            )
        tasks.add(new)
        return tasks, numbers

    def _known_tasks(self, task: ArrayLike | None, n: int) -> NDArray[np.int64]:
        """The number of each example's task, where the method asks for it when tested."""
        method = self._life.method
        if not method.needs_task_in_testing:
            return np.zeros(n, np.int64)
        if task is None:
            raise BadInput(
                f"{saved.name_of(type(method))} must be told which task examples come from, also to predict: "
                "predict(X, task=…)"
            )
        numbers, new = self._tasks.numbered(_one_each(task, n))
        if len(new):
            raise BadInput(f"nothing was learned of task {new.tolist()[0]!r}; known are {list(self._tasks.numbers)}")
        return numbers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # Keeping

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator, all that it has learned included, into a file of arrays and JSON.

        Raises
        ------
        BadInput
            If the file cannot be written.
        """
        parameters = saved.plain(self.get_params(deep=False))
        if isinstance(self.random_state, np.random.RandomState):
            parameters["random_state"] = self.random_state.get_state(legacy=False)
        learned: dict[str, Any] = {}
        if hasattr(self, "classes_"):
            parts = {name: getattr(self, name) for name in ("_life", "_labels", "_tasks")}
            learned = {name: part.state() for name, part in parts.items()}
            learned["features"] = self.n_features_in_
            learned["names"] = getattr(self, "feature_names_in_", np.empty(0)).tolist() or None
        method = saved.name_of(type(self._life.method) if learned else self.method)
        saved.write(path, "ContinualClassifier", {"method": method, "parameters": parameters, "learned": learned})

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
            parameters = state["parameters"]
            parameters["hidden_layer_sizes"] = tuple(parameters["hidden_layer_sizes"])
            if parameters["method"] not in METHODS:
                parameters["method"] = method
            if isinstance(parameters["random_state"], dict):
                random_state = np.random.RandomState()
                random_state.set_state(parameters["random_state"])
                parameters["random_state"] = random_state
            estimator = cls(**parameters)
            if state["learned"]:
                estimator._take_over(state["learned"], method)
            return estimator

        loaded: Self = saved.read(path, "ContinualClassifier", method, build)
        return loaded

    def _take_over(self, learned: Mapping[str, Any], method: type[Method]) -> None:
        self._life = OpenEndedLife.of_state(method, learned["_life"])
        self._places = np.arange(self._life.inputs)
        self._labels = Labels.of_state("y", learned["_labels"])
        self._tasks = Labels.of_state("task", learned["_tasks"])
        self.classes_ = self._labels.sorted
        self.n_features_in_ = learned["features"]
        if learned["names"]:
            self.feature_names_in_ = np.array(learned["names"], object)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__().copy()
        if "_life" in state:
            state["_life"] = (type(self._life.method), self._life.state())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_life" in state:
            self._life = OpenEndedLife.of_state(*state["_life"])


def _dense(X: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows as a new array."""
    part = X[rows]
    dense: NDArray[Any] = part if isinstance(part, np.ndarray) else part.toarray()
    return dense


def _one_each(task: ArrayLike, n: int) -> NDArray[Any]:
    """A task for each example."""
    given = np.asarray(task)
    if given.ndim == 0:
        given = np.full(n, given)
    if given.shape != (n,):
        raise BadInput(f"task has the shape {given.shape}, but must be one for all {n} examples, or one for each")
    return given
