"""The flags of the original's ``main.py``: their spelling, defaults and yes/no values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metareplay.cli.arguments import Parser
from metareplay.cli.methods import summary
from metareplay.errors import BadInput
from metareplay.methods import METHODS

YES_OR_NO = ("yes", "no")


@dataclass(frozen=True)
class Flag:
    """One flag: its type, its default, and what it means; ``least`` for a whole number that is checked here."""

    name: str
    type: Callable[[str], Any]
    default: Any
    help: str
    least: int | None = None


# In the original's order, which is that of the options in its console line.
FLAGS = (
    Flag("model", str, "single", "how to learn: one of the models below"),
    Flag("n_hiddens", int, 100, "how many units each hidden layer has", 1),
    Flag("n_layers", int, 2, "how many hidden layers the network has", 0),
    Flag("finetune", str, "yes", "independent: yes if a task's network starts as a copy of the previous task's"),
    Flag("n_epochs", int, 1, "how often a task's examples are seen before the next task comes", 1),
    Flag("batch_size", int, 1, "how many examples come at once", 1),
    Flag("lr", float, 1e-3, "the learning rate of every SGD step"),
    Flag("n_memories", int, 0, "ewc, gem: how many examples are kept of each task", 0),
    Flag("memory_strength", float, 0, "ewc: how strongly past tasks hold their parameters; gem: the margin"),
    Flag("memories", int, 5120, "eralg*, meralg*: how many examples are kept, over all tasks"),
    Flag("gamma", float, 1.0, "meralg1: the share of an example's change that is kept; meralg6, 7: of a batch's"),
    Flag("batches_per_example", float, 1, "meralg1, 6: in how many batches each new example is learned"),
    Flag("s", float, 1, "meralg7: what the current example's learning rate is multiplied by"),
    Flag("replay_batch_size", float, 20, "eralg*, meralg*: how many memories are replayed in each batch"),
    Flag("beta", float, 1.0, "meralg1: the share of each batch's change that is kept"),
    Flag("cuda", str, "no", "yes to learn on a CUDA device, with PyTorch; for one example at a time no is far faster"),
    Flag("seed", int, 0, "decides which examples are seen, their order, initial weights and replay", 0),
    Flag("log_every", int, 100, "how many batches lie between evaluations; there is one after every task, too", 1),
    Flag("save_path", str, "results/", "the folder that results go to"),
    Flag("data_path", str, "data/", "the folder that data_file is in"),
    Flag("data_file", str, "mnist_permutations.pt", "what is learned: a file of tasks, or one of the names below"),
    Flag("samples_per_task", int, -1, "how many training examples of each task are seen; 0 or less: all"),
    Flag("shuffle_tasks", str, "no", "yes to have the tasks in a random order, decided by the seed"),
)
DATA_FILES = {
    "mnist_rotations.pt": "mnist-rotations",
    "mnist_permutations.pt": "mnist-permutations",
    "mnist_manypermutations.pt": "mnist-many-permutations",
}
"""The original's own files, and the benchmark that each is here while there is no such file."""


def parser() -> Parser:
    """All flags, with abbreviations, as the original took them."""
    made = Parser(
        prog="main.py",
        usage="python main.py --model MODEL [flags]",
        description="Learn a stream of tasks with one of ten models, print a line with the result, and write it to\n"
        "two files: what the main.py of the MER paper's code does, with its flags and their defaults.",
        epilog="For example:\n"
        "  python main.py --data_file mnist_rotations.pt --samples_per_task 1000 --model meralg1 --lr 0.03\n"
        "      --beta 0.03 --memories 5120 --replay_batch_size 100 --batches_per_example 10\n"
        "A flag that the model has no use for is read and left alone. What differs from the original, and why:\n"
        "docs/migration.md. The same with more choices: metareplay run --help",
    )
    made.allow_abbrev = True
    flags = made.add_argument_group("flags")
    for flag in FLAGS:
        yes_or_no = flag.default in YES_OR_NO
        flags.add_argument(
            f"--{flag.name}",
            type=flag.type,
            default=flag.default,
            choices=YES_OR_NO if yes_or_no else None,
            metavar="yes|no" if yes_or_no else {int: "N", float: "X"}.get(flag.type, "TEXT"),  # type: ignore[call-overload]
            help=f"{flag.help} (default: {flag.default})",
        )
    made.add_list("models", {name: summary(method) for name, method in METHODS.items()})
    made.add_list(
        "data files that need not exist, since their tasks are made from MNIST as they are needed",
        {file: f"the benchmark {name}" for file, name in DATA_FILES.items()},
    )
    return made


def read(argv: list[str]) -> argparse.Namespace:
    """The options, as the original's parser gives them: numbers as their types, ``yes`` and ``no`` as they stand.

    Raises
    ------
    BadInput
        If a flag is not known or its value cannot be used.
    """
    options = parser().parse(argv)
    if options.model not in METHODS:
        never = ", the default, which never existed" if options.model == "single" else ""
        raise BadInput(f"--model is {options.model!r}{never}; there are {', '.join(METHODS)}")
    for flag in FLAGS:
        given = getattr(options, flag.name)
        if flag.least is not None and given < flag.least:
            raise BadInput(f"--{flag.name} is {given}, but must be at least {flag.least} ({flag.help})")
    return options
