"""Files that are too large to hold in memory: room is made sure of first, and they appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from metareplay.errors import BadInput, RunFailed
from metareplay.files import TEMPORARY, flush_names


def shown(size: int) -> str:
    """A size in bytes, for people."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} bytes"


def require_room(folder: Path, size: int, what: str) -> None:
    """Find out before hours of writing whether so many bytes find room in a folder.

    Raises
    ------
    RunFailed
        If they do not; it says how many are needed and how many are free.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise RunFailed(
            f"{what}: {shown(size)} are needed, but only {shown(free)} are free in {folder}; "
            "make room there, or name a folder on another disk"
        )


@contextmanager
def placed(path: Path, size: int) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file to write to, and its temporary path; it takes its own name when all went well, and else goes away.

    Parameters
    ----------
    path
        Where it is to be; a file that is there stays until then.
    size
        How many bytes it will have, about.

    Raises
    ------
    BadInput
        If there is no such folder, or what is there is no file: a device would be replaced by one.
    RunFailed
        If there is not room enough, or it cannot be written.
    """
    if not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} cannot be written: it is a folder, a device or the like, and not a file")
    try:
        _remove_left_over(path)
        require_room(path.parent, size, str(path))
        descriptor, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                os.fchmod(descriptor, 0o644)
                yield file, Path(name)
                file.flush()
                os.fsync(descriptor)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        flush_names(path.parent)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error


def _remove_left_over(path: Path) -> None:
    """Remove what killed writers of the same file have left: gigabytes would pile up. A living one holds a lock."""
    for left in path.parent.glob(f"{TEMPORARY}{path.name}-*"):
        with left.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            left.unlink(missing_ok=True)
