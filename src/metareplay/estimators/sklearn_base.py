"""What classifier and regressor share in the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from metareplay.errors import BadInput
from metareplay.estimators.core import Core
from metareplay.estimators.parameters import Saving, make_build, make_method, name_of, whole
from metareplay.estimators.shared import Numbers
from metareplay.methods.base import Method
from metareplay.runs.experiment import randomness

NUMBERS_AT_A_TIME = 2**20
"""Rows are made dense and scaled in pieces of at most so many numbers (8 MB)."""


class ScikitEstimator(Saving, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What classifier and regressor share."""

    _LOSS: str | None = None

    # Learning

    def _fit(self, X: Any, y: Any, task: ArrayLike | None, sample_weight: ArrayLike | None) -> Self:
        with self._guard.writing():
            method = self._chosen_method()
            X, y, names, weights = self._given(X, y, task, sample_weight, bool(self.scale), reset=True)
            self._check_enough(y)
            tasks = Numbers()
            numbers_of_tasks = self._numbered_tasks(names, len(y), tasks, method, self.tasks)
            self._labels = Numbers()
            self._known(np.unique(y))
            self._begin(method, X.shape[1], tasks)
            self._announce(y)
            answers = self._known(y)
            for part in self._parts(np.arange(len(y))):
                self._life.take_in(_dense(X, part), self._places)
            self._life.take_in_answers(answers)
            for visit, number in enumerate(dict.fromkeys(numbers_of_tasks.tolist())):
                rows = np.flatnonzero(numbers_of_tasks == number)
                order = randomness(self._life.seed, "order", visit)
                for _ in range(self.epochs):
                    self._learn(X, answers, number, order.permutation(rows), weights, known=True)
        return self

    def _partial_fit(
        self, X: Any, y: Any, classes: ArrayLike | None, task: ArrayLike | None, sample_weight: ArrayLike | None
    ) -> Self:
        with self._guard.writing():
            first = not hasattr(self, "_life")
            method = self._chosen_method() if first else self._life.method
            scale = bool(self.scale) if first else self._life.scale is not None
            X, y, names, weights = self._given(X, y, task, sample_weight, scale, reset=first)
            announced = self._announced(y, classes, first)
            tasks = Numbers() if first else self._tasks
            most = self.tasks if first else self._life.tasks
            numbers_of_tasks = self._numbered_tasks(names, len(y), tasks, method, most)
            if first:
                self._labels = Numbers()
            self._known(announced)
            if first:
                self._begin(method, X.shape[1], tasks)
            self._life.grow(classes=len(self._labels))
            answers = self._known(y)
            borders = np.flatnonzero(np.diff(numbers_of_tasks)) + 1
            try:
                for rows in np.split(np.arange(len(y)), borders):
                    if len(rows):
                        self._learn(X, answers, int(numbers_of_tasks[rows[0]]), rows, weights)
            finally:
                self._life.grow(classes=len(self._labels))
                self._announce(np.concatenate([announced, y]))
        return self

    def _begin(self, method: Method, features: int, tasks: Numbers) -> None:
        self.__dict__.pop("classes_", None)
        self._life = Core(
            method, make_build(self), features, max(1, len(self._labels)), int(self.tasks), bool(self.scale),
            int(self.batch_size), self._seed(), self._LOSS,
        )  # fmt: skip
        self._places = np.arange(features)
        self._tasks = tasks

    def _learn(
        self,
        X: Any,
        answers: NDArray[Any],
        task: int,
        rows: NDArray[np.int64],
        weights: NDArray[np.float32] | None,
        known: bool = False,
    ) -> None:
        for part in self._parts(rows):
            given = None if weights is None else weights[part]
            self._life.learn(_dense(X, part), answers[part], task, self._places, known, given)

    def _parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows in pieces of whole batches that are not too large."""
        size = self._life.learner.batch_size
        step = max(1, NUMBERS_AT_A_TIME // self._life.inputs // size) * size
        return [rows[begin : begin + step] for begin in range(0, len(rows), step)]

    # What a regressor does otherwise

    def _check_enough(self, y: NDArray[Any]) -> None:
        """Raise BadInput if that is too little to fit."""
        if len(y) == 0:
            raise BadInput("every sample_weight is 0: there is nothing to learn")

    def _known(self, y: NDArray[Any]) -> NDArray[Any]:
        """Answers as the core takes them; classes that are new are taken in."""
        return y

    def _announced(self, y: NDArray[Any], classes: ArrayLike | None, first: bool) -> NDArray[Any]:
        """Classes that are announced, ascending."""
        return y[:0]

    def _announce(self, labels: NDArray[Any]) -> None:
        """Have these among ``classes_``."""

    # Answering

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._guard.reading():
            check_is_fitted(self, "_life")
            yield

    def _scores(self, X: Any, task: ArrayLike | None) -> NDArray[np.float32]:
        """Logits ``(n, classes)``, by the numbers of the classes."""
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
        return scores

    # What was given

    def _chosen_method(self) -> Method:
        """The method, after a look at every parameter."""
        for name in ("epochs", "batch_size", "tasks"):
            whole(name, getattr(self, name))
        make_build(self)
        check_random_state(self.random_state)
        return make_method(self)

    def _seed(self) -> int:
        if self.random_state is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _given(
        self, X: Any, y: Any, task: ArrayLike | None, sample_weight: ArrayLike | None, scale: bool, reset: bool
    ) -> tuple[Any, NDArray[Any], list[Any] | None, NDArray[np.float32] | None]:
        """Examples, their tasks' names and their weights, without those that weigh nothing."""
        dtype = np.float64 if scale else np.float32
        numeric = self._LOSS is not None
        X, y = validate_data(self, X, y, reset=reset, accept_sparse="csr", dtype=dtype, order="C", y_numeric=numeric)
        if numeric:
            y = y.astype(np.float64)
        else:
            check_classification_targets(y)
        names = _one_each(task, len(y))
        if sample_weight is None:
            return X, y, names, None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        there = np.flatnonzero(weights)
        if len(there) < len(y):
            X, y, weights = X[there], y[there], weights[there]
            names = None if names is None else [names[row] for row in there]
        return X, y, names, weights.astype(np.float32)

    def _numbered_tasks(
        self, names: list[Any] | None, n: int, known: Numbers, method: Method, most: int
    ) -> NDArray[np.int64]:
        if not method.needs_task_in_training:
            return np.zeros(n, np.int64)
        return known.of_tasks(names, most, name_of(type(method)), "partial_fit(X, y, task=…)")

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
            "dtype": getattr(self, "classes_", np.empty(0)).dtype.str,
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
