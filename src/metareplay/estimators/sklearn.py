"""Continual learning as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import column_or_1d

from metareplay.errors import BadInput
from metareplay.estimators.core import log_probabilities
from metareplay.estimators.parameters import check_temperature, one_of
from metareplay.estimators.shared import Numbers
from metareplay.estimators.sklearn_base import ScikitEstimator
from metareplay.methods.base import Method

KINDS = {"b": "truth values", "U": "text", "S": "bytes"}


class ContinualClassifier(ClassifierMixin, ScikitEstimator):  # type: ignore[misc]
    """A classifier that goes on learning, example by example, and keeps what it learned before.

    A perceptron trained by one of the ten methods of this package; by default experience replay, which
    learns each example together with others drawn from a memory. Classes may appear at
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
    recency
        The horizon of the memory: about how many of the newest examples it samples; None: all that ever came, for
        streams whose early classes do not come back for many thousands of examples.
    lr, beta, gamma, s, batches_per_example, replay_batch_size, memory_strength, n_memories
        The method's settings, as ``metareplay run BENCHMARK METHOD --help`` explains them. None: what does well on
        features of about the same size, as ``scale=True`` makes them (``metareplay.estimators.parameters.SETTINGS``).
    settings
        Settings that have no parameter here, by name: ``{"mean_of_squares": True}``.
    hidden_layer_sizes
        Units in each hidden layer; ``()`` for a linear model.
    network
        A network of your own: a function of ``(shape, classes)``, or ``FILE.py:FUNCTION``, that gives a
        ``torch.nn.Module``; ``shape`` is ``(features,)``. It is asked again when classes or features are new, and what
        was learned is written into the first part of each parameter.
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
        ``balanced``: classes weigh the inverse of how often they came so far; or a positive number for each class, 1
        where none is given. Either way scaled such that the examples so far weigh 1 on average.
    temperature
        Scores are divided by it before they become probabilities; ``memory``: by the number under which the labels of
        what is in the memory are likeliest.
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
        method: str | type[Method] = "eralg4",
        *,
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
        hidden_layer_sizes: Sequence[int] = (100, 100),
        network: str | Callable[..., Any] | None = None,
        engine: str | None = None,
        device: str = "cpu",
        scale: bool = True,
        epochs: int = 10,
        batch_size: int = 1,
        tasks: int = 10,
        class_weight: str | Mapping[Any, float] | None = None,
        temperature: float | str = 1.0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._set(locals())

    # Learning

    def fit(self, X: Any, y: Any, task: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
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
        sample_weight
            ``(n,)``, what each one's loss counts, whenever it is learned or replayed; None: 1. An example that weighs
            0 is as if it were not there, to the bit.

        Raises
        ------
        BadInput, ValueError
            If the data or a parameter cannot be used.
        Diverged
            If a loss is not finite.
        """
        return self._fit(X, y, task, sample_weight)

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
        last gives whole batches).

        Parameters
        ----------
        X, y, sample_weight
            As for ``fit``; also classes that never came before.
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
        return self._partial_fit(X, y, classes, task, sample_weight)

    def _begin(self, method: Method, features: int, tasks: Numbers) -> None:
        super()._begin(method, features, tasks)
        self._life.class_weight = self._weights_by_number()

    def _chosen_method(self) -> Method:
        check_temperature(self.temperature)
        return super()._chosen_method()

    def _learn(self, X: Any, answers: Any, task: int, rows: Any, weights: Any, known: bool = False) -> None:
        if isinstance(self._life.class_weight, list):
            self._life.class_weight = self._weights_by_number()  # classes may be new
        super()._learn(X, answers, task, rows, weights, known)

    def _check_enough(self, y: NDArray[Any]) -> None:
        super()._check_enough(y)
        if (y == y[0]).all():
            raise BadInput(
                f"{type(self).__name__} needs samples of at least 2 classes in the data, but the data contains "
                f"only one class: {y[:1].tolist()[0]!r}; partial_fit can begin with one"
            )

    def _known(self, y: NDArray[Any]) -> NDArray[np.int64]:
        return self._labels.of(y.tolist())

    def _announced(self, y: NDArray[Any], classes: ArrayLike | None, first: bool) -> NDArray[Any]:
        announced = y[:0] if classes is None else np.unique(column_or_1d(classes))
        if not first:
            _check_same_kind(y, self.classes_)
        if len(announced):
            _check_same_kind(y, announced)
        return announced

    def _announce(self, labels: NDArray[Any]) -> None:
        known = getattr(self, "classes_", labels[:0])
        if len(known) < len(self._labels):
            self.classes_ = np.unique(np.concatenate([known, labels]))
            self._order = self._labels.of(self.classes_.tolist())

    # Answering

    def predict(self, X: Any, task: ArrayLike | None = None) -> NDArray[Any]:
        """The likeliest class of each of ``X (n, features)``: ``(n,)``; ``task`` for methods that need it here too."""
        with self._answering():
            predicted: NDArray[Any] = self.classes_[self._logits(X, task).argmax(1)]
        return predicted

    def predict_log_proba(self, X: Any, task: ArrayLike | None = None) -> NDArray[np.float64]:
        """The logarithm of the probability of each class: ``(n, classes)``, in the order of ``classes_``."""
        with self._answering():
            return log_probabilities(self._logits(X, task), self._life.temperature(self.temperature))

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
        scores = self._scores(X, task)
        return scores[:, self._order]


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

    KIND: ClassVar[str] = "ContinualRegressor"

    def __init__(
        self,
        method: str | type[Method] = "eralg4",
        *,
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
        hidden_layer_sizes: Sequence[int] = (100, 100),
        network: str | Callable[..., Any] | None = None,
        engine: str | None = None,
        device: str = "cpu",
        scale: bool = True,
        epochs: int = 10,
        batch_size: int = 1,
        tasks: int = 10,
        loss: str = "squared",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._set(locals())

    @property
    def _LOSS(self) -> str:  # type: ignore[override]
        return one_of("loss", self.loss, ("squared", "absolute"))

    def fit(self, X: Any, y: Any, task: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn a data set from the beginning: as :meth:`ContinualClassifier.fit`, with targets ``y (n,)``."""
        return self._fit(X, y, task, sample_weight)

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


def _check_same_kind(labels: NDArray[Any], known: NDArray[Any]) -> None:
    """Raise BadInput if labels are of another kind than those that are known: 1 and "1" are not to become one."""
    if _kind(labels) != _kind(known):
        raise BadInput(f"y holds {_kind(labels)}, but the labels that are known are {_kind(known)}")


def _kind(labels: NDArray[Any]) -> str:
    """What labels are, for messages and to compare."""
    if labels.dtype == object:
        return " and ".join(sorted({_kind(np.asarray(label)) for label in np.unique(labels)}))
    return KINDS.get(labels.dtype.kind, "numbers")
