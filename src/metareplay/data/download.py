"""Published files: found in a folder or on a mirror, verified by their SHA-256, written whole, decoded once."""

import contextlib
import hashlib
import io
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

from metareplay.data.images import BaseImages, Decoded, Images, ImageSet
from metareplay.errors import BadInput, Refused, RunFailed, failing
from metareplay.files import locked, open_regular, read_regular, require_room, shown, unfinished, write_atomically

PATIENCE = 20.0  # seconds without a byte after which a mirror counts as dead
PAUSE = 1.0  # seconds before a transfer that broke off is resumed
CHUNK = 1 << 20
LARGE = 100_000_000  # bytes; what is smaller is read before one would look at a bar
STAMPS = ".verified.json"
"""Beside the files: the size, time and SHA-256 of those that were verified, so that a start need not hash them."""
FORMAT = 2  # of the decoded arrays; to be raised when decoding changes, so that all is decoded anew
CONTENTS = "decoded.json"
ARRAYS = ("train", "train_labels", "test", "test_labels")
Place = str | Path  # a mirror's address, or a folder
Report = Callable[[int, int | None], None]  # bytes received so far, and in all if that is known
Decoder = Callable[[Sequence[NDArray[np.uint8]]], Decoded]  # of the files' verified contents; raises Refused


@dataclass(frozen=True)
class DataFile:
    """A published file: name, size in bytes and SHA-256 of what it unpacks to; of an archive, kept packed, its own."""

    name: str
    size: int
    sha256: str

    @property
    def archive(self) -> bool:
        return self.name.endswith((".zip", ".tar.gz"))


@dataclass(frozen=True)
class Published:
    """A data set in published files: fetched on first use; what lies in archives is decoded once."""

    name: str
    description: str
    files: tuple[DataFile, ...]  # what is fetched, with pins
    mirrors: tuple[str, ...]  # addresses of folders that serve them; idx files gzipped or plain
    decode: Decoder
    shape: tuple[int, ...]  # of an image
    classes: int
    images: tuple[int, int]  # for training and for testing
    groups: int = 0

    @property
    def archived(self) -> bool:
        return any(file.archive for file in self.files)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files) + self.archived * sum(self.images) * (math.prod(self.shape) + 8)

    def get(self, folder: Path, source: Place | None = None, progress: bool = True) -> ImageSet:
        """Load it, first fetching into ``folder`` what is not there; see ``catalogue.get``."""
        if source is None and (self, folder) not in _LOADED:
            with contextlib.suppress(Refused):
                _LOADED[self, folder] = self._load(folder)
        if source is not None or (self, folder) not in _LOADED:
            self._fetch(folder, source, progress)
            try:
                _LOADED[self, folder] = self._load(folder)
            except Refused as why:
                for file in self.files:
                    (folder / file.name).unlink(missing_ok=True)
                raise BadInput(f"{self.name} cannot be made of {self._names()}: {why}") from None
        return _LOADED[self, folder]

    def blank(self) -> ImageSet:
        """As many black images, with labels in turn: a run of them takes as many steps, and as long."""
        count, tested = self.images
        shares = np.array_split(np.arange(self.classes), self.groups) if self.groups else ()
        pixels, labels = np.zeros((count, math.prod(self.shape)), np.uint8), np.arange(count) % self.classes
        groups = tuple(("", tuple(own.tolist())) for own in shares)
        return replace(
            self._image_set(Decoded(pixels, labels, pixels[:tested], labels[:tested], groups), []), sha256=""
        )

    def present(self, folder: Path) -> bool:
        """Whether it can be loaded without a network."""
        try:
            return (self.archived and self._decoded(folder) is not None) or bool(self._contents(folder))
        except Refused:
            return False

    def _names(self) -> str:
        return ", ".join(file.name for file in self.files)

    def _contents(self, folder: Path) -> list[NDArray[np.uint8]]:
        return [content(folder, file) for file in self.files]

    def _fetch(self, folder: Path, source: Place | None, progress: bool) -> None:
        """Put verified files into ``folder``: all of them from the source, or from mirrors what is not there."""
        places: list[Place] = list(self.mirrors) if source is None else [_place(source)]
        to_do = "set METAREPLAY_DATA to a folder that can be written and has room"
        with failing(RunFailed, f"{self.name} cannot be stored in {folder}", to_do):
            folder.mkdir(parents=True, exist_ok=True)
            # A second process waits here, and then finds the files in place.
            with locked(folder / ".lock", what=f"the data set {self.name} in {folder}"):
                for left in unfinished(folder):
                    left.unlink()
                for file in self.files:
                    self._fetch_file(file, folder, places, source, progress)

    def _fetch_file(self, file: DataFile, folder: Path, places: list[Place], source: Place | None, bar: bool) -> None:
        failures: list[str] = []
        if source is None:
            try:
                content(folder, file)
                return
            except Refused as damage:
                if any(folder.glob(f"{file.name}*")):  # it may be gzipped
                    failures.append(f"{folder / file.name}: {damage}")
        damaged = bool(failures)
        with progress_bar(file.name, bar) as report:
            for place in tuple(places):
                try:
                    write_atomically(folder / file.name, read(place, file, report), follow=False)
                    return
                except Refused as failure:
                    failures.append(f"{place}: {failure}")
                    places.append(places.pop(0))  # the next file asks this place last
        if source is not None:
            raise BadInput(
                f"--from {source} does not give {self.name}: {file.name}: {failures[0].removeprefix(f'{places[0]}: ')};"
                f" it must hold {self._names()}, {'as published' if file.archive else 'each plain or gzipped (.gz)'}"
            )
        raise (BadInput if damaged else RunFailed)(
            f"{file.name} of {self.name} could not be fetched ({'; '.join(failures)}); check the network, or get "
            f"{self._names()} by other means and run `metareplay data get {self.name} --from FOLDER`"
        )

    def _load(self, folder: Path) -> ImageSet:
        """Raises Refused if neither decoded arrays nor the files are there and intact."""
        if not self.archived:
            return self._image_set(self.decode(self._contents(folder)), [file.sha256 for file in self.files])
        if found := self._decoded(folder):
            return found
        decoded = self.decode(self._contents(folder))
        classes = 1 + int(max(decoded.train_labels.max(), decoded.test_labels.max()))
        if classes > self.classes:
            raise Refused(f"there are {classes} classes in it instead of {self.classes}")
        values = [hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for array in decoded[:4]]
        # Where nothing can be written, the arrays are made anew each time.
        with contextlib.suppress(OSError), locked(folder / ".lock", what=f"the data set {self.name} in {folder}"):
            hashes = []
            for name, array in zip(ARRAYS, decoded[:4], strict=True):
                file = io.BytesIO()
                np.save(file, array, allow_pickle=False)
                write_atomically(folder / f"{name}.npy", file.getvalue(), follow=False)
                hashes.append(hashlib.sha256(file.getbuffer()).hexdigest())
            sums = {"archives": [file.sha256 for file in self.files], "files": hashes, "values": values}
            stored = {"format": FORMAT, **sums, "groups": decoded.groups}  # written last, it makes the arrays count
            write_atomically(folder / CONTENTS, json.dumps(stored, indent=1).encode(), follow=False)
        return self._decoded(folder) or self._image_set(decoded, values)

    def _decoded(self, folder: Path) -> ImageSet | None:
        """What was decoded before, mapped into memory; None if it is not there, not intact, or of other archives."""
        try:
            stored = json.loads(read_regular(folder / CONTENTS))
            if stored["format"] != FORMAT or stored["archives"] != [file.sha256 for file in self.files]:
                return None
            for name, sha256 in zip(ARRAYS, stored["files"], strict=True):
                if mapped_if(folder / f"{name}.npy", sha256) is None:
                    return None
            arrays = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS)
            groups = tuple((str(name), tuple(map(int, classes))) for name, classes in stored["groups"])
            return self._image_set(Decoded(*arrays)._replace(groups=groups), stored["values"])
        except (OSError, ValueError, LookupError, TypeError, EOFError):
            return None

    def _image_set(self, decoded: Decoded, values: list[str]) -> ImageSet:
        sides = (decoded.train, decoded.train_labels), (decoded.test, decoded.test_labels)
        train, test = (Images(BaseImages(x, shape=self.shape), np.asarray(y, np.int64)) for x, y in sides)
        sha256 = hashlib.sha256("".join(values).encode()).hexdigest()
        return ImageSet(self.name, train, test, self.classes, sha256, decoded.groups)


_LOADED: dict[tuple[Published, Path], ImageSet] = {}


def _place(source: Place) -> Place:
    if str(source).startswith(("http://", "https://")):
        return str(source)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise BadInput(f"{source} is neither a folder nor an address that starts with http:// or https://")
    return folder


def read(place: Place, file: DataFile, report: Report = lambda received, total: None) -> bytes:
    """The verified content of a file at ``place``, plain or gzipped, never unpacked beyond its size; or Refused."""
    # The plain form is quicker to read, the gzipped one quicker to transfer.
    plain, packed = file.name, file.name + ".gz"
    either = (plain, packed) if isinstance(place, Path) else (packed, plain)
    for name in (plain,) if file.archive else either:
        try:
            content = _received(*_open(place, name), 2 * file.size + 65536, report)
            if not file.archive and content[:2] == b"\x1f\x8b":
                content = GzipFile(fileobj=io.BytesIO(content)).read(file.size + 1)
        except FileNotFoundError:
            continue
        except (OSError, HTTPException, EOFError, zlib.error, ValueError) as error:
            raise Refused(reason_of(error)) from error
        if len(content) != file.size:
            found = f"only {len(content)}" if len(content) < file.size else "more"
            should = f"{'have' if file.archive else 'unpack to'} {file.size} bytes"
            raise Refused(f"it should {should} but has {found}: it is truncated or another file")
        if (sha256 := hashlib.sha256(content).hexdigest()) != file.sha256:
            hashes = f"{sha256[:12]}… instead of {file.sha256[:12]}…"
            raise Refused(f"its SHA-256 is {hashes}: it was altered or is another file")
        return content
    raise Refused(f"it has no {plain}" if file.archive else f"it has neither {plain} nor {packed}")


def content(folder: Path, file: DataFile) -> NDArray[np.uint8]:
    """The verified content of a file in a folder, read-only; of a plain one, processes share one copy in memory."""
    with contextlib.suppress(OSError, ValueError):
        if (mapped := mapped_if(folder / file.name, file.sha256)) is not None:
            return mapped
    return np.frombuffer(read(folder, file), np.uint8)  # or says why not


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


def _open(place: Place, name: str) -> tuple[BinaryIO, int | None]:
    """An open stream and how many bytes it will give, if known; FileNotFoundError if there is no such file."""
    if isinstance(place, Path):
        return open_regular(place / name), (place / name).stat().st_size
    # Parts such as ?token=… stay behind the name.
    base = urlsplit(place)
    url = base._replace(path=f"{base.path.rstrip('/')}/{name}").geturl()
    try:
        response = _asked(url)
    except HTTPError as error:
        with error:  # S3 answers 403 for what is not there
            raise (FileNotFoundError(url) if error.code in (403, 404, 410) else error) from None
    return cast(BinaryIO, response), _length(response)


def _asked(url: str, **headers: str) -> Any:
    return urlopen(Request(url, headers={"User-Agent": "metareplay"} | headers), timeout=PATIENCE)


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _received(stream: BinaryIO, total: int | None, limit: int, report: Report) -> bytes:
    """All that a stream gives; EOFError if it ends early or goes on for too long."""
    body = io.BytesIO()
    with stream:
        while chunk := stream.read(CHUNK):
            body.write(chunk)
            report(body.tell(), total)
            if body.tell() > limit:
                raise EOFError(f"it did not end within {limit} bytes")
    if total is not None and body.tell() < total:
        raise EOFError(f"the transfer broke off after {body.tell()} of {total} bytes")
    return body.getvalue()


def download(url: str, path: Path, limit: int, room: int = 0, progress: bool = True) -> None:
    """Fetch a large file without a pin, resuming after what ``path`` has already; what came stays whatever happens.

    It may have ``limit`` bytes at most, and ``room`` bytes must stay free beside it, for what it unpacks to. RunFailed
    if it cannot be fetched or stored, or another process is fetching it.
    """
    what = f"the download of {path}"
    try:
        with locked(path.parent / ".lock", 0, what), path.open("ab") as file, progress_bar(path.name, progress) as bar:
            while True:
                before = file.tell()
                try:
                    if _transferred(url, file, limit, room, bar):
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
    begin = file.seek(0, io.SEEK_END)
    try:
        response = _asked(url, **({"Range": f"bytes={begin}-"} if begin else {}))
    except HTTPError as error:
        with error:
            if error.code != 416:
                raise
            if error.headers.get("Content-Range", "").strip() == f"bytes */{begin}":
                return True
            file.truncate(0)  # longer than the server's: another file
            return _transferred(url, file, limit, room, report)
    with response:
        if response.status != 206:  # all of it
            file.truncate(0)
        elif not response.headers.get("Content-Range", "").strip().startswith(f"bytes {begin}-"):
            raise URLError("it sends another part of the file than it was asked for")
        length, begin = _length(response), file.seek(0, io.SEEK_END)
        total = None if length is None else begin + length
        if total is not None:
            if total > limit:
                raise RunFailed(f"{url} has {shown(total)}: it is not the file that it should be")
            require_room(Path(file.name).parent, total - begin + room, f"{url} and what it unpacks to")
        while chunk := response.read1(CHUNK):
            file.write(chunk)
            report(file.tell(), total)
            if file.tell() > limit:
                raise RunFailed(f"{url} goes on beyond {shown(limit)}: it is not the file that it should be")
    return total is None or file.tell() == total


@contextmanager
def progress_bar(name: str, shown: bool, size: float = math.inf) -> Iterator[Report]:
    """A bar on standard error for bytes that are transferred or, where they are many, read; a function moves it."""
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), *columns, console=console, disable=not shown or size < LARGE
    ) as bars:
        bar = bars.add_task(name.replace("[", r"\["), total=None)
        yield lambda received, total: bars.update(bar, completed=received, total=total)


def reason_of(error: BaseException) -> str:
    """Why a transfer or a file failed, in a few words."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return reason_of(error.reason)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
