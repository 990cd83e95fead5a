"""What a suite costs beside its runs, and how much sooner two workers are done: ``python -m benchmarks.suite_scaling``.

Small digits throughout, so nothing need be fetched. What other programs took of the machine meanwhile is printed too:
where that is much, the numbers say little.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metareplay.runs.record import Record
from metareplay.runs.request import Request
from metareplay.suites.local import execute

TINY = {"tasks": 3, "samples_per_task": 200}
LONG = {"batches_per_example": 12, "replay_batch_size": 40, "memories": 500}


@dataclass(frozen=True)
class Measured:
    """A suite, from its start to its end.

    Parameters
    ----------
    wall, runs
        Seconds that it took, and that its runs took by their own records, compiling included.
    others
        The share of the machine's processor time that other programs took meanwhile; None where that is not known.
    """

    wall: float
    runs: float
    others: float | None


def measure(requests: Sequence[Request], jobs: int) -> Measured:
    """Carry out a suite in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        begin, ours, all_of_it = time.perf_counter(), _ours(), _all()
        outcomes = execute(requests, Path(folder), jobs=jobs)
        wall = time.perf_counter() - begin
        others = None if all_of_it is None else (_all() or 0.0) - all_of_it - (_ours() - ours)
        if any(outcome.state != "done" for outcome in outcomes):
            raise KeyboardInterrupt("not all runs are done")
        records = [Record.load(Path(folder) / str(outcome.key)) for outcome in outcomes]
    runs = sum(record.train_seconds + record.eval_seconds + record.compile_seconds for record in records)
    return Measured(wall, runs, None if others is None else max(0.0, others / wall / (os.cpu_count() or 1)))


def _ours() -> float:
    """Processor seconds of this process and of those that it started and that are over."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _all() -> float | None:
    """Processor seconds of everything on this machine, and of others that its host ran in its place."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, soft, stolen = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _busy(*measured: Measured) -> str:
    shares = [each.others for each in measured if each.others is not None]
    return f"other programs took {100 * max(shares):.0f} % of the machine" if shares else "with nobody knows what else"


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite_scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often one worker and two are compared, in turns")
    parser.add_argument("--runs", type=int, default=20, help="runs of the suite that they are compared on")
    options = parser.parse_args()

    tiny = [Request("digits-rotations", "online", {}, TINY, {"seed": seed}) for seed in range(50)]
    execute(tiny[:1], Path(tempfile.mkdtemp()), jobs=1)  # compiles
    one = measure(tiny, jobs=1)
    each = (one.wall - one.runs) / len(tiny)
    print(f"{len(tiny)} tiny runs, 1 worker: {one.wall:.2f} s, of which the runs take {one.runs:.2f} s:", end=" ")
    print(f"{each:.3f} s each beside the run itself, the worker's start included ({_busy(one)})", flush=True)

    long = [Request("digits-rotations", "meralg1", LONG, {"tasks": 4}, {"seed": seed}) for seed in range(options.runs)]
    for _ in range(options.rounds):
        one, two = measure(long, jobs=1), measure(long, jobs=2)
        print(f"{len(long)} runs of {one.runs / len(long):.1f} s: 1 worker {one.wall:.1f} s,", end=" ")
        print(f"2 workers {two.wall:.1f} s: {two.wall / one.wall:.3f} of that ({_busy(one, two)})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
