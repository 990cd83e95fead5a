"""Measure everything and print the tables: ``python -m benchmarks --help``."""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.timing import one_thread_on_one_core

one_thread_on_one_core()  # before these import PyTorch and JAX

import torch  # noqa: E402

from benchmarks import baselines, data, evaluation, first_use, in_c, models, primitives, steps, torch_engine, whole_run  # noqa: E402
from metareplay.cli import status_of  # noqa: E402

PARTS = ("steps", "c", "primitives", "torch", "evaluation", "models", "gem", "baselines", "run", "first-use")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    base = data.images(options.mnist)
    stream = data.rotations(base)
    seconds, rounds = 2 * options.effort, 9 if options.effort >= 0.5 else 3
    results: dict[str, Any] = {"machine": _machine(), "data": data.description(base)}
    print(f"On {results['machine']}.\nOn one thread of one core. Rotated {results['data']}.", flush=True)
    begin = time.perf_counter()
    measures: dict[str, tuple[Callable[[Any], list[str]], Callable[[], Any]]] = {
        "steps": (steps.lines, lambda: steps.measure(stream, 2 * seconds, rounds)),
        "c": (in_c.lines, lambda: in_c.measure(stream, seconds, rounds)),
        "primitives": (primitives.lines, lambda: primitives.measure(stream, seconds, rounds)),
        "torch": (torch_engine.lines, lambda: torch_engine.measure(stream, seconds, rounds)),
        "evaluation": (evaluation.lines, lambda: evaluation.measure(stream, seconds, rounds)),
        "models": (models.lines, lambda: models.measure(base, seconds / 2, rounds // 2)),
        "gem": (models.lines_of_gem, lambda: models.measure_gem(base, seconds / 2, rounds // 2)),
        "baselines": (baselines.lines, lambda: baselines.measure(base, seconds / 2, rounds // 2)),
        "run": (whole_run.lines, lambda: whole_run.measure(base, max(1, round(250 * options.effort)))),
        "first-use": (first_use.lines, first_use.measure),
    }
    for part in options.only:
        lines, measure = measures[part]
        results[part] = measure()
        print("", *lines(results[part]), sep="\n", flush=True)
    print(f"\nAll of it took {time.perf_counter() - begin:.0f} s.")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast, beside PyTorch and JAX.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure just these")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="take MNIST's four files from here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there too")
    parser.add_argument("--effort", type=float, default=1.0, help="how long to measure; 1 takes about two minutes")
    return parser.parse_args()


def _machine() -> str:
    names = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if names.exists():
        model = next((line.split(": ")[1] for line in names.read_text().splitlines() if "model name" in line), model)
    versions = []
    for package in ("numpy", "numba", "torch", "jax"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    return f"{model}, {platform.system()}, Python {platform.python_version()}, {', '.join(versions)}"


if __name__ == "__main__":
    sys.exit(status_of(main, "python -m benchmarks"))
