"""Task lists as the GEM and MER projects keep them: ``torch.save([train, test], file)``. Needs the extra ``torch``.

``train`` and ``test`` hold a ``[description, x, y]`` for each task: an angle, words or a pair of class bounds (the
upper one is not included); ``x`` float32 ``(n, inputs)``; ``y`` int64 ``(n,)``.
"""

import hashlib
import io
import math
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.data.download import progress_bar
from metareplay.data.images import Images
from metareplay.errors import INSTALL, BadInput, Refused, RunFailed
from metareplay.files import open_regular, placed, shown
from metareplay.streams.kinds import angles, rotations
from metareplay.streams.stream import Stream

ZIP = b"PK\x03\x04"  # what files of PyTorch 1.6 and later begin with; they can be mapped into memory, older ones cannot
ROWS_AT_ONCE = 4096
BYTES_AT_ONCE = 1 << 22
LIST = (list, tuple)
SIDES = ("train", "test")
ALIGNMENT = 64  # of each tensor in the file, in bytes, as torch.save has it


def read(path: str | Path, progress: bool = True) -> Stream:
    """The stream in a task list: any number of tasks, inputs and classes, in any dense tensors that PyTorch writes.

    Nothing in the file is ever run: it may hold tensors, numbers and words. Inputs that are float32 and contiguous are
    mapped from the file into memory, so that many gigabytes take little of it; but a file in PyTorch's format from
    before version 1.6 is loaded as a whole. Either is gone through once, with a bar on standard error if it is large,
    for its SHA-256 and to find inputs that are not finite. The stream's name is the file's, and its ``data_sha256`` is
    that of the file's content.
    BadInput if there is no such file, it is damaged or something else, it would run code, or its tensors do not fit
    together; or if PyTorch is not installed. RunFailed if it cannot be mapped, and is larger than what is free.
    """
    path = Path(path)
    require_torch()
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
        return _read(path.absolute(), (status.st_size, status.st_ino, status.st_mtime_ns), progress)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    except (Refused, BadInput) as reason:
        raise BadInput(f"{path} cannot be used as a task list: {reason}") from None


@lru_cache(maxsize=1)
def _read(path: Path, version: tuple[int, ...], progress: bool) -> Stream:
    """Runs of one suite, in one process, share what was read, until the file has another ``version``."""
    size = version[0]
    train, test = _lists(load(path))
    digest, done = hashlib.sha256(), 0
    with progress_bar(f"SHA-256 of {path.name}", progress, size) as report, path.open("rb") as file:
        while chunk := file.read(BYTES_AT_ONCE):
            digest.update(chunk)
            done += len(chunk)
            report(done, size)
    arrays = Arrays(size)
    tasks = [
        [arrays.of(sides[i][j], f"{'xy'[j - 1]}_{SIDES[i]} of task {n}") for i in (0, 1) for j in (1, 2)]
        for n, sides in enumerate(zip(train, test, strict=True))
    ]
    descriptions = [_description(entry[0], n, tasks[n][1]) for n, entry in enumerate(train)]
    stream = Stream.from_arrays(path.name, tasks, descriptions=descriptions, data_sha256=digest.hexdigest())
    return replace(stream, settings={})  # the file's content decides everything


def load(path: Path, *classes: type) -> Any:
    """Tensors, plain values and harmless classes of a PyTorch file; Refused, or RunFailed for lack of memory."""
    torch = require_torch()
    with open_regular(path) as file:
        mapped = file.read(4) == ZIP
    try:
        (_require_plain if mapped else _require_memory)(path)
        with torch.serialization.safe_globals(list(classes)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, Refused, RunFailed):
        raise
    except Exception as error:  # damaged bytes can lead PyTorch anywhere
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            text = f"loading it would call {wanted[1]}, and a file may not run code here; "
            raise Refused(f"{text}save tensors, numbers and words alone") from None
        raise Refused("it is damaged, or was not written by torch.save") from None


def _require_plain(path: Path) -> None:
    """torch.save neither compresses nor overlaps: a few such bytes could unpack to terabytes."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Refused("it is compressed; torch.save writes files that are not")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise Refused("it is damaged: it claims to hold more bytes than it has")


def _require_memory(path: Path) -> None:
    """Say so before the system ends the process for lack of memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return
    size = path.stat().st_size
    if size > free:
        raise RunFailed(
            f"{path} is in PyTorch's old format, which must be read into memory as a whole: it has {shown(size)}, but "
            f"only {shown(free)} are free; where there is more, write it anew: torch.save(torch.load(FILE), FILE)"
        )


def _lists(content: Any) -> tuple[list[Any], list[Any]]:
    if not isinstance(content, LIST) or len(content) != 2 or not all(isinstance(side, LIST) for side in content):
        raise Refused("it must be a list of two lists, [train, test]")
    train, test = content
    if len(train) != len(test) or not train:
        text = f"it has {len(train)} tasks for training and {len(test)} for testing; both must be as many, and some"
        raise Refused(text)
    for side, part in (("training", train), ("test", test)):
        for n, entry in enumerate(part):
            if not isinstance(entry, LIST) or len(entry) != 3:
                raise Refused(f"the {side} part of task {n} must be [description, x, y]")
    return train, test


class Arrays:
    """A file's tensors as arrays, shared as they are; copies are bounded, as few bytes may stand for terabytes."""

    def __init__(self, size: int) -> None:
        self.left = self.bound = 16 * size + (64 << 20)
        self.known: dict[tuple[Any, ...], NDArray[Any]] = {}

    def of(self, tensor: Any, what: str) -> NDArray[Any]:
        """The values of a dense tensor of any number type; Refused for anything else."""
        torch = require_torch()
        if not isinstance(tensor, torch.Tensor):
            raise Refused(f"{what} is of type {type(tensor).__name__}, but must be a tensor")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise Refused(f"{what} is not a dense tensor; save x.to_dense() or x.dequantize()")
        where = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if where not in self.known:
            as_it_is = tensor.dtype in (torch.float32, torch.uint8, torch.int64) and tensor.is_contiguous()
            self.left -= 0 if as_it_is else 8 * tensor.numel()
            if self.left < 0:
                raise Refused(
                    f"its tensors stand for over {shown(self.bound)}, much more than the file has; save x.contiguous()"
                )
            tensor = tensor.detach().resolve_neg().resolve_conj()
            self.known[where] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return self.known[where]


def _description(value: Any, n: int, labels: NDArray[Any]) -> str:
    if isinstance(value, str):
        return value
    if _is_number(value):
        return f"{value:.2f}°"
    if isinstance(value, LIST) and len(value) == 2 and all(map(_is_number, value)):
        # Of the labels, whether the bounds meant the upper one or not; that there are any is checked later.
        low, high = (labels.min(), labels.max()) if labels.size else value
        return f"class {low}" if low == high else f"classes {low} to {high}"
    text = f"the description of task {n} is of type {type(value).__name__}, "
    raise Refused(f"{text}but must be an angle, words, or a pair of class bounds")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def size(stream: Stream) -> int:
    """How many bytes ``write`` will take, within a percent."""
    _, tensors = _tensors(stream)
    return sum(tensor.size + 512 for tensor in tensors) + 2048


def write(stream: Stream, path: str | Path, progress: bool = True) -> None:
    """Write a stream as a task list, for other programs: ``torch.load`` reads it, and maps it into memory if asked.

    A few megabytes of memory suffice for any stream. The file appears whole or not at all, and the same stream always
    gives the same bytes. While a large one is written, there is a bar on standard error. BadInput if there is no such
    folder, or PyTorch is not installed; RunFailed if there is not room enough, or it cannot be written.
    """
    path = Path(path)
    lists, tensors = _tensors(stream)
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=2).dump(lists)
    total = size(stream)
    entries: list[tuple[str, Iterable[bytes]]] = [
        ("data.pkl", [pickled.getvalue()]),
        (".format_version", [b"1"]),
        (".storage_alignment", [str(ALIGNMENT).encode()]),
        ("byteorder", [b"little"]),
        *((f"data/{tensor.storage[2]}", tensor.chunks()) for tensor in tensors),
        ("version", [b"3\n"]),
    ]
    with placed(path, total) as (file, _), progress_bar(path.name, progress, total) as report:
        with zipfile.ZipFile(file, "w") as archive:
            for name, chunks in entries:
                entry = zipfile.ZipInfo(f"archive/{name}")
                # Before the content: 30 bytes, the name, a field of padding that begins with 4, 20 for a long length.
                padding = -(file.tell() + 30 + len(entry.filename) + 4 + 20) % ALIGNMENT
                entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
                with archive.open(entry, "w", force_zip64=True) as record:
                    for chunk in chunks:
                        record.write(chunk)
                        report(file.tell(), total)
        report(total, total)


class _Storage(tuple[Any, ...]):
    """What names a tensor's numbers in the file, as PyTorch's pickler writes it."""


@dataclass(frozen=True, eq=False)
class _Tensor:
    """A tensor to be written: one entry of the archive."""

    storage: _Storage
    shape: tuple[int, ...]
    size: int
    chunks: Callable[[], Iterator[bytes]]

    def __reduce__(self) -> Any:
        strides = tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        hooks: OrderedDict[str, Any] = OrderedDict()
        return require_torch()._utils._rebuild_tensor_v2, (self.storage, 0, self.shape, strides, False, hooks)


def _tensors(stream: Stream) -> tuple[list[list[list[Any]]], list[_Tensor]]:
    """The task list with a ``_Tensor`` in place of each tensor, and all of these; what tasks share is one tensor."""
    known: dict[tuple[int, ...], _Tensor] = {}

    def tensor(what: Any, kind: type, shape: tuple[int, ...], itemsize: int, chunks: Any) -> _Tensor:
        if what not in known:
            storage = _Storage(("storage", kind, str(len(known)), "cpu", math.prod(shape)))
            known[what] = _Tensor(storage, shape, itemsize * math.prod(shape), chunks)
        return known[what]

    def entry(description: Any, images: Images) -> list[Any]:
        what, labels = (id(images.base), id(images.index_map), id(images.rows)), images.labels
        return [
            description,
            tensor(what, torch.FloatStorage, (len(images), images.width), 4, lambda: _inputs(images)),
            tensor((id(labels),), torch.LongStorage, labels.shape, 8, lambda: iter([labels.astype("<i8").tobytes()])),
        ]

    torch = require_torch()
    sides = [task.train for task in stream.tasks], [task.test for task in stream.tasks]
    return [list(map(entry, _descriptions(stream), side)) for side in sides], list(known.values())


def _inputs(images: Images) -> Iterator[bytes]:
    for begin in range(0, len(images), ROWS_AT_ONCE):
        which = np.arange(begin, min(begin + ROWS_AT_ONCE, len(images)))
        yield images.inputs(which).astype("<f4", copy=False).tobytes()


def _descriptions(stream: Stream) -> list[Any]:
    """An angle as a number, the bounds of consecutive classes as a pair; else the task's own words."""
    settings = stream.settings
    if all(option.name in settings for option in rotations.settings):
        return angles(**{option.name: settings[option.name] for option in rotations.settings})
    found: list[Any] = []
    for task in stream.tasks:
        own = task.classes
        split = own and len(own) < stream.classes and own == tuple(range(own[0], own[-1] + 1))
        found.append((own[0], own[-1] + 1) if own and split else task.description)
    return found


class _Pickler(pickle.Pickler):
    """Writes as ``torch.save`` does, which would want all tensors at once; its ``skip_data`` writes wrong checksums."""

    def persistent_id(self, value: Any) -> Any:
        return tuple(value) if isinstance(value, _Storage) else None


def require_torch() -> ModuleType:
    """PyTorch; BadInput, which says how it is installed, if it is not."""
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"task lists in .pt files need PyTorch: {INSTALL.format('torch')}") from error
    return torch
