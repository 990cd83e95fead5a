"""``metareplay data``: the data sets that benchmarks are made from."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

from metareplay.cli.arguments import Parser, owners
from metareplay.cli.tables import check_file, show
from metareplay.data import catalogue as sources
from metareplay.errors import BadInput, plain, with_flags
from metareplay.files import shown
from metareplay.streams import task_list as gem_format
from metareplay.streams.kinds import KINDS

COMMANDS = {
    "list": "list the data sets, and whether they are on this machine",
    "get": "get a data set: get NAME [--from FOLDER-OR-URL]",
    "make": "make a file of tasks from one, for other programs: make rotations -o FILE.pt",
}
ASK = 10**9  # bytes from which on `data make` asks for --yes
SHORT = {"min_angle": "min_rot", "max_angle": "max_rot", "stream_seed": "seed"}
"""What the MER project's generator calls these options."""


def main(argv: list[str]) -> None:
    """The data sets that benchmarks are made from.

    They are kept in the folder that the environment variable METAREPLAY_DATA names, else in the platform's cache.
    """
    parser = Parser("metareplay data", main, usage="metareplay data COMMAND …")
    parser.add_list("commands", COMMANDS)
    {"list": _list, "get": _get, "make": _make}[parser.choice(argv, "command", COMMANDS)](argv[1:])


def _list(argv: list[str]) -> None:
    """List the data sets, and whether they are here."""
    Parser("metareplay data list", _list).parse(argv)
    entries = []
    for name, data in sources.SOURCES.items():
        folder = sources.data_folder() / name
        state = "here:" if data.present(folder) else "not here yet: will take"
        where = f"{state} {data.size / 1e6:.0f} MB in {folder}" if data.size else "installed with metareplay"
        entries.append((name, data.description, where))
    show(entries)


def _get(argv: list[str]) -> None:
    """Get a data set, verify it by its SHA-256, and keep it."""
    parser = Parser("metareplay data get", _get)
    parser.add_argument("name", metavar="NAME", help=f"which one: {', '.join(sources.SOURCES)}")
    where = "where its files are, plain or gzipped (default: what is here already, else its public mirrors)"
    parser.add_argument("--from", dest="source", metavar="FOLDER-OR-URL", help=where)
    given = parser.parse(argv)
    images = sources.get(given.name, given.source)
    counts = f"{len(images.train)} images for training, {len(images.test)} for testing"
    print(f"{images.name} is here and verified: {counts}")


def _make(argv: list[str]) -> None:
    """Make a file of tasks, as the GEM and MER projects keep them, from a data set."""
    prog, epilog = "metareplay data make", "`metareplay data make KIND --help` explains each kind's flags."
    parser = Parser(prog, _make, usage=f"{prog} KIND -o FILE.pt [flags]", epilog=epilog)
    parser.add_list("kinds", {name: kind.meaning for name, kind in KINDS.items()})
    make = KINDS[parser.choice(argv, "kind", KINDS)]
    flags = {option.name: replace(option, name=SHORT.get(option.name, option.name)) for option in make.settings}
    text = "Make a file of tasks, as the GEM and MER projects keep them: torch.save([train, test], FILE),\n"
    text += "each a list of [description, x, y] for every task; x float32 (n, inputs), y int64 (n,). Needs PyTorch."
    prog = f"{prog} {make.name}"
    parser = Parser(prog, usage=f"{prog} -o FILE.pt [flags]", description=text)
    parser.add_argument("-o", "--output", metavar="FILE.pt", required=True, help="the file to write")
    parser.add_argument("--yes", action="store_true", help=f"write it even if it takes more than {shown(ASK)}")
    group = parser.add_argument_group("the stream")
    text = f"made from what: {', '.join(sources.SOURCES)} (default: mnist)"
    group.add_argument("--data", metavar="NAME", default="mnist", help=text)
    parser.add_options(flags.values(), group)
    kinds = {name: kind.settings for name, kind in KINDS.items()}
    given = parser.parse(argv[1:], lambda: owners(kinds, _shortened))
    path = Path(given.output)
    check_file("--output", given.output)
    gem_format.require_torch()
    chosen = {name: getattr(given, flag.name) for name, flag in flags.items()}
    images = sources.get(given.data)
    try:
        stream = make(images, **chosen)
    except BadInput as error:
        raise BadInput(_shortened(with_flags(error))) from None
    size = gem_format.size(stream)
    if size > ASK and not given.yes:
        free = shown(shutil.disk_usage(path.parent).free)
        raise BadInput(f"{path} would take {shown(size)}, and {free} are free there: say --yes to write it")
    gem_format.write(stream, path)
    what = f"{len(stream.tasks)} tasks, {stream.inputs} inputs, {stream.classes} classes, {shown(path.stat().st_size)}"
    print(f"{plain(str(path))}: {what}")


def _shortened(message: str) -> str:
    flags = {f"--{name}".replace("_", "-"): f"--{short}".replace("_", "-") for name, short in SHORT.items()}
    return re.sub("|".join(flags), lambda flag: flags[flag[0]], message)
