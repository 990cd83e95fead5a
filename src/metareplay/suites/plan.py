"""What a suite would do: which of its runs are there already, and what the others cost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from metareplay.runs.experiment import Experiment, method_name
from metareplay.runs.folder import Run, find
from metareplay.runs.request import Request
from metareplay.streams.stream import Stream
from metareplay.suites.cost import Rates, Size, steps
from metareplay.suites.reader import at_hand, flat

ENOUGH = 500
"""Earlier runs that are looked at to tell how long new ones will take."""


@dataclass(frozen=True)
class Planned:
    """One run of a suite, before it is started.

    Parameters
    ----------
    request
        What is asked for.
    state
        How the run stands: ``new``, or as ``Run.status`` says; ``unknown`` while its data are not on this machine.
    steps
        Its SGD steps; None where they cannot be counted: for a user's own method.
    seconds
        How long it will take, about, from its beginning; None where nothing is known.
    """

    request: Request
    state: Literal["new", "done", "running", "stopped", "failed", "broken", "unknown"]
    steps: int | None
    seconds: float | None


def plan(requests: Sequence[Request], out: Path) -> list[Planned]:
    """What would be done for each run; nothing is fetched, and nothing is written.

    Parameters
    ----------
    out
        The folder of runs: what is there is not run again, and says how long other runs take.
    """
    rates = Rates(status.summary for run in islice(find(out), ENOUGH) if (status := run.status()).summary)
    experiments = _experiments(requests)
    planned = []
    for request, experiment in zip(requests, experiments, strict=True):
        if experiment is None:
            configuration = _expected(request)
            size = Size.said_by(configuration)
            state: Any = "unknown"
        else:
            configuration = experiment.configuration()
            size = Size.of(experiment)
            folder = out / experiment.key
            state = Run(folder).status().state if folder.is_dir() else "new"
        count = steps(configuration, size) if size else None
        planned.append(Planned(request, state, count, rates.seconds(configuration, size) if size else None))
    return planned


def _experiments(requests: Sequence[Request]) -> list[Experiment | None]:
    """Each as an experiment, None where its data are not here; requests of one stream share it."""
    streams: dict[str, Stream | None] = {}
    found: list[Experiment | None] = []
    for request in requests:
        benchmark, method, run = request.resolved()
        key = json.dumps([request.benchmark, request.stream], sort_keys=True)
        if key not in streams:
            streams[key] = benchmark.stream(**request.stream, progress=False) if at_hand(benchmark) else None
        stream = streams[key]
        found.append(None if stream is None else Experiment(stream=stream, method=method, **run))
    return found


def _expected(request: Request) -> Mapping[str, Any]:
    """As much of a run's configuration as is known without its data."""
    _, method, run = request.resolved()
    everything = flat(request)
    return {
        **everything,
        "engine": run["engine"],
        "method": method_name(type(method)),
        "hyperparameters": dataclasses.asdict(method),
        "hidden": run["hidden"],
        "task_order": list(range(everything["tasks"])),
    }
