"""``metareplay report``: tables and figures of a folder of runs, as a page and for a paper."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from metareplay.cli.arguments import Parser
from metareplay.errors import BadInput, RunFailed
from metareplay.files import write_atomically
from metareplay.results import contents as reading
from metareplay.results import latex, require_drawing, tables
from metareplay.results.contents import Contents

PATIENCE = 2.0
"""Seconds before progress is shown."""


def main(argv: list[str]) -> None:
    """Write what is asked for."""
    given = _parser().parse(argv)
    if not (given.output or given.latex or given.csv or given.figures):
        given.output = "report.html"
    _check(given)
    if given.output or given.figures:
        require_drawing()
    with Console(stderr=True).status("reading runs") as status:
        contents = reading.read(Path(given.runs), _slowly(status.update, "reading runs"))
        if not contents.groups:
            told = ", ".join(f"{run.folder} {run.state}" for run in contents.absent[:3])
            raise BadInput(
                f"no run in {given.runs} is done ({told}): `metareplay results --out {given.runs}` tells more"
            )
        _write(contents, given, status.update)


def _parser() -> Parser:
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
    return parser


def _check(given: Namespace) -> None:
    """Find out before anything is read, not after."""
    for flag in ("output", "latex", "csv"):
        file = getattr(given, flag)
        if file and not Path(file).absolute().parent.is_dir():
            raise BadInput(f"--{flag} is {file}, but there is no folder {Path(file).parent}")
        if file and Path(file).is_dir():
            raise BadInput(f"--{flag} is {file}, but that is a folder: name a file in it")
    if given.figures and Path(given.figures).exists() and not Path(given.figures).is_dir():
        raise BadInput(f"--figures is {given.figures}, but that is a file: name a folder")


def _write(contents: Contents, given: Namespace, update: Callable[[str], None]) -> None:
    try:
        if given.output:
            from metareplay.results.page import page

            update("making the page")
            write_atomically(Path(given.output), page(contents).encode())
            print(f"the page is {given.output}; to see it, open {Path(given.output).absolute().as_uri()} in a browser")
        if given.latex:
            write_atomically(Path(given.latex), latex.latex(tables.paper(contents)).encode())
            print(f"the table for LaTeX is {given.latex}")
        if given.csv:
            write_atomically(Path(given.csv), tables.tidy(contents).encode())
            print(f"all numbers are in {given.csv}")
        if given.figures:
            from metareplay.results.drawings import draw

            drawn = draw(contents, Path(given.figures), _slowly(update, "drawing"))
            print(f"{len(drawn) // 2} figures, each as SVG and PDF, are in {given.figures}")
    except OSError as error:
        raise RunFailed(f"{error.filename} cannot be written: {error.strerror}") from error


def _slowly(update: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Progress that is told after a while, and not too often."""
    told = time.monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > PATIENCE / 4:
            told = time.monotonic()
            update(f"{what}: {done} of {of}")

    return progress
