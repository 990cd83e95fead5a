"""What the original's options mean here: an ``Experiment``."""

from __future__ import annotations

import contextlib
import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from metareplay.errors import BadInput, RunFailed
from metareplay.methods import METHODS
from metareplay.methods.base import Method
from metareplay.original.arguments import DATA_FILES, FLAGS
from metareplay.runs.experiment import Experiment
from metareplay.settings import hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.stream import DOMAIN, Stream

THEIR_FLAGS = {f"--{flag.name.replace('_', '-')}": f"--{flag.name}" for flag in FLAGS} | {
    "--epochs": "--n_epochs",
    "--eval-every": "--log_every",
    "--hiddens": "--n_hiddens",
    "--layers": "--n_layers",
    "--out": "--save_path",
}
"""Our flags, as messages name them, by the original's names."""


def experiment(options: Namespace) -> Experiment:
    """The run that is asked for, with all that can be checked checked before data are fetched.

    Raises
    ------
    BadInput
        If an option is out of its range, or there are no such data.
    """
    method(options, tasks=1)
    cuda = options.cuda == "yes"
    if cuda:
        _require_cuda()
    stream = _stream(options)
    return Experiment(
        stream=stream,
        method=method(options, len(stream.tasks)),
        seed=options.seed,
        hidden=(options.n_hiddens,) * options.n_layers,
        samples_per_task=_samples(options, stream),
        epochs=options.n_epochs,
        batch_size=options.batch_size,
        eval_every=options.log_every,
        order="shuffled" if options.shuffle_tasks == "yes" else "tasks",
        engine="torch" if cuda else "fused",
        device="cuda" if cuda else "cpu",
    )


def method(options: Namespace, tasks: int) -> Method:
    """The model with its settings; the others' are left alone."""
    kind = METHODS[options.model]
    given = vars(options) | {"finetune": options.finetune == "yes"}
    if options.model == "gem":  # theirs are for each task
        given["memories"] = options.n_memories * tasks
    settings = {p.name: _whole(p.name, given[p.name], p.type) for p in hyperparameters(kind) if p.name in given}
    return kind(**settings)


def printed(options: Namespace) -> dict[str, Any]:
    """The options as the original showed them: the model has changed some of them by then."""
    return vars(options) | {
        "cuda": options.cuda == "yes",
        "finetune": options.finetune == "yes",
        "n_layers": options.n_layers - (options.model == "taskinput"),
    }


@contextlib.contextmanager
def their_names() -> Iterator[None]:
    """Let messages name the original's flags."""
    try:
        yield
    except BadInput as error:
        raise BadInput(_renamed(str(error))) from error
    except RunFailed as error:
        raise RunFailed(_renamed(str(error))) from error


def _renamed(message: str) -> str:
    return re.sub(r"--[a-z][a-z-]*", lambda flag: THEIR_FLAGS.get(flag[0], flag[0]), message)


def _whole(name: str, given: Any, kind: type) -> Any:
    """Numbers of batches and of examples are read as fractions, and then cut."""
    if kind is not int:
        return given
    try:
        return int(given)
    except (ValueError, OverflowError):
        raise BadInput(f"--{name} is {given}, but must be a whole number") from None


def _samples(options: Namespace, stream: Stream) -> int:
    """0 for all, also where tasks have no more than what is asked for."""
    wanted: int = options.samples_per_task
    return wanted if any(len(task.train) > wanted > 0 for task in stream.tasks) else 0


def _stream(options: Namespace) -> Stream:
    path = Path(options.data_path) / options.data_file
    if path.exists():
        from metareplay.streams import task_list as gem_format

        # The original's perceptron masked no class, whichever a task shows.
        return replace(gem_format.read(path), scenarios=(DOMAIN,))
    if options.data_file in DATA_FILES:
        return benchmarks.find(DATA_FILES[options.data_file]).stream()
    raise BadInput(
        f"there is no {path}: --data_file is a task list in --data_path, or one of {', '.join(DATA_FILES)}, which need "
        "no file; `metareplay data make --help` tells how to make one, and `python get_data.py --help` which can be had"
    )


def _require_cuda() -> None:
    try:
        import torch
    except ImportError:
        raise BadInput(
            "--cuda is yes, but PyTorch is not installed: `pip install -r requirements.txt` brings it; "
            "or say --cuda no, which needs none"
        ) from None
    if not torch.cuda.is_available():
        raise BadInput(
            "--cuda is yes, but PyTorch finds no CUDA device here: say --cuda no, which for one example at a time "
            "is the faster of the two"
        )
