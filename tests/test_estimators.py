"""The scikit-learn classifier."""

import io
import math
import pickle
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks

import metareplay
from metareplay import BadInput, Diverged, Experiment, Trainer, estimators
from metareplay.estimators import ContinualClassifier, ContinualRegressor
from metareplay.estimators.estimator import SETTINGS
from metareplay.settings import hyperparameters

METHODS = {name: metareplay.METHODS[name] for name in SETTINGS}
WITH_TASKS = [name for name, method in METHODS.items() if method.needs_task_in_training]
ENGINES = ("fused", "torch")
SMALL = {"hidden_layer_sizes": (12,), "memories": 30, "random_state": 0}


def blobs(n=200, classes=4):
    return make_blobs(n, 5, centers=classes, random_state=1)


def bits(model):
    learner = model._life.learner
    return b"".join(part.tobytes() for part in (learner.parameters(), learner._examples, learner.unscaled))


def excused(estimator):
    """A step on a doubled loss is not two steps: scikit-learn excuses its own SGDClassifier and MLPClassifier too."""
    return {
        f"check_sample_weight_equivalence_on_{kind}_data": "weights multiply losses; they do not repeat steps"
        for kind in ("dense", "sparse")
    }


@parametrize_with_checks(
    [
        ContinualClassifier(),
        ContinualClassifier("online", hidden_layer_sizes=(8,)),
        ContinualRegressor(),
        ContinualRegressor("online", loss="absolute", hidden_layer_sizes=(8,)),
    ],
    expected_failed_checks=excused,
)
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_to_the_parameters_of_an_experiment_on_the_same_stream(method):
    stream = metareplay.benchmark("digits-rotations", tasks=3)
    settings = {"memories": 40} if hasattr(METHODS[method], "memories") else {}
    chosen = METHODS[method](lr=0.02, **settings)
    life = Trainer(Experiment(stream=stream, method=chosen, seed=7, hidden=(18, 15), samples_per_task=25))
    life.train()
    spans = [(stream.tasks[span.visit].train, span) for span in life.spans]
    x = np.concatenate([images.inputs(span.examples) for images, span in spans])
    y = np.concatenate([images.labels[span.examples] for images, span in spans])
    task = np.concatenate([np.full(len(span.examples), span.visit) for _, span in spans])
    plain = {each.name: getattr(chosen, each.name) for each in hyperparameters(METHODS[method])}
    model = ContinualClassifier(
        method, settings=plain, hidden_layer_sizes=(18, 15), scale=False, tasks=3, random_state=7
    )
    model.partial_fit(x, y, classes=range(10), task=task)
    assert model._life.learner.parameters().tobytes() == life.learner.parameters().tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_examples_in_one_call_or_in_many_come_to_the_same_bits(method):
    X, y = blobs()
    task = np.arange(len(y)) // 70
    at_once = ContinualClassifier(method, **SMALL).partial_fit(X, y, task=task)
    for step in (1, 30):
        model = ContinualClassifier(method, **SMALL)
        for i in range(0, len(y), step):
            model.partial_fit(X[i : i + step], y[i : i + step], task=task[i : i + step])
        assert bits(model) == bits(at_once)


def test_batches_are_learned_whole_when_calls_give_whole_batches():
    X, y = blobs()
    at_once = ContinualClassifier("online", batch_size=8, **SMALL).partial_fit(X, y)
    model = ContinualClassifier("online", batch_size=8, **SMALL).partial_fit(X[:64], y[:64]).partial_fit(X[64:], y[64:])
    assert bits(model) == bits(at_once)
    assert at_once._life.learner.steps == math.ceil(len(y) / 8)


def test_other_random_states_learn_otherwise():
    X, y = blobs()
    states = [{"hidden_layer_sizes": (12,), "random_state": state} for state in (0, 1, None, None)]
    assert len({bits(ContinualClassifier(**state).fit(X, y)) for state in states}) == 4


def test_classes_that_were_never_announced_are_learned_and_the_old_ones_kept():
    X, y = load_digits(return_X_y=True)
    score = {}
    for method in ("eralg4", "online"):
        model = ContinualClassifier(method, random_state=0)
        for digit in range(10):
            here = y[:1200] == digit
            model.partial_fit(X[:1200][here], y[:1200][here])
            assert list(model.classes_) == list(range(digit + 1))
        score[method] = model.score(X[1200:], y[1200:])
    assert score["eralg4"] > 0.8
    assert score["online"] < 0.3


def test_announced_classes_are_answers_before_they_are_met():
    X, y = blobs(classes=2)
    model = ContinualClassifier(**SMALL).partial_fit(X, y, classes=[0, 1, 5])
    assert model.predict_proba(X).shape == (len(X), 3)
    model.partial_fit(X[:3], y[:3], classes=[7])
    assert list(model.classes_) == [0, 1, 5, 7]
    with pytest.raises(ValueError, match="Input classes contains NaN"):
        model.partial_fit(X[:3], y[:3], classes=[0, np.nan])
    assert list(model.classes_) == [0, 1, 5, 7]


@pytest.mark.parametrize(
    "names",
    [["red", "green", "blue", "a long name"], [-3, 0, -7, 5], [0.0, 2.0, 1.0, 4.0], np.array(list("dcba"), object)],
    ids=["text", "negative", "whole floats", "objects"],
)
def test_labels_of_any_kind_are_answered_as_they_came(names):
    X, y = blobs(300)
    named = np.asarray(names)[y]
    order = np.argsort(y, kind="stable")  # a new class at a time
    model = ContinualClassifier(random_state=0)
    for part in np.array_split(order, 30):
        model.partial_fit(X[part], named[part])
    assert list(model.classes_) == sorted(names)
    assert model.score(X, named) > 0.95
    assert np.array_equal(model.classes_[model.predict_proba(X).argmax(1)], model.predict(X))
    assert np.array_equal(model.classes_[model.decision_function(X).argmax(1)], model.predict(X))


def test_truth_values_are_answered_as_truth_values():
    X, y = blobs(classes=2)
    model = ContinualClassifier(random_state=0).fit(X, y == 1)
    assert model.predict(X).dtype == bool
    assert model.decision_function(X).shape == (len(X),)
    assert np.array_equal(model.decision_function(X) > 0, model.predict(X))


def test_labels_of_another_kind_are_refused():
    X, y = blobs()
    model = ContinualClassifier(**SMALL).partial_fit(X, y)
    before = bits(model)
    with pytest.raises(BadInput, match="y holds text, but the labels that are known are numbers"):
        model.partial_fit(X, y.astype(str))
    with pytest.raises(BadInput, match="y holds numbers, but the labels that are known are text"):
        ContinualClassifier(**SMALL).partial_fit(X, y, classes=["0", "1"])
    for mixed in (["a", 1], ["a", None], [b"a", b"b"]):
        with pytest.raises(BadInput, match="y must hold text alone, numbers alone or truth values alone"):
            ContinualClassifier(**SMALL).partial_fit(X[:2], np.array(mixed, object))
    assert bits(model) == before


def test_sparse_and_dense_matrices_come_to_the_same_bits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    for scale in (True, False):
        dense = ContinualClassifier(scale=scale, **SMALL).partial_fit(X / 16, y)
        for form in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
            model = ContinualClassifier(scale=scale, **SMALL).partial_fit(form(X / 16), y)
            assert bits(model) == bits(dense)
            assert np.array_equal(model.predict_proba(form(X / 16)), dense.predict_proba(X / 16))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_data_frames_of_any_library_are_learned_by_the_names_of_their_columns(library):
    frames = pytest.importorskip(library, reason=f"{library} is not installed: pip install {library}")
    frame_of = frames.table if library == "pyarrow" else frames.DataFrame
    X, y = load_iris(return_X_y=True)
    kinds = np.array(["setosa", "versicolor", "virginica"])[y]
    columns = dict(zip("abcd", X.T.copy(), strict=True))
    table = frame_of(columns | {"kind": kinds})
    frame = frame_of(columns)
    model = ContinualClassifier(**SMALL).partial_fit(frame, table["kind"])
    of_arrays = ContinualClassifier(**SMALL).partial_fit(X, kinds)
    assert bits(model) == bits(of_arrays)
    assert list(model.feature_names_in_) == list("abcd")
    assert np.array_equal(model.predict(frame), of_arrays.predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame_of(dict(reversed(columns.items()))))
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame_of({name + "2": column for name, column in columns.items()}), table["kind"])


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e9])
def test_the_unit_and_the_origin_of_a_feature_do_not_matter(offset, factor):
    X, y = blobs(300)
    model = ContinualClassifier(random_state=0).partial_fit(X * factor + offset * factor, y)
    assert model.score(X * factor + offset * factor, y) > 0.95


@pytest.mark.parametrize(("reading", "at"), [(1e6, 200), (-1e300, 200), (1e12, 0), (1e300, 7)])
def test_one_absurd_reading_costs_nothing(reading, at):
    X, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    absurd = X[:400].copy()
    absurd[at] = reading
    model = ContinualClassifier(**SMALL).partial_fit(absurd, y[:400]).partial_fit(X[:400], y[:400])
    assert model.score(X[400:], y[400:]) > 0.93
    assert model.clipped_ >= X.shape[1]
    assert np.unique(model.decision_function(X[400:])).size > 150
    heights = X[:400, 0].copy()
    heights[at] = reading
    regressor = ContinualRegressor(**SMALL).partial_fit(X[:400, :3], heights).partial_fit(X[:400, :3], X[:400, 0])
    assert regressor.score(X[400:, :3], X[400:, 0]) > 0.9


def test_threads_may_learn_predict_and_save_at_once(tmp_path):
    X, y = load_digits(return_X_y=True)
    model = ContinualClassifier(random_state=0).partial_fit(X[:50], y[:50])

    def learn(begin):
        for k in range(begin, begin + 100, 5):
            model.partial_fit(X[k : k + 5], y[k : k + 5])

    def answer(number):
        for _ in range(20):
            assert model.predict_proba(X[:20]).shape[1] >= len(np.unique(y[:50]))
            if number == 0:
                model.save(tmp_path / "model.npz")
                assert ContinualClassifier.load(tmp_path / "model.npz").predict(X[:20]).shape == (20,)
            pickle.loads(pickle.dumps(model)).partial_fit(X[:1], y[:1])

    with ThreadPoolExecutor(7) as pool:
        for future in [pool.submit(learn, 50 + 100 * k) for k in range(4)] + [pool.submit(answer, k) for k in range(3)]:
            future.result()
    assert model._life.seen == 450
    assert model.score(X[1200:], y[1200:]) > 0.8
    assert clone(model)._guard is not model._guard


def test_an_answer_is_of_before_or_after_a_call_and_never_of_between():
    X, y = load_digits(return_X_y=True)
    model = ContinualClassifier(random_state=0).partial_fit(X[:100], y[:100])
    before, after = pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(model))
    after.partial_fit(X[100:400], y[100:400])
    expected = {each.predict_proba(X[400:420]).tobytes() for each in (before, after)}
    with ThreadPoolExecutor(3) as pool:
        learning = pool.submit(model.partial_fit, X[100:400], y[100:400])
        answers = [pool.submit(model.predict_proba, X[400:420]) for _ in range(40)]
        learning.result()
    assert {answer.result().tobytes() for answer in answers} <= expected


def test_scaling_is_by_the_mean_and_deviation_of_what_was_seen():
    rng = np.random.default_rng(0)
    X = rng.gamma(2.0, [1.0, 30.0, 1e-4], (500, 3)) + np.array([0.0, 1e5, 0.0])
    model = ContinualClassifier(**SMALL).fit(X, np.arange(500) % 2)
    np.testing.assert_allclose(model._life.scale.mean, X.mean(0))
    np.testing.assert_allclose(np.sqrt(model._life.scale.deviations / 500), X.std(0))
    scaled = model._life.scale.scale(X, np.arange(3))
    np.testing.assert_allclose(scaled, np.clip((X - X.mean(0)) / X.std(0), -10, 10), rtol=1e-5, atol=1e-5)


def test_a_module_of_ones_own_may_be_asked_by_many_threads_too():
    torch = pytest.importorskip("torch")

    class Slow(torch.nn.Module):  # lets another thread come in between
        def forward(self, x):
            time.sleep(0)
            return x

    def network(shape, classes):
        return torch.nn.Sequential(torch.nn.Linear(*shape, 8), Slow(), torch.nn.ReLU(), torch.nn.Linear(8, classes))

    X, y = blobs(100)
    model = ContinualClassifier("online", network=network, random_state=0).partial_fit(X, y)
    expected = model.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(model.predict_proba, [X] * 200):
            np.testing.assert_allclose(answers, expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_what_weighs_nothing_is_as_if_it_were_not_there(method):
    X, y = blobs(120)
    task = np.arange(len(y)) // 60
    there = np.arange(len(y)) % 3 > 0
    without = ContinualClassifier(method, **SMALL).partial_fit(X[there], y[there], task=task[there])
    y_wrong = np.where(there, y, 17)
    model = ContinualClassifier(method, **SMALL).partial_fit(X, y_wrong, task=task, sample_weight=there.astype(float))
    assert bits(model) == bits(without)
    assert list(model.classes_) == list(without.classes_)
    weights = np.random.default_rng(0).uniform(0, 3, len(y))
    weighed = ContinualClassifier(method, class_weight="balanced", **SMALL)
    weighed.partial_fit(X, y, task=task, sample_weight=weights)
    assert np.isfinite(weighed._life.learner.parameters()).all()
    fitted = ContinualClassifier(method, **SMALL).fit(X, y_wrong, task=task, sample_weight=there * 1)
    assert bits(fitted) == bits(ContinualClassifier(method, **SMALL).fit(X[there], y[there], task=task[there]))


@pytest.mark.parametrize("method", ["online", "eralg4", "meralg1", "meralg6", "meralg7"])
def test_a_weight_of_two_doubles_the_loss(method):
    X, y = blobs(60)
    double = ContinualClassifier(method, lr=0.01, **SMALL).partial_fit(X, y, sample_weight=np.full(len(y), 2.0))
    fast = ContinualClassifier(method, lr=0.02, **SMALL).partial_fit(X, y)
    np.testing.assert_allclose(double.predict_proba(X), fast.predict_proba(X), atol=1e-4)
    even = ContinualClassifier(method, **SMALL).partial_fit(X, y, sample_weight=np.ones(len(y)))
    assert bits(even) == bits(ContinualClassifier(method, **SMALL).partial_fit(X, y))
    with pytest.raises(ValueError, match="Negative values"):
        even.partial_fit(X, y, sample_weight=-np.ones(len(y)))


def test_rare_classes_are_found_where_classes_are_balanced():
    rng = np.random.default_rng(0)
    y = (rng.random(3000) < 0.05).astype(int)
    X = rng.normal(size=(3000, 4)) + y[:, None] * 1.2

    def found(class_weight):
        model = ContinualClassifier(class_weight=class_weight, hidden_layer_sizes=(20,), random_state=0)
        model.partial_fit(X[:2000], y[:2000])
        return float((model.predict(X[2000:])[y[2000:] == 1] == 1).mean())

    assert found("balanced") > found(None) + 0.2
    assert found({0: 1.0, 1: 19.0}) > found(None) + 0.2
    X, y = blobs(60)
    same = ContinualClassifier(class_weight={0: 3.0, 1: 3.0, 2: 3.0, 3: 3.0}, **SMALL).partial_fit(X, y)
    np.testing.assert_allclose(
        same.predict_proba(X), ContinualClassifier(**SMALL).partial_fit(X, y).predict_proba(X), atol=1e-4
    )
    for wrong in ("even", {0: np.inf}, {0: np.nan}, {0: "much"}):
        with pytest.raises(BadInput, match=r"class_weight is .*, but must be None, 'balanced'"):
            ContinualClassifier(class_weight=wrong).fit(X, y)


def test_probabilities_follow_the_temperature():
    X, y = blobs(200)
    model = ContinualClassifier(**SMALL).partial_fit(X, y)
    scores = model.decision_function(X)
    for temperature in (0.5, 1.0, 3.0):
        model.set_params(temperature=temperature)
        log_p = model.predict_log_proba(X)
        np.testing.assert_allclose(np.exp(log_p).sum(1), 1)
        np.testing.assert_allclose(log_p - log_p[:, :1], (scores - scores[:, :1]) / temperature, atol=1e-5)
    model.set_params(temperature="memory")
    fitted = model._life.temperature()
    held = np.arange(1, model._life.learner.used)
    logits, labels = model._life.learner.forward(held), model._life.learner.labels[held]

    def loss(temperature):
        z = logits / temperature
        z = z - z.max(1, keepdims=True)
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]).mean())

    assert loss(fitted) <= min(loss(fitted * 1.05), loss(fitted / 1.05))
    model.partial_fit(X[:50], (y[:50] + 1) % 4)
    assert model._life.temperature() != fitted
    with pytest.raises(BadInput, match="temperature is 'cold', but must be a positive number or 'memory'"):
        ContinualClassifier(temperature="cold").fit(X, y)
    with pytest.raises(BadInput, match="scale is 'false', but must be true or false: it is whether features"):
        ContinualClassifier(scale="false").fit(X, y)


def test_what_no_longer_holds_is_forgotten_and_what_only_does_not_come_back_is_kept():
    X, y = blobs(3000)
    late = np.arange(3000) >= 1500
    swapped = np.where(late & (y < 2), 1 - y, y)
    forgetful, stubborn = ContinualClassifier(random_state=0), ContinualClassifier("eralg4", random_state=0)
    for model in (forgetful, stubborn):
        model.partial_fit(X[~late], swapped[~late])
        assert not model._life.method.counters["forgotten"]
        model.partial_fit(X[late], swapped[late])
    assert forgetful.score(X[late], swapped[late]) > 0.95 > stubborn.score(X[late], swapped[late])
    assert forgetful._life.method.counters["forgotten"] > 100
    by_class = np.argsort(y, kind="stable")
    faithful = ContinualClassifier(random_state=0).partial_fit(X[by_class], y[by_class])
    assert faithful.score(X, y) > 0.99
    assert not faithful._life.method.counters["forgotten"]


def factory(shape, classes):
    from torch import nn

    return nn.Sequential(nn.Linear(shape[0], 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, classes))


@pytest.mark.parametrize("parameters", [{"engine": "torch"}, {"network": factory, "batch_size": 4}])
def test_a_network_of_ones_own_learns_grows_and_is_saved(parameters, tmp_path):
    pytest.importorskip("torch")
    X, y = blobs(240)
    order = np.argsort(y, kind="stable")
    model = ContinualClassifier("eralg4", random_state=0, memories=100, lr=0.05, **parameters)
    for part in np.array_split(order, 6):
        model.partial_fit(X[part], y[part])
    assert model.score(X, y) > 0.9
    model.save(tmp_path / "model.npz")
    if "network" in parameters:
        with pytest.raises(BadInput, match=r"has the network .*factory: give what makes it, load\(path, network="):
            ContinualClassifier.load(tmp_path / "model.npz")
    kept = ContinualClassifier.load(tmp_path / "model.npz", network=parameters.get("network"))
    for each in (model, kept, pickle.loads(pickle.dumps(model))):
        each.partial_fit(X[:20], y[:20])
        assert np.array_equal(each.predict_proba(X), model.predict_proba(X))


def test_both_engines_come_to_the_same():
    pytest.importorskip("torch")
    X, y = blobs(80)
    models = [ContinualClassifier(engine=engine, **SMALL).partial_fit(X, y, classes=range(4)) for engine in ENGINES]
    np.testing.assert_allclose(models[0].predict_proba(X), models[1].predict_proba(X), atol=1e-3)
    with pytest.raises(BadInput, match="engine is 'jax', but must be one of fused, torch"):
        ContinualClassifier(engine="jax").fit(X, y)
    with pytest.raises(BadInput, match="engine is fused, which computes only the network mlp"):
        ContinualClassifier(engine="fused", network=factory).fit(X, y)


def test_targets_of_any_unit_and_origin_are_learned():
    X, y = load_diabetes(return_X_y=True)
    for factor, offset in ((1.0, 0.0), (1e-6, 5.0), (1e9, -1e12)):
        model = ContinualRegressor(random_state=0).partial_fit(X[:340], y[:340] * factor + offset)
        assert model.score(X[340:], y[340:] * factor + offset) > 0.3


def test_the_absolute_loss_finds_the_median_and_the_squared_loss_the_mean():
    rng = np.random.default_rng(0)
    X, y = np.zeros((8000, 1)), rng.exponential(1.0, 8000)
    found = {}
    for loss in ("squared", "absolute"):
        model = ContinualRegressor(loss=loss, lr=0.003, random_state=0).partial_fit(X, y)
        found[loss] = model.predict(X[:1])[0]
    assert found["squared"] == pytest.approx(y.mean(), abs=0.1)
    assert found["absolute"] == pytest.approx(np.median(y), abs=0.1)
    with pytest.raises(BadInput, match="loss is 'huber', but must be one of squared, absolute"):
        ContinualRegressor(loss="huber").fit(X, y)
    with pytest.raises(BadInput, match="method is ergap, which compares examples of a class"):
        ContinualRegressor("ergap").fit(X, y)


def test_when_the_scale_of_targets_moves_predictions_stay():
    X, y = load_diabetes(return_X_y=True)
    model = ContinualRegressor(random_state=0).partial_fit(X[:200], y[:200])
    before = model.predict(X)
    model._life._follow_targets(np.full(300, 5000.0))
    assert model._life.target_scale.centre[0] > 1000
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-3)


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_a_regressor_that_was_saved_goes_on_to_the_same_bits(engine, tmp_path):
    if engine == "torch":
        pytest.importorskip("torch")
    X, y = load_diabetes(return_X_y=True)
    model = ContinualRegressor(engine=engine, memories=50, random_state=0).partial_fit(X[:100], y[:100])
    model.save(tmp_path / "model.npz")
    kept = ContinualRegressor.load(tmp_path / "model.npz")
    for each in (model, kept):
        each.partial_fit(X[100:150], y[100:150], sample_weight=np.arange(50) % 3)
    assert np.array_equal(kept.predict(X), model.predict(X))


@pytest.mark.parametrize("method", WITH_TASKS)
def test_methods_that_need_the_task_say_so(method):
    X, y = blobs()
    model = ContinualClassifier(method, **SMALL)
    for learn in (model.fit, model.partial_fit):
        with pytest.raises(BadInput, match=f"{method} needs the task of each example: .*task="):
            learn(X, y)
    model.partial_fit(X[:50], y[:50], task="monday").partial_fit(X[50:], y[50:], task="tuesday")
    if METHODS[method].needs_task_in_testing:
        with pytest.raises(BadInput, match=r"predict\(X, task="):
            model.predict(X)
        with pytest.raises(BadInput, match=r"nothing was learned of task 'friday'; known are \['monday', 'tuesday'\]"):
            model.predict(X, task="friday")
        days = np.where(np.arange(len(y)) < 50, "monday", "tuesday")
        by_row = model.predict_proba(X, task=days)
        assert np.array_equal(by_row[:50], model.predict_proba(X[:50], task="monday"))
        assert np.array_equal(by_row[50:], model.predict_proba(X[50:], task="tuesday"))
        assert model.score(X, y, task=days) > 0.3
    else:
        assert model.predict(X).shape == y.shape


def test_fit_goes_through_tasks_one_after_another_and_not_more_than_were_said():
    X, y = blobs()
    model = ContinualClassifier("gem", tasks=2, **SMALL).partial_fit(X, y, task=np.arange(len(y)) % 2)
    with pytest.raises(BadInput, match="task 5 would be one more than the 2 that tasks=2 allows"):
        model.partial_fit(X, y, task=5)
    with pytest.raises(BadInput, match="task has the shape"):
        model.partial_fit(X, y, task=[0, 1])
    X, y = blobs()
    task = np.arange(len(y)) % 3
    model = ContinualClassifier("ewc", tasks=3, **SMALL).fit(X, y, task=task)
    assert model._life.method.past == 2


def test_a_users_method_works_too(tmp_path):
    X, y = blobs()
    model = ContinualClassifier(Patient, settings={"times": 3}, **SMALL).partial_fit(X, y)
    assert model._life.learner.steps == 3 * len(y)
    model.save(tmp_path / "patient.npz")
    with pytest.raises(BadInput, match=r"was learned by .*Patient: give that class"):
        ContinualClassifier.load(tmp_path / "patient.npz")
    loaded = ContinualClassifier.load(tmp_path / "patient.npz", method=Patient)
    assert bits(loaded) == bits(model)
    assert loaded.method is Patient


class Patient(metareplay.Method):
    """Several steps on each batch."""

    lr: float = metareplay.setting(0.01, "(0, inf)", help="the learning rate of every SGD step")
    times: int = metareplay.setting(2, "[1, inf)", help="the steps taken on each batch")

    def observe(self, rows):
        for _ in range(self.times):
            self.learner.sgd(rows, self.lr)


def test_river_is_only_needed_by_its_own_classifier(monkeypatch):
    monkeypatch.delitem(sys.modules, "metareplay.estimators.river", raising=False)
    for name in [*(name for name in sys.modules if name.split(".")[0] == "river"), "river"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(estimators, "river", raising=False)
    with pytest.raises(ImportError, match=r"ContinualRiverClassifier needs river: pip install '\.\[river\]'"):
        _ = estimators.ContinualRiverClassifier
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        _ = estimators.Other


@pytest.mark.parametrize(
    ("method", "way"),
    [*((name, "save") for name in METHODS), ("ergap", "pickle"), ("gem", "pickle"), ("ergap", "clone of a saved one")],
)
def test_what_was_kept_goes_on_to_the_same_bits(method, way, tmp_path):
    X, y = blobs(300)
    named = np.array(["a", "bb", "ccc", "dddd"])[y]
    task = np.arange(len(y)) // 100
    early = named != "dddd"
    model = ContinualClassifier(method, tasks=3, **SMALL)
    model.partial_fit(X[:150][early[:150]], named[:150][early[:150]], task=task[:150][early[:150]])
    if way == "save":
        model.save(tmp_path / "model.npz")
        kept = ContinualClassifier.load(tmp_path / "model.npz")
        assert kept.get_params() == model.get_params()
    elif way == "pickle":
        kept = pickle.loads(pickle.dumps(model))
    else:
        model.save(tmp_path / "model.npz")
        kept = clone(ContinualClassifier.load(tmp_path / "model.npz"))
        kept.partial_fit(X[:150][early[:150]], named[:150][early[:150]], task=task[:150][early[:150]])
    for each in (model, kept):
        each.partial_fit(X[150:], named[150:], task=task[150:])
    assert bits(kept) == bits(model)
    assert list(kept.classes_) == list(model.classes_) == ["a", "bb", "ccc", "dddd"]
    assert np.array_equal(kept.predict_proba(X, task=task), model.predict_proba(X, task=task))


@pytest.mark.parametrize("labels", [[True, False], [-1, 1], ["x", "y"], np.array(["x", "y"], object), [1.0, 2.0]])
def test_labels_and_names_are_kept_as_they_are(labels, tmp_path):
    X, y = blobs(classes=2)
    model = ContinualClassifier(random_state=np.random.RandomState(3), hidden_layer_sizes=[4])
    model.partial_fit(X, np.asarray(labels)[y])
    model.feature_names_in_ = np.array(list("abcde"), object)
    model.save(tmp_path / "model.npz")
    kept = ContinualClassifier.load(tmp_path / "model.npz")
    assert kept.classes_.dtype == model.classes_.dtype
    assert list(kept.classes_) == list(model.classes_)
    assert list(kept.feature_names_in_) == list("abcde")
    assert kept.random_state.randint(1000) == model.random_state.randint(1000)


def test_a_file_that_is_none_of_ours_is_refused_in_a_line(tmp_path):
    X, y = blobs()
    model = ContinualClassifier(**SMALL).partial_fit(X, y)
    path = tmp_path / "model.npz"
    with pytest.raises(BadInput, match="cannot read"):
        ContinualClassifier.load(path)
    model.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match="damaged"):
        ContinualClassifier.load(path)
    with zipfile.ZipFile(path.with_name("old.npz"), "w") as old, zipfile.ZipFile(io.BytesIO(content)) as new:
        for member in new.namelist():
            old.writestr(member, new.read(member).replace(b'"format": 4', b'"format": 2'))
    with pytest.raises(BadInput, match=r"was saved by metareplay 0\.1.* \(format 2\), but this version reads format 4"):
        ContinualClassifier.load(path.with_name("old.npz"))
    with pytest.raises(BadInput, match=r"the pickle was saved by metareplay 0\.0\.9 \(format 1\)"):
        ContinualClassifier().__setstate__(model.__getstate__() | {"_format": (1, "0.0.9")})
    path.write_bytes(pickle.dumps(model))
    with pytest.raises(BadInput, match="damaged, or no saved ContinualClassifier"):
        ContinualClassifier.load(path)
    with pytest.raises(BadInput, match="cannot write"):
        model.save(tmp_path / "nowhere" / "model.npz")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("parameters", lambda held: np.where(np.arange(len(held)) == 0, np.float32(np.nan), held)),
        ("parameters", lambda held: np.where(np.arange(len(held)) == 15, np.float32(1), held)),  # of 16, 12 are weights
        ("parameters", lambda held: held[:-1]),
        ("index", lambda held: held + 1000),
        ("examples", lambda held: held + 1000),
    ],
    ids=["not finite", "beside the layout", "too short", "inputs there are not", "more than there is room for"],
)
def test_a_file_whose_numbers_do_not_fit_is_refused(part, change, tmp_path):
    X, y = blobs()
    model = ContinualClassifier(**SMALL).partial_fit(X, y)
    state = model._life.state()
    state["learner"][part] = change(state["learner"][part])
    model._life.state = lambda: state
    model.save(tmp_path / "model.npz")
    with pytest.raises(BadInput, match="is damaged, or from another version"):
        ContinualClassifier.load(tmp_path / "model.npz")


@pytest.mark.parametrize(
    ("bad", "message"),
    [(np.nan, "Input X contains NaN"), (np.inf, "Input X contains infinity"), (-np.inf, "Input X contains infinity")],
)
@pytest.mark.parametrize("scale", [True, False])
def test_values_that_are_not_finite_are_refused(bad, message, scale):
    X, y = blobs()
    model = ContinualClassifier(scale=scale, **SMALL).partial_fit(X, y)
    before = bits(model)
    X[7, 2] = bad
    for call in (lambda: model.fit(X, y), lambda: model.partial_fit(X, y), lambda: model.predict(X)):
        with pytest.raises(ValueError, match=message):
            call()
    assert bits(model) == before
    with pytest.raises(ValueError, match="Input y contains NaN"):
        model.partial_fit(np.nan_to_num(X, posinf=0, neginf=0), np.where(y == 0, np.nan, 1))


def test_one_class_is_too_few_to_fit_but_a_stream_may_begin_with_one():
    X, _ = blobs()
    with pytest.raises(ValueError, match="at least 2 classes in the data, but the data contains only one class: 'a'"):
        ContinualClassifier(**SMALL).fit(X, ["a"] * len(X))
    model = ContinualClassifier(**SMALL).partial_fit(X, ["a"] * len(X))
    assert set(model.predict(X)) == {"a"}
    assert np.array_equal(model.predict_proba(X), np.ones((len(X), 1)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "mer"}, r"method is 'mer'; did you mean meralg1\? it must be one of online, "),
        ({"lr": -1.0}, r"^lr is -1.0, but must lie in \(0, inf\)"),
        ({"method": "meralg1", "beta": 3.0}, r"^beta is 3.0, but must lie in \(0, 1\].*the share of each batch's chan"),
        ({"method": "online", "beta": 0.5}, "beta is given, but online has no such setting; it has lr"),
        ({"settings": {"speed": 1}}, "speed is given, but ergap has no such setting"),
        ({"hidden_layer_sizes": (10, 0)}, r"hidden_layer_sizes is \(10, 0\)"),
        ({"epochs": 0}, r"^epochs is 0, but must lie in \[1, inf\): it is how often fit goes"),
        ({"tasks": True}, "tasks is True"),
        ({"random_state": "x"}, "cannot be used to seed"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    X, y = blobs()
    for learn in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(ContinualClassifier(**parameters), learn)(X, y)


def test_learning_that_diverges_ends_in_words_and_never_in_nan():
    X, y = blobs()
    model = ContinualClassifier("online", lr=50.0, scale=False, random_state=0)
    with pytest.raises(Diverged, match=r"the loss is not finite at example \d+: lower lr \(it is 50\), or scale"):
        model.partial_fit(X * 1e6, y)
    assert np.isfinite(model._life.learner.parameters()).all()
    with pytest.raises(BadInput, match="the network has no finite score for Input X"):
        model.predict_proba(np.full((1, 5), 3e38))
