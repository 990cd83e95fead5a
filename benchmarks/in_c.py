"""Steps of MER's Algorithm 1 beside C written by hand for its network: single steps, and blocks of 16 in dual form.

`c/mer1.c` and `c/dual.c` need a C compiler, the latter a processor with AVX-512; what cannot be built is left out.
"""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import steps
from benchmarks.timing import Work, in_turns, median, ratio
from metareplay import Stream

BATCHES, REPLAYED, BETA = 10, (100, 25), 0.03
"""The published settings: for an example 10 batches of it and 100 memories, each ended by a Reptile step; or 25."""
STRIP = 56
"""Inputs in a strip of `dual.c`."""
FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")


def built(name: str, folder: Path) -> Any:
    compiler = shutil.which("cc")
    source, library = Path(__file__).parent / "c" / f"{name}.c", folder / f"{name}.so"
    if compiler is None:
        return None
    command = [compiler, *FLAGS, str(source), "-o", str(library), "-lmvec", "-lm"]
    return ctypes.CDLL(str(library)) if subprocess.run(command, capture_output=True).returncode == 0 else None


def in_c(library: Any, x: NDArray[np.float32], y: NDArray[np.int64], layers: Any, replayed: int) -> Work:
    """Work of ten batches on memories ``x (slots, 784)``, by parameters padded to rows of whole vectors."""
    shapes = [(784, 112), (1, 112), (112, 112), (1, 112), (112, 16), (1, 16)]
    offsets = np.cumsum([0, *(a * b for a, b in shapes)])
    held = [np.zeros(int(offsets[-1]) + 16, np.float32) for _ in range(3)]
    theta, *copies = [array[-(array.ctypes.data // 4) % 16 :][: offsets[-1]] for array in held]
    parts = [part for pair in layers for part in (pair[0], pair[1][np.newaxis])]
    for begin, shape, part in zip(offsets, shapes, parts, strict=False):
        theta[begin : begin + shape[0] * shape[1]].reshape(shape)[: part.shape[0], : part.shape[1]] = part
    slot, column = np.nonzero(x)
    begins = np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=len(x)))])
    before = np.stack([(x[:, :end] != 0).sum(1) for end in range(0, 785, STRIP)], 1).astype(np.uint16)
    slots = np.arange(len(x))
    held += [begins, column.astype(np.int16), x[slot, column], y, slots, offsets, before]
    size, age = np.array([len(x)]), np.array([len(x)])

    def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    def work(units: int) -> None:
        for _ in range(units):
            library.mer1(
                pointer(slots), ctypes.c_int64(1), ctypes.c_int64(2), *map(pointer, held[3:7]), pointer(theta),
                ctypes.c_int64(len(theta)), pointer(offsets), ctypes.c_float(steps.LR), ctypes.c_float(BETA),
                ctypes.c_float(1), pointer(slots), pointer(size), pointer(age), ctypes.c_int64(0), replayed, BATCHES,
                10, *map(pointer, copies), ctypes.c_uint64(1), pointer(before),
            )  # fmt: skip

    return work


def measure(stream: Stream, seconds: float, rounds: int) -> dict[str, Any]:
    """Microseconds a step, and how many times as long each takes as ours."""
    ours, rng = steps.learner(stream), np.random.default_rng(1)
    x, y = steps.table(ours, stream)

    def in_batches(replayed: int) -> Work:
        def work(units: int) -> None:
            for _ in range(units):
                ours.reptile(rng.integers(0, steps.MEMORIES, (BATCHES, replayed + 1)), steps.LR, BETA)

        return work

    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        libraries = {name: library for name in ("mer1", "dual") if (library := built(name, Path(folder)))}
        for replayed in REPLAYED:
            theirs = {name: in_c(library, x, y, ours.layers(), replayed) for name, library in libraries.items()}
            times = in_turns({"ours": in_batches(replayed)} | theirs, seconds / len(REPLAYED), rounds)
            each = BATCHES * (replayed + 1)
            result[str(replayed + 1)] = {
                "microseconds": {name: median(times, name) / each for name in times},
                "times_as_fast": {name: ratio(times, name, "ours") for name in times},
            }
    return result


def lines(result: dict[str, Any]) -> list[str]:
    names = {"ours": "ours", "mer1": "C, step by step", "dual": "C, blocks of 16"}
    none = all(len(row["microseconds"]) == 1 for row in result.values())
    return [
        "One step of meralg1's batches, the Reptile step included",
        "",
        "| | in a batch | µs a step | ours is faster by |",
        "|---|--:|--:|--:|",
        *(
            f"| {names[name]} | {size} | {time:.2f} | {row['times_as_fast'][name]:.2f} × |"
            for size, row in result.items()
            for name, time in row["microseconds"].items()
        ),
        *(["", "There is no C compiler here: with one, C is measured too."] if none else []),
    ]
