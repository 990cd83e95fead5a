"""``get_data.py``: the original's command; its authors' archives come from a web server on this machine."""

import gzip
import hashlib
import io
import os
import re
import runpy
import shutil
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import ran
from killed_runs import Trap
from made_up_archives import tiny, tiny_files
from metareplay.data import catalogue as sources
from metareplay.data import download as downloading
from metareplay.errors import RunFailed
from metareplay.original import get_data
from metareplay.original.get_data import main
from mirrors import Mirror, put

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
ARCHIVE = "mnist_rotations.tar.gz"
KEPT = {ARCHIVE}


@pytest.fixture(autouse=True)
def _here_and_at_once(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloading, "PAUSE", 0.0)
    monkeypatch.setattr(get_data, "TASK", 100 * 3144)  # so that a few megabytes are too large already


def left():
    return {path.name for path in Path("data").iterdir()} - {".lock"} if Path("data").exists() else set()


def one_line(text):
    lines = [line for line in text.splitlines() if line.startswith("get_data.py: ")]
    return lines[-1]


@pytest.fixture
def tiny_mnist(data_folder, monkeypatch):
    """Thirty made-up images for training and 12 for testing, under MNIST's name."""
    put(data_folder / "mnist", tiny_files())
    monkeypatch.setitem(sources.SOURCES, "mnist", replace(tiny(), name="mnist"))


@pytest.mark.usefixtures("tiny_mnist")
def test_nothing_but_mnist_is_needed(capsys):
    assert main(["all"]) == 0
    shown = capsys.readouterr().out
    assert "MNIST is here and verified" in shown
    for file in ("mnist_rotations.pt", "mnist_permutations.pt", "mnist_manypermutations.pt"):
        assert f"{file}: main.py makes its " in shown
    assert "There is nothing else to fetch" in shown
    assert left() == set()


@pytest.mark.usefixtures("tiny_mnist")
@pytest.mark.parametrize(("name", "tasks"), [("rotations", 20), ("permutations", 20), ("manypermutations", 100)])
def test_a_file_can_be_made_for_other_programs(name, tasks, capsys):
    assert main([name, "--materialize", "--data_path", "some/where"]) == 0
    shown = capsys.readouterr()
    assert f"some/where/mnist_{name}.pt: {tasks} tasks" in shown.out
    assert "MB in some/where" in shown.err
    train, test = torch.load(f"some/where/mnist_{name}.pt", weights_only=True)
    assert len(train) == len(test) == tasks
    assert {tuple(x.shape) for _, x, _ in train} == {(30, 30)}
    assert {tuple(x.shape) for _, x, _ in test} == {(12, 30)}


@pytest.mark.usefixtures("tiny_mnist")
def test_a_file_that_is_there_stays(capsys):
    Path("data").mkdir()
    Path("data/mnist_rotations.pt").write_bytes(b"mine")
    for flag in ("--materialize", "--original"):
        assert main(["rotations", flag]) == 0
        assert "is there already, and stays as it is" in capsys.readouterr().out
    assert main(["rotations"]) == 0
    assert "data/mnist_rotations.pt is there, and main.py reads it" in capsys.readouterr().out
    assert Path("data/mnist_rotations.pt").read_bytes() == b"mine"


def task_list():
    rng = np.random.default_rng(0)

    def part(angle, n):
        x = rng.integers(0, 256, (n, 20)).astype(np.float32)
        return [angle, torch.from_numpy(x), torch.arange(n) % 5]

    file = io.BytesIO()
    torch.save([[part(10.0, 300), part(20.0, 300)], [part(10.0, 9), part(20.0, 9)]], file)
    return file.getvalue()


def member(name, content=b"", **fields):
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for field, value in fields.items():
        setattr(header, field, value)
    return header, content


def archive(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for header, content in members:
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


def honest():
    """As macOS packs it: in a folder, with a file of attributes beside it."""
    folder = member("data", type=tarfile.DIRTYPE)
    return archive(
        folder, member("data/._mnist_rotations.pt", b"macOS"), member("data/mnist_rotations.pt", task_list())
    )


@pytest.fixture
def serve(serve, monkeypatch):
    def start(content, **habits):
        monkeypatch.setattr(get_data, "ORIGINALS", (made := serve(content, **habits)).root)
        return made

    return start


def assert_the_original_is_there():
    assert left() == {"mnist_rotations.pt"}
    assert Path("data/mnist_rotations.pt").read_bytes() == task_list()


def test_the_authors_file_is_fetched_unpacked_and_read(serve, capsys):
    site = serve(honest())
    assert main(["rotations", "--original"]) == 0
    assert_the_original_is_there()
    assert site.answered == [(None, 200)]
    shown = capsys.readouterr().out
    assert f"2 tasks, 20 inputs, SHA-256 {hashlib.sha256(task_list()).hexdigest()}" in shown
    assert "no checksum was published" in shown


def test_a_transfer_that_breaks_off_goes_on_from_there(serve):
    content = honest()
    site = serve(content, breaks_after=len(content) // 3 + 1)
    assert main(["rotations", "--original"]) == 0
    assert_the_original_is_there()
    assert [status for _, status in site.answered] == [200, 206, 206]
    assert site.answered[2][0] == f"bytes={2 * (len(content) // 3 + 1)}-"


def test_what_was_fetched_serves_the_next_call(serve, capsys):
    content = honest()
    site = serve(content, breaks_after=0)
    assert main(["rotations", "--original"]) == 1
    assert "it broke off; nothing was fetched yet" in one_line(capsys.readouterr().err)
    assert left() == set()
    site.breaks_after = len(content) // 2

    def once(request):
        Mirror.answer(site, request)
        site.breaks_after = 0

    site.answer = once
    assert main(["rotations", "--original"]) == 1
    assert "are stored, and the same command resumes after them" in one_line(capsys.readouterr().err)
    assert left() == KEPT
    site.breaks_after = None
    assert main(["rotations", "--original"]) == 0
    assert site.answered[-1] == (f"bytes={len(content) // 2}-", 206)
    assert_the_original_is_there()


def part_fetched(serve, content, **habits):
    site = serve(content, breaks_after=len(content) // 3, **habits)
    download = threading.Event()

    def stop(seconds):
        download.set()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloading.time, "sleep", stop)
        assert main(["rotations", "--original"]) == 130
    assert download.is_set()
    assert Path("data", ARCHIVE).stat().st_size == len(content) // 3
    site.breaks_after = None
    site.answered.clear()
    return site


@pytest.mark.parametrize(
    ("times", "ranges", "statuses"), [(1, False, [200]), (10, True, [416, 200])], ids=["no ranges", "a shorter file"]
)
def test_where_the_server_cannot_go_on_it_begins_anew(serve, times, ranges, statuses):
    site = part_fetched(serve, honest() * times, ranges=ranges)
    site.files = honest()
    assert main(["rotations", "--original"]) == 0
    assert [status for _, status in site.answered] == statuses
    assert_the_original_is_there()


def test_parts_of_two_files_are_refused_and_the_same_command_begins_anew(serve, capsys):
    site = part_fetched(serve, b"another file" * 10_000)
    site.files = honest()[:100] + honest()
    assert main(["rotations", "--original"]) == 2
    assert "it is damaged, truncated, or no .tar.gz archive; what was fetched is removed" in capsys.readouterr().err
    site.files = honest()
    assert main(["rotations", "--original"]) == 0
    assert_the_original_is_there()


def test_an_archive_that_is_complete_is_not_fetched_again(serve, monkeypatch):
    site = serve(honest())
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", os.replace)
        patch.setattr(get_data, "_unpack", lambda *arguments: (_ for _ in ()).throw(RunFailed("no room")))
        assert main(["rotations", "--original"]) == 1
    assert left() == KEPT
    assert main(["rotations", "--original"]) == 0
    assert site.answered[1:] == [(f"bytes={len(honest())}-", 416)]  # all of it is there
    assert_the_original_is_there()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_does_not_say_how_long_the_file_is(ranges, serve):
    serve(honest(), length=False, ranges=ranges)
    assert main(["rotations", "--original"]) == 0
    assert_the_original_is_there()


@pytest.mark.parametrize(
    ("status", "told"), [(404, "cannot be fetched: HTTP 404 Not Found"), (503, "HTTP 503 Service Unavailable")]
)
def test_a_server_that_refuses(status, told, serve, capsys):
    serve({}, status=status)
    assert main(["rotations", "--original"]) == 1
    assert told in one_line(capsys.readouterr().err)
    assert left() == set()


def test_an_archive_that_is_too_large_is_not_fetched(serve, monkeypatch, capsys):
    monkeypatch.setattr(get_data, "TASK", 0)
    for length in (True, False):
        serve(honest(), length=length)
        assert main(["rotations", "--original"]) == 1
        assert "it is not the file that it should be" in one_line(capsys.readouterr().err)


def test_there_must_be_room_for_an_archive_and_what_it_unpacks_to(serve, tmp_path, monkeypatch, capsys):
    site = serve(honest())
    with pytest.raises(RunFailed, match=r"and what it unpacks to: 1000000\.0 GB are needed"):
        downloading.download(f"{site.root}/{ARCHIVE}", tmp_path / "part", 10**6, room=10**15)
    assert not (tmp_path / "part").exists()
    site = serve(honest())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    assert main(["rotations", "--original"]) == 1
    told = one_line(capsys.readouterr().err)
    assert re.search(r"mnist_rotations\.pt: 6\.3 MB are needed, but only 1\.0 kB are free in data", told)
    assert site.answered == []


def cut(content):
    return content[: len(content) // 2]


def long_name(size):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    return gzip.compress(header.tobuf() + bytes(10_000))


def runs_code():
    file = io.BytesIO()
    torch.save([Trap(Path("marker"))], file)
    return file.getvalue()


REFUSED = {
    "a page of HTML": (lambda: b"<html>moved</html>", "no .tar.gz archive"),
    "nothing": (lambda: gzip.compress(b""), "damaged, truncated, or no .tar.gz archive"),
    "half of it": (lambda: cut(honest()), "damaged, truncated, or no .tar.gz archive"),
    "no file": (lambda: archive(member("readme", b"hello")), "there is no .pt file in it"),
    "two files": (lambda: archive(member("a.pt", task_list()), member("b.pt", b"")), "there are several .pt files"),
    "a symbolic link": (
        lambda: archive(member("mnist_rotations.pt", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "'mnist_rotations.pt' in it is a link, a device or the like",
    ),
    "a device": (lambda: archive(member("a.pt", type=tarfile.CHRTYPE)), "is a link, a device or the like"),
    "a sparse file": (lambda: archive(member("a.pt", type=tarfile.GNUTYPE_SPARSE)), "is a link, a device or the like"),
    "a bomb": (lambda: archive(member("a.pt", bytes(20_000_000))), "it unpacks to more than 12.6 MB"),
    "a bomb beside it": (
        lambda: archive(member("a.pt", task_list()), member("bomb", bytes(20_000_000))),
        "it unpacks to more than 12.6 MB",
    ),
    "a bomb behind it": (lambda: honest() + gzip.compress(bytes(20_000_000)), "it unpacks to more than 12.6 MB"),
    "a name of gigabytes": (lambda: long_name(2**32), "'././@LongLink' in it is a link, a device or the like"),
    "another file": (lambda: archive(member("a.pt", b"hello")), "mnist_rotations.pt cannot be used as a task list"),
    "code": (lambda: archive(member("a.pt", runs_code())), "loading it would call"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_foreign_archive_is_told_in_one_line_and_leaves_nothing(what, serve, capsys, tmp_path):
    made, told = REFUSED[what]
    serve(made())
    assert main(["rotations", "--original"]) == 2
    error = one_line(capsys.readouterr().err)
    assert told in error
    assert error.endswith("what was fetched is removed, so the same command begins anew")
    assert left() == set()
    assert {path.name for path in tmp_path.iterdir()} == {"here"}
    assert [path.name for path in Path.cwd().iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["../outside.pt", "/tmp/outside.pt", "a/../../outside.pt"])
def test_names_in_an_archive_decide_nothing_on_the_disk(name, serve, tmp_path):
    serve(archive(member(name, task_list())))
    assert main(["rotations", "--original"]) == 0
    assert_the_original_is_there()
    assert {path.name for path in tmp_path.iterdir()} == {"here"}
    assert not Path("/tmp/outside.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "required: NAME"),
        ("rotation", "invalid choice: 'rotation' (choose from 'all', 'rotations', 'permutations', 'manypermutations')"),
        ("all --materialise", "did you mean --materialize?"),
        ("all --materialize --original", "not allowed with"),
    ],
)
def test_wrong_usage_gets_one_line_and_status_2(arguments, told, capsys):
    assert main(arguments.split()) == 2
    assert told in one_line(capsys.readouterr().err)
    assert left() == set()


@pytest.mark.parametrize("flag", ["--materialize", "--original"])
def test_without_pytorch_nothing_is_fetched(flag, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["rotations", flag]) == 2
    assert "pip install '.[torch]'" in one_line(capsys.readouterr().err)
    assert left() == set()


def test_the_file_at_the_root_is_the_command():
    found = ran(sys.executable, ROOT / "get_data.py", "--help")
    assert "all, rotations, permutations, manypermutations" in found.stdout
    assert runpy.run_path(str(ROOT / "get_data.py"))["main"] is main
