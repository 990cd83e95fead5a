"""``metareplay results``, as its users meet it: what is done, what is not, and never anything broken as done."""

import csv
import hashlib
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from commands import ran
from metareplay.cli import main
from metareplay.results.statistics import estimate
from metareplay.runs.folder import Run
from metareplay.runs.record import UNSIGNED
from metareplay.runs.request import Request

STREAM = {"tasks": 2, "samples_per_task": 30}


pytestmark = pytest.mark.usefixtures("plain")


def experiment(method, seed=0, stream=STREAM, **settings):
    return Request("digits-rotations", method, settings, stream, {"seed": seed}).experiment()


def done(method, seed=0, stream=STREAM, **settings):
    asked = experiment(method, seed, stream, **settings)
    run = Run(Path("runs") / asked.key)
    run.carry_out(asked)
    return run


def listed(capsys, *arguments):
    assert main(["results", *arguments]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.splitlines()


def rows(capsys):
    return list(csv.DictReader(io.StringIO("\n".join(listed(capsys, "--csv", "-")))))


def test_each_configuration_has_a_line_with_means_over_its_seeds(capsys):
    summaries = [done("online", seed).status().summary or {} for seed in range(3)]
    done("meralg1", memories=20)
    _, meralg1, online, *_ = listed(capsys)
    assert meralg1.split()[:4] == ["digits-rotations", "meralg1", "memories=20", "1"]
    assert online.split()[:4] == ["digits-rotations", "online", "–", "3"]
    for name, sign in (("retained_accuracy", ""), ("learning_accuracy", ""), ("backward_transfer", "+")):
        over_seeds = estimate([summary[name] for summary in summaries])
        assert f"{100 * over_seeds.mean:{sign}.1f} ± {100 * over_seeds.half_width:.1f}" in online


def test_only_settings_that_tell_configurations_apart_are_shown(capsys):
    done("meralg1", memories=20)
    done("meralg1", memories=20, beta=0.5)
    done("meralg1", memories=50, beta=0.5)
    done("online")
    settings = [line.split("  ")[2].strip() for line in listed(capsys)[1:5]]
    assert settings == ["memories=20, beta=0.03", "memories=20, beta=0.5", "memories=50, beta=0.5", "–"]


def test_the_order_of_tasks_that_a_seed_decides_makes_no_other_configuration(capsys):
    for seed in range(4):
        request = Request("digits-rotations", "online", {}, STREAM, {"seed": seed, "order": "shuffled"})
        Run(Path("runs") / request.experiment().key).carry_out(request.experiment())
    assert listed(capsys)[1].split()[:4] == ["digits-rotations", "online", "–", "4"]


def test_what_has_no_meaning_is_a_dash(capsys):
    done("online", stream={"tasks": 1, "samples_per_task": 30})
    assert listed(capsys)[1].split()[-1] == "–"


def not_done():
    """A run in each state but running and done."""
    runs = {}
    diverging = experiment("online", lr=1e9)
    runs["failed"] = Run(Path("runs") / diverging.key)
    with pytest.raises(Exception, match="not finite"):
        runs["failed"].carry_out(diverging)

    interrupted = experiment("online", seed=7)
    runs["stopped"] = Run(Path("runs") / interrupted.key)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs["stopped"].carry_out(interrupted, stop)
    runs["broken"] = done("online", seed=8)
    (arrays,) = runs["broken"].folder.glob("record-*.npz")
    arrays.write_bytes(arrays.read_bytes()[:-1])
    return runs


def test_what_is_not_done_is_listed_with_its_reason(capsys):
    done("online", seed=9)
    runs = not_done()
    text = "\n".join(listed(capsys))
    assert "1 of 4 runs in runs are done" in text
    assert "1 of 3" in text  # of the seeds with these settings
    for state, run in runs.items():
        section = text.split(f"1 {state}: ")[1]
        assert str(run.folder) in section.splitlines()[1]
    assert "the loss is not finite" in text
    assert "running" not in text


def test_a_run_that_a_process_has_in_hand_is_running(capsys):
    run = not_done()["stopped"]
    with run.lock():
        text = "\n".join(listed(capsys))
    assert str(run.folder) in text.split("1 running: ")[1].splitlines()[1]


@pytest.mark.parametrize("name", ["record.json", "arrays"])
@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "gone"])
def test_a_damaged_record_is_never_shown_as_done(name, damage, capsys):
    run = done("online")
    file = run.folder / name if name != "arrays" else next(run.folder.glob("record-*.npz"))
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "changed" and name == "arrays":
        file.write_bytes(content[:40] + b"xyz" + content[43:])
    elif damage == "changed":
        file.write_bytes(content.replace(b'"configuration"', b'"configurations"'))
    else:
        file.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    assert "0 of 1 runs in runs are done" in listed(capsys)
    (row,) = rows(capsys)
    assert row["state"] != "done"
    assert row["retained_accuracy"] == ""


def test_a_folder_without_runs_is_no_mistake(capsys):
    Path("runs").mkdir()
    (Path("runs") / "notes.txt").write_text("not a run")
    (Path("runs") / "figures").mkdir()
    assert listed(capsys)[-1] == "0 of 0 runs in runs are done"


def test_csv_has_a_row_for_each_run_with_all_settings_and_metrics(capsys):
    kept = done("meralg1", memories=20)
    runs = not_done()
    found = {row["key"]: row for row in rows(capsys)}
    assert {key: row["state"] for key, row in found.items()} == {
        kept.key: "done",
        **{run.key: state for state, run in runs.items()},
    }
    row, summary = found[kept.key], kept.status().summary
    assert (row["benchmark"], row["method"], row["seed"]) == ("digits-rotations", "meralg1", "0")
    assert (row["memories"], row["tasks"], row["hidden"], row["order"]) == ("20", "2", "100 100", "tasks")
    for name in ("retained_accuracy", "forward_transfer", "steps", "train_seconds"):
        assert float(row[name]) == summary[name]
    failed = found[runs["failed"].key]
    assert failed["lr"] == "1000000000.0"
    assert "not finite" in failed["message"]
    assert failed["memories"] == failed["retained_accuracy"] == ""


def test_csv_goes_into_a_file_and_the_table_still_to_standard_output(capsys):
    done("online")
    shown = listed(capsys, "--csv", "results.csv")
    assert "1 of 1 runs in runs are done" in shown
    content = Path("results.csv").read_text()
    assert main(["results", "--csv", "-"]) == 0
    assert capsys.readouterr().out == content
    assert main(["results", "--csv", "/dev/stdout"]) == 0
    assert capsys.readouterr().out.endswith(content), "a file to which it is added is not replaced"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("results --out none", "there is no folder none"),
        ("results --csv none/results.csv", "there is no folder none"),
        ("results --csw results.csv", "did you mean --csv?"),
        ("results runs", "'runs' is one argument too many"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, told, refused):
    Path("runs").mkdir()
    assert told in refused(*arguments.split())


def test_a_csv_that_cannot_be_written_says_so(capsys):
    done("online")
    Path("folder.csv").mkdir()
    assert main(["results", "--csv", "folder.csv"]) == 2
    assert "--csv is folder.csv, but that is a folder" in capsys.readouterr().err
    assert main(["results", "--csv", "/dev/full"]) == 1
    assert "--csv /dev/full cannot be written: No space left" in capsys.readouterr().err


def many(number):
    """So many finished runs, by the record of one of them: 100 configurations of a suite, with many seeds."""
    first = done("meralg1", memories=1000, stream={"tasks": 20, "samples_per_task": 1})
    summary = json.loads((first.folder / "record.json").read_text()) | {"sha256": UNSIGNED}
    for i in range(number - 1):
        configuration = summary["configuration"]
        configuration["seed"], configuration["hyperparameters"]["memories"] = i // 100 + 1, i % 100
        folder = first.folder.with_name(hashlib.sha256(str(i).encode()).hexdigest()[:16])
        folder.mkdir()
        for file in first.folder.iterdir():
            if file.name != "record.json":
                (folder / file.name).hardlink_to(file)
        text = json.dumps(summary, indent=1) + "\n"
        (folder / "record.json").write_text(text.replace(UNSIGNED, hashlib.sha256(text.encode()).hexdigest(), 1))


def test_a_copy_of_a_run_is_no_further_seed(capsys):
    kept = [done("online", seed) for seed in range(2)]
    before = listed(capsys)
    for end in (".bak", ".bak2"):
        shutil.copytree(kept[0].folder, kept[0].folder.with_name(kept[0].key + end))
    assert listed(capsys) == before


def test_a_reader_that_has_seen_enough_is_no_error():
    many(200)
    command = f"{sys.executable} -m metareplay results --csv - | head -1"
    piped = ran("bash", "-c", command)
    assert piped.stdout.startswith("key,state,benchmark,method,seed,")
    assert piped.stderr == ""
