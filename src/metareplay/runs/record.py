"""The raw record of a run: all that later metrics need, as plain files."""

import errno
import hashlib
import html
import io
import json
import platform
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Self

import numpy as np

from metareplay.errors import BadInput, RunFailed, failing
from metareplay.files import read_regular, shown, write_atomically
from metareplay.runs.checkpoint import State, pack
from metareplay.runs.metrics import METRICS, History, Undefined

RECORD = "record.json"
SMALL = 64 * 2**20
"""Arrays may unpack to this many bytes and 64 times their file's size; all of a real run's are far below."""
PREFIXES = {"arrays": "record-", "weights": "weights-"}
UNSIGNED = "0" * 64  # stands in ``record.json`` where its SHA-256 will, while that is computed
ARRAYS = ("visits", "evaluated_at", "evaluated_visit", "correct", "test_sizes", "predicted_right")
OPTIONAL = ("right_by_visit", "right_by_thousand", "units")  # arrays that not every record has
COUNTED = ("gradients", "forward_passes")  # what older records do not have: there it is None
NUMBERS = ("steps", "train_seconds", "eval_seconds", "compile_seconds", "parameter_bytes", "table_bytes", *COUNTED)


@dataclass(frozen=True, eq=False, kw_only=True)
class Record(History):
    """What happened in a run: its :class:`History` and what it cost.

    ``started`` is in ISO 8601 (UTC), ``steps`` are SGD steps, ``counters`` what the method's mechanism did, by name.
    ``gradients`` and ``forward_passes`` are examples, as ``Learner`` counts them; predicting each is one of the latter.
    ``weights`` are what was learned, for ``metareplay.load``; None in a record that was read back.

    Examples
    --------
    >>> record = metareplay.run(stream, metareplay.Online(lr=0.03))
    >>> record.accuracy.shape, record.steps  # after each visit, on each task
    ((2, 2), 100)
    >>> bool(record.metrics["retained_accuracy"] == record.accuracy[-1].mean())
    True
    """

    environment: dict[str, str]
    started: str
    steps: int
    train_seconds: float
    eval_seconds: float
    compile_seconds: float
    parameter_bytes: int
    table_bytes: int
    gradients: int | None = None
    forward_passes: int | None = None
    counters: dict[str, float] = field(default_factory=dict)
    weights: State | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        configuration, retained = self.configuration, self.metrics["retained_accuracy"]
        known = f"{100 * retained:.1f} %" if isinstance(retained, float) else "undefined"
        what = f"{configuration['method']} on {configuration['benchmark']}, seed {configuration['seed']}"
        return f"Record({what}: retained accuracy {known})"

    def _repr_html_(self) -> str:
        """For a notebook: the accuracy matrix, shaded, with the metrics below it."""
        cells = "".join(
            "<tr>"
            + "".join(f'<td style="background:rgba(0,119,187,{a:.2f})">{100 * a:.0f}</td>' for a in row)
            + "</tr>"
            for row in self.accuracy
        )
        known = [f"{name} {100 * value:.1f} %" for name, value in self.metrics.items() if isinstance(value, float)]
        title = f"after each task (row), accuracy on each (column), %; {', '.join(known)}"
        return f"<div>{html.escape(repr(self))}<table>{cells}</table>{html.escape(title)}</div>"

    def plot(self) -> Any:
        """The curve of average accuracy beside the accuracy matrix: a picture in a notebook, with ``save(path)``.

        BadInput if the extra ``report`` is not installed.
        """
        import_module("metareplay.results").require_drawing()  # results stand on runs
        return import_module("metareplay.results.figures").Plot(self)

    @cached_property
    def metrics(self) -> dict[str, float | Undefined]:
        """All of ``metareplay.runs.metrics.METRICS``, as fractions; ``Undefined`` where one would have no meaning."""
        return {name: metric.of(self) for name, metric in METRICS.items()}

    def summary(self) -> dict[str, Any]:
        """Metrics (None where ``undefined`` says why), matrix, costs and settings, as plain values for JSON."""
        undefined = {name: value.because for name, value in self.metrics.items() if isinstance(value, Undefined)}
        return {
            **{name: self.configuration[name] for name in ("benchmark", "method", "seed", "hyperparameters")},
            **{name: None if name in undefined else value for name, value in self.metrics.items()},
            "undefined": undefined,
            "accuracy": self.accuracy.tolist(),
            "baseline": self.baseline.tolist(),
            **{name: getattr(self, name) for name in (*NUMBERS, "counters", "configuration", "environment", "started")},
        }

    def save(self, folder: Path | str) -> None:
        """Write the record into a folder: its arrays, any weights, and then ``record.json``, which names them.

        A reader sees this record whole, or the one before it, whatever happens. RunFailed if it cannot be written.
        """
        folder, arrays = Path(folder), io.BytesIO()
        kept = {name: getattr(self, name) for name in (*ARRAYS, *OPTIONAL)}
        np.savez_compressed(arrays, **{name: array for name, array in kept.items() if array is not None})
        contents = {"arrays": arrays.getvalue()} | ({"weights": pack(self.weights)} if self.weights else {})
        sums = {what: hashlib.sha256(content).hexdigest() for what, content in contents.items()}
        named = {what: {"file": f"{PREFIXES[what]}{sum[:8]}.npz", "sha256": sum} for what, sum in sums.items()}
        unsigned = (json.dumps({"sha256": UNSIGNED, **self.summary(), **named}, indent=1) + "\n").encode()
        signed = unsigned.replace(UNSIGNED.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)
        with failing(RunFailed, f"cannot save the record in {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            before, after = set(arrays_in(folder)), {folder / name["file"] for name in named.values()}
            useless = after - before
            try:
                for what, content in contents.items():
                    write_atomically(folder / named[what]["file"], content, follow=False)
                write_atomically(folder / RECORD, signed, follow=False)
                useless = before - after
            finally:
                for path in useless:
                    path.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a record back; BadInput if there is none or it is damaged, RunFailed if it cannot be read now."""
        summary, content = _read(Path(folder))
        with _whole(Path(folder)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > SMALL + 64 * len(content):
                raise ValueError(f"{shown(len(content))} of arrays that unpack to {shown(size)}")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                record = cls(
                    **{name: arrays[name] for name in ARRAYS},
                    **{name: arrays[name] for name in OPTIONAL if name in arrays},
                    **{name: summary[name] for name in ("configuration", "environment", "started", *NUMBERS)},
                    counters=summary.get("counters", {}),  # older ones have none
                )
            record.summary()  # does it all fit together?
        return record


def environment(engine: str | None) -> dict[str, str]:
    """Versions of what computes, and the kind of machine."""
    import llvmlite.binding

    names = ("metareplay", "numpy", "numba", *(["torch"] if engine == "torch" else []))
    return {name: metadata.version(name) for name in names} | {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": llvmlite.binding.get_host_cpu_name(),
        "host": platform.node(),
    }


def arrays_in(folder: Path) -> list[Path]:
    """The files of arrays and weights in a folder, whether or not its record names them."""
    return [path for prefix in PREFIXES.values() for path in folder.glob(f"{prefix}*.npz")]


def read_summary(folder: Path) -> dict[str, Any]:
    """The ``Record.summary()`` of the record in a folder, once all of it is found to be whole; raises as ``load``."""
    return _read(folder)[0]


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The summary, and the verified content of the file of arrays."""
    with _whole(folder):
        if not (folder / RECORD).exists():
            raise BadInput(f"there is no record of a run in {folder}")
        text = read_regular(folder / RECORD)
        summary: dict[str, Any] = json.loads(text)
        sha256 = summary.pop("sha256")
        for name in COUNTED:
            summary.setdefault(name, None)
        if hashlib.sha256(text.replace(sha256.encode(), UNSIGNED.encode(), 1)).hexdigest() != sha256:
            raise ValueError(f"{RECORD} is another than was written")
        if missing := {"configuration", "environment", "started", *NUMBERS} - set(summary):
            raise ValueError(f"{min(missing)} is missing")
        if not isinstance(summary["configuration"], dict):
            raise ValueError("its configuration is none")
        return summary, read_part(folder, summary["arrays"])


def read_part(folder: Path, named: dict[str, str], how: str = "") -> bytes:
    """The verified content of a file that a record names, for its arrays or weights; raises as ``Record.load``."""
    with _whole(folder, how):
        file = named["file"]
        if not file or Path(file).name != file or file == "..":
            raise ValueError(f"{file!r} is no name of a file")
        content = read_regular(folder / file)
        if hashlib.sha256(content).hexdigest() != named["sha256"]:
            raise ValueError(f"{file} is another than was written")
        return content


@contextmanager
def _whole(folder: Path, how: str = "") -> Iterator[None]:
    """Say so where what is read from a record proves to be damaged, or cannot be read now."""
    try:
        yield
    except (MemoryError, BadInput, RunFailed):
        raise
    except Exception as error:  # damaged and foreign files raise nearly anything
        missing = isinstance(error, FileNotFoundError) and f"{Path(error.filename).name} is missing"
        if isinstance(error, OSError) and (error.filename or error.errno not in (None, errno.EINVAL)) and not missing:
            text = f"the record in {folder} cannot be read now: {error.strerror or error}"
            raise RunFailed(f"{text}; try again when it can, or remove that file") from error
        raise BadInput(f"the record in {folder} is damaged ({missing or error}): it must be run again{how}") from error
