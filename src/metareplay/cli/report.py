"""``metareplay report``: tables and figures of a folder of runs, as a page and for a paper."""

from __future__ import annotations

from pathlib import Path

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import check_file, console, name_of, progress, write
from metareplay.errors import BadInput, RunFailed
from metareplay.results import groups, require_drawing, tables


def main(argv: list[str]) -> None:
    """Write what is asked for."""
    parser = Parser(
        prog="metareplay report",
        usage="metareplay report [DIR] [-o FILE] [--latex FILE] [--csv FILE] [--figures DIR]",
        description="Put the runs of a folder into a page to look at, and into tables and figures for a paper.",
        epilog="Without any flag it writes report.html: one file that needs nothing else. Mail it, print it.",
    )
    parser.add_argument("runs", metavar="DIR", nargs="?", default="runs", help="the folder of runs (default: runs)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the page (HTML)")
    parser.add_argument("--latex", metavar="FILE", help="methods by benchmarks, with rules of the package booktabs")
    parser.add_argument("--csv", metavar="FILE", help="a row for each configuration, with all metrics and costs")
    parser.add_argument("--figures", metavar="DIR", help="a folder for every figure as SVG and PDF")
    given = parser.parse(argv)
    if not (given.output or given.latex or given.csv or given.figures):
        given.output = "report.html"
    for flag in ("output", "latex", "csv"):
        check_file(f"--{flag}", getattr(given, flag))
    if given.figures and Path(given.figures).exists() and not Path(given.figures).is_dir():
        raise BadInput(f"--figures is {given.figures}, but that is a file: name a folder")
    if given.output or given.figures:
        require_drawing()
    results = groups.load(Path(given.runs), progress("runs read"))
    if not results.groups and not results.unfinished:
        raise BadInput(f"there are no runs in {given.runs}: `metareplay run … --out {given.runs}` puts one there")
    if not results.groups:
        states = ", ".join(f"{run.folder.name} {run.state}" for run in results.unfinished[:3])
        raise BadInput(f"no run in {given.runs} is done ({states}): `metareplay results --out {given.runs}` says more")
    done = []
    if given.output:
        from metareplay.results.page import page

        write("--output", given.output, page(results, progress))
        where = Path(given.output).absolute().as_uri()
        done.append(f"the page is {given.output}; to see it, open {where} in a browser")
    if given.latex:
        write("--latex", given.latex, tables.paper(results).latex())
        done.append(f"the table for LaTeX is {given.latex}")
    if given.csv:
        write("--csv", given.csv, tables.tidy(results).csv())
        done.append(f"all numbers are in {given.csv}")
    if given.figures:
        from metareplay.results.figures import draw

        try:
            drawn = draw(results, Path(given.figures), progress("figures drawn"))
        except OSError as error:
            raise RunFailed(f"{error.filename} cannot be written: {error.strerror}") from error
        done.append(f"{len(drawn) // 2} figures, each as SVG and PDF, are in {given.figures}")
    for line in done:
        console().print(name_of(line), soft_wrap=True)
