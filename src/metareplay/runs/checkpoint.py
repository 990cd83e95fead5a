"""Where a run that was stopped goes on: its whole state, as arrays and JSON in one file."""

import contextlib
import errno
import io
import json
import math
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput, RunFailed
from metareplay.files import flush_names, open_regular, read_regular, shown, write_atomically

State = dict[str, Any]  # nested dictionaries (of text keys) and lists of arrays, numbers, truth values, text and None
TREE = "tree"
ARRAY = "$array"
"""``{ARRAY: 3}`` stands for the fourth array. Keys of a state that begin with a dollar sign get one more."""
DAMAGED = ".damaged"  # the end of the name that a file gets which is of no use; later ones get ``.damaged1`` and so on
SECONDS = 15.0  # how long to wait between two checkpoints
SECONDS_BETWEEN_BORDERS = 1.0  # a checkpoint at a task's border is not worth it where the last one is younger than this
SHARE = 0.02  # saving takes no more of the time than this, however slow the disk


class Unusable(BadInput):
    """A checkpoint that is proved to be damaged or another run's: the run begins again."""


class FileCheckpoints:
    """The newest state in a file, replaced every so many seconds, and where a task ends.

    A state that cannot be written, as on a full disk, does not end the run: the one before stays, ``note`` is called
    once in a line, and the next may find room. Whoever keeps states elsewhere has another ``read`` and ``write``.
    """

    def __init__(self, path: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self.path, self.note = path, note
        self.last, self.took, self.refused = time.monotonic(), 0.0, False

    def load(self) -> State | None:
        """The newest state; None if there is none. Raises Unusable, or RunFailed if it cannot be read now."""
        try:
            content = self.read()
            return None if content is None else unpack(content)
        except Unusable as error:
            raise Unusable(f"the checkpoint {self.path} is damaged ({error})") from error
        except (OSError, MemoryError) as error:
            why = getattr(error, "strerror", None) or "there is not enough memory"
            raise RunFailed(
                f"the checkpoint {self.path} cannot be read now: {why}; "
                "start the run again when it can, or delete the file to begin at the beginning"
            ) from error

    def due(self, border: bool) -> bool:
        """Whether to save now; ``border``: a task has just ended."""
        return time.monotonic() - self.last >= max(SECONDS_BETWEEN_BORDERS if border else SECONDS, self.took / SHARE)

    def save(self, state: State) -> None:
        begin = time.monotonic()
        try:
            self.write(pack(state))
            self.refused = False
        except OSError as error:
            why = error.strerror or error
            if not self.refused:
                self.note(f"cannot keep a checkpoint in {self.path}: {why}; the run goes on, and tries again later")
            self.refused = True
        self.last, self.took = time.monotonic(), time.monotonic() - begin

    def clear(self) -> None:
        if self.path.exists():
            self.path.unlink()
            flush_names(self.path.parent)

    def set_aside(self) -> None:
        """Give a file that is of no use a name of its own, if it is there, so that it is never loaded again."""
        with contextlib.suppress(OSError):
            names = (self.path.with_name(f"{self.path.name}{DAMAGED}{number or ''}") for number in count())
            os.rename(self.path, next(name for name in names if not os.path.lexists(name)))
            flush_names(self.path.parent)

    def read(self) -> bytes | None:
        """What is in the file; None if there is none."""
        try:
            return read_regular(self.path)
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        write_atomically(self.path, content, follow=False)


def pack(state: State) -> bytes:
    """A state as an npz file, what is no array as JSON, nothing pickled; BadInput, with its place, for other things."""
    arrays: list[NDArray[Any]] = []
    members = {TREE: np.frombuffer(json.dumps(_without_arrays(state, "state", arrays)).encode(), np.uint8)}
    members |= {f"array{number}": array for number, array in enumerate(arrays)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(3, 0), allow_pickle=False)
    return file.getvalue()


def _without_arrays(value: Any, place: str, arrays: list[NDArray[Any]]) -> Any:
    """A value as JSON can hold it; its arrays are added to ``arrays``."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise BadInput(f"{place} is an array of objects, which cannot be kept in a checkpoint")
        arrays.append(value)
        return {ARRAY: len(arrays) - 1}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadInput(f"{place} has the key {key!r}, which cannot be kept in a checkpoint: keys must be text")
        return {
            f"${key}" if key.startswith("$") else key: _without_arrays(part, f"{place}/{key}", arrays)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_arrays(part, f"{place}/{number}", arrays) for number, part in enumerate(value)]
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is not None and not isinstance(plain, bool | int | float | str):
        raise BadInput(f"{place} is {value!r}, which cannot be kept in a checkpoint")
    return plain


def unpack(content: bytes) -> State:
    """The state that ``pack`` was given; Unusable if it is not whole: the archive's checksums are compared."""
    return _unpacked(io.BytesIO(content), len(content), with_arrays=True)


def peek(path: Path) -> State | None:
    """What a checkpoint holds besides its arrays; None if there is none, Unusable if damaged, OSError if unreadable."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return None
    with file:
        return _unpacked(file, os.fstat(file.fileno()).st_size, with_arrays=False)


def _unpacked(file: BinaryIO, size: int, with_arrays: bool) -> State:
    """The state in a file of ``size`` bytes; its arrays may take no more than that, each of them read once."""
    left = size

    def array(name: str) -> NDArray[Any]:
        nonlocal left
        member = archive.getinfo(f"{name}.npy")
        left -= member.file_size
        if left < 0:
            raise ValueError(f"its arrays are larger than {shown(size)}")
        # All of the member is read, since only then its checksum is compared: np.load trusts a header that says less.
        content = io.BytesIO(archive.read(member))
        version = np.lib.format.read_magic(content)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(content)
        if math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"{name} is larger than its file")
        content.seek(0)
        return np.asarray(np.lib.format.read_array(content, allow_pickle=False))

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(part) for part in value]
        if not isinstance(value, dict):
            return value
        if ARRAY in value:
            return array(f"array{value[ARRAY]}")
        return {key[1:] if key.startswith("$") else key: filled(part) for key, part in value.items()}

    try:
        with zipfile.ZipFile(file) as archive:
            state: State = json.loads(array(TREE).tobytes())
            if not isinstance(state, dict):
                raise ValueError("it holds no state")
            return filled(state) if with_arrays else state
    except Exception as error:  # damaged archives and foreign files raise nearly anything
        # What is read takes no more memory than the file, so a lack of it proves nothing; nor does a disk that fails.
        if isinstance(error, MemoryError) or getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
            raise
        raise Unusable(str(error) or type(error).__name__) from error


def check_array(array: Any, kind: type, shape: tuple[int, ...], low: int, high: int) -> None:
    """Raise ValueError unless an array from a file has a type, a shape, and values in a range."""
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(kind) or array.shape != shape:
        raise ValueError(f"an array of {np.dtype(kind)} with shape {shape} is expected")
    if array.size and (array.min() < low or array.max() > high):
        raise ValueError(f"an array has values from {array.min()} to {array.max()}, outside {low} to {high}")
