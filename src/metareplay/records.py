"""The raw record of a run: all that later metrics need, as plain files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metareplay import metrics
from metareplay.errors import BadInput, RunFailed

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

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """R: row i is when visit i ended, column j the task of visit j; ``(v, v)``."""
        last = [np.flatnonzero(self.evaluated_visit == visit)[-1] for visit in range(len(self.visits))]
        return np.asarray((self.correct[last] / self.test_sizes)[:, self.visits])

    @cached_property
    def baseline(self) -> NDArray[np.float64]:
        """b: the same before any training; ``(v,)``."""
        return np.asarray((self.correct[0] / self.test_sizes)[self.visits])

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics of the papers, as fractions."""
        return {
            "retained_accuracy": metrics.retained_accuracy(self.accuracy),
            "learning_accuracy": metrics.learning_accuracy(self.accuracy),
            "backward_transfer": metrics.backward_transfer(self.accuracy),
            "forward_transfer": metrics.forward_transfer(self.accuracy, self.baseline),
            "online_accuracy": float(self.predicted_right.mean()),
        }

    def summary(self) -> dict[str, Any]:
        """Metrics, matrix, costs and settings, as plain values for JSON."""
        configuration = self.configuration
        return {
            "benchmark": configuration["benchmark"],
            "method": configuration["method"],
            "seed": configuration["seed"],
            "hyperparameters": configuration["hyperparameters"],
            **self.metrics,
            "accuracy": self.accuracy.tolist(),
            "baseline": self.baseline.tolist(),
            **{name: getattr(self, name) for name in NUMBERS},
            "configuration": configuration,
            "environment": self.environment,
            "started": self.started,
        }

    def save(self, folder: Path) -> None:
        """Write the record into a new folder; a reader never sees half of it.

        Raises
        ------
        RunFailed
            If it cannot be written; nothing is left behind. A folder that holds anything but a record is not touched.
        """
        temporary = old = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            with (temporary / "record.npz").open("wb") as file:
                np.savez_compressed(file, **{name: getattr(self, name) for name in ARRAYS})
                _flush(file)
            with (temporary / "record.json").open("w", encoding="utf-8") as file:
                json.dump(self.summary(), file, indent=1)
                _flush(file)
            temporary.chmod(0o755)
            if folder.exists():
                others = {path.name for path in folder.iterdir()} - {"record.json", "record.npz"}
                if others:
                    raise RunFailed(f"cannot save the record in {folder}: it holds something else ({min(others)})")
                old = temporary.with_name(temporary.name + "-old")
                folder.replace(old)
            temporary.replace(folder)
        except OSError as error:
            raise RunFailed(f"cannot save the record in {folder}: {error.strerror or error}") from error
        finally:
            for leftover in (temporary, old):
                if leftover is not None:
                    shutil.rmtree(leftover, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> Record:
        """Read a record back.

        Raises
        ------
        BadInput
            If there is none, or it is damaged.
        """
        try:
            summary = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            # Opened here, so that it is closed even where it is no archive.
            with (folder / "record.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                record = cls(
                    configuration=summary["configuration"],
                    environment=summary["environment"],
                    started=summary["started"],
                    **{name: arrays[name] for name in ARRAYS},
                    **{name: summary[name] for name in NUMBERS},
                )
            record.summary()  # does it all fit together?
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(f"there is no record of a run in {folder}") from None
        except OSError as error:
            raise BadInput(f"cannot read the record in {folder}: {error.strerror or error}") from error
        except Exception as error:  # damaged archives and foreign files raise nearly anything
            raise BadInput(f"the record in {folder} is damaged ({error}); remove it and run again") from error
        return record


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
