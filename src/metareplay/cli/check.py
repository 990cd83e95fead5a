"""``metareplay check``: put a method, also a user's own, through the checks that every method passes."""

import functools
import sys
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from metareplay import methods
from metareplay.cli.arguments import Parser, add_flag, values
from metareplay.errors import RunFailed
from metareplay.methods.base import Method
from metareplay.runs import conformance
from metareplay.settings import hyperparameters

MARKS = {"holds": ("✓", "green", "hold"), "fails": ("✗", "bold red", "fail")}
MARKS |= {"does not apply": ("–", "dim", "do not apply"), "waived": ("–", "yellow", "waived")}
"""By outcome its mark, the mark's colour, and what several checks do."""


def main(argv: list[str]) -> None:
    """Put a method through the checks that every method passes, and say in words what was found."""
    prog = "metareplay check"
    if not argv or argv[0].startswith("-"):
        epilog = "METHOD is FILE.py:CLASS, a class in a file of yours, or a method's name.\n"
        epilog += "The flags are its settings: `metareplay check METHOD --help` explains them."
        parser = Parser(prog, main, usage=f"{prog} METHOD [flags]", epilog=epilog)
        parser.parse(argv or ["--help"])
        parser.error("METHOD comes first: metareplay check METHOD [flags]")
    method = methods.find(argv[0])
    parameters = hyperparameters(method)
    parser = Parser(f"{prog} {argv[0]}", usage=f"{prog} {argv[0]} [flags]")
    group = parser.add_argument_group(f"settings of {argv[0]}")
    for parameter in parameters:
        add_flag(group, parameter, parameter.default)
    made: Callable[[], Method] = method
    if settings := values(parameters, parser.parse(argv[1:])):
        made = functools.partial(method, **settings)
        made()  # refuses settings that are out of range
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    counts = dict.fromkeys(MARKS, 0)
    for checked in conformance.CHECKS:
        result = conformance.check_one(made, checked)
        counts[result.outcome] += 1
        mark, style, _ = MARKS[result.outcome]
        console.print(Text.assemble((f"{mark} ", style), result.fact))
        for line in result.message.splitlines():
            console.print(Text(f"    {line}", style))
    console.print(", ".join(f"{counts[outcome]} {words}" for outcome, (_, _, words) in MARKS.items()))
    if counts["fails"]:
        raise RunFailed(f"{argv[0]} fails {counts['fails']} of {len(conformance.CHECKS)} checks")
