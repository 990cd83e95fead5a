"""What the original's ``get_data.py`` does: get the data that the published runs learn from."""

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, cast

from metareplay.cli import program
from metareplay.cli.arguments import Parser
from metareplay.data import catalogue as sources
from metareplay.data.download import CHUNK, Report, download, progress_bar
from metareplay.errors import BadInput, Refused, RunFailed, failing, with_flags
from metareplay.files import placed, require_room, shown
from metareplay.original.arguments import DATA_FILES
from metareplay.runs import display
from metareplay.streams import task_list
from metareplay.streams.catalogue import BENCHMARKS, benchmark
from metareplay.streams.stream import Stream

NAME = "get_data.py"
ORIGINALS = "https://nlp.stanford.edu/data/mer"
"""The folder of the authors' own archives. No checksums were published for them."""
LONGEST_NAME = 65536  # bytes
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)
DAMAGED = "it is damaged, truncated, or no .tar.gz archive"
TASK = 70_000 * (784 * 4 + 8)  # bytes: MNIST, x as float32, y as int64
TASKS = {file: BENCHMARKS[name].tasks for file, name in DATA_FILES.items()}
FILES = {file.removeprefix("mnist_").removesuffix(".pt"): file for file in DATA_FILES}
"""The original's files of tasks, by the names that its get_data.py takes."""


def _get_data(argv: list[str]) -> None:
    """Get the data that the published runs of Meta-Experience Replay learn from.

    All of it is MNIST, its images turned or their pixels in another order. main.py does that as it goes:
    without a flag, only MNIST itself is fetched (11 MB) and verified.
    """
    epilog = "Where such a file is there, main.py reads it; else it makes the tasks, by other angles and orders.\n"
    epilog += "Files of other data, angles or numbers of tasks: metareplay data make --help"
    parser = Parser("python get_data.py", _get_data, usage="python get_data.py NAME [flags]", epilog=epilog)
    names = ("all", *FILES)
    parser.add_argument("name", metavar="NAME", choices=names, help=f"which: {', '.join(names)}")
    where = "the folder that files are written to (default: data/)"
    parser.add_argument("--data_path", metavar="DIR", default="data/", help=where)
    either = parser.add_mutually_exclusive_group()
    for flag, make, meaning in (
        ("--materialize", _materialize, "write the tasks that main.py makes into real files, for other programs"),
        ("--original", _fetch, "fetch the authors' own files, which have other angles and orders"),
    ):
        either.add_argument(flag, dest="make", action="store_const", const=make, help=f"{meaning} (needs PyTorch)")
    made = {name: f"{TASKS[file]} tasks; as a file: {file}, {shown(_size(file))}" for name, file in FILES.items()}
    parser.add_list("names", made)
    given = parser.parse(argv)
    folder, files = Path(given.data_path), list(FILES.values()) if given.name == "all" else [FILES[given.name]]
    if given.make:
        task_list.require_torch()
        for file in _missing(files, folder):
            given.make(folder / file)
    else:
        _get_mnist(files, folder)


def _size(file: str) -> int:
    return TASKS[file] * TASK


def _get_mnist(files: list[str], folder: Path) -> None:
    images = sources.get("mnist")
    numbers = f"{len(images.train)} images for training, {len(images.test)} for testing"
    print(f"MNIST is here and verified, in {sources.data_folder() / images.name}: {numbers}")
    for file in files:
        made = f"main.py makes its {TASKS[file]} tasks as it goes, in place of {shown(_size(file))}"
        print(f"{file}: {f'{folder / file} is there, and main.py reads it' if (folder / file).exists() else made}")
    text = (
        "There is nothing else to fetch. For real files: --materialize writes them, --original gets the authors' own; "
    )
    print(f"{text}`python get_data.py --help` tells more")


def _missing(files: list[str], folder: Path) -> list[str]:
    """Those that are to be made; says what is there, and how much room the others take."""
    with failing(RunFailed, f"{folder} cannot be made", "name another with --data_path"):
        folder.mkdir(parents=True, exist_ok=True)
    for there in (folder / file for file in files if (folder / file).exists()):
        print(f"{there} is there already, and stays as it is; remove it to get it anew")
    missing = [file for file in files if not (folder / file).exists()]
    if missing:
        total, names = sum(map(_size, missing)), ", ".join(missing)
        display.note(f"{names}: {shown(total)} in {folder}", program=NAME)
        require_room(folder, total, names)
    return missing


def _materialize(path: Path) -> None:
    task_list.write(benchmark(DATA_FILES[path.name], samples_per_task=0), path)
    print(f"{path}: {TASKS[path.name]} tasks, {shown(path.stat().st_size)}")


def _fetch(path: Path) -> None:
    archive = path.with_suffix(".tar.gz")
    url, limit = f"{ORIGINALS}/{archive.name}", 2 * _size(path.name)  # for all that we know of it
    download(url, archive, limit, room=_size(path.name))
    try:
        stream = _unpack(archive, path, limit)
    except Refused as reason:
        archive.unlink()
        again = "what was fetched is removed, so the same command begins anew"
        raise BadInput(f"{url} does not give {path.name}: {reason}; {again}") from None
    archive.unlink()
    about = f"{len(stream.tasks)} tasks, {stream.inputs} inputs, SHA-256 {stream.data_sha256}"
    print(f"{path}: {about} (no checksum was published to hold it against)")


def _unpack(archive: Path, path: Path, limit: int) -> Stream:
    """Put the one file of a ``.tar.gz`` that ends as ``path`` does there, once it has been read under another name.

    Names in the archive decide nothing; all in it may have ``limit`` bytes together. Refused for any other archive.
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
                    try:
                        return task_list.read(temporary)
                    except BadInput as error:
                        raise Refused(with_flags(error).replace(str(temporary), path.name)) from None
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


main = program(_get_data, NAME)
