"""What a run has learned can be had afterwards, and learned on."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import metareplay
from killed_runs import little, little_stream
from metareplay import BadInput, Trainer
from metareplay.cli import main
from metareplay.runs.folder import Run


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


def test_inputs_of_another_shape_are_refused(run, experiment):
    run.carry_out(experiment)
    with pytest.raises(BadInput, match=r"inputs of shape \(3, 5\) were given, but must be \(n, 16\)"):
        metareplay.load(run.folder).predict(np.zeros((3, 5)))


def test_a_run_without_weights_says_so_and_is_whole_otherwise(run, experiment):
    run.carry_out(experiment, weights=False)
    assert run.status().state == "done"
    with pytest.raises(BadInput, match="was saved without its weights"):
        metareplay.load(run.folder)


def test_damaged_weights_are_refused(run, experiment):
    run.carry_out(experiment)
    (path,) = run.folder.glob("weights-*.npz")
    content = path.read_bytes()
    for damaged in (content[:-9], content[:300] + b"x" + content[301:]):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match="are damaged"):
            metareplay.load(run.folder)
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read: No such file"):
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
