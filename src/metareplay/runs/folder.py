"""A folder of runs: each in a folder of its own, named after everything that decides its outcome."""

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
from functools import partial
from pathlib import Path
from typing import Any, Literal

from metareplay.errors import BadInput, RunFailed, with_flags
from metareplay.files import holder, locked, read_regular, unfinished, write_atomically
from metareplay.methods import METHODS
from metareplay.runs.checkpoint import FileCheckpoints, Unusable, peek
from metareplay.runs.experiment import Experiment, key_of
from metareplay.runs.record import PREFIXES, RECORD, Record, arrays_in, read_summary
from metareplay.runs.trackers import Tracker
from metareplay.runs.trainer import Report, Trainer

CONFIGURATION = "configuration.json"
CHECKPOINT = "checkpoint.npz"
FAILURE = "failed.json"
LOCK = ".lock"
KEY = re.compile("[0-9a-f]{16}")
Note = Callable[[str], None]  # told in one line what the user may want to know


class Unsaved(RunFailed):
    """A run is over, but its record cannot be saved; here it is."""

    def __init__(self, message: str, record: Record) -> None:
        super().__init__(message)
        self.record = record


@dataclass(frozen=True)
class Status:
    """How a run stands.

    ``done``: its record is whole. ``running``: a process holds its lock. ``stopped``: it resumes from its last
    checkpoint when it is started again. ``failed``: it ended with an error. ``broken``: what is there cannot be read,
    or is another run's.
    """

    folder: Path
    state: Literal["new", "done", "running", "stopped", "failed", "broken"]
    message: str = ""  # what went wrong, if failed or broken
    examples: int | None = None  # how many it has learned, where that is known
    configuration: dict[str, Any] | None = None  # what decides it; None where that cannot be read
    summary: dict[str, Any] | None = None  # ``Record.summary()``, if done

    @property
    def name(self) -> str:
        if self.configuration is None:
            return "not known"
        memories = self.configuration["hyperparameters"].get("memories")
        size = "" if memories is None else f", {memories} memories"
        return "{benchmark}, {method}{size}, seed {seed}".format(**self.configuration, size=size)

    @property
    def why(self) -> str:
        return f"{self.message} {'' if self.examples is None else f'{self.examples} examples were learned.'}".strip()


class Run:
    """One run's folder, whose name is the run's ``key``.

    It holds ``configuration.json`` from the start, ``checkpoint.npz`` while the run is not over, ``failed.json`` after
    an error, and in the end ``record.json`` with the arrays that it names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder, folder.name

    def status(self) -> Status:
        broken, found = "", partial(Status, self.folder)
        if (self.folder / RECORD).exists():
            try:
                summary = read_summary(self.folder)
                self._require_own(summary["configuration"])
                return found("done", configuration=summary["configuration"], summary=summary)
            except (BadInput, RunFailed) as error:
                broken = with_flags(error)
        configuration = _json(self.folder / CONFIGURATION).get("configuration")
        if not isinstance(configuration, dict) or key_of(configuration) != self.key:
            configuration = None
        examples, damaged = self._examples()
        if holder(self.folder / LOCK):
            return found("running", "", examples, configuration)
        if not broken and (failed := self.folder / FAILURE).exists():
            message = str(_json(failed).get("message", "it is not known why"))
            return found("failed", message, examples, configuration)
        if configuration is None:
            broken = broken or f"{self.folder / CONFIGURATION} is missing or damaged; run it again"
        if broken or damaged:
            return found("broken", broken or damaged, None, configuration)
        return found("stopped", "", examples, configuration)

    def record(self, note: Note = lambda text: None) -> Record | None:
        """Its record; None if there is none, noted if damaged or another's; RunFailed if it cannot be read now."""
        if not (self.folder / RECORD).exists():
            return None
        try:
            record = Record.load(self.folder)
            self._require_own(record.configuration)
        except BadInput as error:
            note(f"{with_flags(error)}, which begins now")
            return None
        return record

    def _require_own(self, configuration: dict[str, Any]) -> None:
        if (key := key_of(configuration)) != self.key:
            text = f"the record in {self.folder} is of the run {key}: the folder was copied or renamed; run it again"
            raise BadInput(text)

    @contextlib.contextmanager
    def lock(self, experiment: Experiment | None = None) -> Iterator[None]:
        """Hold the run's lock, and note an ``experiment`` that begins; Held by another process, or RunFailed if not."""
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                # A second, since whoever asks how runs stand takes each lock for a moment.
                stack.enter_context(locked(self.folder / LOCK, 1, f"the run {self.folder}"))
                if experiment is not None:
                    for path in (*unfinished(self.folder), self.folder / FAILURE):
                        path.unlink(missing_ok=True)
                    process = {"pid": os.getpid(), "host": platform.node()}
                    self._write(CONFIGURATION, "began", configuration=experiment.configuration(), process=process)
            except OSError as error:
                where, why = error.filename or self.folder, error.strerror or error
                raise RunFailed(f"{where} cannot be written: {why}; name another folder with --out") from error
            yield

    def carry_out(
        self, experiment: Experiment, progress: Report | None = None, tracker: Tracker | None = None, *,
        again: bool = False, weights: bool = True, checkpoints: FileCheckpoints | None = None,
        note: Note = lambda text: None,
    ) -> Record:  # fmt: skip
        """Give the record if it is there; else run, from the checkpoint if there is one, and keep the record.

        ``progress``, ``tracker``, ``checkpoints`` and ``note`` are as ``Trainer.train`` takes them; its state is by
        default kept in the folder. ``again``: run it even if its record is there. ``weights``: save what was learned
        with the record, for ``metareplay.load``. Held if another process is running it; RunFailed if the
        run fails, or cannot be saved (``Unsaved``). What was saved before stays.
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
        """Hold the run's ``lock``; an error is written down; of a user's code it is RunFailed, in one line."""
        with self.lock(experiment):
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
        with contextlib.suppress(OSError):  # a full disk, of which the user hears anyway
            self._write(FAILURE, "when", message=message, **({"traceback": trace} if trace else {}))

    def _write(self, name: str, time: str, **content: Any) -> None:
        content[time] = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomically(self.folder / name, (json.dumps(content, indent=1) + "\n").encode(), follow=False)

    def tidy(self) -> None:
        """Remove what a process that was killed at the very end has left beside a record that is whole."""
        if self._left_over():
            with contextlib.suppress(RunFailed, OSError), self.lock():
                for path in self._left_over():
                    path.unlink()

    def _left_over(self) -> list[Path]:
        with contextlib.suppress(BadInput, RunFailed):
            summary = read_summary(self.folder)
            named = [summary[what]["file"] for what in PREFIXES if what in summary]
            others = [path for path in arrays_in(self.folder) if path.name not in named]
            left = [path for name in (CHECKPOINT, FAILURE) if (path := self.folder / name).exists()]
            return [*left, *others, *unfinished(self.folder)]
        return []

    def save(self, record: Record) -> None:
        """Save the record of the run, which is over, or raise Unsaved; a damaged or another run's is set aside."""
        if self.status().state != "done" and os.path.lexists(self.folder / RECORD):
            for path in (*arrays_in(self.folder), self.folder / RECORD):
                FileCheckpoints(path).set_aside()
        try:
            record.save(self.folder)
        except RunFailed as error:
            raise Unsaved(with_flags(error), record) from error

    def recorded_key(self) -> str | None:
        """The key of the run that the folder's files are of; None if they do not say."""
        found = (_json(self.folder / name).get("configuration") for name in (RECORD, CONFIGURATION))
        return next((key_of(configuration) for configuration in found if isinstance(configuration, dict)), None)

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
    """An error in one line; unless it is ours, with the last line that it came through, in the method's file if any."""
    text = " ".join(with_flags(error).split())
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
    """All runs in a folder of runs, by key; a copy under another name is none where the original is there too."""
    folders = sorted(path for path in root.iterdir() if path.name[0] != ".") if root.is_dir() else []
    found = [Run(path) for path in folders if (path / RECORD).exists() or (path / CONFIGURATION).exists()]
    keys = {run.key for run in found}
    return [run for run in found if KEY.fullmatch(run.key) or run.recorded_key() not in keys]


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where it cannot be read or is none."""
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
