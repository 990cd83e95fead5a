"""Result sets that come with the package, and whether runs made elsewhere reproduce them."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from metareplay.errors import BadInput
from metareplay.methods import METHODS
from metareplay.results.groups import Group, Values
from metareplay.results.statistics import LEVEL
from metareplay.results.table import Column, Row, Table
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.settings import nearest
from metareplay.streams.catalogue import BENCHMARKS

COSTS = {"steps": "steps", "gradients": "gradients", "seconds": "train_seconds"}
MEASURES = {METRICS[name].short: name for name in ("retained_accuracy", "learning_accuracy", "backward_transfer")}
PRIOR = 10  # the deviation of all rows together counts in that of each row as so many seeds would
ROUNDING = 0.05  # percent: what is published has one decimal


class SetRow(NamedTuple):
    """A row of a set: a configuration of a suite of that name, what each seed gave, and what a run costs.

    ``found`` has by ``MEASURES`` a value for each seed, in percent, or ``mean ± standard deviation`` where these alone
    were kept; ``cost`` has SGD ``steps``, ``gradients`` and ``seconds`` of training, means over seeds, if known.
    """

    benchmark: str
    method: str
    memories: int | None
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    found: dict[str, str]
    cost: dict[str, float | None]

    def values(self, measure: str) -> Values | None:
        return None if "±" in self.found[measure] else np.array(self.found[measure].split(), np.float64)

    def mean(self, measure: str) -> tuple[float, float | None]:
        """The mean and the standard deviation, None with one seed."""
        if (values := self.values(measure)) is not None:
            return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None
        mean, deviation = map(float, self.found[measure].split(" ± "))
        return mean, deviation


def sets() -> list[str]:
    """The names of the sets."""
    return sorted(file.name[:-4] for file in files("metareplay.results").iterdir() if file.name.endswith(".csv"))


def read(name: str) -> list[SetRow]:
    """The rows of a set; BadInput if there is none of that name."""
    if name not in sets():
        raise BadInput(f"there is no result set {name!r}{nearest(name, sets()) or ';'} there are {', '.join(sets())}")
    text = (files("metareplay.results") / f"{name}.csv").read_text(encoding="utf-8")
    return [
        SetRow(
            row["benchmark"], row["method"], int(row["memories"]) if row["memories"] else None,
            {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in row["settings"].split())},
            tuple(map(int, row["seeds"].split())), {of: row[of] for of in MEASURES},
            {what: float(row[what]) if row[what] else None for what in COSTS},
        )
        for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip


def among(row: SetRow, groups: Sequence[Group]) -> Group | None:
    """Among configurations that of a row: its settings, on the benchmark as it is."""
    settings = asdict(METHODS[row.method](**row.settings))
    usual = {option.name: option.default for option in BENCHMARKS[row.benchmark].options}
    asked = {"hyperparameters": settings, "samples_per_task": usual["samples_per_task"], "order": "tasks"}
    asked |= {"batch_size": 1, "epochs": 1, "hidden": [100, 100], "evaluate": "borders", "network": "mlp"}
    asked |= {"task_order": list(range(usual["tasks"])), "scenario": BENCHMARKS[row.benchmark].allows[0]}
    asked |= dict.fromkeys(("imbalance", "normalise", "from_sha256"))  # none of these
    for group in groups:
        own = group.configuration.get("stream", {})
        same = own == {name: usual.get(name) for name in own}
        same = same and all(group.configuration.get(name) == value for name, value in asked.items())
        if same and (group.benchmark, group.method) == (row.benchmark, row.method) and group.runs:
            return group
    return None


def check(rows_of_set: Sequence[SetRow], groups: Sequence[Group]) -> tuple[Table, int, int]:
    """Row by row whether runs reproduce a set; how many rows differ, and how many were run.

    A row differs where a mean is further from the set's than seeds let it be, at a level of 5 % for all of them
    together: |difference| > t · s · √(1/n + 1/n'), where s² joins the row's variance, here and in the set, with that of
    all the set's rows.
    """
    from scipy.special import stdtrit

    rows, there = [], [(row, among(row, groups)) for row in rows_of_set]
    run = sum(group is not None for _, group in there)
    level = 1 - LEVEL / (2 * len(MEASURES) * max(run, 1))
    found = {of: [sd for row, _ in there if (sd := row.mean(of)[1]) is not None] for of in MEASURES}
    pooled = {of: float(np.mean(np.square(deviations))) if deviations else 1.0 for of, deviations in found.items()}
    differing = 0
    for row, group in there:
        cells: list[object] = [row.benchmark, row.method, row.memories]
        wrong = []
        for of, metric in MEASURES.items():
            mean, sd = row.mean(of)
            values = None if group is None else group.values(metric)
            if values is None or isinstance(values, Undefined):
                cells += [f"{mean:.1f}", None]
                continue
            own, n = 100 * values, len(row.seeds)
            squares = PRIOR * pooled[of] + (n - 1) * (sd or 0) ** 2 + float(np.square(own - own.mean()).sum())
            degrees = PRIOR + n - 1 + len(own) - 1
            noise = math.sqrt(squares / degrees * (1 / n + 1 / len(own)))
            if abs(own.mean() - mean) > float(stdtrit(degrees, level)) * noise + ROUNDING:
                wrong.append(of)
            cells += [f"{mean:.1f}", f"{own.mean():.1f}"]
        differing += bool(wrong)
        verdict = "not run" if group is None else f"differs in {', '.join(wrong)}" if wrong else "reproduced"
        rows.append(Row((*cells, len(row.seeds), None if group is None else len(group.seeds), verdict)))
    columns = [Column(title, holds="words") for title in ("benchmark", "method")] + [Column("memories")]
    columns += [Column(title, of) for of in (*MEASURES, "seeds") for title in ("set", "here")]
    return Table((*columns, Column("", holds="words")), tuple(rows)), differing, run
