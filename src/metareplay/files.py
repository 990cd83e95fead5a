"""Files: whole or not at all when written, regular ones when read, and locks that outlive no process."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from metareplay.errors import BadInput, RunFailed, failing

TEMPORARY = ".writing-"  # what the names of unfinished files begin with
NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe, a device or a folder, also one that a link points to, is an OSError."""
    # Opening a pipe would wait for a writer, reading a device may never end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a pipe, a device or a folder, not a regular file", str(path))
    return open(descriptor, "rb")


def read_regular(path: Path) -> bytes:
    """The content of a regular file; OSError as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()


def write_atomically(path: Path, content: bytes, follow: bool = True) -> None:
    """Write under another name, flush to the disk, rename; what was there before stays until then.

    A new file's mode is what the umask leaves, an existing one keeps its own. A link goes on pointing to what it did
    (``follow=False`` replaces the link itself), and a device or a pipe is written to. On an OSError nothing is left
    behind.
    """
    if follow and path.exists() and not path.is_file():  # before it is resolved: /dev/fd/63 leads to no path
        path.write_bytes(content)
        return
    with _replacing(path.resolve() if follow else path) as (file, _):
        file.write(content)


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file under an unpredictable name, which becomes ``path`` when all went well, and else is removed."""
    temporary = path.with_name(f"{_temporary(path)}{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                before = path.lstat().st_mode
                if stat.S_ISREG(before):
                    os.fchmod(descriptor, stat.S_IMODE(before))
            yield file, temporary
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # Ctrl-C may come when it has its name already
            os.unlink(temporary)
        raise
    flush_names(path.parent)


def _temporary(path: Path) -> str:
    return f"{TEMPORARY}{sha256(os.fsencode(path.name)).hexdigest()[:8]}-"


def flush_names(folder: Path) -> None:
    """Make what was renamed or removed in a folder last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):  # some that lie on a network refuse; the names themselves are changed already
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unfinished(folder: Path) -> list[Path]:
    """What writers that were killed have left; to be removed only while nobody is writing there."""
    return [path for path in folder.glob(f"{TEMPORARY}*") if path.is_symlink() or not path.is_dir()]


def shown(size: int) -> str:
    """A size in bytes, for people."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} bytes"


def require_room(folder: Path, size: int, what: str) -> None:
    """Find out before hours of writing whether so many bytes fit into a folder; RunFailed if they do not."""
    free = shutil.disk_usage(folder).free
    if free < size:
        text = f"{what}: {shown(size)} are needed, but only {shown(free)} are free in {folder}; "
        raise RunFailed(f"{text}make room there, or name a folder on another disk")


@contextmanager
def placed(path: Path, size: int) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file of about ``size`` bytes and its temporary path, at ``path`` in the end; BadInput, RunFailed if not."""
    if not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} cannot be written: it is a folder, a device or the like, and not a file")
    with failing(RunFailed, f"{path} cannot be written"):
        for left in path.parent.glob(f"{_temporary(path)}*"):  # of killed writers: gigabytes would pile up
            with contextlib.suppress(OSError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a living writer holds it
                left.unlink()
        require_room(path.parent, size, str(path))
        with _replacing(path) as (file, temporary):
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file, temporary


class Held(RunFailed):
    """Another process holds a lock: ``Held(what is locked, the holder)``."""

    @property
    def holder(self) -> str:
        return str(self.args[1])

    @property
    def flagged(self) -> str:
        return f"{self.args[0]} is held by {self.holder}: wait for it, or stop it"


@contextmanager
def locked(path: Path, patience: float = float("inf"), what: str = "") -> Iterator[None]:
    """Hold a lock, which ends with its process, however that ends.

    Waits ``patience`` seconds for another holder, and says so on standard error after two; ``what`` is the lock's name
    in messages. Where the file system has no ``flock``, numbered links ``<path>.1``, ``.2`` … say who holds it; one
    whose process is dead on this machine counts for nothing. The lock's file stays. Raises Held if another process
    still holds it, OSError if it cannot be made.
    """
    begin, noted, what = time.monotonic(), False, what or str(path)
    while (release := _take(path)) is None:
        waited, who = time.monotonic() - begin, holder(path) or "another process"
        if waited >= patience:
            raise Held(what, who)
        if waited > 2 and not noted:
            print(f"metareplay: waiting for {what}, which is held by {who}", file=sys.stderr, flush=True)
            noted = True
        time.sleep(0.05)
    try:
        yield
    finally:
        release()


def holder(path: Path) -> str | None:
    """Who holds a lock, such as ``process 123 on host``; None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as error:
        if error.errno in NO_FLOCK:
            return _alive(_last(path)[1])
        return _named(os.read(descriptor, 200).decode(errors="replace"))
    finally:
        os.close(descriptor)


def _take(path: Path) -> Callable[[], None] | None:
    """Take a lock; what releases it, or None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in NO_FLOCK:
            return _take_link(path)
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EINTR):
            return None
        raise
    with contextlib.suppress(OSError):  # a full disk: then nobody learns who holds it
        os.truncate(descriptor, 0)
        os.write(descriptor, _mine().encode())
    return lambda: os.close(descriptor)


def _take_link(path: Path) -> Callable[[], None] | None:
    """The same without ``flock``, by the link with the next number; the last one stays, so that none is made twice."""
    number, target = _last(path)
    if _alive(target):
        return None
    mine = path.with_name(f"{path.name}.{number + 1}")
    try:
        mine.symlink_to(_mine())
    except FileExistsError:
        return None
    if _last(path)[0] > number + 1:  # others took it, released it and tidied up meanwhile
        mine.unlink(missing_ok=True)
        return None

    def release() -> None:
        path.with_name(f"{path.name}.{number + 2}").symlink_to("free")
        for left in range(max(1, number - 1), number + 2):
            path.with_name(f"{path.name}.{left}").unlink(missing_ok=True)

    return release


def _last(path: Path) -> tuple[int, str]:
    """The number of the last link, and what it says; 0 if there is none."""
    links = {int(end): link for link in path.parent.glob(f"{path.name}.*") if (end := link.suffix[1:]).isdecimal()}
    number = max(links, default=0)
    try:
        return number, os.readlink(links[number])
    except (KeyError, OSError):
        return number, "free"


def _mine() -> str:
    return f"{os.getpid()}@{socket.gethostname()}@{_started(os.getpid())}"


def _named(target: str) -> str:
    pid, _, rest = target.partition("@")
    return f"process {pid} on {rest.partition('@')[0]}" if rest else "another process"


def _alive(target: str) -> str | None:
    """Who holds a lock with this link; None if its process is known to be dead."""
    pid, _, rest = target.partition("@")
    host, _, started = rest.partition("@")
    dead = not pid.isdecimal() or (host == socket.gethostname() and _started(int(pid)) != started)
    return None if dead else _named(target)


def _started(pid: int) -> str:
    """When a process began, which tells it from a later one with its number; empty if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    try:  # not Linux
        os.kill(pid, 0)
    except OSError as error:
        return "" if error.errno == errno.ESRCH else "alive"
    return "alive"
