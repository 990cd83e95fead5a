"""Streams go to other libraries and come back the same; what was learned goes to ONNX and a state dictionary."""

from types import SimpleNamespace

import numpy as np
import pytest

import metareplay
from metareplay import BadInput, Experiment, Online, benchmark
from metareplay.runs.folder import Run
from metareplay.streams import exchange

STREAM = benchmark("digits-split", tasks=2)


def same(first, second):
    sides = [
        (one, two)
        for a, b in zip(first.tasks, second.tasks, strict=True)
        for one, two in ((a.train, b.train), (a.test, b.test))
    ]
    return first.shape == second.shape and all(
        np.array_equal(one.inputs(np.arange(len(one))), two.inputs(np.arange(len(two))))
        and np.array_equal(one.labels, two.labels)
        for one, two in sides
    )


@pytest.mark.filterwarnings("ignore")
def test_a_stream_goes_to_hugging_face_and_comes_back():
    pytest.importorskip("datasets", reason="Hugging Face's datasets are not installed")
    there = exchange.to_hugging_face(STREAM)
    assert [data["train"].num_rows for data in there] == [len(task.train) for task in STREAM.tasks]
    back = exchange.from_hugging_face("back", there)
    assert same(STREAM, back)
    assert back.scenarios == ("class-incremental", "task-incremental")


@pytest.mark.filterwarnings("ignore")
def test_pictures_of_hugging_face_come_as_grey_levels_channels_first():
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets are not installed")
    pixels = np.random.default_rng(0).integers(256, size=(6, 5, 4, 3), dtype=np.uint8)
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"picture": list(pixels), "kind": [0, 1] * 3}, features=features)
    stream = exchange.from_hugging_face("pictures", [{"train": data, "test": data}], "picture", "kind")
    assert stream.shape == (3, 5, 4)
    shown = stream.tasks[0].train.inputs(np.arange(6)).reshape(6, 3, 5, 4)
    np.testing.assert_allclose(shown, pixels.transpose(0, 3, 1, 2) / 255, atol=1e-7)
    with pytest.raises(BadInput, match="train has no column image; it has picture, kind"):
        exchange.from_hugging_face("pictures", [{"train": data, "test": data}])
    with pytest.raises(BadInput, match="has the splits train, but must have train and test"):
        exchange.from_hugging_face("pictures", [{"train": data}], "picture", "kind")


@pytest.mark.filterwarnings("ignore")
def test_a_stream_goes_to_avalanche_and_comes_back():
    pytest.importorskip("torch")
    pytest.importorskip("avalanche", reason="Avalanche is not installed")
    there = exchange.to_avalanche(STREAM)
    assert [len(one.dataset) for one in there.train_stream] == [len(task.train) for task in STREAM.tasks]
    assert [sorted(set(map(int, one.dataset.targets))) for one in there.test_stream] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
    ]
    assert same(STREAM, exchange.from_avalanche("back", there))


def test_what_makes_no_array_is_refused_in_words():
    pictures = [(np.zeros((1, side, side), np.float32), 0) for side in (4, 5)]
    for examples in (pictures, []):
        part = SimpleNamespace(dataset=examples)
        with pytest.raises(BadInput, match=r"experience 0 .* one size"):
            exchange.from_avalanche("ragged", SimpleNamespace(train_stream=[part], test_stream=[part]))


@pytest.mark.filterwarnings("ignore")
def test_what_was_learned_goes_to_a_state_dictionary_and_to_onnx(tmp_path):
    torch = pytest.importorskip("torch")
    experiment = Experiment(stream=STREAM, method=Online(lr=0.1), samples_per_task=50)
    Run(tmp_path / experiment.key).carry_out(experiment)
    model = metareplay.load(tmp_path / experiment.key)
    x = STREAM.tasks[1].test.inputs(np.arange(20))
    torch.save(model.to_torch().state_dict(), tmp_path / "weights.pt")
    other = model.to_torch()
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    np.testing.assert_allclose(other(torch.from_numpy(x)).detach().numpy(), model.scores(x), atol=1e-4)
    pytest.importorskip("onnx", reason="ONNX is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    torch.onnx.export(other.eval(), (torch.from_numpy(x),), str(tmp_path / "model.onnx"), dynamo=False)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    (scores,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(scores, model.scores(x), atol=1e-4)
