"""``metareplay methods``: the methods there are to learn with."""

from __future__ import annotations

import inspect

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import show
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.settings import hyperparameters


def main(argv: list[str]) -> None:
    """List the methods."""
    Parser(
        prog="metareplay methods",
        description="List the methods there are to learn with.",
        epilog="A method of your own is a class in a file of yours: metareplay run BENCHMARK FILE.py:CLASS",
    ).parse(argv)
    show((name, summary(method), _details(method)) for name, method in METHODS.items())


def summary(method: type[Method]) -> str:
    """What a method is, in one line."""
    return (inspect.getdoc(method) or "").partition("\n")[0]


def _details(method: type[Method]) -> str:
    needs_task = {"training": method.needs_task_in_training, "testing": method.needs_task_in_testing}
    needs = " and ".join(when for when, needed in needs_task.items() if needed)
    flags = " ".join(parameter.flag for parameter in hyperparameters(method))
    borders = "; must know the borders between tasks" if method.needs_boundaries else ""
    return f"{flags or 'no settings'}{f'; must know the task in {needs}' if needs else ''}{borders}"
