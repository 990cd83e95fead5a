"""The original's ``main.py``: learn as the flags say, print one line, write two files."""

import os
import uuid
from argparse import Namespace
from dataclasses import replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from metareplay.cli import program
from metareplay.errors import RunFailed, failing
from metareplay.files import write_atomically
from metareplay.original.arguments import experiment, printed, read, their_words
from metareplay.original.results import Results, state
from metareplay.runs import display
from metareplay.runs.checkpoint import FileCheckpoints
from metareplay.runs.folder import CHECKPOINT, Run
from metareplay.runs.trainer import Trainer

NAME = "main.py"
RUNS = "runs"
note = partial(display.note, program=NAME)


def learn(options: Namespace) -> None:
    """Carry out one run, from its last checkpoint if it was stopped."""
    if not _have_pytorch():
        text = "PyTorch is not installed, so there will be no .pt file, only the text file; "
        note(f"{text}`pip install -r requirements.txt` brings it")
    if Path(options.data_file).name == "cifar100.pt":
        text = "cifar100.pt is learned by the perceptron here, all classes open; for what the original did with it, a "
        text += "reduced ResNet-18 and the task's classes alone, there is `metareplay run` with --network "
        note(f"{text}resnet18-reduced")
    with their_words():
        asked = experiment(options)
        trainer = Trainer(asked)  # where it cannot be, the folder is not touched
        run = Run(Path(options.save_path) / RUNS / asked.key)
        with run.locked(asked):
            _learn(options, trainer, run)


def _learn(options: Namespace, trainer: Trainer, run: Run) -> None:
    checkpoints = FileCheckpoints(run.folder / CHECKPOINT, note=note)
    trainer.resume(checkpoints, note)
    if trainer.seen:
        note(f"this run was stopped at example {trainer.seen}: it goes on from there")
    with display.Display() as shown:
        record = trainer.train(shown.run(), checkpoints=checkpoints)
    results = Results.of(record, printed(options), state(options.model, cast(Any, trainer.learner).layers()))
    file = Path(options.data_file).name
    name = f"{options.model}_{file}_{datetime.now():%Y_%m_%d_%H_%M_%S}_{run.key}{uuid.uuid4().hex[16:]}"
    path = os.path.join(options.save_path, name)
    print(f"{path}: {results.line}", flush=True)  # a full disk does not take away what an hour has shown
    run.save(replace(record, weights=None))  # they are in the other file
    with failing(RunFailed, f"{path} cannot be written", "choose another --save_path"):
        write_atomically(Path(f"{path}.txt"), results.text().encode())
        if _have_pytorch():
            write_atomically(Path(f"{path}.pt"), results.pt())
    checkpoints.clear()


def written(save_path: str, key: str) -> str | None:
    """The path, without endings, of the files that the run with that key wrote; None if they are not there."""
    texts = Path(save_path).glob(f"*_{key}{'[0-9a-f]' * 16}.txt")
    paths = (str(text.with_suffix("")) for text in sorted(texts))
    return next((path for path in paths if not _have_pytorch() or Path(f"{path}.pt").is_file()), None)


def _have_pytorch() -> bool:
    return find_spec("torch") is not None


main = program(lambda argv: learn(read(argv)), NAME)
