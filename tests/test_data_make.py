"""``metareplay data make``: files of tasks from a data set, with the flags of the MER project's generator."""

from pathlib import Path

import numpy as np
import pytest

from metareplay.cli import main
from metareplay.data import catalogue as sources
from metareplay.streams import task_list as gem_format
from metareplay.streams.kinds import rotations

torch = pytest.importorskip("torch")


pytestmark = pytest.mark.usefixtures("here")


def make(arguments):
    return main(["data", "make", *arguments.split()])


def test_the_flags_of_the_original_generator_decide_the_stream(capsys):
    assert make("rotations -o mine.pt --data digits --tasks 3 --min-rot -30 --max-rot 60 --seed 5") == 0
    shown = capsys.readouterr()
    assert shown.out == "mine.pt: 3 tasks, 64 inputs, 10 classes, 1.4 MB\n"
    assert shown.err == ""
    expected = rotations(sources.get("digits"), tasks=3, min_angle=-30, max_angle=60, stream_seed=5)
    read = gem_format.read("mine.pt")
    assert [task.description for task in read.tasks] == [task.description for task in expected.tasks]
    for task, other in zip(read.tasks, expected.tasks, strict=True):
        which = np.arange(len(task.train))
        assert np.array_equal(task.train.inputs(which), other.train.inputs(which))


def test_angles_go_from_slice_to_slice_and_the_seed_decides_the_tasks():
    assert make("rotations -o mine.pt --data digits --tasks 9 --max-rot 90") == 0
    train, test = torch.load("mine.pt", weights_only=True)
    assert [int(angle // 10) for angle, _, _ in train] == list(range(9))
    assert [angle for angle, _, _ in train] == [angle for angle, _, _ in test]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert make(f"permutations -o {name}.pt --data digits --tasks 2 --seed {seed}") == 0
    a, b, c = (Path(f"{name}.pt").read_bytes() for name in "abc")
    assert a == b != c


def test_a_split_gives_each_task_consecutive_classes():
    assert make("split -o mine.pt --data digits --tasks 2") == 0
    train, test = torch.load("mine.pt", weights_only=True)
    for side in (train, test):
        assert [bounds for bounds, _, _ in side] == [(0, 5), (5, 10)]
        assert [sorted(set(y.tolist())) for _, _, y in side] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert sum(len(x) for _, x, _ in train) == 1297


def test_real_mnist_can_be_split(shared_mnist, data_folder):
    sources.get("mnist", shared_mnist, progress=False)
    assert make("split -o mine.pt") == 0
    stream = gem_format.read("mine.pt")
    assert [task.classes for task in stream.tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert sum(len(task.test) for task in stream.tasks) == 10_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "input-permuted, or label-permuted? `metareplay data make --help` explains"),
        ("rotation -o a.pt", "there is no kind 'rotation'; did you mean rotations?"),
        ("rotations", "required: -o/--output"),
        ("rotations -o none/a.pt --data digits", "--output is none/a.pt, but there is no folder none"),
        ("rotations -o a.pt --data digit", "there is no data set 'digit'; did you mean digits? there are digits,"),
        ("rotations -o a.pt --data digits --tasks 0", "--tasks is 0, but must lie in [1, 10000]"),
        ("rotations -o a.pt --data digits --tasks few", "--tasks is 'few', but must be a whole number"),
        ("rotations -o a.pt --data digits --seed -1", "--seed is -1"),
        ("rotations -o a.pt --data digits --min-rot 9 --max-rot 3", "--min-rot is 9.0 and --max-rot 3.0, but the le"),
        ("permutations -o a.pt --max-rot 9", "--max-rot does not apply here: it belongs to rotations;"),
        ("split -o a.pt --seed 1", "--seed does not apply here: it belongs to rotations, permutations, online-permute"),
        ("split -o a.pt --data digits --tasks 11", "--tasks is 11, but digits has 10 classes"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_no_file(arguments, told, refused, tmp_path):
    assert told in refused("data", "make", *arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_help_has_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as left:
        make("rotations --help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--output", "--data", "--tasks", "--min-rot", "--max-rot", "--seed"):
        assert flag in shown
    assert "(default: 180.0)" in shown


def test_what_is_large_is_written_only_where_that_is_said(monkeypatch, capsys):
    monkeypatch.setattr("metareplay.cli.data.ASK", 1000)
    words = ["data", "make", "split", "-o", "split.pt", "--data", "digits"]
    assert main(words) == 2
    assert "split.pt would take " in (told := capsys.readouterr().err)
    assert "say --yes to write it" in told
    assert not list(Path().glob("*.pt"))
    assert main([*words, "--yes"]) == 0
    assert Path("split.pt").stat().st_size > 1000
