"""Fair timing: one core, one thread, and what is compared measured in turns."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Work = Callable[[int], None]
"""Does so many units of work: steps, examples or images."""

Times = dict[str, NDArray[np.float64]]
"""For each competitor, the microseconds per unit of each round."""


def one_thread_on_one_core() -> None:
    """Hold this process, and all that it starts, to one core; call it before PyTorch or JAX is imported."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    threadpool_limits(1)  # for what is imported already


def in_turns(competitors: Mapping[str, Work], seconds: float, rounds: int) -> Times:
    """Let each work for about ``seconds / rounds`` in every round, one after the other.

    Time is the processor's, of all threads of this process: what else runs on the machine then counts little. Ratios
    are to be taken within a round, since a processor's speed changes from one moment to the next.
    """
    units = {name: _units_in(seconds / rounds, work) for name, work in competitors.items()}
    times: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(rounds):
        for name, work in competitors.items():
            times[name].append(_seconds(work, units[name]) / units[name] * 1e6)
    return {name: np.array(measured) for name, measured in times.items()}


def ratio(times: Times, of: str, to: str) -> float:
    """The median over the rounds of how many times as long ``of`` takes as ``to``."""
    return float(np.median(times[of] / times[to]))


def median(times: Times, of: str) -> float:
    return float(np.median(times[of]))


def beside(times: Times, slow: str, fast: str, *, unit: str = "microseconds", per: float = 1) -> dict[str, Any]:
    """Each competitor's median, in ``per`` microseconds, and how many times as fast one is as another."""
    return {unit: {name: median(times, name) / per for name in times}, "times_as_fast": ratio(times, slow, fast)}


def table(title: str, columns: str, rows: Iterable[tuple[object, ...]]) -> list[str]:
    """A Markdown table under its title: names, and numbers in so many columns."""
    head = [title, "", f"| | {columns} |", f"|---|{'--:|' * (columns.count('|') + 1)}"]
    return head + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _units_in(seconds: float, work: Work) -> int:
    work(1)  # compiles
    units = 1
    while True:
        taken = _seconds(work, units)
        if taken > seconds / 4:
            return max(1, round(units * seconds / taken))
        units *= 4


def _seconds(work: Work, units: int) -> float:
    begin = time.process_time()
    work(units)
    return max(time.process_time() - begin, 1e-9)
