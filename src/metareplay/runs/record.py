"""The raw record of a run: all that later metrics need, as plain files."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay.errors import BadInput, RunFailed
from metareplay.files import write_atomically
from metareplay.runs.metrics import METRICS, Undefined

RECORD = "record.json"
UNSIGNED = "0" * 64
"""Stands in ``record.json`` where its SHA-256 will, while that is computed."""
ARRAYS = ("visits", "evaluated_at", "evaluated_visit", "correct", "test_sizes", "predicted_right")
NUMBERS = ("steps", "train_seconds", "eval_seconds", "compile_seconds", "parameter_bytes", "table_bytes")


@dataclass(frozen=True, eq=False)
class Record:
    """What happened in a run.

    Parameters
    ----------
    configuration, environment
        What decided it, and what it ran on.
    started
        When, in ISO 8601 (UTC).
    visits
        ``(v,)`` the tasks visited, in order.
    evaluated_at, evaluated_visit
        ``(e,)`` for each evaluation the number of batches learned before it, and the visit under way or just ended;
        -1 before any training.
    correct
        ``(e, tasks)`` right answers on each task's test examples; there are ``test_sizes (tasks,)`` of these.
    predicted_right
        ``(examples,)`` whether each example, in the order of the stream, was predicted right before it was learned.
    steps
        SGD steps taken.
    train_seconds, eval_seconds, compile_seconds
        Time spent learning, predicting, and compiling.
    parameter_bytes, table_bytes
        What the network and the table of examples take.
    """

    configuration: dict[str, Any]
    environment: dict[str, str]
    started: str
    visits: NDArray[np.int64]
    evaluated_at: NDArray[np.int64]
    evaluated_visit: NDArray[np.int64]
    correct: NDArray[np.int64]
    test_sizes: NDArray[np.int64]
    predicted_right: NDArray[np.bool_]
    steps: int
    train_seconds: float
    eval_seconds: float
    compile_seconds: float
    parameter_bytes: int
    table_bytes: int

    @property
    def iid(self) -> bool:
        """Whether all tasks' examples came mixed together, none after another."""
        return self.configuration.get("order") == "iid"

    @cached_property
    def tasks(self) -> NDArray[np.int64]:
        """The distinct tasks, in the order in which they were first met; ``(n,)``."""
        return self.visits[np.sort(np.unique(self.visits, return_index=True)[1])]

    @cached_property
    def first_visits(self) -> NDArray[np.int64]:
        """The visit in which each of ``tasks`` was first met; ``(n,)``. Zero for all where they came mixed."""
        first = np.sort(np.unique(self.visits, return_index=True)[1])
        return np.zeros_like(first) if self.iid else first

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """R: row i is when visit i ended, column j the j-th of ``tasks``; ``(v, n)``, ``(1, n)`` if all are mixed."""
        ends = range(len(self.visits) - 1 if self.iid else 0, len(self.visits))
        last = [np.flatnonzero(self.evaluated_visit == visit)[-1] for visit in ends]
        return np.asarray((self.correct[last] / self.test_sizes)[:, self.tasks])

    @cached_property
    def baseline(self) -> NDArray[np.float64]:
        """b: the same before any training; ``(n,)``."""
        return np.asarray((self.correct[0] / self.test_sizes)[self.tasks])

    @cached_property
    def metrics(self) -> dict[str, float | Undefined]:
        """All of ``metareplay.runs.metrics.METRICS``, as fractions; ``Undefined`` where one would have no meaning."""
        return {name: metric.of(self) for name, metric in METRICS.items()}

    def summary(self) -> dict[str, Any]:
        """Metrics (None where ``undefined`` says why), matrix, costs and settings, as plain values for JSON."""
        configuration = self.configuration
        undefined = {name: value.because for name, value in self.metrics.items() if isinstance(value, Undefined)}
        return {
            "benchmark": configuration["benchmark"],
            "method": configuration["method"],
            "seed": configuration["seed"],
            "hyperparameters": configuration["hyperparameters"],
            **{name: None if name in undefined else value for name, value in self.metrics.items()},
            "undefined": undefined,
            "accuracy": self.accuracy.tolist(),
            "baseline": self.baseline.tolist(),
            **{name: getattr(self, name) for name in NUMBERS},
            "configuration": configuration,
            "environment": self.environment,
            "started": self.started,
        }

    def save(self, folder: Path) -> None:
        """Write the record into a folder: its arrays, and then ``record.json``, which names them.

        A reader sees this record whole, or the one before it, whatever happens.

        Raises
        ------
        RunFailed
            If it cannot be written.
        """
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **{name: getattr(self, name) for name in ARRAYS})
        sha256 = hashlib.sha256(arrays.getvalue()).hexdigest()
        file = f"record-{sha256[:8]}.npz"
        summary = {"sha256": UNSIGNED, **self.summary(), "arrays": {"file": file, "sha256": sha256}}
        unsigned = (json.dumps(summary, indent=1) + "\n").encode()
        signed = unsigned.replace(UNSIGNED.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = set(folder.glob("record-*.npz"))
            write_atomically(folder / file, arrays.getvalue())
            try:
                write_atomically(folder / RECORD, signed)
            except BaseException:
                if folder / file not in before:
                    (folder / file).unlink(missing_ok=True)
                raise
            for old in before - {folder / file}:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise RunFailed(f"cannot save the record in {folder}: {error.strerror or error}") from error

    @classmethod
    def load(cls, folder: Path) -> Record:
        """Read a record back.

        Raises
        ------
        BadInput
            If there is none, or it is damaged.
        """
        summary, content = _read(folder)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                record = cls(
                    configuration=summary["configuration"],
                    environment=summary["environment"],
                    started=summary["started"],
                    **{name: arrays[name] for name in ARRAYS},
                    **{name: summary[name] for name in NUMBERS},
                )
            record.summary()  # does it all fit together?
        except Exception as error:  # foreign files raise nearly anything
            raise BadInput(f"the record in {folder} is damaged ({error}): it must be run again") from error
        return record


def read_summary(folder: Path) -> dict[str, Any]:
    """The ``Record.summary()`` of the record in a folder, from its JSON alone, once all of it is found to be whole.

    Raises
    ------
    BadInput
        If there is none, or it is damaged.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The summary, and the verified content of the file of arrays."""
    try:
        text = (folder / RECORD).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"there is no record of a run in {folder}") from None
    except OSError as error:
        raise BadInput(f"cannot read the record in {folder}: {error.strerror or error}") from error
    try:
        summary = json.loads(text)
        sha256 = summary.pop("sha256")
        if hashlib.sha256(text.replace(sha256.encode(), UNSIGNED.encode(), 1)).hexdigest() != sha256:
            raise ValueError(f"{RECORD} is another than was written")
        file, sha256 = summary["arrays"]["file"], summary["arrays"]["sha256"]
        missing = {"configuration", "environment", "started", *NUMBERS} - set(summary)
        if missing:
            raise ValueError(f"{min(missing)} is missing")
        if Path(file).name != file:
            raise ValueError(f"{file!r} is no name of a file")
        content = (folder / file).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{file} is another than was written")
    except Exception as error:  # damaged and foreign files raise nearly anything
        raise BadInput(f"the record in {folder} is damaged ({error}): it must be run again") from error
    return summary, content
