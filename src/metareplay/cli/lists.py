"""``metareplay benchmarks`` and ``metareplay methods``: the streams there are to learn from, and how to learn."""

import inspect

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import show
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.settings import hyperparameters
from metareplay.streams.catalogue import BENCHMARKS


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
