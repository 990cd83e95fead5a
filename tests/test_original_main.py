"""``main.py``: the original's flags, its line, its two files, and right metrics whatever the flags."""

import argparse
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from golden.make import own_task_list
from metareplay.original import main as command
from metareplay.original.arguments import FLAGS, MODELS, experiment, read
from metareplay.original.main import main
from metareplay.original.results import read as read_results
from metareplay.runs.request import Request
from test_methods import PUBLISHED

TASKS = 3
OWN = ("--data_file", "own.pt", "--n_hiddens", "12")
SETTINGS = {  # with which a model learns something in 40 examples
    "ewc": ("--n_memories", "5", "--memory_strength", "10"),
    "gem": ("--n_memories", "6", "--memory_strength", "0.5"),
    "meralg1": ("--beta", "0.3", "--batches_per_example", "2.0", "--replay_batch_size", "5.0"),
    "meralg6": ("--gamma", "0.3"),
    "meralg7": ("--gamma", "0.5", "--s", "2"),
}


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    (tmp_path / "here" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    own_task_list(Path("data/own.pt"))  # of tasks that can be learned


@pytest.fixture
def learn(capsys):
    def run(*flags):
        assert main([*OWN, *flags]) == 0
        line = capsys.readouterr().out
        return line, Path(line.partition(": ")[0])

    return run


def one_line(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("main.py: ")
    assert printed.err.count("\n") == 1
    return printed.err


def words(value):
    return (" ".join(value) or "defaults") if isinstance(value, tuple) else "-"


def test_one_line_and_two_files_as_the_original_had_them(learn):
    line, path = learn("--model", "meralg1", "--lr", "0.1", "--replay_batch_size", "5")
    assert re.fullmatch(
        r"results/meralg1_own\.pt_\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d_[0-9a-f]{32}: "
        r"\{'model': 'meralg1', 'n_hiddens': 12, 'n_layers': 2, 'finetune': True, 'n_epochs': 1, 'batch_size': 1, "
        r"'lr': 0\.1, 'n_memories': 0, 'memory_strength': 0, 'memories': 5120, 'gamma': 1\.0, "
        r"'batches_per_example': 1, 's': 1, 'replay_batch_size': 5\.0, 'beta': 1\.0, 'cuda': False, 'seed': 0, "
        r"'log_every': 100, 'save_path': 'results/', 'data_path': 'data/', 'data_file': 'own\.pt', "
        r"'samples_per_task': -1, 'shuffle_tasks': 'no'\} # 0\.\d{3} -?0\.\d{3} -?0\.\d{3} # \d+\.\d{4,}\n",
        line,
    )
    assert sorted(file.name for file in Path("results").iterdir()) == [f"{path.name}.pt", f"{path.name}.txt", "runs"]
    row = r"(?:[01]\.\d{4} ){2}[01]\.\d{4}\n"
    assert re.fullmatch(
        rf"{row}\|\n(?:{row}){{3}}\nFinal Accuracy: [01]\.\d{{4}}\nBackward: -?0\.\d{{4}}\nForward:  -?0\.\d{{4}}\n",
        path.with_name(f"{path.name}.txt").read_text(),
    )
    *_, shown, options = torch.load(f"{path}.pt", weights_only=False)
    assert shown == line.partition(": ")[2].removesuffix("\n")
    assert options == argparse.Namespace(**eval(shown.partition(" # ")[0]))


def test_taskinput_shows_one_hidden_layer_less(learn):
    line, path = learn("--model", "taskinput", "--n_layers", "3", "--finetune", "no")
    assert "'n_layers': 2, 'finetune': False" in line
    assert read_results(f"{path}.pt").options["n_layers"] == 2


def by_hand(labels, accuracies):
    order, rows = [], []
    for number in range(1, len(labels)):
        if number + 1 == len(labels) or labels[number + 1] != labels[number]:
            order.append(labels[number])
            rows.append(accuracies[number])
    tasks = len(order)
    retained = sum(rows[-1]) / tasks
    backward = sum(rows[-1][task] - rows[place][task] for place, task in enumerate(order)) / tasks
    forward = sum(rows[place - 1][order[place]] - accuracies[0][order[place]] for place in range(1, tasks)) / tasks
    return [[row[task] for task in order] for row in rows], (retained, backward, forward)


def schedule(order, examples, batch_size, log_every):
    """The task that each evaluation is labelled with, by the original's rule."""
    batches = [task for task in order for _ in range(0, examples, batch_size)]
    labels, before = [order[0]], order[0]
    for number, task in enumerate(batches):
        if number and (number % log_every == 0 or task != before):
            labels.append(before)
        before = task
    return [*labels, before]


@pytest.mark.parametrize(
    ("flags", "examples", "batch_size", "log_every"),
    [
        ((), 40, 1, 100),
        (("--shuffle_tasks", "yes"), 40, 1, 100),
        (("--shuffle_tasks", "yes", "--log_every", "7", "--batch_size", "10"), 40, 10, 7),
        (("--batch_size", "10", "--log_every", "2"), 40, 10, 2),
        (("--batch_size", "9"), 40, 9, 100),  # the last batch of a task is short
        (("--batch_size", "9", "--n_epochs", "2", "--log_every", "4"), 80, 9, 4),  # a batch lies in both epochs
        (("--log_every", "20"), 40, 1, 20),  # an evaluation falls on a task's border
        (("--samples_per_task", "-1", "--log_every", "30"), 40, 1, 30),
        (("--samples_per_task", "15", "--log_every", "10"), 15, 1, 10),
        (("--samples_per_task", "1000"), 40, 1, 100),  # more than there are: all
    ],
    ids=words,
)
def test_the_metrics_are_right(learn, flags, examples, batch_size, log_every):
    line, path = learn("--model", "ewc", "--lr", "0.1", *SETTINGS["ewc"], *flags)
    result_t, result_a, _, statistics, *_ = torch.load(f"{path}.pt", weights_only=False)
    labels = [int(task) for task in result_t]
    order = list(dict.fromkeys(labels[1:]))
    assert sorted(order) == [0, 1, 2]
    assert (order == [0, 1, 2]) == ("--shuffle_tasks" not in flags)
    assert labels == schedule(order, examples, batch_size, log_every)
    assert result_a.shape == (len(labels), TASKS)

    matrix, expected = by_hand(labels, result_a.tolist())
    assert line.split(" # ")[1] == " ".join(f"{statistic:.3f}" for statistic in expected)
    assert [float(statistic) for statistic in statistics] == pytest.approx(expected, abs=1e-6)
    text = Path(f"{path}.txt").read_text()
    assert text.split("|")[0].split() == [f"{result_a[0, task]:.4f}" for task in order]
    rows = [[float(number) for number in row.split()] for row in text.split("|\n")[1].split("\n\n")[0].splitlines()]
    np.testing.assert_allclose(rows, matrix, atol=5e-5)
    assert re.findall(r": +(\S+)", text) == [f"{statistic:.4f}" for statistic in expected]
    for ending in ("pt", "txt"):  # and the reader finds the same in both
        found = read_results(f"{path}.{ending}").metrics
        named = ("retained_accuracy", "backward_transfer", "forward_transfer")
        assert [found[name] for name in named] == pytest.approx(expected, abs=5e-5)


def test_the_run_is_kept_as_a_record_too(learn):
    from metareplay.runs.folder import find

    _, path = learn("--model", "eralg4")
    (run,) = find(Path("results/runs"))
    record = run.record()
    assert run.key == experiment(read([*OWN, "--model", "eralg4"])).key
    assert record.metrics["learning_accuracy"] == pytest.approx(read_results(f"{path}.pt").metrics["learning_accuracy"])
    assert command.written("results/", run.key) == str(path)


EDGES = (
    ("--memories", "0", "--n_memories", "0", "--replay_batch_size", "0"),
    ("--n_layers", "0"),
    ("--n_layers", "1", "--batch_size", "7"),
    ("--n_layers", "3", "--memories", "3", "--n_memories", "1"),
    ("--batches_per_example", "2.9", "--replay_batch_size", "3.9"),
)


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        *((model, ()) for model in MODELS),
        *((model, flags) for flags in EDGES for model in ("independent", "gem", "meralg6")),
    ],
    ids=words,
)
def test_every_model_runs_with_all_defaults_and_at_the_edges(learn, model, flags):
    learn("--model", model, *(("--samples_per_task", "6") if flags else ()), *flags)


def test_every_flag_of_the_original_arrives():
    assert list(MODELS) == [*PUBLISHED], "however many methods there are"
    flags = shlex.split(
        "--model gem --n_hiddens 30 --n_layers 3 --finetune no --n_epochs 2 --batch_size 5 --lr 0.2 --n_memories 7 "
        "--memory_strength 0.5 --memories 9 --gamma 0.1 --batches_per_example 3.7 --s 4 --replay_batch_size 6.9 "
        "--beta 0.2 --cuda no --seed 8 --log_every 11 --save_path out --data_path data --data_file own.pt "
        "--samples_per_task 12 --shuffle_tasks yes"
    )
    assert {flag.name for flag in FLAGS} == {flag.removeprefix("--") for flag in flags if flag.startswith("--")}
    asked = experiment(read(flags))
    assert (asked.hidden, asked.epochs, asked.batch_size, asked.seed) == ((30, 30, 30), 2, 5, 8)
    assert (asked.eval_every, asked.samples, asked.order) == (11, 12, "shuffled")
    settings = {
        model: experiment(read([*flags, "--model", model])).configuration()["hyperparameters"] for model in MODELS
    }
    assert settings["gem"] == {"lr": 0.2, "memory_strength": 0.5, "memories": 7 * TASKS}
    assert settings["ewc"].items() >= {"lr": 0.2, "memory_strength": 0.5, "n_memories": 7}.items()
    assert settings["independent"].items() >= {"lr": 0.2, "finetune": False}.items()
    assert settings["eralg5"].items() >= {"lr": 0.2, "memories": 9, "replay_batch_size": 6}.items()
    replay = {"lr": 0.2, "memories": 9, "replay_batch_size": 6, "recency": 0}  # the last is no flag of the original's
    assert settings["meralg1"] == replay | {"beta": 0.2, "gamma": 0.1, "batches_per_example": 3}
    assert settings["meralg6"] == replay | {"gamma": 0.1, "batches_per_example": 3}
    assert settings["meralg7"] == replay | {"gamma": 0.1, "s": 4.0}


def test_abbreviations_are_taken_and_a_flag_that_the_model_has_no_use_for_changes_nothing():
    plain = experiment(read([*OWN, "--model", "online"]))
    assert experiment(read([*OWN, "--model", "online", "--beta", "3", "--n_memories", "5"])).key == plain.key
    options = read(["--mod", "online", "--memory", "2", "--batches", "3", "--sam", "5", "--shuffle", "yes"])
    assert (options.model, options.memory_strength, options.batches_per_example) == ("online", 2, 3)
    assert (options.samples_per_task, options.shuffle_tasks) == (5, "yes")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--model is 'single', the default, which never existed; there are online, taskinput, independent"),
        (("--model", "foo"), "there are online, taskinput, independent, ewc, gem, eralg4, eralg5, meralg1, meralg6, m"),
        (("--model", "meralg1", "--beta", "3"), "--beta is 3.0, but must lie in (0, 1]"),
        (("--model", "gem", "--memory_strength", "-1"), "--memory_strength is -1.0, but must lie in"),
        (("--model", "meralg1", "--batches_per_example", "0.5"), "--batches_per_example is 0, but must lie in [1, inf"),
        (("--model", "eralg4", "--replay_batch_size", "nan"), "--replay_batch_size is nan, but must be a whole number"),
        (("--model", "online", "--lr", "x"), "--lr is 'x', but must be a number"),
        (("--model", "online", "--log_every", "0"), "--log_every is 0, but must lie in [1, inf)"),
        (("--model", "online", "--shuffle_tasks", "maybe"), "--shuffle_tasks is 'maybe', but must be one of yes, no"),
        (("--model", "online", "--n", "3"), "--n could match --n_hiddens, --n_layers, --n_epochs, --n_memories"),
        (("--model", "online", "--batch-size", "3"), "there is no flag --batch-size; did you mean --batch_size?"),
        (("--model", "online", "--data_file", "other.pt"), "there is no data/other.pt"),
        (("--model", "independent", "--n_hiddens", "2"), "(--n_hiddens 3)"),
    ],
    ids=words,
)
def test_what_cannot_be_used_is_said_in_one_line(capsys, flags, said):
    assert main([*OWN, *flags]) == 2
    assert said in one_line(capsys)
    assert not list(Path().glob("results/*"))


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in (*(f"--{flag.name} " for flag in FLAGS), *MODELS, "mnist_rotations.pt", "docs/migration.md"):
        assert word in shown


def test_a_save_path_is_made_or_found_not_to_be_writable_before_the_run(learn, capsys, monkeypatch):
    _, path = learn("--model", "online", "--save_path", "some/where")
    assert path.parent == Path("some/where")
    assert path.with_name(f"{path.name}.txt").is_file()
    monkeypatch.setattr(command.Trainer, "train", lambda *arguments, **options: pytest.fail("it began"))
    Path("taken").write_text("")
    assert main([*OWN, "--model", "online", "--save_path", "taken/results"]) == 1
    assert "cannot be written: Not a directory; name another folder with --save_path" in one_line(capsys)


def test_a_full_disk_leaves_the_line_and_no_half_of_a_file(capsys, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_atomically", full)
    assert main([*OWN, "--model", "online"]) == 1
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert "cannot be written: No space left on device" in printed.err
    assert not list(Path().glob("results/*.*"))


def test_without_pytorch_there_is_the_text_file_and_a_line_on_how_to_get_the_other(capsys, monkeypatch):
    monkeypatch.setattr(command, "_have_pytorch", lambda: False)
    assert main([*OWN, "--model", "online"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "pip install -r requirements.txt" in printed.err
    path = printed.out.partition(": ")[0]
    assert Path(f"{path}.txt").is_file()
    assert not Path(f"{path}.pt").exists()


@pytest.mark.parametrize(
    "classes_of_task", [lambda y, task: y % 2 + 2 * task, lambda y, task: y + task], ids=["own", "some own"]
)
def test_all_classes_are_open_whichever_a_task_shows(learn, classes_of_task):
    """The original's perceptron masked nothing: a class that never came has learned to be silent."""
    for part in (parts := torch.load("data/own.pt")):
        for number, task in enumerate(part):
            task[2] = classes_of_task(task[2], number)
    parts[1][0][2][0] = 8  # tells how many classes there are; no training example is of the last three
    torch.save(parts, "data/own.pt")
    _, path = learn("--model", "online", "--lr", "0.1", "--n_layers", "0")
    biases = read_results(f"{path}.pt").state["net.net.0.bias"]
    assert len(biases) == 9
    assert (biases[-3:] < 0).all()


def test_cifar_is_not_learned_by_another_network_than_theirs_without_a_word(capsys):
    Path("data/own.pt").rename("data/cifar100.pt")
    assert main(["--data_file", "cifar100.pt", "--model", "online"]) == 0
    assert "--network resnet18-reduced" in capsys.readouterr().err


def test_cuda_without_a_device_or_pytorch_says_so(capsys, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert main([*OWN, "--model", "online", "--cuda", "yes"]) == 2
    assert "PyTorch finds no CUDA device here" in one_line(capsys)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([*OWN, "--model", "online", "--cuda", "yes"]) == 2
    assert "--cuda is yes, which needs PyTorch: pip install" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["meralg1", "taskinput", "independent"])
def test_the_pytorch_engine_writes_the_same_files(learn, model, monkeypatch):
    flags = ("--model", model, "--lr", "0.1", *SETTINGS.get(model, ()))
    compiled = read_results(f"{learn(*flags)[1]}.pt")
    monkeypatch.setattr(command, "experiment", lambda options: replace(experiment(options), engine="torch"))
    by_pytorch = read_results(f"{learn(*flags)[1]}.pt")
    np.testing.assert_allclose(by_pytorch.accuracies, compiled.accuracies, atol=0.05)
    assert list(by_pytorch.state) == list(compiled.state)
    for name, values in by_pytorch.state.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, compiled.state[name], atol=1e-3)


def test_ctrl_c_says_where_it_was_and_the_same_command_goes_on_to_the_same_bits(learn, capsys, monkeypatch):
    flags = ("--model", "meralg1", "--lr", "0.1", "--replay_batch_size", "5", "--save_path")

    def stop_halfway(now):
        if 2 * now.examples >= now.all_examples:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("metareplay.runs.trainer.SECONDS_BETWEEN_REPORTS", 0)
        patched.setattr(command.FileCheckpoints, "due", lambda checkpoints, border: True)
        patched.setattr(command.display.Display, "run", lambda display: stop_halfway)
        assert main([*OWN, *flags, "stopped"]) == 130
    said = one_line(capsys)
    assert "stopped at example 60 of 120, in task 2 of 3; the same command goes on" in said
    assert main([*OWN, *flags, "stopped"]) == 0
    printed = capsys.readouterr()
    assert "this run was stopped at example 59: it goes on from there" in printed.err
    stopped = read_results(printed.out.partition(": ")[0] + ".pt")
    whole = read_results(f"{learn(*flags, 'whole')[1]}.pt")
    same(stopped, whole)
    assert not list(Path("stopped/runs").glob("*/checkpoint.npz"))


def same(one, other):
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.accuracies, other.accuracies)
    assert list(one.state) == list(other.state)
    for name, values in one.state.items():
        np.testing.assert_array_equal(values, other.state[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "benchmark", "samples"),
    [
        ("mnist_rotations.pt", "mnist-rotations", 1000),
        ("mnist_permutations.pt", "mnist-permutations", 1000),
        ("mnist_manypermutations.pt", "mnist-many-permutations", 200),
    ],
)
def test_the_three_known_names_mean_the_built_in_streams(real_mnist, file, benchmark, samples):
    options = read(["--data_file", file, "--samples_per_task", str(samples), "--model", "online", "--lr", "0.01"])
    same_run = Request(benchmark, "online", {"lr": 0.01}, run={"eval_every": 100})
    assert experiment(options).key == same_run.experiment().key
