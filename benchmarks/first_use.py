"""How long the first run after an installation takes, compilation included, and how long the next."""

import os
import subprocess
import sys
import tempfile
from typing import Any

MOST_SECONDS = 16
PROGRAM = """
from metareplay import METHODS, run
from metareplay.streams import catalogue as benchmarks
stream = benchmarks.find("digits-rotations").stream(tasks=2)
for name in ("online", "meralg1"):
    run(stream, METHODS[name](), samples_per_task=10)
"""


def measure() -> dict[str, Any]:
    """Import, online and meralg1 on a few small digits, each time in a fresh process: first with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        return {name: _seconds(environment) for name in ("empty_cache_seconds", "warm_cache_seconds")}


def _seconds(environment: dict[str, str]) -> float:
    """Processor seconds of a process, so that what else runs on the machine counts little."""
    before = os.times()
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def lines(result: dict[str, Any]) -> list[str]:
    return [
        f"A first run in a fresh process takes {result['empty_cache_seconds']:.1f} s, compilation included "
        f"(required: under {MOST_SECONDS} s), and {result['warm_cache_seconds']:.1f} s "
        "once the compiled code is cached."
    ]
