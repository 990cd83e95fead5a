"""The one file of tasks in an archive of the authors', for which no checksum was published."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, cast

from metareplay.data.download import CHUNK, Report, progress_bar
from metareplay.errors import Refused
from metareplay.files import placed, shown
from metareplay.streams.stream import Stream

LONGEST_NAME = 65536  # bytes
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)
DAMAGED = "it is damaged, truncated, or no .tar.gz archive"


def unpack(archive: Path, path: Path, limit: int, read: Callable[[Path], Stream]) -> Stream:
    """Put the one file of a ``.tar.gz`` that ends as ``path`` does at ``path``; names in the archive decide nothing.

    Parameters
    ----------
    limit
        Bytes that all in it may have together.
    read
        Reads what was unpacked before it takes its name; Refused if it is not as it should be.

    Raises
    ------
    Refused
        If the archive is damaged, truncated, or other than it should be.
    RunFailed
        If the file cannot be written.
    """
    with archive.open("rb") as packed, progress_bar(path.name, True) as report:
        content = _Limited(packed, limit, archive.stat().st_size, report)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, content), mode="r|", tarinfo=_Header) as tar:
                wanted = (member for member in tar if _is_wanted(member, path.suffix))
                file = next(wanted, None)
                if file is None:
                    raise Refused(f"there is no {path.suffix} file in it")
                with placed(path, file.size) as (placing, temporary):
                    taken = cast(BinaryIO, tar.extractfile(file))
                    while chunk := taken.read(CHUNK):
                        placing.write(chunk)
                    if next(wanted, None) is not None:
                        raise Refused(f"there are several {path.suffix} files in it")
                    while content.read(CHUNK):  # to the end, where gzip's checksum is
                        pass
                    placing.flush()
                    return read(temporary)
        except (tarfile.TarError, ValueError, RecursionError, EOFError, zlib.error) as error:
            raise Refused(DAMAGED) from error


def _is_wanted(member: tarfile.TarInfo, suffix: str) -> bool:
    own = PurePosixPath(member.name).name.startswith("._")  # macOS adds these to archives
    return member.isreg() and not member.issparse() and member.name.endswith(suffix) and not own


class _Limited:
    """What a gzipped file unpacks to, but no more of it than there should be."""

    def __init__(self, packed: BinaryIO, limit: int, total: int, report: Report) -> None:
        self.packed, self.left, self.limit, self.total, self.report = packed, limit, limit, total, report
        self.stream = gzip.GzipFile(fileobj=packed)

    def read(self, size: int) -> bytes:
        try:
            chunk = self.stream.read(size)
        except OSError as error:  # which would count as a failure to write
            raise Refused(DAMAGED) from error
        self.left -= len(chunk)
        if self.left < 0:
            raise Refused(f"it unpacks to more than {shown(self.limit)}")
        self.report(self.packed.tell(), self.total)
        return chunk


class _Header(tarfile.TarInfo):
    """A header of tar; raises for what an archive of plain files does not have, before anything of it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type not in PLAIN and not (header.type in NAMES and header.size <= LONGEST_NAME):
            raise Refused(f"{header.name!r} in it is a link, a device or the like; only plain files are taken")
        return header
