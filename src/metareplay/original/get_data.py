"""What the original's ``get_data.py`` does: get the data that the published runs learn from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metareplay.cli import status_of
from metareplay.cli.arguments import Parser
from metareplay.data import catalogue as sources
from metareplay.data.download import Unusable, download
from metareplay.errors import BadInput, RunFailed
from metareplay.files import require_room, shown
from metareplay.original.archive import unpack
from metareplay.original.arguments import DATA_FILES
from metareplay.streams import catalogue as benchmarks
from metareplay.streams import task_list as gem_format

NAME = "get_data.py"
ORIGINALS = "https://nlp.stanford.edu/data/mer"
"""The folder of the authors' own archives. No checksums were published for them."""

EXAMPLES = 70_000  # of MNIST, in each task
EXAMPLE = 784 * 4 + 8  # bytes: x as float32, y as int64


@dataclass(frozen=True)
class TaskFile:
    """One of the original's files of tasks."""

    name: str  # as get_data.py takes it
    file: str
    benchmark: str

    @property
    def tasks(self) -> int:
        return benchmarks.BENCHMARKS[self.benchmark].tasks

    @property
    def size(self) -> int:
        """Bytes that it has, about."""
        return self.tasks * EXAMPLES * EXAMPLE

    @property
    def archive(self) -> str:
        return self.file.replace(".pt", ".tar.gz")


FILES = {
    name: TaskFile(name, f"mnist_{name}.pt", DATA_FILES[f"mnist_{name}.pt"])
    for name in ("rotations", "permutations", "manypermutations")
}


def main(argv: Sequence[str] | None = None) -> int:
    """Get the data; ``argv`` is None for the process's own arguments.

    Returns
    -------
    status
        As ``metareplay.cli.main``.
    """
    return status_of(lambda: _command(list(sys.argv[1:] if argv is None else argv)), NAME)


def _command(argv: list[str]) -> None:
    parser = Parser(
        prog="python get_data.py",
        usage="python get_data.py NAME [flags]",
        description="Get the data that the published runs of Meta-Experience Replay learn from.\n\n"
        "All of it is MNIST, its images turned or their pixels in another order. main.py does that as it goes:\n"
        "without a flag, only MNIST itself is fetched (11 MB) and verified.",
        epilog="Where such a file is there, main.py reads it; else it makes the tasks, by other angles and orders.\n"
        "Files of other data, angles or numbers of tasks: metareplay data make --help",
    )
    parser.add_argument("name", metavar="NAME", help=f"which: all, {', '.join(FILES)}")
    parser.add_argument(
        "--data_path", metavar="DIR", default="data/", help="the folder that files are written to (default: data/)"
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--materialize",
        action="store_true",
        help="write the tasks that main.py makes into real files, for other programs (needs PyTorch)",
    )
    either.add_argument(
        "--original",
        action="store_true",
        help="fetch the authors' own files, which have other angles and orders (needs PyTorch)",
    )
    parser.add_list(
        "names",
        {name: f"{file.tasks} tasks; as a file: {file.file}, {shown(file.size)}" for name, file in FILES.items()},
    )
    given = parser.parse(argv)
    if given.name not in ("all", *FILES):
        parser.error(f"there is no {given.name!r}; there are all, {', '.join(FILES)}")
    files = list(FILES.values()) if given.name == "all" else [FILES[given.name]]
    folder = Path(given.data_path)
    if given.materialize or given.original:
        gem_format.require_torch()
        missing = _missing(files, folder)
        for file in missing:
            (_fetch_original if given.original else _materialize)(file, folder)
    else:
        _get(files, folder)


def _get(files: list[TaskFile], folder: Path) -> None:
    images = sources.get("mnist")
    print(
        f"MNIST is here and verified, in {sources.data_folder() / images.name}: "
        f"{len(images.train)} images for training, {len(images.test)} for testing"
    )
    for file in files:
        if (folder / file.file).exists():
            print(f"{file.file}: {folder / file.file} is there, and main.py reads it")
        else:
            print(f"{file.file}: main.py makes its {file.tasks} tasks as it goes, in place of {shown(file.size)}")
    print(
        "There is nothing else to fetch. For real files: --materialize writes them, --original gets the authors' own; "
        "`python get_data.py --help` tells more"
    )


def _missing(files: list[TaskFile], folder: Path) -> list[TaskFile]:
    """Those that are to be made; says what is there, and how much room the others take."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFailed(f"{folder} cannot be made: {error.strerror}; name another with --data_path") from error
    missing = []
    for file in files:
        if (folder / file.file).exists():
            print(f"{folder / file.file} is there already, and stays as it is; remove it to get it anew")
        else:
            missing.append(file)
    if missing:
        total = sum(file.size for file in missing)
        _note(f"{', '.join(file.file for file in missing)}: {shown(total)} in {folder}")
        require_room(folder, total, ", ".join(file.file for file in missing))
    return missing


def _materialize(file: TaskFile, folder: Path) -> None:
    path = folder / file.file
    gem_format.write(benchmarks.benchmark(file.benchmark, samples_per_task=0), path)
    print(f"{path}: {file.tasks} tasks, {shown(path.stat().st_size)}")


def _fetch_original(file: TaskFile, folder: Path) -> None:
    url, path, archive = f"{ORIGINALS}/{file.archive}", folder / file.file, folder / file.archive
    limit = 2 * file.size  # for all that we know of it
    download(url, archive, limit, room=file.size)
    said = []

    def verify(unpacked: Path) -> None:
        try:
            stream = gem_format.read(unpacked)
        except BadInput as error:
            raise Unusable(str(error).replace(str(unpacked), file.file)) from None
        said.append(f"{len(stream.tasks)} tasks, {stream.inputs} inputs, SHA-256 {stream.data_sha256}")

    try:
        unpack(archive, path, limit, verify)
    except Unusable as reason:
        archive.unlink()
        raise BadInput(
            f"{url} does not give {file.file}: {reason}; what was fetched is removed, so the same command begins anew"
        ) from None
    archive.unlink()
    print(f"{path}: {said[0]} (no checksum was published to hold it against)")


def _note(text: str) -> None:
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)
