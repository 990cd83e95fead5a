"""The original's ``main.py``: learn as the flags say, print one line, write two files."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import uuid
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from metareplay.cli import status_of
from metareplay.errors import RunFailed
from metareplay.files import write_atomically
from metareplay.original import arguments
from metareplay.original.experiments import experiment, printed, their_names
from metareplay.original.results import Results
from metareplay.original.weights import state
from metareplay.runs.checkpoint import SECONDS, FileCheckpoints, Unusable
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import CHECKPOINT, Run
from metareplay.runs.trainer import Progress, Trainer
from metareplay.suites.progress import Display

NAME = "main.py"
RUNS = "runs"
FILES = "files.json"
"""In a run's folder: the name of its two files, without endings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the status is that of ``metareplay.cli.status_of``."""
    given = list(sys.argv[1:] if argv is None else argv)
    return status_of(lambda: learn(arguments.read(given)), NAME)


def learn(options: Namespace) -> None:
    """Carry out one run, from its last checkpoint if it was stopped.

    Raises
    ------
    BadInput
        If the options cannot be used.
    RunFailed
        If it fails, or cannot be kept.
    """
    _require_writable(options.save_path)
    if not _have_pytorch():
        _note(
            "PyTorch is not installed, so there will be no .pt file, only the text file; "
            "`pip install -r requirements.txt` brings it"
        )
    if Path(options.data_file).name == "cifar100.pt":
        _note(
            "cifar100.pt is learned by the perceptron here, all classes open; for what the original did with it, a "
            "reduced ResNet-18 and the task's classes alone, there is `metareplay run` with --network resnet18-reduced"
        )
    with their_names():
        asked = experiment(options)
        life = Trainer(asked)  # where it cannot be, the folder is not touched
        run = Run(run_folder(options, asked))
        with run.locked(asked):
            _learn(options, life, run)


def run_folder(options: Namespace, asked: Experiment) -> Path:
    """Where the run's record is kept, and how to go on while it is not over: named after the run's hash."""
    return Path(options.save_path) / RUNS / asked.key


def written(folder: Path) -> str | None:
    """The path, without endings, of the two files that a run wrote; None if they are not there (any more)."""
    try:
        name = json.loads((folder / FILES).read_bytes())["files"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    path = f"{folder.parent.parent / name}"
    wanted = (".txt", ".pt") if _have_pytorch() else (".txt",)
    return path if all(Path(path + ending).is_file() for ending in wanted) else None


def _learn(options: Namespace, life: Trainer, run: Run) -> None:
    checkpoints = FileCheckpoints(run.folder / CHECKPOINT, note=_note)
    life = _continued(life, checkpoints)
    with Display() as display:
        follow = Follow(display.run())
        try:
            record = life.train(follow, checkpoints=checkpoints)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(follow.stopped()) from None
    # Both engines have this, for perceptrons, and a perceptron it is.
    layers = cast(Any, life.learner).layers()
    results = Results.of(record, printed(options), state(options.model, layers))
    name = f"{options.model}_{Path(options.data_file).name}_{datetime.now():%Y_%m_%d_%H_%M_%S}_{uuid.uuid4().hex}"
    path = os.path.join(options.save_path, name)
    print(f"{path}: {results.line}", flush=True)  # a full disk does not take away what an hour has shown
    try:
        write(results, path)
        run.save(replace(record, weights=None))  # they are in the other file
        write_atomically(run.folder / FILES, json.dumps({"files": name}).encode(), follow=False)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}; choose another --save_path") from error
    checkpoints.clear()


def _continued(life: Trainer, checkpoints: FileCheckpoints) -> Trainer:
    """Where it was when it was last stopped; at its beginning if it was not, or if that cannot be read."""
    try:
        kept = checkpoints.load()
        if kept is not None:
            life.load_state(kept)
            _note(f"this run was stopped at example {life.seen}: it goes on from there")
    except Unusable as error:
        _note(f"{error}: beginning again")
        checkpoints.set_aside()
        return Trainer(life.experiment)  # half of the state may be loaded
    return life


class Follow:
    """Shows how far a run is, and remembers it."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.report = report
        self.last: Progress | None = None

    def __call__(self, now: Progress) -> None:
        self.last = now
        self.report(now)

    def stopped(self) -> str:
        """Where it was when it was stopped."""
        last = self.last
        if last is None or not last.examples:
            return "stopped before the first example"
        return (
            f"stopped at example {last.examples} of {last.all_examples}, in task {last.visit + 1} of {last.visits}; "
            f"the same command goes on from where it was at most {SECONDS:.0f} s before"
        )


def write(results: Results, path: str) -> None:
    """Write the two files, each whole or not at all; without PyTorch only the text.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    write_atomically(Path(path + ".txt"), results.text().encode())
    if _have_pytorch():
        write_atomically(Path(path + ".pt"), results.pt())


def _note(text: str) -> None:
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


def _have_pytorch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _require_writable(folder: str) -> None:
    """Find out before an hour of training, not after it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunFailed(f"--save_path {folder} cannot keep results: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main())
