"""Files that a reader sees whole or not at all, whatever happens to the writer."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

TEMPORARY = ".writing-"
"""What the names of unfinished files begin with."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write under another name, flush to the disk, rename; what was there before stays until then.

    A link goes on pointing to what it did, and a device or a pipe is written to.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    descriptor, temporary = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # Ctrl-C may come when it has its name already
            os.unlink(temporary)
        raise
    flush_names(path.parent)


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
    return list(folder.glob(f"{TEMPORARY}*"))
