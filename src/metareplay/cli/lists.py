"""``metareplay benchmarks``, ``methods`` and ``check``: what there is to learn from and with, and if it is sound."""

import functools
import inspect
import sys
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from metareplay.cli.arguments import Parser, add_flag, values
from metareplay.cli.tables import show
from metareplay.errors import RunFailed
from metareplay.methods import METHODS, find
from metareplay.methods.base import Method
from metareplay.settings import hyperparameters
from metareplay.streams.catalogue import BENCHMARKS

MARKS = {"holds": ("✓", "green", "hold"), "fails": ("✗", "bold red", "fail")}
MARKS |= {"does not apply": ("–", "dim", "do not apply"), "waived": ("–", "yellow", "waived")}
"""By outcome its mark, the mark's colour, and what several checks do."""


def benchmarks(argv: list[str]) -> None:
    """List the streams there are to learn from."""
    Parser("metareplay benchmarks", benchmarks).parse(argv)
    details = "{0.tasks} tasks, {1} examples of each; data: {0.data}; {2}"
    show(
        (one.name, one.description, details.format(one, one.samples_per_task or "all", " or ".join(one.allows)))
        for one in BENCHMARKS.values()
    )


def methods(argv: list[str]) -> None:
    """List the methods there are to learn with."""
    epilog = "A method of your own is a class in a file of yours: metareplay run BENCHMARK FILE.py:CLASS"
    Parser("metareplay methods", methods, epilog=epilog).parse(argv)
    entries = []
    for name, method in METHODS.items():
        needs_task = {"training": method.needs_task_in_training, "testing": method.needs_task_in_testing}
        needs = " and ".join(when for when, needed in needs_task.items() if needed)
        details = " ".join(parameter.flag for parameter in hyperparameters(method)) or "no settings"
        details += f"; must know the task in {needs}" if needs else ""
        details += "; must know the borders between tasks" if method.needs_boundaries else ""
        entries.append((name, summary(method), details))
    show(entries)


def summary(method: type[Method]) -> str:
    """What a method is, in one line."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def check(argv: list[str]) -> None:
    """Put a method through the checks that every method passes, and say in words what was found."""
    from metareplay.runs import conformance  # which the lists can do without

    prog = "metareplay check"
    if not argv or argv[0].startswith("-"):
        epilog = "METHOD is FILE.py:CLASS, a class in a file of yours, or a method's name.\n"
        epilog += "The flags are its settings: `metareplay check METHOD --help` explains them."
        parser = Parser(prog, check, usage=f"{prog} METHOD [flags]", epilog=epilog)
        parser.parse(argv or ["--help"])
        parser.error("METHOD comes first: metareplay check METHOD [flags]")
    method = find(argv[0])
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
