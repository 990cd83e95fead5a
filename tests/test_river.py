"""The river classifier (extra ``river``)."""

import math
import pickle

import numpy as np
import pytest

pytest.importorskip("river")

import pandas
from river import checks, datasets, preprocessing

from metareplay import BadInput
from metareplay.estimators import ContinualRiverClassifier, ContinualRiverRegressor
from test_estimators import bits

TINY = {"hidden_layer_sizes": (8,), "memories": 10}
SMALL = {"hidden_layer_sizes": (12,), "memories": 30, "seed": 0}
TABLE = pandas.DataFrame({"a": [1.0, 2.0]})


def learned(model, examples):
    for x, y in examples:
        model.learn_one(x, y)
    return model


@pytest.mark.parametrize(
    "model",
    [
        ContinualRiverClassifier(),
        ContinualRiverClassifier("meralg1", **TINY),
        ContinualRiverRegressor(),
        ContinualRiverRegressor("online", loss="absolute", **TINY),
    ],
    ids=lambda model: f"{type(model).__name__}({model.method}, {model.memories})",
)
def test_rivers_own_checks_pass(model):
    assert model._unit_test_skips() == set()
    for check in checks.yield_checks(model):
        check(model.clone())


def test_features_may_come_and_go_by_name():
    rng = np.random.default_rng(0)
    model = ContinualRiverClassifier(seed=0, hidden_layer_sizes=(20,))
    right = []
    for i in range(1500):
        first, second = rng.normal(size=2)
        x = {"first": first} if i < 500 else {"first": first, ("second", 2): second}
        if i >= 1000:
            x = {("second", 2): second, 3: 1.0}
        y = (first if i < 500 else first + second if i < 1000 else second) > 0
        right.append(model.predict_one(x) == y)
        model.learn_one(x, y)
    for part in np.split(np.array(right), 3):
        assert part[-200:].mean() > 0.8
    assert model._features == {"first": 0, ("second", 2): 1, 3: 2}


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("features", [3, 16, 64])
def test_the_order_of_names_in_a_dictionary_does_not_matter(features, scale):
    rng = np.random.default_rng(0)
    rows = rng.normal(rng.normal(size=features), 1, (100, features))
    one, other = (ContinualRiverClassifier(scale=scale, **SMALL) for _ in range(2))
    for row in rows:
        x = dict(enumerate(row.tolist()))
        mixed = {int(name): x[int(name)] for name in rng.permutation(features)}
        assert one.predict_proba_one(x) == other.predict_proba_one(mixed)
        one.learn_one(x, bool(row[0] > 0))
        other.learn_one(mixed, bool(row[0] > 0))
    assert bits(one) == bits(other)


def test_more_features_than_allowed_are_left_out_with_a_warning():
    model = ContinualRiverClassifier(max_features=20, **SMALL)
    with pytest.warns(RuntimeWarning, match="more than max_features=20 features have come"):
        learned(model, [({f"word {i}": 1.0, f"word {i + 1}": 1.0}, i % 2) for i in range(50)])
    assert len(model._features) == 20
    assert model._life.inputs == 32
    assert model.predict_one({"word 49": 1.0}) in (0, 1)


def test_an_unknown_feature_or_none_at_all_is_no_problem_and_before_anything_is_learned_there_is_no_answer():
    model = learned(ContinualRiverClassifier(**SMALL), datasets.Phishing().take(50))
    assert model.predict_proba_one({"never seen": 3.0}) == model.predict_proba_one({})
    model.learn_one({}, True)
    fresh = ContinualRiverClassifier(**SMALL)
    fresh.learn_one({}, "a")
    assert fresh.predict_one({}) == "a"
    assert ContinualRiverClassifier().predict_one({"a": 1.0}) is None
    assert ContinualRiverClassifier().predict_proba_one({"a": 1.0}) == {}


@pytest.mark.parametrize("scale", [True, False])
def test_rows_of_a_data_frame_are_learned_as_one_after_another(scale):
    examples = list(datasets.Phishing().take(80))
    one = learned(ContinualRiverClassifier(scale=scale, **SMALL), examples)
    many = ContinualRiverClassifier(scale=scale, **SMALL)
    X, y = pandas.DataFrame([x for x, _ in examples]), pandas.Series([y for _, y in examples])
    for begin in range(0, 80, 16):
        many.learn_many(X[begin : begin + 16], y[begin : begin + 16])
    assert bits(many) == bits(one)
    assert many.predict_many(X).tolist() == [one.predict_one(x) for x, _ in examples]
    assert many.predict_proba_many(X).to_dict("records") == [one.predict_proba_one(x) for x, _ in examples]
    assert list(many.predict_many(X).index) == list(X.index)
    with pytest.raises(BadInput, match=r"inconsistent numbers of samples: \[80, 3\]"):
        many.learn_many(X, y[:3])


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_frames_of_other_libraries_are_learned_and_answered_in_kind(library):
    frames = pytest.importorskip(library, reason=f"{library} is not installed: pip install {library}")
    examples = list(datasets.Phishing().take(60))
    frame_of = frames.table if library == "pyarrow" else frames.DataFrame
    X, y = frame_of({name: [x[name] for x, _ in examples] for name in examples[0][0]}), [y for _, y in examples]
    one, many = learned(ContinualRiverClassifier(**SMALL), examples), ContinualRiverClassifier(**SMALL)
    many.learn_many(X, frame_of({"y": y})["y"])
    assert bits(many) == bits(one)
    assert type(many.predict_many(X)) is type(X["https"])
    assert [bool(label) for label in many.predict_many(X).to_numpy()] == [one.predict_one(x) for x, _ in examples]
    p = many.predict_proba_many(X)
    assert type(p) is type(X)
    assert p["True"].to_numpy().tolist() == [one.predict_proba_one(x)[True] for x, _ in examples]


def test_weights_count_and_nothing_weighs_nothing():
    examples = list(datasets.Phishing().take(60))
    one, other = learned(ContinualRiverClassifier(**SMALL), examples), ContinualRiverClassifier(**SMALL)
    for x, y in examples:
        other.learn_one(x, y)
        other.learn_one(x, "never", w=0)
    assert bits(one) == bits(other)
    other.learn_one(*examples[0], w=3.0)
    one.learn_one(*examples[0])
    assert bits(one) != bits(other)
    with pytest.raises(BadInput, match="w is -1, but must be a weight from 0 up"):
        one.learn_one(*examples[0], w=-1)


def test_a_regressor_is_saved_and_goes_on_to_the_same_bits(tmp_path):
    examples = list(datasets.TrumpApproval().take(200))
    model = ContinualRiverRegressor(loss="absolute", seed=0)
    assert model.predict_one(examples[0][0]) == 0
    for x, y in examples[:100]:
        model.learn_one(x, y)
    model.learn_one(examples[0][0], None)
    model.save(tmp_path / "model.npz")
    kept = ContinualRiverRegressor.load(tmp_path / "model.npz")
    assert (kept.missing_labels_, kept.loss) == (1, "absolute")
    for each in (model, kept):
        for x, y in examples[100:]:
            each.learn_one(x, y)
    assert [kept.predict_one(x) for x, _ in examples] == [model.predict_one(x) for x, _ in examples]


def test_a_pipeline_hands_the_task_on():
    model = preprocessing.StandardScaler() | ContinualRiverClassifier("taskinput", **SMALL)
    for i, (x, y) in enumerate(datasets.Phishing().take(40)):
        model.learn_one(x, y, task=i // 20)
    assert model.predict_one(x, task=1) in (True, False)


@pytest.mark.parametrize(("method", "way"), [("ergap", "save"), ("online", "pickle"), ("meralg1", "save")])
def test_what_was_kept_goes_on_to_the_same_bits(method, way, tmp_path):
    examples = list(datasets.ImageSegments().take(200))
    fewer = [({name: x[name] for name in list(x)[:8]}, y) for x, y in examples[:100]]
    model = learned(ContinualRiverClassifier(method, **SMALL), fewer)
    if way == "save":
        model.save(tmp_path / "model.npz")
        kept = ContinualRiverClassifier.load(tmp_path / "model.npz")
        assert kept._get_params() == model._get_params()
    else:
        kept = pickle.loads(pickle.dumps(model))
    learned(model, examples[100:])
    learned(kept, examples[100:])
    assert bits(kept) == bits(model)
    assert kept.predict_proba_one(examples[0][0]) == model.predict_proba_one(examples[0][0])


def test_names_that_json_has_not_and_files_of_the_other_estimator_are_refused(tmp_path):
    model = ContinualRiverClassifier(**SMALL)
    model.learn_one({("a", "pair"): 1.0}, True)
    with pytest.raises(BadInput, match=r"one of the features is \('a', 'pair'\)"):
        model.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())
    ContinualRiverClassifier().save(tmp_path / "model.npz")
    from metareplay.estimators import ContinualClassifier

    with pytest.raises(BadInput, match="is a ContinualRiverClassifier, but must be a saved Continual"):
        ContinualClassifier.load(tmp_path / "model.npz")


@pytest.mark.parametrize("missing", [None, math.nan, np.float64("nan"), pandas.NA, pandas.NaT])
def test_an_example_whose_label_is_missing_is_skipped_and_counted(missing):
    examples = list(datasets.Phishing().take(40))
    model, other = ContinualRiverClassifier(**SMALL), learned(ContinualRiverClassifier(**SMALL), examples)
    model.learn_one(examples[0][0], missing)
    assert model.predict_one(examples[0][0]) is None
    for x, y in examples:
        model.learn_one(x, y)
        model.learn_one({"new": 3.0}, missing)
    assert bits(model) == bits(other)
    assert (model.missing_labels_, other.missing_labels_) == (41, 0)


@pytest.mark.parametrize(("bad", "message"), [(math.nan, "Input x contains NaN"), (-math.inf, "contains infinity")])
def test_values_that_are_not_finite_are_refused(bad, message):
    model = learned(ContinualRiverClassifier(**SMALL), datasets.Phishing().take(20))
    before = bits(model)
    x, y = next(iter(datasets.Phishing()))
    x["anchor_from_other_domain"] = bad
    for call in (lambda: model.learn_one(x, y), lambda: model.predict_one(x), lambda: model.predict_proba_one(x)):
        with pytest.raises(BadInput, match=f"{message}.*anchor_from_other_domain"):
            call()
    assert bits(model) == before


@pytest.mark.parametrize(
    ("learn", "message"),
    [
        (lambda it: it.learn_one({"age": 3, "city": "Rome"}, 1), r"'city' is 'Rome', but must be a number: .*OneHot"),
        (lambda it: it.learn_one({"a": 10**400}, 1), r"Input x contains infinity .*\(feature 'a'\)"),
        (lambda it: it.learn_many(TABLE.assign(city="Rome"), TABLE["a"]), "'city' holds String, but must .*OneHot"),
        (lambda it: it.learn_many(TABLE.assign(day=pandas.NaT), TABLE["a"]), "'day' holds Datetime.*, but must"),
        (lambda it: it.learn_one({"a": 1.0}, [1]), r"y is \[1\], but must be one value: text, a number or"),
        (lambda it: it.learn_one({"a": 1.0}, 1, w="2"), "w is '2', but must be a weight from 0 up"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_what_to_do(learn, message):
    for model in (ContinualRiverClassifier(), ContinualRiverRegressor()):
        with pytest.raises(BadInput, match=message):
            learn(model)
        assert not model._features


def test_targets_and_parameters_out_of_range_are_refused():
    for target in ("high", math.inf, 1 + 2j):
        with pytest.raises(BadInput, match="but must be a finite number"):
            ContinualRiverRegressor().learn_one({"a": 1.0}, target)
    with pytest.raises(BadInput, match=r"method is 'mer'; did you mean meralg1\? it must be one of online, "):
        ContinualRiverClassifier("mer")
    with pytest.raises(BadInput, match="max_features is 0"):
        ContinualRiverClassifier(max_features=0)
