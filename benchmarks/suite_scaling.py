"""What a suite costs beside its runs, and how much sooner two workers are done: ``python -m benchmarks.suite_scaling``.

Small digits throughout, so nothing need be fetched. Where other programs take much of the machine, it says little.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from metareplay.runs.record import Record
from metareplay.runs.request import Request
from metareplay.suites.driver import execute

TINY = {"tasks": 3, "samples_per_task": 200}
LONG = {"batches_per_example": 12, "replay_batch_size": 40, "memories": 500}


def measure(requests: Sequence[Request], jobs: int) -> tuple[float, float]:
    """Seconds that a suite takes in a fresh folder, and that its runs take by their own records, compiling included."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        outcomes = execute(requests, Path(folder), jobs=jobs)
        wall = time.perf_counter() - begin
        records = [Record.load(Path(folder) / str(outcome.key)) for outcome in outcomes]
    return wall, sum(record.train_seconds + record.eval_seconds + record.compile_seconds for record in records)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite_scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often one worker and two are compared, in turns")
    parser.add_argument("--runs", type=int, default=20, help="runs of the suite that they are compared on")
    options = parser.parse_args()

    tiny = [Request("digits-rotations", "online", {}, TINY, {"seed": seed}) for seed in range(50)]
    execute(tiny[:1], Path(tempfile.mkdtemp()), jobs=1)  # compiles
    wall, runs = measure(tiny, jobs=1)
    print(f"{len(tiny)} tiny runs, 1 worker: {wall:.2f} s, of which the runs take {runs:.2f} s:", end=" ")
    print(f"{(wall - runs) / len(tiny):.3f} s each beside the run itself, the worker's start included", flush=True)

    long = [Request("digits-rotations", "meralg1", LONG, {"tasks": 4}, {"seed": seed}) for seed in range(options.runs)]
    for _ in range(options.rounds):
        (one, runs), (two, _) = measure(long, jobs=1), measure(long, jobs=2)
        print(f"{len(long)} runs of {runs / len(long):.1f} s: 1 worker {one:.1f} s,", end=" ")
        print(f"2 workers {two:.1f} s: {two / one:.3f} of that", flush=True)


if __name__ == "__main__":
    sys.exit(main())
