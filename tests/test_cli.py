"""The command line, as its users meet it: results, messages, exit statuses, and what is left on the disk."""

import ctypes
import json
import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest

from commands import METAREPLAY, PATIENT, on_terminal, python, ran, rest_of, start
from metareplay.cli import main, status_of
from metareplay.data.catalogue import SOURCES
from metareplay.methods import METHODS
from metareplay.runs.record import Record
from metareplay.runs.trainer import Trainer
from metareplay.settings import hyperparameters
from metareplay.streams.catalogue import BENCHMARKS

SHORT = ("--tasks", "2", "--samples-per-task", "30")
RUN = ("run", "digits-rotations", "online", "--lr", "0.01", *SHORT)

OWN = (
    PATIENT
    + """

class Idle(Method):
    pass


class Clash(Method):
    seed: int = setting(2, "[1, inf)", help="a name that is taken")

    def observe(self, rows):
        pass
"""
)


pytestmark = pytest.mark.usefixtures("plain")


@pytest.fixture(scope="session")
def _compiled(tmp_path_factory):
    """The code that a run needs is on disk, so that what is timed or limited is not its compilation."""
    main([*RUN, "--quiet", "--out", str(tmp_path_factory.mktemp("compiled"))])


def one_line(text):
    assert text.startswith("metareplay: ")
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("rum", "did you mean run?"),
        ("run", "BENCHMARK and METHOD come first"),
        ("run --seed 1 digits-rotations online", "BENCHMARK and METHOD come first"),
        ("run digit-rotation online", "did you mean digits-rotations?"),
        ("run digits-rotations onlin", "did you mean online?"),
        ("run digits-rotations meralg1 --bta 1", "did you mean --beta?"),
        ("run digits-rotations online --engine Fused", "did you mean fused?"),
        ("run digits-rotations online --scenario domain", "did you mean domain-incremental?"),
        ("run digits-rotations online extra", "'extra' is one argument too many"),
        ("run digits-rotations online --memories 5", "--memories does not apply here: it belongs to agem, gem, eralg4"),
        ("run digits-permutations online --max-angle 5", "--max-angle does not apply here: it belongs to digits-rot"),
        ("run digits-rotations online --lr", "--lr: expected one argument"),
        ("run digits-rotations online --lr fast", "--lr is 'fast', but must be a number: it is the learning rate"),
        ("run mnist-rotations meralg1 --beta 3", "The published value for mnist-rotations with 5120 memories is 0.03."),
        ("run mnist-rotations meralg1 --beta x --memories 200", "with 200 memories is 0.01."),
        ("run mnist-rotations independent --finetune=no", "--finetune"),
        ("run digits-rotations online --min-angle 9 --max-angle 3", "the least angle must be below"),
        ("run digits-rotations independent --hiddens 3 --quiet", "--hiddens 10"),
        ("run digits-rotations online --json nowhere/result.json", "there is no folder nowhere"),
        ("run digits-rotations none.py:Method", "there is no such Python file"),
        ("run digits-rotations none.py", "none.py:CLASS"),
        ("data", "list, get, or make?"),
        ("data get mnits", "there are digits, mnist"),
        ("data get mnist --from nowhere", "neither a folder nor an address"),
        ("methods online", "'online' is one argument too many"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, told, refused, tmp_path):
    assert told in refused(*arguments.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (OWN, "Patent", "no method 'Patent' in patient.py; did you mean Patient? it has Patient, Idle, Clash"),
        (OWN, "Method", "there is no method 'Method' in patient.py"),
        (OWN, "Idle", "Idle in patient.py does not say how to learn"),
        (OWN, "Clash", "seed cannot be the name of a hyper-parameter"),
        ("", "Patient", "it has none: write class MyMethod(metareplay.Method)"),
        ("x = 1\nclass Patient(Metod): pass", "Patient", "line 2: NameError: name 'Metod' is not defined"),
        ("class Patient", "Patient", "patient.py cannot be read: line 1"),
        (
            "import sys\nsys.exit('two\\nlines')",
            "Patient",
            "patient.py cannot be loaded: line 2: SystemExit: two lines",
        ),
        ("x = 1\0", "Patient", "patient.py cannot be read: "),
        (PATIENT + "\nPatient.__init__ = lambda self: None\n", "Patient", "cannot be made with its settings: TypeErr"),
    ],
)
def test_a_users_method_that_cannot_be_used_gets_one_line(content, name, told, refused):
    Path("patient.py").write_text(content)
    shown = refused("run", "digits-rotations", f"patient.py:{name}", *SHORT)
    assert told in shown
    assert "None" not in shown


def test_a_run_is_kept_and_shown(capsys):
    assert main(list(RUN)) == 0
    (folder,) = Path("runs").iterdir()
    record = Record.load(folder)
    assert record.configuration["hyperparameters"] == {"lr": 0.01, "weight_decay": 0.0}
    shown = capsys.readouterr().out
    assert f"{100 * record.metrics['retained_accuracy']:.1f} %" in shown
    assert f"{100 * record.metrics['backward_transfer']:+.1f} %" in shown
    assert f"the record is in {folder}" in shown


def test_a_second_run_finds_the_first_ones_record(capsys, monkeypatch):
    assert main([*RUN, "--json", "first.json"]) == 0
    first = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.delattr(Trainer, "train")
        assert main([*RUN, "--json", "second.json"]) == 0
    second = capsys.readouterr()
    assert second.out == first
    assert "this was run before" in one_line(second.err)
    assert "--again" in second.err
    assert Path("second.json").read_bytes() == Path("first.json").read_bytes()


def test_flags_reach_the_experiment():
    flags = "--memories 7 --beta 0.5 --layers 1 --hiddens 5 --epochs 2 --batch-size 4 --eval-every 3 --stream-seed 8"
    angles = "--min-angle -10 --max-angle 10"
    arguments = [*f"run digits-rotations meralg1 {flags} {angles} --out here --json result.json".split(), *SHORT]
    assert main(arguments) == 0
    configuration = json.loads(Path("result.json").read_text())["configuration"]
    assert configuration["hyperparameters"]["memories"] == 7
    assert configuration["hyperparameters"]["beta"] == 0.5
    assert configuration["hidden"] == [5]
    assert configuration["stream"] == {"tasks": 2, "min_angle": -10.0, "max_angle": 10.0, "stream_seed": 8}
    assert [configuration[name] for name in ("epochs", "batch_size", "eval_every", "samples_per_task")] == [2, 4, 3, 30]
    assert len(list(Path("here").iterdir())) == 1
    assert main(["run", "digits-permutations", "independent", "--no-finetune", "--json", "result.json", *SHORT]) == 0
    assert json.loads(Path("result.json").read_text())["hyperparameters"]["finetune"] is False


def test_a_users_method_is_a_method(capsys):
    Path("patient.py").write_text(PATIENT)
    arguments = ["run", "digits-rotations", "patient.py:Patient", "--times", "3", "--json", "-", *SHORT]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["method"] == "patient.py:Patient"
    assert first["steps"] == 3 * 60
    Path("patient.py").write_text(PATIENT.replace("range(self.times)", "range(1)"))
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 60, "another file is another run"


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_found_out_before_training(folder, capsys, monkeypatch):
    Path("file").touch()
    monkeypatch.delattr(Trainer, "train")
    assert main([*RUN, "--out", folder]) == 1
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_diverges_or_has_no_room_for_its_memories_says_so(capsys):
    assert main(["run", "digits-rotations", "online", *SHORT, "--lr", "1e6", "--quiet"]) == 1
    assert "lower --lr (it is 1e+06)" in one_line(capsys.readouterr().err)
    (folder,) = Path("runs").iterdir()
    assert "lower --lr" in json.loads((folder / "failed.json").read_text())["message"]
    assert main(["run", "digits-rotations", "eralg4", *SHORT, "--memories", str(10**14), "--quiet"]) == 1
    assert "there is not enough memory" in one_line(capsys.readouterr().err)


def test_ctrl_c_that_falls_where_python_ignores_it_is_not_lost(capsys):
    @ctypes.CFUNCTYPE(None)
    def called_by_c():
        raise KeyboardInterrupt

    def compile_something():
        called_by_c()
        time.sleep(5)

    before = sys.unraisablehook
    assert status_of(compile_something, "metareplay") == 130
    assert sys.unraisablehook is before
    assert capsys.readouterr().err == "metareplay: stopped\n"


@pytest.mark.usefixtures("_compiled")
def test_ctrl_c_stops_a_run_and_says_how_far_it_came():
    def interruptible():  # even where the tests themselves are not
        signal.signal(signal.SIGINT, signal.default_int_handler)

    ours, theirs = pty.openpty()
    arguments = ("run", "digits-rotations", "online", "--epochs", "1000")
    with start(*arguments, stdout=theirs, stderr=theirs, preexec_fn=interruptible) as process:
        os.close(theirs)
        shown = ""
        while "steps/s" not in shown:
            shown += os.read(ours, 4096).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        shown = rest_of(ours)
    assert process.returncode == 130
    assert "metareplay: stopped at example " in shown
    assert "the same command goes on" in shown


@pytest.mark.parametrize("arguments", [("--help",), (*RUN, "--json", "-", "--quiet")])
def test_a_reader_that_has_gone_is_no_trouble(arguments):
    with start(*arguments) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 1)  # argparse itself is content if nobody reads its help


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("redirected", "status", "told"),
    [
        (">&-", 1, "metareplay: standard output is closed: nothing could be shown\n"),
        ("2>&-", 0, ""),
        (">&- 2>&- <&-", 1, ""),
        ("2>/dev/full", 0, ""),
    ],
)
def test_output_that_is_closed_or_full_costs_no_record(redirected, status, told):
    """A closed standard output has no number that a file of ours could get."""
    command = " ".join([*METAREPLAY, *RUN, redirected])
    done = ran("sh", "-c", command)
    assert done.returncode == status
    assert done.stderr == told or "2>" not in redirected
    (folder,) = Path("runs").iterdir()
    assert Record.load(folder).steps == 60


def test_output_that_is_not_utf_8_shows_what_it_can():
    done = ran(*METAREPLAY, "methods", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "meralg1" in done.stdout


def test_names_cannot_steer_the_terminal(capsys):
    assert main(["suite", "a\x1b[31m\x9b\u202e.toml"]) == 2
    assert "suite a\\x1b[31m\\x9b\\u202e.toml cannot be read" in one_line(capsys.readouterr().err)
    assert main([*RUN, "--out", "[/foo]\x1b[2J"]) == 0
    shown = capsys.readouterr()
    assert "the record is in [/foo]\\x1b[2J/" in shown.out
    assert "\x1b" not in shown.out + shown.err


def test_ctrl_c_while_a_command_is_imported_ends_it_without_a_traceback():
    code = """
import importlib, os, signal
load = importlib.import_module
def interrupted(name):
    os.kill(os.getpid(), signal.SIGINT)
    return load(name)
importlib.import_module = interrupted
from metareplay.cli import main
main(["methods"])
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "metareplay: stopped\n")


@pytest.mark.parametrize("arguments", [("methods",), (*RUN, "--json", "-", "--quiet")])
def test_results_that_cannot_be_written(arguments):
    with open("/dev/full", "w") as full:
        process = start(*arguments, stdout=full)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "standard output: No space left on device" in one_line(err)


@pytest.mark.usefixtures("_compiled")
def test_a_terminal_sees_how_far_a_run_is(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    arguments = ("run", "digits-rotations", "online", "--tasks", "3", "--samples-per-task", "300", "--again")
    shown = on_terminal(*arguments)
    for part in ("task 3 of 3", "/900", "steps/s", " left", "accuracy"):
        assert part in shown
    assert "\x1b[?25h" in shown, "the cursor is shown again"
    assert "steps/s" not in on_terminal(*arguments, "--quiet")


def test_no_color_means_none(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[3" in on_terminal("--help")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in on_terminal("--help")


@pytest.mark.parametrize(
    ("benchmark", "method"),
    [*((each, "meralg1") for each in BENCHMARKS), *(("digits-rotations", each) for each in METHODS)],
)
def test_help_explains_every_flag(benchmark, method, capsys):
    with pytest.raises(SystemExit) as left:
        main(["run", benchmark, method, "--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for parameter in (*hyperparameters(METHODS[method]), *BENCHMARKS[benchmark].options):
        assert f" {parameter.flag}" in shown
        assert parameter.help in shown
        assert parameter.valid in shown or parameter.valid == "(-inf, inf)"


def test_help_has_the_defaults_for_the_number_of_memories_and_the_settings_of_a_users_method(capsys):
    def shown(memories):
        with pytest.raises(SystemExit):
            main(["run", "mnist-rotations", "meralg1", "--memories", memories, "--help"])
        return " ".join(capsys.readouterr().out.split())

    beta = "the share of each batch's change that is kept (MER, Algorithm 1); in (0, 1] (default: {})"
    assert beta.format(0.03) in shown("5120")
    assert beta.format(0.01) in shown("500")
    assert "those for 200 memories are used" in shown("250")
    Path("patient.py").write_text(PATIENT)
    with pytest.raises(SystemExit):
        main(["run", "digits-rotations", "patient.py:Patient", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--times N the steps taken on each batch; in [1, inf) (default: 2)" in shown
    assert "the learning rate, 100 % of it" in shown


@pytest.mark.parametrize("command", ["", "run", "demo", "methods", "benchmarks", "data", "data list", "data get"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    assert f"usage: metareplay {command}".rstrip() in capsys.readouterr().out


def test_lists_have_every_name_and_say_which_methods_must_know_the_task(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in (*BENCHMARKS, *METHODS))
    for command, names in (("methods", METHODS), ("benchmarks", BENCHMARKS), ("data list", SOURCES)):
        assert main(command.split()) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[::2]] == list(names)
    assert main(["data", "get", "digits"]) == 0
    assert capsys.readouterr().out == "digits is here and verified: 1297 images for training, 500 for testing\n"
    main(["methods"])
    shown = capsys.readouterr().out
    told = [(method.needs_task_in_training, method.needs_task_in_testing) for method in METHODS.values()]
    assert shown.count("must know the task in training") == sum(training for training, _ in told) >= 5
    assert shown.count("must know the task in training and testing") == told.count((True, True)) >= 2
