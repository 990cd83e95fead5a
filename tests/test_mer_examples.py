"""``mer_examples.sh``: the 57 published runs, said before each, skipped by their hash, stopping where one fails."""

import csv
import os
import sys
from pathlib import Path

import pytest

from commands import ran

torch = pytest.importorskip("torch")

from metareplay.errors import RunFailed
from metareplay.original import examples
from metareplay.original.arguments import DATA_FILES, read
from metareplay.original.examples import carry_out, command_line, main, runs
from metareplay.original.results import read as read_results

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / "shared" / "reference" / "mer_examples.csv"
OWN = ["--data_file", "own.pt", "--n_hiddens", "5", "--log_every", "50"]


@pytest.fixture(autouse=True)
def _in_a_folder_with_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    torch.manual_seed(0)
    tasks = [["random permutation", torch.rand(20, 6), torch.arange(20) % 3] for _ in range(2)]
    torch.save([tasks, tasks], "data/own.pt")


def files():
    return sorted(path.stem for path in Path("results").glob("*.txt"))


def test_there_are_57_that_can_be_read_and_the_first_is_the_originals_first_line():
    assert command_line(next(runs(3))) == (
        "python main.py --n_layers 2 --n_hiddens 100 --data_path data/ --save_path results/ --batch_size 1 "
        "--log_every 100 --samples_per_task 1000 --data_file mnist_rotations.pt --cuda no --seed 3 "
        "--model online --lr 0.0003"
    )
    options = [read(flags) for flags in runs(0)]
    assert len(options) == 57
    assert len({str(vars(each)) for each in options}) == 57
    assert {each.data_file for each in options} == set(DATA_FILES)
    many = [each.samples_per_task for each in options if "many" in each.data_file]
    assert many == [200] * 15


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"the published settings are not in {PUBLISHED}")
def test_they_are_the_published_ones_in_the_published_order():
    with PUBLISHED.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row, flags in zip(rows, runs(0), strict=True):
        options = vars(read(flags))
        assert (DATA_FILES[options["data_file"]], options["model"]) == (row.pop("benchmark"), row.pop("model"))
        del row["budget"]
        for name, value in row.items():
            assert not value or options[name] == float(value)
            assert bool(value) == (f"--{name}" in flags)


def test_each_is_said_before_it_runs_and_what_is_done_is_skipped(capsys):
    wanted = [[*OWN, "--model", "online"], [*OWN, "--model", "meralg1"]]
    carry_out(wanted)
    first = capsys.readouterr()
    assert first.err.splitlines() == [
        f"mer_examples.sh: run {number} of 2: {command_line(flags)}" for number, flags in enumerate(wanted, 1)
    ]
    assert [line.partition("_")[0] for line in first.out.splitlines()] == ["results/online", "results/meralg1"]
    written = files()
    carry_out([*wanted, [*OWN, "--model", "meralg1", "--seed", "1"]])
    again = capsys.readouterr()
    assert again.out.count("\n") == 1  # the other seed alone
    assert again.err.count("is there already: results/") == 2
    assert len(files()) == 3
    assert set(written) < set(files())


def test_it_is_the_hash_that_decides_and_not_the_name(capsys):
    carry_out([[*OWN, "--model", "online"]])
    carry_out([["--model", "online", "--beta", "0.5", *OWN]])  # the same run in other words
    assert len(files()) == 1
    carry_out([[*OWN, "--model", "online", "--lr", "0.002"]])  # another run; its file's name differs in the time alone
    assert len(files()) == 2
    tasks = [["random permutation", torch.rand(20, 6), torch.arange(20) % 3] for _ in range(2)]
    torch.save([tasks, tasks], "data/own.pt")
    carry_out([[*OWN, "--model", "online"]])  # other data under the same name
    assert len(files()) == 3


@pytest.mark.parametrize("ending", ["txt", "pt"])
def test_a_run_whose_file_is_gone_runs_again(ending):
    carry_out([[*OWN, "--model", "online"]])
    (name,) = files()
    Path(f"results/{name}.{ending}").unlink()
    carry_out([[*OWN, "--model", "online"]])
    (again,) = set(files()) - {name}
    assert read_results(f"results/{again}.pt").options["model"] == "online"


def test_the_first_failure_stops_all_and_is_told(capsys):
    wanted = [[*OWN, "--model", "online"], [*OWN, "--model", "ewc", "--lr", "1e30"], [*OWN, "--model", "gem"]]
    with pytest.raises(RunFailed, match="run 2 of 3 failed, so this stops; started again, it skips what is done: the "):
        carry_out(wanted)
    assert "run 3 of 3" not in capsys.readouterr().err
    assert len(files()) == 1


def test_ctrl_c_stops_all(capsys, monkeypatch):
    def stop(options):
        raise KeyboardInterrupt("stopped at example 3")

    monkeypatch.setattr(examples, "runs", lambda seed: iter([[*OWN, "--model", "online"]] * 2))
    monkeypatch.setattr(examples, "learn", stop)
    assert main(["0"]) == 130
    said = capsys.readouterr().err
    assert "run 2" not in said
    assert said.endswith("mer_examples.sh: stopped at example 3\n")


@pytest.mark.parametrize("argv", [[], ["x"], ["-1"], ["0", "1"]], ids=str)
def test_a_wrong_seed_is_said_in_one_line(capsys, argv):
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_script_at_the_root_only_starts_it():
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = ran(ROOT / "mer_examples.sh", "7", "--dry-run", env=os.environ | {"PATH": path})
    assert done.stdout.splitlines() == [command_line(flags) for flags in runs(7)]
    assert done.stderr == ""


def test_without_the_package_the_script_says_how_to_install_it(tmp_path):
    script = tmp_path / "mer_examples.sh"  # away from any environment beside it
    script.write_bytes((ROOT / "mer_examples.sh").read_bytes())
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    done = ran("/bin/sh", script, "0", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode == 2
    assert "pip install -r requirements.txt" in done.stderr
