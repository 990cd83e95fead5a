"""A folder of runs: each in a folder of its own, named after everything that decides its outcome."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from metareplay.errors import BadInput, RunFailed
from metareplay.files import Held, holder, locked, read_regular, unfinished, write_atomically
from metareplay.methods import METHODS
from metareplay.runs.checkpoint import Checkpoints, FileCheckpoints, Unusable, peek
from metareplay.runs.experiment import Experiment, key_of
from metareplay.runs.record import PREFIXES, RECORD, Record, arrays_in, read_summary
from metareplay.runs.trainer import Report, Tracker, Trainer

CONFIGURATION = "configuration.json"
CHECKPOINT = "checkpoint.npz"
FAILURE = "failed.json"
LOCK = ".lock"
KEY = re.compile("[0-9a-f]{16}")

Note = Callable[[str], None]
"""Told in one line what the user may want to know."""


class LockedElsewhere(RunFailed):
    """Another process is running this run."""


class Unsaved(RunFailed):
    """A run is over, but its record cannot be saved; here it is."""

    def __init__(self, message: str, record: Record) -> None:
        super().__init__(message, record)
        self.message, self.record = message, record

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Parameters
    ----------
    state
        ``done``: its record is whole. ``running``: a process holds its lock. ``stopped``: it goes on from its last
        checkpoint when it is started again. ``failed``: it ended with an error. ``broken``: what is there cannot be
        read, or is another run's.
    configuration
        What decides it; None where that cannot be read.
    summary
        ``Record.summary()``, if done.
    message
        What went wrong, if failed or broken.
    examples
        How many examples it has learned, where that is known.
    """

    state: Literal["done", "running", "stopped", "failed", "broken"]
    configuration: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    message: str | None = None
    examples: int | None = None


class Run:
    """One run's folder.

    It holds ``configuration.json`` from the start, ``checkpoint.npz`` while the run is not over, ``failed.json`` after
    an error, and in the end ``record.json`` with the arrays that it names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def key(self) -> str:
        """The hash of its configuration."""
        return self.folder.name

    def status(self) -> Status:
        """How it stands now."""
        broken = ""
        if (self.folder / RECORD).exists():
            try:
                summary = self._own(read_summary(self.folder))
            except (BadInput, RunFailed) as error:
                broken = str(error)
            else:
                return Status("done", summary["configuration"], summary)
        configuration = self._configuration()
        examples, damaged = self._examples()
        if holder(self.folder / LOCK):
            return Status("running", configuration, examples=examples)
        if broken:
            return Status("broken", configuration, message=broken)
        if (self.folder / FAILURE).exists():
            failure = _json(self.folder / FAILURE) or {}
            message = str(failure.get("message", "it is not known why"))
            return Status("failed", configuration, message=message, examples=examples)
        if configuration is None:
            return Status("broken", message=f"{self.folder / CONFIGURATION} is missing or damaged; run it again")
        if damaged:
            return Status("broken", configuration, message=damaged)
        return Status("stopped", configuration, examples=examples)

    def record(self, note: Note = lambda text: None) -> Record | None:
        """Its record; None if it is not done, or the record is damaged or another run's, which is noted.

        Raises
        ------
        RunFailed
            If there is one that cannot be read now.
        """
        if not (self.folder / RECORD).exists():
            return None
        try:
            record = Record.load(self.folder)
            self._own({"configuration": record.configuration})
        except BadInput as error:
            note(f"{error}, which begins now")
            return None
        return record

    def _own(self, summary: dict[str, Any]) -> dict[str, Any]:
        """A summary, if it is this run's."""
        key = key_of(summary["configuration"])
        if key != self.key:
            raise BadInput(
                f"the record in {self.folder} is of the run {key}: the folder was copied or renamed; run it again"
            )
        return summary

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's lock.

        Raises
        ------
        LockedElsewhere
            If another process holds it.
        RunFailed
            If the folder cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                # A second, since whoever asks how runs stand takes each lock for a moment.
                stack.enter_context(locked(self.folder / LOCK, patience=1))
            except Held as held:
                message = f"{held.holder} is running {self.folder}: wait for it, or stop it first"
                raise LockedElsewhere(message) from None
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def carry_out(
        self,
        experiment: Experiment,
        progress: Report | None = None,
        tracker: Tracker | None = None,
        *,
        again: bool = False,
        weights: bool = True,
        checkpoints: Checkpoints | None = None,
        note: Note = lambda text: None,
    ) -> Record:
        """Give the record if it is there; else run, from the checkpoint if there is one, and keep the record.

        Parameters
        ----------
        experiment
            The run; its key is the folder's name.
        again
            Run it even if its record is there.
        weights
            Save what was learned with the record, for ``metareplay.load``.
        checkpoints
            Where its state is kept; by default in the folder.
        note
            Called with a line that the user may want to know: that it begins again.

        Raises
        ------
        LockedElsewhere
            If another process is running it.
        RunFailed
            If the run fails, or cannot be saved (``Unsaved``). What was saved before stays.
        """
        if not again and (record := self.record(note)) is not None:
            self.tidy()
            return record
        trainer = Trainer(experiment)  # where it cannot be, the folder is not touched
        with self.locked(experiment):
            if not again and (record := self.record()) is not None:  # while we came to the lock
                return record
            checkpoints = checkpoints or FileCheckpoints(self.folder / CHECKPOINT, note=note)
            if again:
                checkpoints.clear()
            record = trainer.train(progress, tracker, checkpoints, note)
            self.save(record if weights else replace(record, weights=None))
            with contextlib.suppress(OSError):  # it is done, and whoever asks for it next tidies up
                checkpoints.clear()
        return record

    @contextlib.contextmanager
    def locked(self, experiment: Experiment) -> Iterator[None]:
        """Hold the run's lock, and say so to whoever looks; an error is written down for those who look later.

        Raises
        ------
        LockedElsewhere
            If another process holds it.
        RunFailed
            If the folder cannot be written, or a user's own code raised an error, which is then one line.
        """
        with self.lock():
            try:
                for path in unfinished(self.folder):
                    path.unlink()
                self._announce(experiment)
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield
            except (Exception, SystemExit) as error:  # a user's method may call exit()
                message = one_line(error, experiment)
                ours = isinstance(error, RunFailed | BadInput)
                self.fail(message, None if ours else "".join(traceback.format_exception(error)))
                if ours or type(experiment.method) in METHODS.values():
                    raise
                raise RunFailed(f"{message}; {self.folder / FAILURE} has the whole traceback") from error

    def fail(self, message: str, trace: str | None = None) -> None:
        """Note that it failed, and why; whoever calls this has the lock, or knows that nobody else runs it."""
        failure = {"message": message, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        if trace:
            failure["traceback"] = trace
        with contextlib.suppress(OSError):  # a full disk, of which the user hears anyway
            write_atomically(self.folder / FAILURE, (json.dumps(failure, indent=1) + "\n").encode(), follow=False)

    def tidy(self) -> None:
        """Remove what a process that was killed at the very end has left beside a record that is whole."""
        if not self._left_over():
            return
        with contextlib.suppress(RunFailed, OSError), self.lock():
            for path in self._left_over():
                path.unlink()

    def _left_over(self) -> list[Path]:
        try:
            summary = read_summary(self.folder)
        except (BadInput, RunFailed):
            return []
        named = [summary[what]["file"] for what in PREFIXES if what in summary]
        others = [path for path in arrays_in(self.folder) if path.name not in named]
        left = [path for name in (CHECKPOINT, FAILURE) if (path := self.folder / name).exists()]
        return [*left, *others, *unfinished(self.folder)]

    def _unwritable(self, error: OSError) -> RunFailed:
        where, why = error.filename or self.folder, error.strerror or error
        return RunFailed(f"{where} cannot be written: {why}; name another folder with --out")

    def save(self, record: Record) -> None:
        """Save the record of the run, which is over.

        Raises
        ------
        Unsaved
            If it cannot be written.
        """
        try:
            record.save(self.folder)
        except RunFailed as error:
            raise Unsaved(str(error), record) from error

    def _announce(self, experiment: Experiment) -> None:
        (self.folder / FAILURE).unlink(missing_ok=True)
        started = {
            "configuration": experiment.configuration(),
            "process": {"pid": os.getpid(), "host": platform.node()},
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_atomically(self.folder / CONFIGURATION, (json.dumps(started, indent=1) + "\n").encode(), follow=False)

    def recorded_key(self) -> str | None:
        """The key of the run that the folder's files are of; None if they do not say."""
        for name in (RECORD, CONFIGURATION):
            configuration = (_json(self.folder / name) or {}).get("configuration")
            if isinstance(configuration, dict):
                return key_of(configuration)
        return None

    def _configuration(self) -> dict[str, Any] | None:
        started = _json(self.folder / CONFIGURATION)
        configuration = started.get("configuration") if started else None
        whole = isinstance(configuration, dict) and key_of(configuration) == self.key
        return configuration if whole else None

    def _examples(self) -> tuple[int | None, str]:
        """How many examples its checkpoint has learned, where that is known, and what is wrong with it."""
        path = self.folder / CHECKPOINT
        try:
            seen = (peek(path) or {}).get("seen")
        except Unusable:
            return None, f"{path} is damaged; the run begins again when started"
        except (OSError, MemoryError):
            seen = None
        return seen if isinstance(seen, int) else None, ""


def one_line(error: BaseException, experiment: Experiment | None = None) -> str:
    """An error in one line; unless it is a message of ours, with the line of code where it came up.

    Parameters
    ----------
    experiment
        What was run: of the lines that the error came through, the last one in its method's file is told.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RunFailed | BadInput):
        return text
    if isinstance(error, MemoryError):
        return f"there is not enough memory{text and ': '}{text}"
    frames = traceback.extract_tb(error.__traceback__)
    module = sys.modules.get(type(experiment.method).__module__) if experiment else None
    own = [frame for frame in frames if frame.filename == getattr(module, "__file__", None)]
    where = "".join(f" ({frame.filename}, line {frame.lineno})" for frame in (own or frames)[-1:])
    return f"{type(error).__name__}{text and ': '}{text}{where}"


def find(root: Path) -> list[Run]:
    """All runs in a folder of runs, by key; none if it is not there.

    A copy of a run's folder under another name is no run where the original is there too.
    """
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    found = [
        Run(folder) for folder in sorted(folders) if any((folder / name).exists() for name in (RECORD, CONFIGURATION))
    ]
    keys = {run.key for run in found}
    return [run for run in found if KEY.fullmatch(run.key) or run.recorded_key() not in keys]


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
