"""Files of a data set: found in a folder or on a mirror, verified by their SHA-256, written whole."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from gzip import GzipFile
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from metareplay.errors import BadInput, RunFailed
from metareplay.files import locked, open_regular, read_regular, require_room, shown, unfinished, write_atomically

PATIENCE = 20.0  # seconds without a byte after which a mirror counts as dead
PAUSE = 1.0  # seconds before a transfer that broke off is resumed
CHUNK = 1 << 20
STAMPS = ".verified.json"
"""Beside the files: the size, time and SHA-256 of those that were verified, so that a start need not hash them."""

Place = str | Path  # a mirror's address, or a folder
Report = Callable[[int, int | None], None]  # bytes received so far, and in all if that is known


class Unusable(Exception):
    """Why a file cannot be used."""


class Absent(Unusable):
    """The place is there, but the file is not in it."""


@dataclass(frozen=True)
class DataFile:
    """A published file: its name, and the size in bytes and SHA-256 of what it unpacks to.

    An archive, of several files, is stored as it is: size and SHA-256 are its own.
    """

    name: str
    size: int
    sha256: str
    archive: bool = False


def place_of(source: str | Path) -> Place:
    """The folder or address that a user names.

    Raises
    ------
    BadInput
        If it is neither.
    """
    text = str(source)
    if text.startswith(("http://", "https://")):
        return text
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise BadInput(f"--from {source} is neither a folder nor an address that starts with http:// or https://")
    return folder


def read(place: Place, file: DataFile, report: Report = lambda received, total: None) -> bytes:
    """The verified content of a file that lies at ``place``, plain or gzipped.

    Never unpacks more than one byte beyond the file's size, whatever the place may send.

    Raises
    ------
    Unusable
        If it is not there, breaks off, or is another file.
    """
    # The plain form is quicker to read, the gzipped one quicker to transfer.
    plain, packed = file.name, file.name + ".gz"
    either = (plain, packed) if isinstance(place, Path) else (packed, plain)
    for name in (plain,) if file.archive else either:
        try:
            stream, total = _open(place, name)
            with stream:
                body = io.BufferedReader(_Transfer(stream, total, 2 * file.size + 65536, report))
                gzipped = not file.archive and body.peek(2)[:2] == b"\x1f\x8b"
                unpacked = GzipFile(fileobj=body) if gzipped else body
                content = unpacked.read(file.size + 1)
        except FileNotFoundError:
            continue
        except (OSError, HTTPException, EOFError, zlib.error, ValueError) as error:
            raise Unusable(reason_of(error)) from error
        _require_size(len(content), file)
        _require_sha256(hashlib.sha256(content).hexdigest(), file)
        return content
    raise Absent(f"it has no {plain}" if file.archive else f"it has neither {plain} nor {packed}")


def content(folder: Path, file: DataFile) -> NDArray[np.uint8]:
    """The verified content of a file in a folder, read-only; of a plain one, processes share one copy in memory.

    Raises
    ------
    Unusable
        If it is not there, or is another file.
    """
    try:
        mapped = mapped_if(folder / file.name, file.sha256)
    except (OSError, ValueError):
        mapped = None
    return np.frombuffer(read(folder, file), np.uint8) if mapped is None else mapped  # `read` says why, or unpacks


def mapped_if(path: Path, sha256: str) -> NDArray[np.uint8] | None:
    """A file mapped into memory, if its SHA-256 is this; it is hashed again only when its size or time changed."""
    with open_regular(path) as file:
        mapped = np.memmap(file, np.uint8, "r")
    status, stamps = path.stat(), {}
    stamp = [status.st_size, status.st_mtime_ns, sha256]
    with contextlib.suppress(OSError, ValueError):
        stamps = dict(json.loads(read_regular(path.with_name(STAMPS))))
    if stamps.get(path.name) != stamp:
        if hashlib.sha256(mapped.data).hexdigest() != sha256:
            return None
        if time.time_ns() - status.st_mtime_ns > 1e9:  # a later edit has another time, however coarse the clock is
            with contextlib.suppress(OSError):
                write_atomically(path.with_name(STAMPS), json.dumps(stamps | {path.name: stamp}).encode(), False)
    return mapped


def fetch(
    name: str, files: Sequence[DataFile], folder: Path, source: Place | None, mirrors: Sequence[str], progress: bool
) -> None:
    """Put verified files into ``folder``.

    Parameters
    ----------
    name
        The data set, for messages.
    source
        A folder or an address that all files are to be taken from, even those that ``folder`` has already.
        None: only what is missing or damaged, from the first mirror that can give it.
    progress
        Whether to show progress bars on standard error.

    Raises
    ------
    BadInput
        If the source cannot give the files, or a file in ``folder`` is damaged and no mirror can replace it.
    RunFailed
        If no mirror can give a missing file, or the folder cannot be written.
    """
    places: list[Place] = list(mirrors) if source is None else [source]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A second process waits here, and then finds the files in place.
        with locked(folder / ".lock", what=f"the data set {name} in {folder}"), download_bars(progress) as bars:
            for left in unfinished(folder):
                left.unlink()
            for file in files:
                failures: list[str] = []
                if source is None:
                    try:
                        content(folder, file)
                        continue
                    except Absent:
                        pass
                    except Unusable as damage:
                        failures.append(f"{folder / file.name}: {damage}")
                damaged = bool(failures)
                found = _read_from_any(places, file, reporter_of(bars, file.name), failures)
                if found is None:
                    raise _nowhere(name, file, files, source, damaged, failures)
                write_atomically(folder / file.name, found, follow=False)
    except OSError as error:
        raise RunFailed(
            f"{name} cannot be stored in {folder}: {reason_of(error)}; "
            "set METAREPLAY_DATA to a folder that can be written and has room"
        ) from error


def _read_from_any(places: list[Place], file: DataFile, report: Report, failures: list[str]) -> bytes | None:
    """The file from the first place that can give it; why others could not is added to ``failures``."""
    for place in tuple(places):
        try:
            return read(place, file, report)
        except Unusable as failure:
            failures.append(f"{place}: {failure}")
            places.append(places.pop(0))  # the next file asks this place last
    return None


def _nowhere(
    name: str, file: DataFile, files: Sequence[DataFile], source: Place | None, damaged: bool, failures: list[str]
) -> BadInput | RunFailed:
    names = ", ".join(f.name for f in files)
    if source is not None:
        return BadInput(
            f"--from {source} does not give {name}: {file.name}: {failures[0].removeprefix(f'{source}: ')}; "
            f"it must hold {names}" + (", as published" if file.archive else ", each plain or gzipped (.gz)")
        )
    message = (
        f"{file.name} of {name} could not be fetched ({'; '.join(failures)}); check the network, or get "
        f"{names} by other means and run `metareplay data get {name} --from FOLDER`"
    )
    return BadInput(message) if damaged else RunFailed(message)


def _open(place: Place, name: str) -> tuple[BinaryIO, int | None]:
    """An open stream and how many bytes it will give, if known; FileNotFoundError if there is no such file."""
    if isinstance(place, Path):
        return open_regular(place / name), (place / name).stat().st_size
    # Parts such as ?token=… stay behind the name.
    base = urlsplit(place)
    url = base._replace(path=f"{base.path.rstrip('/')}/{name}").geturl()
    try:
        response = urlopen(Request(url, headers={"User-Agent": "metareplay"}), timeout=PATIENCE)
    except HTTPError as error:
        with error:  # S3 answers 403 for what is not there
            raise (FileNotFoundError(url) if error.code in (403, 404, 410) else error) from None
    length = response.headers.get("Content-Length", "")
    return cast(BinaryIO, response), int(length) if length.isdecimal() else None


class _Transfer(io.RawIOBase):
    """A stream that reports how far it is, and raises if it ends early or goes on for too long."""

    def __init__(self, stream: BinaryIO, total: int | None, limit: int, report: Report) -> None:
        self.stream, self.total, self.limit, self.report = stream, total, limit, report
        self.received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self.stream.read(len(buffer))
        self.received += len(chunk)
        if not chunk and self.total is not None and self.received < self.total:
            raise EOFError(f"the transfer broke off after {self.received} of {self.total} bytes")
        if self.received > self.limit:
            raise EOFError(f"it did not end within {self.limit} bytes")
        buffer[: len(chunk)] = chunk
        self.report(self.received, self.total)
        return len(chunk)


def _require_size(size: int, file: DataFile) -> None:
    if size != file.size:
        found = f"only {size}" if size < file.size else "more"
        have = "have" if file.archive else "unpack to"
        raise Unusable(f"it should {have} {file.size} bytes but has {found}: it is truncated or another file")


def _require_sha256(found: str, file: DataFile) -> None:
    if found != file.sha256:
        raise Unusable(
            f"its SHA-256 is {found[:12]}… instead of {file.sha256[:12]}…: it was altered or is another file"
        )


# Large files without a pin


def download(url: str, path: Path, limit: int, room: int = 0, progress: bool = True) -> None:
    """Fetch a large file, resuming after what ``path`` has already; what came stays whatever happens.

    Parameters
    ----------
    limit
        Bytes that it may have at most.
    room
        Bytes that must stay free beside it, for what it unpacks to.

    Raises
    ------
    RunFailed
        If it cannot be fetched or stored, or another process is fetching it.
    """
    try:
        with (
            locked(path.parent / ".lock", 0, f"the download of {path}"),
            path.open("ab") as file,
            download_bars(progress) as bars,
        ):
            report = reporter_of(bars, path.name)
            while True:
                before = file.tell()
                try:
                    if _transferred(url, file, limit, room, report):
                        return
                    trouble = "it broke off"
                except (HTTPException, URLError, TimeoutError, ConnectionError) as error:
                    trouble = reason_of(error)
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(f"stopped; {_resumable(file.tell())}") from None
                if file.tell() <= before:
                    raise RunFailed(f"{url} cannot be fetched: {trouble}; {_resumable(before)}")
                time.sleep(PAUSE)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {reason_of(error)}") from error
    finally:
        if path.exists() and not path.stat().st_size:
            path.unlink()


def _resumable(size: int) -> str:
    return f"{shown(size)} are stored, and the same command resumes after them" if size else "nothing was fetched yet"


def _transferred(url: str, file: BinaryIO, limit: int, room: int, report: Report) -> bool:
    """Append what the server sends of the rest; whether the file is whole now."""
    begin = file.tell()
    ranged = {"Range": f"bytes={begin}-"} if begin else {}
    try:
        response = urlopen(Request(url, headers={"User-Agent": "metareplay"} | ranged), timeout=PATIENCE)
    except HTTPError as error:
        with error:
            if error.code != 416:
                raise
            if error.headers.get("Content-Range", "").strip() == f"bytes */{begin}":
                return True
            _empty(file)  # longer than the server's: another file
            return _transferred(url, file, limit, room, report)
    with response:
        sent = response.headers.get("Content-Range", "").strip()
        if response.status != 206 or not sent.startswith(f"bytes {begin}-"):  # all of it, or another part
            if response.status == 206:
                raise URLError("it sends another part of the file than it was asked for")
            _empty(file)
        length = response.headers.get("Content-Length", "")
        total = file.tell() + int(length) if length.isdecimal() else None
        if total is not None:
            if total > limit:
                raise RunFailed(f"{url} has {shown(total)}: it is not the file that it should be")
            require_room(Path(file.name).parent, total - file.tell() + room, f"{url} and what it unpacks to")
        while chunk := response.read1(CHUNK):
            file.write(chunk)
            report(file.tell(), total)
            if file.tell() > limit:
                raise RunFailed(f"{url} goes on beyond {shown(limit)}: it is not the file that it should be")
    return total is None or file.tell() == total


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


# Progress


def download_bars(shown: bool) -> Progress:
    """Bars for what is transferred, on standard error; a context manager."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


def reporter_of(bars: Progress, name: str) -> Report:
    """One more bar, and the function that moves it."""
    bar = bars.add_task(name.replace("[", r"\["), total=None)
    return lambda received, total: bars.update(bar, completed=received, total=total)


def reason_of(error: BaseException) -> str:
    """Why a transfer or a file failed, in a few words."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return reason_of(error.reason)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
