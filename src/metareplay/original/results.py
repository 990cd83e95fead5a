"""The original's two result files, a text and a ``.pt``: written as it wrote them, and read whoever wrote them."""

import argparse
import ast
import contextlib
import io
import itertools
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metareplay.cli import program
from metareplay.cli.arguments import Parser
from metareplay.errors import INSTALL, BadInput, Refused, RunFailed
from metareplay.files import read_regular
from metareplay.networks import Layer
from metareplay.runs import metrics
from metareplay.runs.record import Record
from metareplay.streams import task_list

PRINTED = {"retained_accuracy": "Final Accuracy", "backward_transfer": "Backward", "forward_transfer": "Forward"}
"""The three statistics of the line and the files, by their names in the text; learning accuracy is not among them."""
State = dict[str, NDArray[np.float32]]
"""Weights ``(out, in)`` and biases ``(out,)``, as PyTorch's ``Linear`` has them, by name."""


def state(model: str, layers: Sequence[Layer]) -> State:
    """The state of the original's model, under its modules' names, from what a learner's ``layers()`` gives."""
    named: dict[str, Layer] = {}
    numbered = [(2 * number, layer) for number, layer in enumerate(layers)]  # between them are ReLUs, without weights
    if model == "taskinput":
        first, *shared = layers
        named |= {f"i_layer.{task}": layer for task, layer in enumerate(zip(*first, strict=True))}
        named |= {f"h_layer.0.{number}": layer for number, layer in enumerate(shared[:-1])}
        if shared:
            named["o_layer.0"] = shared[-1]
    elif model == "independent":
        for number, layer in numbered:
            named |= {f"nets.{task}.net.{number}": own for task, own in enumerate(zip(*layer, strict=True))}
    else:
        named = {f"net.net.{number}": layer for number, layer in numbered}
    return {
        f"{name}.{part}": np.ascontiguousarray(np.asarray(values, np.float32).T)
        for name, layer in named.items()
        for part, values in zip(("weight", "bias"), layer, strict=True)
    }


@dataclass(frozen=True, eq=False)
class Results:
    """What a result file holds; of a text file ``options`` and ``state`` are empty, and ``seconds`` NaN."""

    labels: NDArray[np.int64]
    """``(e,)`` for each evaluation the task learned just before it; for the first, before any training, the first task
    to come (the original: 0, whatever came first)."""
    accuracies: NDArray[np.float64]  # ``(e, tasks)`` the share of right answers on each task's test examples
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = float("nan")
    state: State = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record, options: Mapping[str, Any], state: State) -> Self:
        """What is written of a run, from its record and the weights at its end."""
        labels = record.visits[np.maximum(record.evaluated_visit, 0)]
        seconds = record.train_seconds + record.eval_seconds
        return cls(labels, record.correct / record.test_sizes, options, seconds, state)

    @cached_property
    def visits(self) -> NDArray[np.int64]:
        """``(v,)`` the tasks in the order in which they came."""
        return np.array([task for task, _ in itertools.groupby(self.labels[1:].tolist())])

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """R: row i is when the i-th task of ``visits`` ended, column j is the j-th task of ``visits``; ``(v, v)``."""
        return np.asarray(self.accuracies[1 + np.flatnonzero(np.diff(self.labels[1:], append=-1))][:, self.visits])

    @cached_property
    def baseline(self) -> NDArray[np.float64]:
        """b: the same before any training; ``(v,)``."""
        return np.asarray(self.accuracies[0, self.visits])

    @cached_property
    def metrics(self) -> dict[str, float]:
        """RA, LA, BTI and FT, as fractions, by the names that a record's metrics have."""
        of_matrix = (metrics.retained_accuracy, metrics.learning_accuracy, metrics.backward_transfer)
        transfer = {"forward_transfer": metrics.forward_transfer(self.accuracy, self.baseline)}
        return {metric.__name__: metric(self.accuracy) for metric in of_matrix} | transfer

    @property
    def line(self) -> str:
        """What the console shows behind the name: options, the three statistics, seconds."""
        statistics = " ".join(f"{self.metrics[name]:.3f}" for name in PRINTED)
        return f"{dict(self.options)} # {statistics} # {self.seconds}"

    def text(self) -> str:
        """The text file. Rows and columns are the tasks in the order in which they came, so that R's diagonal is LA."""
        before, *rows = (" ".join(f"{part:.4f}" for part in row) for row in (self.baseline, *self.accuracy))
        statistics = (f"{f'{label}: ':<10}{self.metrics[name]:.4f}" for name, label in PRINTED.items())
        return "\n".join([before, "|", *rows, "", *statistics, ""])

    def pt(self) -> bytes:
        """The ``.pt`` file, which needs PyTorch. Its columns are the tasks by number."""
        import torch

        measured = [torch.tensor(values, dtype=torch.float32) for values in (self.labels, self.accuracies)]
        weights = OrderedDict((name, torch.from_numpy(values)) for name, values in self.state.items())
        statistics = [torch.tensor(self.metrics[name]) for name in PRINTED]
        file = io.BytesIO()
        torch.save((*measured, weights, statistics, self.line, argparse.Namespace(**self.options)), file)
        return file.getvalue()


def read(path: Path | str) -> Results:
    """Read a result file, ``.txt`` or ``.pt``, of the original or of ours.

    Its statistics are held against its accuracies, and a zip archive's checksums against its content. A text file does
    not say which column is whose: they are taken to be in the order of the rows. So they are in ours, and in the
    original's unless ``--shuffle_tasks`` was yes. Then its R has a row too many and is refused; but not if task 0 came
    first all the same: only the ``.pt`` beside it gives the right metrics. BadInput if there is none, it is damaged or
    no such file, or loading it would run code.
    """
    path = Path(path)
    try:
        return _read_text(read_regular(path).decode()) if path.suffix == ".txt" else _read_pt(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    except (BadInput, RunFailed):
        raise
    except Exception as error:  # foreign files raise nearly anything
        reason = f": {error}" if isinstance(error, Refused) else ", or it is damaged"
        raise BadInput(f"{path} is no result file of main.py, .txt or .pt{reason}") from error


def _read_text(text: str) -> Results:
    before, after = text.replace("\r\n", "\n").split("\n|\n")
    table, _, end = after.partition("\n\n")
    rows = [row.split() for row in (before, *table.splitlines())]
    accuracies = np.array(rows, float)
    tasks = accuracies.shape[1]
    if len(accuracies) != 1 + tasks:
        why = "the original's, where tasks were shuffled; the .pt file beside it tells which row is whose"
        raise Refused(f"R has {len(accuracies) - 1} rows for {tasks} tasks ({why})")
    results = Results(np.append(0, np.arange(tasks)), accuracies)
    found = [re.search(rf"^{name}: +(-?\d\.\d{{4}}|nan)$", end, re.MULTILINE) for name in PRINTED.values()]
    _require_sound(results, [float(one[1]) if one else np.nan for one in found], 2e-4)
    if not all(re.fullmatch(r"[01]\.\d{4}", word) for row in rows for word in row):
        raise Refused("its accuracies do not have four decimals")
    return results


def _read_pt(path: Path) -> Results:
    try:
        # Tensors, plain values, and the one class that the original put beside them; making it runs nothing.
        labels, accuracies, weights, statistics, line, options = task_list.load(path, argparse.Namespace)
    except BadInput:
        raise BadInput(f"{path} can only be read with PyTorch: {INSTALL.format('torch')}") from None
    if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):
        raise Refused(f"the checksum of {damaged} in it is another one: it is damaged")
    arrays = task_list.Arrays(path.stat().st_size)
    numbers, measured = arrays.of(labels, "its list of tasks"), arrays.of(accuracies, "its accuracies")
    words, *shown, seconds = (part.strip() for part in line.rsplit("#", 2))
    state = {name: arrays.of(tensor, name) for name, tensor in weights.items()}
    results = Results(numbers.astype(np.int64), measured.astype(float), dict(vars(options)), float(seconds), state)
    if (results.labels != numbers).any() or results.labels.min() < 0 or len(results.labels) != len(results.accuracies):
        raise Refused("its evaluations do not say after which task each was")
    stated = [float(statistic) for statistic in statistics]
    # The original worked out its statistics as if tasks had come in order.
    _require_sound(results, stated if (np.diff(results.visits) > 0).all() else stated[:1], 1e-4)
    if not np.allclose([float(number) for number in shown[0].split()], stated, atol=6e-4, rtol=0):
        raise Refused("its line and its statistics are of different runs: it is damaged")
    with contextlib.suppress(ValueError, SyntaxError):  # of Python 2, or with values that are no literals
        if ast.literal_eval(words) != results.options:
            raise Refused("its line and its options are of different runs: it is damaged")
    return results


def _require_sound(results: Results, stated: Sequence[float], tolerance: float) -> None:
    """Refuse a file whose statistics do not follow from its accuracies."""
    # The metrics too, which cannot be worked out where rows or columns are missing.
    if not np.isfinite([*results.metrics.values(), *results.accuracies.flat]).all():
        raise Refused("its accuracies are not all numbers")
    if results.accuracies.min() < 0 or results.accuracies.max() > 1:
        raise Refused("its accuracies do not lie between 0 and 1")
    if not all(abs(results.metrics[name] - value) <= tolerance for name, value in zip(PRINTED, stated, strict=False)):
        raise Refused("its statistics do not follow from its accuracies: it is damaged")


def _show(argv: list[str]) -> None:
    """Print the metrics, in percent, of result files that main.py wrote, the original's or ours."""
    parser = Parser("python -m metareplay.original.results", _show)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .txt or .pt file")
    files = parser.parse(argv).files
    print("".join(f"{name:>7}" for name in ("RA", "LA", "BTI", "FT")))
    for file in files:
        print("".join(f"{100 * value:z7.1f}" for value in read(file).metrics.values()), f" {file}", flush=True)


main = program(_show, "metareplay.original.results")

if __name__ == "__main__":
    sys.exit(main())
