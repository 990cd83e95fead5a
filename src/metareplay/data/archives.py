"""Large archives: downloaded so that a break costs nothing, unpacked so that nothing in them can do harm."""

from __future__ import annotations

import fcntl
import json
import re
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from gzip import BadGzipFile, GzipFile
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from metareplay.data.download import PATIENCE, Report, Unusable, download_bars, reason_of, reporter_of
from metareplay.errors import RunFailed
from metareplay.files import placed, require_room, shown, write_atomically

PAUSE = 1.0  # seconds before a transfer that broke off goes on
CHUNK = 1 << 20
MEMBERS = 1000
LONGEST_NAME = 65536  # bytes
DAMAGED = "it is damaged, truncated, or no .tar.gz archive"

# Downloading


class Broken(Exception):
    """What went wrong with a transfer: the network or the server, not the disk."""


def download(url: str, path: Path, limit: int, room: int = 0, progress: bool = True) -> None:
    """Fetch a file, going on from what is there already.

    What came is kept whatever happens, Ctrl-C included, for the next call. All is fetched anew if the server has
    another file by now, or cannot go on from the middle. What is known of the whole lies beside it, in ``<path>.json``.

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
        with path.open("ab") as file, download_bars(progress) as bars:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFailed(f"{path} is being fetched by another process: wait for it, or stop it") from None
            part = _Part(file, path)
            try:
                _complete(part, url, limit, room, reporter_of(bars, path.name))
            finally:
                if not part.received:
                    remove(path)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {reason_of(error)}") from error


def _complete(part: _Part, url: str, limit: int, room: int, report: Report) -> None:
    while part.received != part.total:
        before = part.received
        try:
            for chunk in _chunks(url, part, limit, room):
                part.file.write(chunk)
                report(part.received, part.total)
        except Broken as trouble:
            if part.received <= before:
                raise RunFailed(f"{url} cannot be fetched: {trouble}; {part.kept()}") from None
            time.sleep(PAUSE)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; {part.kept()}") from None


def remove(path: Path) -> None:
    """Remove what was downloaded."""
    for file in (path, _facts(path)):
        file.unlink(missing_ok=True)


def _facts(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


class _Part:
    """What has come of a file, and what is known of the whole.

    Attributes
    ----------
    total
        How many bytes the whole has, as far as the server said so.
    validator
        By what the server tells this version of the file from others.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.total: int | None = None
        self.validator: str | None = None
        try:
            facts = json.loads(_facts(path).read_bytes())
            self.total, self.validator = facts["bytes"], facts["validator"]
        except (OSError, ValueError, TypeError, KeyError):  # then nobody knows what this is a part of
            self.begin()

    @property
    def received(self) -> int:
        return self.file.tell()

    def begin(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.know(None, None)

    def know(self, total: int | None, validator: str | None) -> None:
        self.total, self.validator = total, validator
        write_atomically(_facts(self.path), json.dumps({"bytes": total, "validator": validator}).encode())

    def kept(self) -> str:
        if not self.received:
            return "nothing was fetched yet"
        whole = "" if self.total is None else f" of {shown(self.total)}"
        return f"{shown(self.received)}{whole} are kept, and the same command goes on from there"


def _chunks(url: str, part: _Part, limit: int, room: int) -> Iterator[bytes]:
    """What the server sends from here on; afterwards the file is complete, or has to be asked for from the start."""
    try:
        response = _answer(url, part)
    except HTTPError as error:
        with error:
            if error.code != 416 or not part.received:
                raise Broken(reason_of(error)) from None
        if error.headers.get("Content-Range", "").strip() == f"bytes */{part.received}":
            part.know(part.received, part.validator)
        else:
            part.begin()
        return
    except (OSError, HTTPException) as error:
        raise Broken(reason_of(error)) from None
    with response:
        if response.status == 206:
            begin, total = _range(response)
            if begin != part.received or part.total not in (None, total):
                if not part.received:
                    raise Broken("it sends another part of the file than it was asked for")
                part.begin()
                return
            part.know(total, part.validator)
        else:
            length = response.headers.get("Content-Length", "")
            part.begin()
            part.know(int(length) if length.isdecimal() else None, _validator(response))
        _require_room(url, part, limit, room)
        while chunk := _read(response):
            yield chunk
            if part.received > limit:
                raise RunFailed(f"{url} goes on beyond {shown(limit)}: it is not the file that it should be")
    if part.total is None:  # the server did not say, and ended in order
        part.know(part.received, part.validator)
    if part.received != part.total:
        raise Broken("it broke off")


def _answer(url: str, part: _Part) -> HTTPResponse:
    headers = {"User-Agent": "metareplay"}
    if part.received:
        headers["Range"] = f"bytes={part.received}-"
        if part.validator:  # a server that has another version sends all of it
            headers["If-Range"] = part.validator
    return cast(HTTPResponse, urlopen(Request(url, headers=headers), timeout=PATIENCE))


def _range(response: HTTPResponse) -> tuple[int, int | None]:
    """The first byte that is sent, and how many the whole has."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if not found:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _validator(response: HTTPResponse) -> str | None:
    tag: str = response.headers.get("ETag", "")
    # A weak tag does not promise the same bytes.
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _require_room(url: str, part: _Part, limit: int, room: int) -> None:
    if part.total is not None and part.total > limit:
        raise RunFailed(f"{url} has {shown(part.total)}: it is not the file that it should be")
    require_room(
        part.path.parent, (part.total or part.received) - part.received + room, f"{url} and what it unpacks to"
    )


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, HTTPException) as error:
        raise Broken(reason_of(error)) from None


# Unpacking


def unpack(
    archive: Path, path: Path, limit: int, verify: Callable[[Path], None] = lambda path: None, progress: bool = True
) -> None:
    """Put the one file of a ``.tar.gz`` that ends as ``path`` does at ``path``; it appears verified or not at all.

    Names in the archive decide nothing on the disk. Even so, one that leads outside of it, a link or a device make the
    whole archive unusable, as does all that an honest one would not have.

    Parameters
    ----------
    limit
        Bytes that all in it may have together.
    verify
        Raises Unusable if the file at that path, which has not yet taken its name, is not as it should be.

    Raises
    ------
    Unusable
        If the archive is damaged, truncated, or other than it should be.
    RunFailed
        If the file cannot be written.
    """
    with archive.open("rb") as packed, download_bars(progress) as bars:
        report, total = reporter_of(bars, path.name), archive.stat().st_size
        content = _Limited(GzipFile(fileobj=packed), limit, lambda: report(packed.tell(), total))
        try:
            with tarfile.open(fileobj=cast(BinaryIO, content), mode="r|", tarinfo=_Header) as tar:
                files = (member for member in _members(tar) if _is_wanted(member, path.suffix))
                file = next(files, None)
                if file is None:
                    raise Unusable(f"there is no {path.suffix} file in it")
                with placed(path, file.size) as (placing, temporary):
                    taken = tar.extractfile(file)
                    while taken and (chunk := taken.read(CHUNK)):
                        placing.write(chunk)
                    if next(files, None) is not None:
                        raise Unusable(f"there are several {path.suffix} files in it")
                    while content.read(CHUNK):  # to the end, where gzip's checksum is
                        pass
                    placing.flush()
                    verify(temporary)
        except (tarfile.TarError, ValueError, RecursionError) as error:
            raise Unusable(DAMAGED) from error


class _Limited:
    """What a stream unpacks to, but no more of it than there should be."""

    def __init__(self, stream: GzipFile, limit: int, report: Callable[[], None]) -> None:
        self.stream, self.left, self.limit, self.report = stream, limit, limit, report

    def read(self, size: int) -> bytes:
        try:
            chunk = self.stream.read(size)
        except (BadGzipFile, EOFError, zlib.error) as error:
            raise Unusable(DAMAGED) from error
        self.left -= len(chunk)
        if self.left < 0:
            raise Unusable(f"it unpacks to more than {shown(self.limit)}")
        self.report()
        return chunk


class _Header(tarfile.TarInfo):
    """A header of tar; raises for what an archive of plain files does not have, before anything of it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        describes_next = header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)
        plain = header.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
        if not plain and not (describes_next and header.size <= LONGEST_NAME):
            raise Unusable(f"{header.name!r} in it is a link, a device or the like; only plain files are taken")
        return header


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for number, member in enumerate(tar):
        if number == MEMBERS:
            raise Unusable(f"there are more than {MEMBERS} files in it")
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or member.issparse():
            raise Unusable(f"{member.name!r} in it leads outside of it, or has holes")
        yield member


def _is_wanted(member: tarfile.TarInfo, suffix: str) -> bool:
    # What begins with ._ is what macOS adds to archives.
    return member.isreg() and member.name.endswith(suffix) and not PurePosixPath(member.name).name.startswith("._")


def tar_files(
    archive: Path, names: Collection[str], limit: int, report: Report = lambda received, total: None
) -> dict[str, bytes]:
    """What some files in a ``.tar.gz`` hold, by their names; nothing is written.

    Raises
    ------
    Unusable
        If one is not there, or the archive is damaged, truncated or other than it should be, as for ``unpack``; it
        may unpack to ``limit`` bytes.
    """
    total, found = archive.stat().st_size, {}
    with archive.open("rb") as packed:
        content = _Limited(GzipFile(fileobj=packed), limit, lambda: report(packed.tell(), total))
        try:
            with tarfile.open(fileobj=cast(BinaryIO, content), mode="r|", tarinfo=_Header) as tar:
                for member in _members(tar):
                    taken = tar.extractfile(member) if member.name in names and member.isreg() else None
                    if taken is not None:
                        found[member.name] = taken.read()
            while content.read(CHUNK):  # to the end, where gzip's checksum is
                pass
        except (tarfile.TarError, ValueError, RecursionError) as error:
            raise Unusable(DAMAGED) from error
    for name in names:
        if name not in found:
            raise Unusable(f"there is no {name} in it")
    return found


def zip_files(
    archive: Path, suffix: str, limit: int, members: int, report: Report = lambda received, total: None
) -> Iterator[tuple[str, bytes]]:
    """The files in a ``.zip`` whose names end so, one by one, with their names; nothing is written.

    Raises
    ------
    Unusable
        If the archive is damaged or truncated, has more than so many members or would unpack to more than ``limit``
        bytes, or has a name that leads outside of it, a link, or something encrypted.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            infos = packed.infolist()
            if len(infos) > members:
                raise Unusable(f"there are more than {members} files in it")
            if sum(info.file_size for info in infos) > limit:
                raise Unusable(f"it unpacks to more than {shown(limit)}")
            for info in infos:
                _require_plain(info)
            wanted = [info for info in infos if info.filename.endswith(suffix)]
            done, total = 0, sum(info.file_size for info in wanted)
            for info in wanted:
                # Never more than the size that was counted above, whatever is packed there; it has a checksum.
                yield info.filename, packed.read(info)
                done += info.file_size
                report(done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise Unusable("it is damaged, truncated, or no .zip archive") from error


def _require_plain(info: zipfile.ZipInfo) -> None:
    name = PurePosixPath(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in info.filename:
        raise Unusable(f"{info.filename!r} in it leads outside of it")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Unusable(f"{info.filename!r} in it is a link, a device or the like; only plain files are taken")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unusable(f"{info.filename!r} in it is encrypted, or packed in an unusual way")
