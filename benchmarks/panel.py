"""The panel by which the estimators' defaults are chosen: ``python -m benchmarks.estimators --panel``.

Every place is a stream of made-up data or of half of scikit-learn's digits, which the other tables do not show. Models
learn it once, in its order, and then answer held-out examples of what holds at its end, with right labels.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import forest
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from metareplay.estimators import ContinualClassifier

Labelled = tuple[NDArray[np.float64], NDArray[np.int64]]

TEST = 2000
"""Held-out examples."""


@dataclass(frozen=True)
class Place:
    """A stream: how much, how wrong, in which order, and what changes in it."""

    features: int
    classes: int
    examples: int
    wrong: float = 0.0
    """Share of labels that are those of another class."""
    order: str = "mixed"
    """Or ``by class``: one class after another; ``by cluster``: all classes' first clusters, then their second ones."""
    drift: str = ""
    """``wandering``: clusters move all the time; ``swap``: two classes change their names in mid-stream."""

    @property
    def seeds(self) -> range:
        """More where little is held out, or where one stream is not like another."""
        return range(5 if (self.features, self.classes) == (64, 10) else 3 if self.drift else 1)

    @property
    def name(self) -> str:
        noise = f", {self.wrong:.0%} wrong" if self.wrong else ""
        kind = self.drift or self.order
        real = "digits" if (self.features, self.classes) == (64, 10) else f"{self.features} × {self.classes}"
        return f"{real}, {self.examples:,}, {kind}{noise}".replace(",000,", " 000,")

    def make(self, seed: int) -> tuple[Labelled, Labelled]:
        """The stream, and held-out examples of what holds at its end."""
        rng = np.random.default_rng([seed, self.features, self.classes, self.examples])
        if self.name.startswith("digits"):
            X, y = load_digits(return_X_y=True)
            half = rng.permutation(len(X) // 2)  # the first half: the docs report on all
            X, y = X[half], y[half]
            train, test, cluster = (X[: self.examples], y[: self.examples]), (X[self.examples :], y[self.examples :]), y
        else:
            train, test, cluster = self._clusters(rng)
        X, y = train
        if self.drift == "swap":
            late, (X_test, y_test) = np.arange(len(y)) >= len(y) // 2, test
            y, test = np.where(late & (y < 2), 1 - y, y), (X_test, np.where(y_test < 2, 1 - y_test, y_test))
        wrong = rng.random(len(y)) < self.wrong
        noisy = np.where(wrong, (y + rng.integers(1, self.classes, len(y))) % self.classes, y)
        sorted_by = {"by class": y, "by cluster": cluster}.get(self.order, np.zeros(len(y)))
        order = np.argsort(sorted_by, kind="stable")
        return (X[order], noisy[order]), test

    def _clusters(self, rng: np.random.Generator) -> tuple[Labelled, Labelled, NDArray[np.int64]]:
        """Three Gaussian clusters a class in ten dimensions, turned into all features, each of a size of its own.

        With the number of each example's cluster.
        """
        n, inner = self.examples + TEST, min(10, self.features)
        centres = rng.normal(size=(self.classes, 3, inner)) * 1.7
        y, cluster = rng.integers(0, self.classes, n), rng.integers(0, 3, n)
        path = rng.normal(size=centres.shape) * (2.0 if self.drift == "wandering" else 0.0)
        when = np.minimum(np.arange(n) / self.examples, 1.0)[:, None]
        inside = centres[y, cluster] + when * path[y, cluster] + rng.normal(size=(n, inner)) * 0.9
        turn = np.linalg.qr(rng.normal(size=(self.features, inner)))[0].T * np.sqrt(self.features / inner)
        X = (inside @ turn + rng.normal(size=(n, self.features)) * 0.3) * 10.0 ** rng.uniform(-2, 3, self.features)
        k = self.examples
        return (X[:k], y[:k]), (X[k:], y[k:]), cluster[:k]


QUICK = (
    Place(10, 3, 500),
    Place(10, 3, 3_000),
    Place(10, 3, 3_000, 0.2),
    Place(4, 2, 3_000, 0.1),
    Place(64, 10, 700),
    Place(64, 10, 700, 0.2),
    Place(100, 10, 5_000),
    Place(100, 10, 5_000, 0.3),
    Place(10, 4, 5_000, 0.1, drift="wandering"),
    Place(10, 3, 4_000, drift="swap"),
    Place(64, 10, 700, order="by class"),
    Place(64, 10, 700, 0.1, order="by class"),
    Place(10, 5, 2_500, order="by class"),
    Place(50, 20, 5_000, order="by class"),
    Place(10, 5, 3_000, order="by cluster"),
    Place(50, 10, 5_000, 0.1, order="by cluster"),
)
FULL = (
    *QUICK,
    Place(10, 3, 20_000),
    Place(10, 3, 20_000, 0.2),
    Place(10, 3, 20_000, 0.3),
    Place(4, 2, 20_000, 0.2),
    Place(1000, 20, 4_000),
    Place(1000, 20, 4_000, 0.1),
    Place(50, 100, 20_000),
    Place(10, 4, 20_000, drift="wandering"),
    Place(10, 3, 20_000, 0.2, drift="swap"),
    Place(100, 50, 10_000, order="by class"),
    Place(10, 3, 200_000, 0.2),
)


class Scaled:
    """A model of scikit-learn behind its StandardScaler, an example at a time (ten, in streams of more than 20 000)."""

    def __init__(self, model: Any, classes: Any) -> None:
        self.scaler, self.model, self.classes_, self.learned = StandardScaler(), model, np.array(classes), False

    def partial_fit(self, X: NDArray[np.float64], y: Any) -> None:
        step = 1 if len(X) <= 20_000 else 10
        for k in range(0, len(X), step):
            rows = slice(k, k + step)
            scaled = self.scaler.partial_fit(X[rows]).transform(X[rows])
            self.model.partial_fit(scaled, y[rows], classes=self.classes_)
        self.learned = True

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.model.predict_proba(self.scaler.transform(X)))

    def learn_one(self, x: dict[Any, float], y: Any) -> None:
        self.partial_fit(np.fromiter(x.values(), float)[None], [y])

    def predict_one(self, x: dict[Any, float]) -> Any:
        row = np.fromiter(x.values(), float)[None]
        return self.model.predict(self.scaler.transform(row))[0] if self.learned else None


class Forest:
    """River's adaptive random forest."""

    def __init__(self, seed: int, classes: int) -> None:
        self.model, self.classes_ = forest.ARFClassifier(seed=seed), np.arange(classes)

    def partial_fit(self, X: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        for x, label in zip(X.tolist(), y.tolist(), strict=True):
            self.model.learn_one(dict(enumerate(x)), label)

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        answers = [self.model.predict_proba_one(dict(enumerate(x))) for x in X[:500].tolist()]
        return np.array([[answer.get(label, 0.0) for label in self.classes_] for answer in answers])


def ours(**settings: Any) -> Callable[[int, int], Any]:
    return lambda seed, classes: ContinualClassifier(random_state=seed, **settings)


MODELS: dict[str, Callable[[int, int], Any]] = {
    "default": ours(),
    '`temperature="memory"`': ours(temperature="memory"),
    "ER": ours(method="eralg4"),
    "MER (500)": ours(method="meralg1", memories=500, recency=None),
    "online": ours(method="online"),
    "MLPClassifier": lambda seed, n: Scaled(MLPClassifier((100, 100), random_state=seed), range(n)),
    "SGDClassifier": lambda seed, n: Scaled(SGDClassifier(loss="log_loss", random_state=seed), range(n)),
    "adaptive random forest": Forest,
}


@dataclass(frozen=True)
class Answered:
    """One model at one place: its name, settings as JSON for a candidate."""

    model: str
    place: str
    seed: int
    accuracy: float
    log_loss: float
    calibration_error: float
    """Expected calibration error, of 15 bins of equal width."""
    microseconds: float


def answered(model: str, place: Place, seed: int) -> Answered:
    (X, y), (X_test, y_test) = place.make(seed)
    make = MODELS[model] if model in MODELS else ours(**json.loads(model))
    make(seed, place.classes).partial_fit(X[:30], y[:30])  # what is compiled must not count
    made = make(seed, place.classes)
    begin = time.process_time()
    made.partial_fit(X, y)
    took = 1e6 * (time.process_time() - begin) / len(X)
    given = made.predict_proba(X_test)
    p = np.zeros((len(given), place.classes))
    p[:, made.classes_] = given
    y_test = y_test[: len(p)]
    right = p.argmax(1) == y_test
    confidence = p.max(1)
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(np.sum(confidence[bins == b]) - np.sum(right[bins == b])) for b in range(15)]
    loss = -np.log(np.maximum(p[np.arange(len(p)), y_test], 1e-15)).mean()
    return Answered(model, place.name, seed, float(right.mean()), float(loss), float(sum(gaps) / len(p)), took)


def panel(
    models: list[str], places: tuple[Place, ...], processes: int, kept: Path | None, first_seed: int
) -> Iterator[str]:
    """Markdown, row by row: for every place the accuracy of each model (%), then means and time.

    What stands in the file ``kept`` is not measured again, and what is measured is added to it.
    """
    yield f"| features × classes, examples, order | {' | '.join(models)} |"
    yield f"|---|{'--:|' * len(models)}"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    found = {(o.model, o.place, o.seed - first_seed): o for o in (Answered(**json.loads(line)) for line in lines)}
    with ProcessPoolExecutor(processes) as pool:
        for place in places:
            jobs = [(model, place, first_seed + seed) for model in models for seed in place.seeds]
            jobs = [job for job in jobs if (job[0], place.name, job[2] - first_seed) not in found]
            for outcome in pool.map(answered, *zip(*jobs, strict=True)) if jobs else ():
                found[outcome.model, outcome.place, outcome.seed - first_seed] = outcome
                if kept:
                    with kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(outcome)) + "\n")
            yield _row(place.name, models, (place,), found, lambda o: 100 * o.accuracy, ".1f")
    for title, value, form in (
        ("**mean accuracy**", lambda o: 100 * o.accuracy, ".1f"),
        ("mean log loss", lambda o: o.log_loss, ".3f"),
        ("mean calibration error (%)", lambda o: 100 * o.calibration_error, ".1f"),
        ("µs an example", lambda o: o.microseconds, ".0f"),
    ):
        yield _row(title, models, places, found, value, form)


def _row(
    title: str, models: list[str], places: tuple[Place, ...], found: dict[tuple[str, str, int], Answered],
    value: Callable[[Answered], float], form: str,
) -> str:  # fmt: skip
    """Means over the places of means over their seeds."""
    means = [
        np.mean([np.mean([value(found[model, place.name, seed]) for seed in place.seeds]) for place in places])
        for model in models
    ]
    return f"| {title} | {' | '.join(format(mean, form) for mean in means)} |"
