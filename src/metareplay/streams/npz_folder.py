"""A folder of a user's own data: an ``.npz`` file for each task."""

from __future__ import annotations

import os
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput, plain
from metareplay.files import open_regular, shown
from metareplay.streams.stream import PARTS, Stream


def read(folder: str | Path) -> Stream:
    """The stream in a folder: each ``.npz`` file is a task with the arrays x_train, y_train, x_test and y_test.

    The tasks come in the order of the files' names, numbers in them as numbers: ``task2.npz`` before ``task10.npz``.
    What the arrays may be, ``Stream.from_arrays`` says. Nothing in the files is ever run: arrays of Python objects
    are refused. The stream's name is the folder's, and the tasks' descriptions are the files' names. BadInput if there
    is no such file, one is damaged or lacks an array, or the arrays do not fit together.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.npz"), key=lambda file: in_order(file.stem)) if folder.is_dir() else []
    if not files:
        what = "has no .npz files" if folder.is_dir() else "is no folder"
        raise BadInput(f"{folder} {what}; a folder of your own data has one for each task: {', '.join(PARTS)}")
    try:
        versions = tuple((status.st_size, status.st_ino, status.st_mtime_ns) for status in map(Path.stat, files))
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}") from error
    return _read(folder.resolve(), tuple(files), versions)


@lru_cache(maxsize=1)
def _read(folder: Path, files: tuple[Path, ...], versions: tuple[tuple[int, ...], ...]) -> Stream:
    """Runs of one suite, in one process, share what was read, until a file has another version."""
    return Stream.from_arrays(folder.name, [_task(file) for file in files], descriptions=[file.stem for file in files])


def _task(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with open_regular(file) as opened:
            if not zipfile.is_zipfile(opened):
                raise BadInput(f"{file} is damaged, or is no .npz file; numpy.savez(file, x_train=…, …) writes one")
            size, entries = os.fstat(opened.fileno()).st_size, zipfile.ZipFile(opened).infolist()
            opens = sum(entry.file_size for entry in entries)
            if opens > 200 * size + (64 << 20):  # sparse data pack well, but not so well
                raise BadInput(f"{file} has {shown(size)}, but unpacks to {shown(opens)}: save it with numpy.savez")
            opened.seek(0)
            archive = np.load(opened, allow_pickle=False)
            if missing := [name for name in PARTS if name not in archive.files]:
                has = ", ".join(map(plain, archive.files)) or "nothing"
                raise BadInput(f"{file} has no {' and no '.join(missing)}; it has {has[:200]}")
            return {name: archive[name] for name in PARTS}
    except BadInput:  # which is a ValueError too
        raise
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise BadInput(f"{file} has larger arrays than there is memory for") from None
    except Exception as error:  # a damaged header can lead NumPy anywhere
        if "allow_pickle" in str(error):
            raise BadInput(f"{file} holds Python objects, which are not read; save arrays of numbers alone") from None
        raise BadInput(f"{file} is damaged: {' '.join(str(error).split())[:200]}") from None


def in_order(name: str) -> tuple[list[tuple[int, str]], str]:
    """Names as people count: the numbers in them by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)], name
