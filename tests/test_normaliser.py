"""Normalised inputs: what a naive loop over the examples says, kept with a run, and given back with its model."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import metareplay
from metareplay import BadInput, Experiment, Online, Record, Stream, Trainer
from metareplay.data.images import BaseImages
from metareplay.runs.normaliser import Normaliser
from metareplay.streams.stream import Images


def naive(x, decay):
    mean, square, wanted = np.zeros(x.shape[1]), np.zeros(x.shape[1]), []
    for t, example in enumerate(x.astype(np.float64), 1):
        mean = decay * mean + (1 - decay) * example
        square = decay * square + (1 - decay) * example**2
        centre, variance = mean / (1 - decay**t), square / (1 - decay**t) - (mean / (1 - decay**t)) ** 2
        wanted.append((example - centre) / (np.sqrt(np.maximum(variance, 0)) + 1e-8))
    return np.array(wanted)


@given(st.integers(0, 2**32), st.floats(0.01, 0.9999), st.integers(1, 60), st.lists(st.integers(1, 60), max_size=4))
def test_it_is_what_a_naive_loop_says_however_the_examples_come(seed, decay, n, cuts):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, 5)) * [1, 100, 1e-3, 0, 1] + [0, 5, 1e-3, 0, -3]).astype(np.float32)
    ours, whole = (Normaliser(5, decay) for _ in range(2))
    parts = [ours.learn(part) for part in np.split(x, sorted(cut for cut in set(cuts) if cut < n))]
    np.testing.assert_array_equal(np.concatenate(parts), whole.learn(x))
    # The first example is its own mean: what is left of it, and of a lone variance, is rounding.
    np.testing.assert_allclose(np.concatenate(parts)[1:], naive(x, decay)[1:], rtol=1e-4, atol=1e-4)
    assert np.abs(np.concatenate(parts)[:1]).max() < 1e-4
    assert not np.concatenate(parts)[:, 3].any(), "an input that is always zero stays zero"


def test_after_many_examples_inputs_have_mean_zero_and_variance_one_and_means_never_become_subnormal():
    x = np.random.default_rng(0).normal(7, 3, (20_000, 4)).astype(np.float32)
    normalised = Normaliser(4, 0.999).learn(x)[5000:]
    assert np.abs(normalised.mean(0)).max() < 0.05
    assert np.abs(normalised.std(0) - 1).max() < 0.05
    ours = Normaliser(3, 0.5)
    ours.learn(np.ones((1, 3), np.float32))
    for _ in range(20):
        ours.learn(np.zeros((100, 3), np.float32))
        assert (ours.means[ours.means != 0] > 1e-160).all()
    assert not ours.means.any()


@pytest.mark.parametrize("seen", [1, 2, 50])
def test_a_test_input_is_limited_to_what_a_training_input_can_become(seen):
    """The first that differs after ``seen`` equal ones, and one ten times as far off."""
    ours, trained = Normaliser(2, 0.9), Normaliser(2, 0.9)
    for normaliser, n in ((ours, seen), (trained, seen - 1)):
        normaliser.learn(np.tile(np.float32([-1, 5]), (n, 1)))
    wanted = trained.learn(np.float32([[0, 4]]))
    images = BaseImages(np.float32([[0, 4], [9, -9]]), shape=(2,))
    [shown] = ours.apply(Images(images, np.arange(2)))
    np.testing.assert_allclose(shown.inputs(np.arange(2)), np.concatenate([wanted] * 2), rtol=1e-4, atol=1e-3)


def experiment(**options):
    stream = metareplay.benchmark("digits-permutations", tasks=2, samples_per_task=60)
    return Experiment(stream=stream, method=Online(lr=0.01), hidden=(12,), **options)


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("order", ["tasks", "gradual"])
def test_a_run_learns_from_normalised_inputs_and_is_tested_on_them(batch_size, order):
    """Held against a run without the option, on a stream that a naive loop has normalised."""
    ours = Trainer(experiment(normalise=0.99, batch_size=batch_size, order=order))
    record = ours.train()
    raw = ours.stream
    seen = [(span, raw.tasks[span.sources[i]].train.inputs(span.examples[i : i + 1]))
            for span in ours.spans for i in range(len(span.examples))]  # fmt: skip
    flat = naive(np.concatenate([x for _, x in seen]), 0.99).astype(np.float32)
    tasks, place = [np.zeros((len(task.train), 64), np.float32) for task in raw.tasks], 0
    for span in ours.spans:
        for source, example in zip(span.sources, span.examples, strict=True):
            tasks[source][example], place = flat[place], place + 1
    made = [(x, task.train.labels, x[:9], task.train.labels[:9]) for x, task in zip(tasks, raw.tasks, strict=True)]
    theirs = Trainer(dataclasses.replace(
        experiment(batch_size=batch_size, order=order), stream=Stream.from_arrays("normalised", made, classes=10),
        samples_per_task=60, evaluate="never"))  # fmt: skip
    theirs.train()
    for mine, other in zip(ours.learner.layers(), theirs.learner.layers(), strict=True):
        np.testing.assert_allclose(mine[0], other[0], atol=2e-5)
    normaliser = ours.normaliser
    test = raw.tasks[1].test
    centre, spread, _ = normaliser.moments()
    x = (test.inputs(np.arange(len(test))) - centre) / spread
    (weights, biases), (above, offsets) = ours.learner.layers()
    answers = (np.maximum(x @ weights + biases, 0) @ above + offsets).argmax(1)
    assert abs((answers == test.labels).mean() - record.accuracy[-1, 1]) < 0.01


def test_testing_moves_nothing():
    often, never = (Trainer(experiment(normalise=0.9, **o)) for o in ({"eval_every": 5}, {"evaluate": "never"}))
    assert np.array_equal(often.train().right_by_visit, never.train().right_by_visit)
    assert often.learner.parameters().tobytes() == never.learner.parameters().tobytes()


def test_it_is_part_of_the_key_and_off_by_default():
    plain, one, other = experiment(), experiment(normalise=0.9), experiment(normalise=0.99)
    assert len({plain.key, one.key, other.key}) == 3
    assert "normalise" not in plain.configuration()
    for wrong in (0.0, 1.0, -1.0, "much"):
        with pytest.raises(BadInput, match=r"normalise is"):
            experiment(normalise=wrong)


def test_a_model_normalises_what_it_is_asked_as_its_run_did(tmp_path):
    from metareplay.runs.folder import Run

    trained = experiment(normalise=0.99)
    run = Run(tmp_path / trained.key)
    record = run.carry_out(trained)
    model, test = metareplay.load(run.folder), trained.stream.tasks[1].test
    x = test.inputs(np.arange(len(test)))
    assert (model.predict(x, 1) == test.labels).mean() == Record.load(run.folder).accuracy[-1, 1]
    goes_on = experiment(normalise=0.99, from_=str(run.folder), seed=1)
    trainer = Trainer(goes_on)
    assert trainer.normaliser.seen == 120
    trainer.evaluate(-1)
    assert (trainer.evaluations[0][2] == record.correct[-1]).all(), "it begins with what that one learned"
    with pytest.raises(BadInput, match="one normalises its inputs: normalise for both"):
        Trainer(experiment(from_=str(run.folder)))
    torch = pytest.importorskip("torch")
    x[:, 0] += 3  # an input that never varied in training
    scores = model.to_torch()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(scores, model.scores(x), rtol=1e-4, atol=1e-3)
    assert np.abs(scores).max() < 1000
