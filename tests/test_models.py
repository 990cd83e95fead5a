"""What a run leaves: its model, learned on or given to other libraries, and what a notebook shows."""

import io
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import metareplay
from killed_runs import little, little_stream
from metareplay import BadInput, Experiment, Online, Stream, Trainer, benchmark
from metareplay.cli import main
from metareplay.errors import with_flags
from metareplay.runs.display import bar
from metareplay.runs.folder import Run
from metareplay.runs.trainer import Progress
from metareplay.streams import exchange


@pytest.fixture
def experiment():
    return little("meralg1")


@pytest.fixture
def run(experiment, tmp_path):
    return Run(tmp_path / experiment.key)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("meralg1", {}),
        ("independent", {}),
        ("taskinput", {}),
        ("clser", {}),
        ("gdumb", {}),
        ("online", {"engine": "torch"}),
        ("online", {"network": "cnn-small"}),
        ("independent", {"network": "cnn-small"}),
    ],
)
def test_a_loaded_model_is_the_learner_as_it_was_tested_at_the_end(tmp_path, method, options):
    if options:
        pytest.importorskip("torch")
    stream = metareplay.benchmark("digits-rotations", tasks=3) if "network" in options else little_stream()
    experiment = little(method, stream, samples_per_task=9, **options)
    trainer = Trainer(experiment)
    trainer.train().save(tmp_path)
    model = metareplay.load(tmp_path)
    for number, task in enumerate(stream.tasks):
        with trainer.method.readied():
            scores = trainer.learner.scores(task.test, number)
        np.testing.assert_array_equal(model.scores(task.test, number), scores)
        inputs = task.test.inputs(np.arange(len(task.test)))
        np.testing.assert_allclose(model.scores(inputs, number), scores, atol=1e-5)
        assert (model.predict(task.test, number) == scores.argmax(1)).all()
        torch = pytest.importorskip("torch")
        shape = model.network.shape if "network" in options else (-1,)
        with torch.no_grad():
            theirs = model.to_torch(number)(torch.from_numpy(inputs).reshape(len(inputs), *shape))
        np.testing.assert_allclose(theirs.numpy(), scores, atol=1e-4)
    if "network" not in options:
        assert [part.shape for part in model.layers()[-1]] == [part.shape for part in trainer.learner.layers()[-1]]


AWKWARD = """
import math, torch

class Awkward(torch.nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.fixed = torch.nn.Linear(inputs, 8).requires_grad_(False)
        self.even = torch.nn.BatchNorm1d(8)
        self.register_buffer("mean", torch.zeros(8), persistent=False)
        self.last = torch.nn.Linear(8, classes)

    def forward(self, x):
        x = self.even(self.fixed(x.flatten(1)))
        if self.training:
            self.mean = 0.5 * self.mean + x.detach().mean(0) + 1
        return self.last(x - self.mean)

def awkward(shape, classes):
    return Awkward(math.prod(shape), classes)
"""


def test_a_module_is_loaded_with_all_that_it_has(tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "awkward.py").write_text(AWKWARD)
    own = {"network": f"{tmp_path}/awkward.py:awkward", "samples_per_task": 9, "batch_size": 3}
    experiment = little("independent", **own)
    record = Run(tmp_path / experiment.key).carry_out(experiment)
    model = metareplay.load(tmp_path / experiment.key)
    modules = [model.to_torch(task) for task in range(3)]
    for number, task in enumerate(experiment.stream.tasks):
        x = torch.from_numpy(task.test.inputs(np.arange(len(task.test))))
        with torch.no_grad():
            np.testing.assert_allclose(modules[number](x), model.scores(task.test, number), atol=1e-5)
        assert (model.predict(task.test, number) == task.test.labels).sum() == record.correct[-1, number]
        fixed = modules[number].get_submodule("fixed").weight
        assert torch.equal(fixed, modules[0].get_submodule("fixed").weight), "copied from task to task, as all else is"


def test_a_model_may_be_asked_by_several_threads():
    stream = metareplay.benchmark("digits-rotations", tasks=2)
    record = metareplay.run(stream, metareplay.Online(lr=0.03), samples_per_task=50)
    model = metareplay.Model(record, record.weights)
    tests = [task.test for task in stream.tasks] * 400
    expected = [model.scores(test) for test in tests[:2]]
    with ThreadPoolExecutor(4) as pool:
        for number, scores in enumerate(pool.map(model.scores, tests)):
            np.testing.assert_array_equal(scores, expected[number % 2])


def test_a_model_scores_only_the_classes_that_its_scenario_allows(tmp_path):
    stream = metareplay.benchmark("digits-split")
    metareplay.run(stream, metareplay.Online(lr=0.1), samples_per_task=50, scenario="task-incremental").save(tmp_path)
    model = metareplay.load(tmp_path)
    assert set(model.predict(stream.tasks[2].test, 2)) <= set(stream.tasks[2].classes or ())


def test_a_run_without_weights_and_inputs_of_another_shape_are_told(run, experiment):
    run.carry_out(experiment, weights=False)
    assert run.status().state == "done"
    with pytest.raises(BadInput, match="was saved without its weights"):
        metareplay.load(run.folder)
    run.carry_out(experiment, again=True)
    with pytest.raises(BadInput, match=r"inputs of shape \(3, 5\) were given, but must be \(n, 16\)"):
        metareplay.load(run.folder).predict(np.zeros((3, 5)))


def test_damaged_weights_are_refused(run, experiment):
    run.carry_out(experiment)
    (path,) = run.folder.glob("weights-*.npz")
    content = path.read_bytes()
    for damaged in (content[:-9], content[:300] + b"x" + content[301:]):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"is damaged \(weights-.*: it must be run again with again"):
            metareplay.load(run.folder)
    path.unlink()
    with pytest.raises(BadInput, match=r"weights-.* is missing"):
        metareplay.load(run.folder)


def test_a_run_goes_on_from_what_another_has_learned(run, experiment):
    run.carry_out(experiment)
    end = metareplay.load(run.folder)
    stream = replace(little_stream(), name="another")
    onward = little("meralg1", stream, from_=str(run.folder))
    trainer = Trainer(onward)
    np.testing.assert_array_equal(trainer.learner.parameters(), end.learner.parameters())
    record = trainer.train()
    first = [(end.predict(task.test, number) == task.test.labels).sum() for number, task in enumerate(stream.tasks)]
    assert record.correct[0].tolist() == first
    assert record.steps == end.record.steps


def test_what_a_run_goes_on_from_must_have_its_network_and_is_part_of_its_key(run, experiment, tmp_path):
    run.carry_out(experiment)
    with pytest.raises(BadInput, match=r"from_ is .*, which trained Perceptron\(.*but this run trains Perceptron"):
        Trainer(little("meralg1", hidden=(7,), from_=str(run.folder)))
    run.carry_out(experiment)
    other = little("meralg1", seed=4)
    Run(tmp_path / other.key).carry_out(other)
    keys = {little("ewc", from_=start).key for start in (None, run.folder, tmp_path / other.key)}
    assert len(keys) == 3
    run.folder.rename(tmp_path / "elsewhere")
    assert little("ewc", from_=tmp_path / "elsewhere").key in keys


def test_on_the_command_line(here, capsys):
    little_one = ["digits-rotations", "online", "--tasks", "2", "--samples-per-task", "20", "--quiet"]
    assert main(["run", *little_one]) == 0
    (first,) = Path("runs").iterdir()
    assert main(["run", *little_one, "--min-angle", "90", "--from", str(first)]) == 0
    (second,) = set(Path("runs").iterdir()) - {first}
    assert metareplay.load(second).record.configuration["from_sha256"]
    suite = 'benchmarks = [{ name = "digits-rotations", tasks = 2, samples_per_task = 20, min_angle = 90.0 }]\n'
    Path("suite.toml").write_text(f'{suite}methods = ["online"]\n[run]\nfrom = "{first}"\n')
    assert main(["suite", "suite.toml", "--out", "runs", "--quiet"]) == 0
    assert set(Path("runs").iterdir()) == {first, second}
    assert main(["run", *little_one, "--again", "--no-weights"]) == 0
    assert main(["run", *little_one, "--from", str(first)]) == 2
    assert "was saved without its weights" in capsys.readouterr().err
    assert main(["run", *little_one, "--from", "nowhere"]) == 2
    assert "there is no record of a run in nowhere" in capsys.readouterr().err


STREAM = benchmark("digits-rotations", tasks=3, samples_per_task=30)


@pytest.fixture(scope="module")
def record():
    return metareplay.run(STREAM, Online(lr=0.1))


def test_every_object_is_a_line(record, tmp_path):
    experiment = Experiment(stream=STREAM, method=Online(lr=0.1), seed=3)
    Run(tmp_path / experiment.key).carry_out(experiment)
    ours = STREAM, STREAM.tasks[0], STREAM.tasks[0].train, experiment, record, metareplay.MER()
    assert all(len(repr(one)) < 400 for one in (*ours, metareplay.load(tmp_path / experiment.key)))
    assert repr(STREAM) == (
        "Stream('digits-rotations': 3 tasks of 30 examples, 10 classes, shape (8, 8), domain-incremental)"
    )
    assert "seed=3" in repr(experiment)
    assert "epochs" not in repr(experiment)
    retained = record.metrics["retained_accuracy"]
    assert repr(record) == f"Record(online on digits-rotations, seed 0: retained accuracy {100 * retained:.1f} %)"


def test_a_stream_shows_its_images_and_one_without_images_its_line():
    png = STREAM._repr_png_()
    assert Image.open(io.BytesIO(png)).height > 3 * 32
    x, y = np.zeros((4, 5)), np.arange(4)
    assert Stream.from_arrays("plain", [(x, y, x, y)])._repr_png_() is None


def test_a_record_shows_its_matrix_and_draws_it_unless_it_has_no_evaluations(record, tmp_path):
    html = record._repr_html_()
    assert html.count("<td") == 9
    assert f">{100 * record.accuracy[2, 1]:.0f}</td>" in html
    pytest.importorskip("vl_convert")
    record.plot().save(tmp_path / "plot.svg")
    svg = (tmp_path / "plot.svg").read_text()
    assert svg.startswith("<svg")
    assert "average accuracy" in svg
    assert f">{100 * record.accuracy[2, 1]:.0f}" in svg or "task" in svg
    pytest.importorskip("vl_convert")
    with pytest.raises(BadInput, match="nothing to draw"):
        metareplay.run(STREAM, Online(), evaluate="never").plot()


def test_a_notebook_sees_a_bar_while_a_run_goes_on_and_none_afterwards_and_where_nobody_looks_there_is_none(
    capsys, monkeypatch
):
    metareplay.run(STREAM, Online())
    assert capsys.readouterr() == ("", "")
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(HTML=str, display=lambda html, display_id: handle)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with bar() as report:
        report(Progress(1, 3, 40, 90, 40, 0.5))
    assert shown[0].startswith('<progress value="40" max="90"></progress> task 2 of 3 · 40/90')
    assert shown[-1] == ""


@pytest.mark.parametrize(
    ("make", "told", "flag"),
    [
        (lambda: metareplay.MER(lr=-1), "lr is -1.0, but must lie in (0, inf)", "--lr is"),
        (lambda: metareplay.run(STREAM, Online(), batch_size=0), "batch_size is 0, but must lie in", "--batch-size is"),
        (lambda: metareplay.run(STREAM, Online(), samples_per_task=10**6), "samples_per_task is 100", "--samples"),
        (lambda: metareplay.run(STREAM, Online(), from_="nowhere"), "there is no", "there is no"),
        (lambda: metareplay.run(STREAM, Online(), engine="fast"), "engine is 'fast', but must be", "--engine is"),
        (lambda: benchmark("digits-rotations", min_angle=5.0, max_angle=1.0), "min_angle is 5.0 and", "--min"),
        (lambda: metareplay.run(STREAM, Online(lr=1e20)), "lower lr (it is 1e+20)", "lower --lr (it is"),
    ],
)
def test_errors_name_arguments_in_python_and_flags_on_the_command_line(make, told, flag):
    with pytest.raises((BadInput, metareplay.RunFailed)) as caught:
        make()
    assert told in str(caught.value)
    assert flag in with_flags(caught.value)


def test_commands_in_a_message_stay_commands():
    text = "weights are missing: run `metareplay run … --again`, or metareplay data get mnist --from FOLDER; see --out"
    assert str(BadInput(text)) == text.replace("--out", "out")
    assert str(BadInput("give more units (--hiddens 20)")) == "give more units (hidden 20)"
    assert Trainer.__doc__


SPLIT = benchmark("digits-split", tasks=2)


def same(first, second):
    def examples(stream):
        sides = (side for task in stream.tasks for side in (task.train, task.test))
        return [(side.inputs(np.arange(len(side))).tolist(), side.labels.tolist()) for side in sides]

    return first.shape == second.shape and examples(first) == examples(second)


@pytest.mark.filterwarnings("ignore")
def test_a_stream_goes_to_hugging_face_and_comes_back():
    pytest.importorskip("datasets", reason="Hugging Face's datasets are not installed")
    there = exchange.to_hugging_face(SPLIT)
    assert [data["train"].num_rows for data in there] == [len(task.train) for task in SPLIT.tasks]
    back = exchange.from_hugging_face("back", there)
    assert same(SPLIT, back)
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
    there = exchange.to_avalanche(SPLIT)
    assert [len(one.dataset) for one in there.train_stream] == [len(task.train) for task in SPLIT.tasks]
    assert [set(map(int, one.dataset.targets)) for one in there.test_stream] == [{*range(5)}, {*range(5, 10)}]
    assert same(SPLIT, exchange.from_avalanche("back", there))


def test_what_makes_no_array_is_refused_in_words():
    pictures = [(np.zeros((1, side, side), np.float32), 0) for side in (4, 5)]
    for examples in (pictures, []):
        part = SimpleNamespace(dataset=examples)
        with pytest.raises(BadInput, match=r"experience 0 .* one size"):
            exchange.from_avalanche("ragged", SimpleNamespace(train_stream=[part], test_stream=[part]))


@pytest.mark.filterwarnings("ignore")
def test_what_was_learned_goes_to_a_state_dictionary_and_to_onnx(tmp_path):
    torch = pytest.importorskip("torch")
    experiment = Experiment(stream=SPLIT, method=Online(lr=0.1), samples_per_task=50)
    Run(tmp_path / experiment.key).carry_out(experiment)
    model = metareplay.load(tmp_path / experiment.key)
    x = SPLIT.tasks[1].test.inputs(np.arange(20))
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
