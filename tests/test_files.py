"""Files are written whole, read only if regular, and locked by living processes alone."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metareplay import RunFailed, files


def mode(path):
    return path.stat().st_mode & 0o777


WRITERS = {"small": lambda path: files.write_atomically(path, b"new"), "large": lambda path: large(path)}


def large(path):
    with files.placed(path, 3) as (file, _):
        file.write(b"new")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_leaves_and_an_old_one_keeps_its_own(tmp_path, write, umask):
    (tmp_path / "private").touch(0o600)
    (tmp_path / "shared").touch()
    (tmp_path / "shared").chmod(0o664)
    before = os.umask(umask)
    try:
        for name in ("new", "private", "shared"):
            WRITERS[write](tmp_path / name)
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("new", "private", "shared")] == [0o666 & ~umask, 0o600, 0o664]
    assert sorted(os.listdir(tmp_path)) == ["new", "private", "shared"]
    assert all(path.read_bytes() == b"new" for path in tmp_path.iterdir())


def test_a_link_is_followed_or_replaced_as_asked(tmp_path):
    (tmp_path / "far").write_bytes(b"old")
    (tmp_path / "link").symlink_to("far")
    files.write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far").read_bytes() == b"new"
    files.write_atomically(tmp_path / "link", b"newer", follow=False)
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "far").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_atomically(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    reader, writer = os.pipe()
    files.write_atomically(Path(f"/dev/fd/{writer}"), b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    os.close(writer)


def test_a_very_long_name_can_be_written(tmp_path):
    files.write_atomically(tmp_path / ("ü" * 127), b"new")
    assert files.read_regular(tmp_path / ("ü" * 127)) == b"new"


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_regular(tmp_path / name)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert files.read_regular(tmp_path / "link") == b"content"


@pytest.fixture(
    params=[None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=["flock", "ENOSYS", "ENOLCK", "ENOTSUP"]
)
def flock(request, monkeypatch):
    """File systems with and without flock."""

    def missing(*arguments):
        raise OSError(request.param, os.strerror(request.param))

    if request.param:
        monkeypatch.setattr(fcntl, "flock", missing)
    code = request.param
    return code


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path, flock):
    lock = tmp_path / ".lock"
    assert files.holder(lock) is None
    for _ in range(3):
        with files.locked(lock, patience=0):
            me = f"process {os.getpid()} on {os.uname().nodename}"
            assert files.holder(lock) == me
            with (
                pytest.raises(files.Held, match=f"the run is held by {me}: wait") as held,
                files.locked(lock, 0, "the run"),
            ):
                pass
            assert isinstance(held.value, RunFailed)
            assert held.value.holder == me
        assert files.holder(lock) is None
    assert len(os.listdir(tmp_path)) <= 2  # no litter


def test_what_a_killed_process_held_is_taken_over_and_a_waiter_is_told_who_holds_it(
    tmp_path, flock, monkeypatch, capsys
):
    lock = tmp_path / ".lock"
    lock.touch()  # as every lock of ordinary file systems leaves it
    text = (
        "import fcntl, os, sys\nfrom pathlib import Path\nfrom metareplay import files\n"
        "def missing(*_): raise OSError(int(sys.argv[2]), 'none')\n"
        "if sys.argv[2] != 'None': fcntl.flock = missing\n"
        "with files.locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", text, str(lock), str(flock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        clock = iter(range(0, 1000))
        monkeypatch.setattr(files.time, "monotonic", lambda: float(next(clock)))
        monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
        with pytest.raises(files.Held), files.locked(lock, 10, "the data"):
            pass
        waiting = f"metareplay: waiting for the data, which is held by process {other.pid} on {os.uname().nodename}\n"
        assert capsys.readouterr().err == waiting
        other.kill()
        other.wait()
    with files.locked(lock, patience=0):
        assert files.holder(lock) is not None


def test_a_holder_on_another_machine_counts_as_living(tmp_path, monkeypatch):
    def missing(*arguments):
        raise OSError(errno.ENOSYS, "none")

    monkeypatch.setattr(fcntl, "flock", missing)
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock.7").symlink_to("1@elsewhere@123")
    with pytest.raises(files.Held, match="process 1 on elsewhere"), files.locked(tmp_path / ".lock", 0):
        pass
    (tmp_path / ".lock.8").symlink_to(f"{os.getpid()}@{os.uname().nodename}@1")  # its number belongs to a later one
    with files.locked(tmp_path / ".lock", 0):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"), files.locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / "precious").read_bytes() == b"precious"
