"""``metareplay results``: the runs there are, as a table of means over seeds, and which are not done."""

from __future__ import annotations

from pathlib import Path

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import check_file, console, name_of, progress, write
from metareplay.results import groups, tables
from metareplay.results.groups import Contents
from metareplay.runs.metrics import METRICS

NOT_DONE = {
    "running": "a process is running them",
    "stopped": "they go on from where they are when they are started again",
    "failed": "they are tried again when they are started again",
    "broken": "they are run again when they are started again",
}


def main(argv: list[str]) -> None:
    """List the runs."""
    parser = Parser(
        prog="metareplay results",
        description="List the runs there are: means over seeds with 95 % intervals, in percent, and what is not done.",
    )
    parser.add_argument("--out", metavar="DIR", default="runs", help="where the records are (default: runs)")
    parser.add_argument("--csv", metavar="FILE", help="write a row for each run there, as CSV; - is standard output")
    given = parser.parse(argv)
    check_file("--csv", given.csv)
    results = groups.load(Path(given.out), progress("runs read"))
    if given.csv != "-":
        _show(results)
    if given.csv is not None:
        write("--csv", given.csv, tables.each_run(results).csv())


def _show(results: Contents) -> None:
    """Print a line for each configuration, and then what is not done."""
    out = console()
    if there := results.with_unfinished:
        out.print(tables.listing(there).terminal("bold"))
        meanings = "; ".join(f"{METRICS[name].short}: {METRICS[name].meaning}" for name in tables.PAPER)
        interval = "; ±: the mean's 95 % interval over seeds" if any(len(one.runs) > 1 for one in there) else ""
        out.print(f"[dim]{meanings}{interval}[/]")
    for state, meaning in NOT_DONE.items():
        those = [run for run in results.unfinished if run.state == state]
        if those:
            out.print(f"\n[bold]{len(those)} {state}: {meaning}[/]", soft_wrap=True)
        for run in those:
            what = f"{run.name} ({run.folder}){f': {run.why}' if run.why else ''}"
            out.print(name_of(f"  {what}"), soft_wrap=True)
    done = sum(len(group.runs) for group in results.groups)
    out.print()
    out.print(name_of(f"{done} of {done + len(results.unfinished)} runs in {results.source} are done"), soft_wrap=True)
