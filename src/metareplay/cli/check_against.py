"""``metareplay check-against``: whether runs reproduce a result set that comes with the package."""

from __future__ import annotations

from pathlib import Path

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import console, progress
from metareplay.errors import BadInput, RunFailed
from metareplay.results import groups, sets


def main(argv: list[str]) -> None:
    """Say row by row whether runs reproduce a set."""
    parser = Parser(
        prog="metareplay check-against",
        description="Say row by row whether runs of yours reproduce a result set, within what seeds make of it.",
    )
    parser.add_argument("set", metavar="SET", help=f"the result set: {', '.join(sets.sets())}")
    parser.add_argument("runs", metavar="RUNS", help="the folder of runs, as `metareplay suite SET` fills it")
    given = parser.parse(argv)
    sets.read(given.set)
    table, differing, run = sets.check(given.set, groups.load(Path(given.runs), progress("runs read")).groups)
    if not run:
        raise BadInput(
            f"{given.runs} has no run of {given.set}: `metareplay suite {given.set} --out {given.runs}` runs it"
        )
    console().print(table.terminal())
    console().print(
        f"{run - differing} of {run} rows that were run are reproduced; {len(table.rows) - run} were not run"
    )
    if differing:
        raise RunFailed(f"{differing} of {run} rows of {given.set} are not reproduced here")
