"""``metareplay data``: the data sets that benchmarks are made from."""

from __future__ import annotations

from metareplay.cli.arguments import Parser, nearest
from metareplay.cli.tables import show
from metareplay.streams import sources

COMMANDS = {
    "list": "list the data sets, and whether they are on this machine",
    "get": "get a data set: get NAME [--from FOLDER-OR-URL]",
}


def main(argv: list[str]) -> None:
    """List the data sets, or get one."""
    name = argv[0] if argv else ""
    if name == "list":
        _list(argv[1:])
    elif name == "get":
        _get(argv[1:])
    else:
        parser = Parser(
            prog="metareplay data",
            usage="metareplay data COMMAND …",
            description="The data sets that benchmarks are made from. They are kept in the folder that the environment "
            "variable\nMETAREPLAY_DATA names, else in the platform's cache folder.",
        )
        parser.add_list("commands", COMMANDS)
        if name.startswith("-"):
            parser.parse(argv)
        parser.error(f"there is no command {name!r}{nearest(name, COMMANDS)}" if name else "list, or get?")


def _list(argv: list[str]) -> None:
    Parser(prog="metareplay data list", description="List the data sets, and whether they are here.").parse(argv)
    show((data.name, data.description, _where(data)) for data in sources.listing())


def _where(data: sources.Listed) -> str:
    if data.folder is None:
        return "installed with metareplay"
    size = f"{data.size / 1e6:.0f} MB in {data.folder}"
    return f"here: {size}" if data.present else f"not here yet: will take {size}"


def _get(argv: list[str]) -> None:
    parser = Parser(
        prog="metareplay data get",
        description="Get a data set, verify it by its SHA-256, and keep it.",
    )
    parser.add_argument("name", metavar="NAME", help=f"which one: {', '.join(sources.SOURCES)}")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FOLDER-OR-URL",
        help="where its files are, plain or gzipped (default: what is here already, else its public mirrors)",
    )
    given = parser.parse(argv)
    images = sources.get(given.name, given.source)
    print(
        f"{images.name} is here and verified: {len(images.train)} images for training, {len(images.test)} for testing"
    )
