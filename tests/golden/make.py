"""What metareplay computes and prints: ``python tests/golden/make.py`` writes it down, ``test_golden.py`` compares.

Only what users can rely on is used: ``import metareplay``, ``metareplay.cli.main``, and ``main.py`` at the root.
"""

import contextlib
import csv
import functools
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np

import metareplay
from metareplay.cli import main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NUMBERS, INDEX = HERE / "numbers.npz", HERE / "index.json"

SAMPLES = 20  # of each task
MEMORIES = 100  # fewer than the examples of any stream here, so that the reservoir throws some away
MEMORIES_OF_A_TASK = 5  # gem
# MNIST has 10 000 test images: all 20 or 100 tasks would take minutes, and nearly all of it evaluating.
TASKS = {"digits-rotations": 10, "digits-permutations": 10, "mnist-rotations": 8, "mnist-many-permutations": 8}
METHODS = ("online", "taskinput", "independent", "ewc", "gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7")
CASES = [(benchmark, method) for benchmark in TASKS for method in METHODS]
NO_RECIPE = {("mnist-many-permutations", "taskinput"): ("--lr", "0.01")}
ARRAYS = ("evaluated_at", "correct", "predicted_right")

LITTLE = ("--tasks", "3", "--samples-per-task", "30", "--quiet")
TEXTS = {  # each is a file here
    "run.json": "run digits-rotations meralg1 --memories 50 --eval-every 10 --out one",
    "run.txt": "run digits-permutations gem --memories 30 --out one",
    "show.txt": "show one",
    "results.txt": "results",
    "results.csv": "results --csv -",
    "compare.txt": "compare runs meralg1 online",
    "compare.csv": "compare runs meralg1 online --metric backward_transfer --csv -",
    "report.tex": "report runs --latex report.tex",
    "report.csv": "report runs --csv report.csv",
}
ORIGINALS = {
    "main-meralg1.txt": "--model meralg1 --lr 0.1 --beta 0.3 --memories 20 --replay_batch 5 --batches_per_example 2",
    "main-gem.txt": "--model gem --lr 0.1 --n_memories 6 --memory_strength 0.5 --shuffle_tasks yes --seed 1",
}


@functools.cache
def processor() -> str:
    """The kind of processor, which decides the last bits of all floating-point numbers."""
    with contextlib.suppress(OSError):
        names = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return f"{llvmlite.binding.get_host_cpu_name()}, {names[1] if names else '?'}"
    return str(llvmlite.binding.get_host_cpu_name())


def said(*argv: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(argv)
    assert status == 0, f"metareplay {shlex.join(argv)}: exit status {status}"
    return out.getvalue()


def hyperparameters(benchmark: str, method: str, out: Path) -> dict[str, Any]:
    """The settings that the command line chooses: those published, or our own."""
    flags = ["--tasks", "1", "--samples-per-task", "1", "--quiet", "--out", str(out), "--json", "-"]
    if "memories" in metareplay.METHODS[method].__dataclass_fields__:
        memories = MEMORIES_OF_A_TASK * TASKS[benchmark] if method == "gem" else MEMORIES
        flags += ["--memories", str(memories)]
    shown = json.loads(said("run", benchmark, method, *flags, *NO_RECIPE.get((benchmark, method), ())))
    return dict(shown["hyperparameters"])


def record(benchmark: str, method: str, settings: dict[str, Any]) -> metareplay.Record:
    stream = metareplay.benchmark(benchmark, tasks=TASKS[benchmark])
    return metareplay.run(stream, metareplay.METHODS[method](**settings), seed=0, samples_per_task=SAMPLES)


def runs() -> None:
    for flags in ("online --lr 0.01", "meralg1 --lr 0.1 --memories 50"):
        for seed in range(3):
            said("run", "digits-rotations", *flags.split(), *LITTLE, "--seed", str(seed), "--out", "runs")


def text(name: str) -> str:
    argv = TEXTS[name].split()
    if argv[0] == "run":
        argv += [*LITTLE, *(("--json", "-") if name.endswith(".json") else ())]
    if argv[0] == "show":  # a run's name is a hash
        argv[1] = str(
            next(made.parent for made in Path(argv[1]).glob("*/record.json") if "meralg1" in made.read_text())
        )
    printed = said(*argv)
    if argv[0] == "report":
        printed = Path(name).read_text()
    return stable(stable_csv(printed) if name.endswith(".csv") else printed)


def original(name: str) -> str:
    flags = f"--data_file own.pt --n_hiddens 12 {ORIGINALS[name]}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *shlex.split(flags)], capture_output=True, text=True, check=True
    )
    written = Path(f"{done.stdout.partition(': ')[0]}.txt").read_text()
    return stable(f"{done.stdout}{written}")


def own_task_list(path: Path) -> None:
    import torch

    rng = np.random.default_rng(0)
    centres = rng.random((4, 12))
    parts: list[list[Any]] = [[], []]
    for _ in range(3):
        order = rng.permutation(12)
        for part, n in zip(parts, (40, 25), strict=True):
            y = rng.integers(4, size=n)
            x = (centres[y] + rng.normal(0, 0.2, (n, 12)))[:, order]
            part.append(["random permutation", torch.tensor(x, dtype=torch.float32).contiguous(), torch.tensor(y)])
    path.parent.mkdir(exist_ok=True)
    torch.save(parts, path)


UNSTABLE = (  # what is another in every run, on every machine, or with every version
    (r'"(\w*(?:seconds|sha256)|started|key)": (?:"[^"]*"|[\d.e+-]+)', r'"\1": …'),
    (r'"environment": \{[^}]*\}', '"environment": …'),
    (re.escape(str(Path(tempfile.gettempdir()))) + r"[\w./-]*", "PATH"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\+\d\d:\d\d)?", "TIME"),
    (r"\d{4}(?:_\d\d){5}", "TIME"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "UUID"),
    (r"(?<![.\w])[0-9a-f]{16}\b", "KEY"),
    (r"\d+(?:\.\d+)? s\b", "N s"),
    (r"# \d+\.\d{4,}$", "# SECONDS"),  # at the end of main.py's line
)


def stable(printed: str) -> str:
    """A text without what is another in every run, on every machine or with every version."""
    for pattern, instead in UNSTABLE:
        printed = re.sub(pattern, instead, printed, flags=re.MULTILINE)
    return printed


def stable_csv(printed: str) -> str:
    """A CSV without what stands in its unstable columns, its rows sorted: they may be in the order of their keys."""
    rows = list(csv.reader(io.StringIO(printed)))
    unstable = [
        column
        for column, name in enumerate(rows[0])
        if re.search(r"seconds|sha256|^(key|started|metareplay|numpy|numba|python|system|processor|host)$", name)
    ]
    if not unstable:
        return printed  # in its own order
    for row in rows[1:]:
        for column in unstable:
            row[column] = "…"
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([rows[0], *sorted(rows[1:])])
    return out.getvalue()


def shape(printed: str) -> str:
    """A text without its numbers, its little curves and its spaces: what is the same on every processor."""
    return re.sub(r"[\s▁-█]+", " ", re.sub(r"[-+−]?\d[\d.e-]*", "#", printed))


def mnist() -> Path | None:
    """The four gzipped files of MNIST that a development machine may have, beside the repository or a worktree."""
    beside = (folder / "shared" / "data" / "mnist" for folder in ROOT.parents)
    return next((folder for folder in beside if folder.is_dir()), None)


@contextlib.contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    before, environment = Path.cwd(), dict(os.environ)
    (folder / "here").mkdir()
    os.chdir(folder / "here")
    os.environ.update(METAREPLAY_DATA=str(folder / "data"), COLUMNS="80")
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


def write() -> None:
    index: dict[str, Any] = {"processor": processor(), "cases": {}}
    arrays: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder, elsewhere(Path(folder)):
        source = mnist()
        assert source is not None, "real MNIST is not on this machine"
        said("data", "get", "mnist", "--from", str(source))
        for benchmark, method in CASES:
            settings = hyperparameters(benchmark, method, Path("settings"))
            made = record(benchmark, method, settings)
            case = f"{benchmark} {method}"
            index["cases"][case] = {"hyperparameters": settings, "steps": int(made.steps)}
            arrays[f"{case} evaluated_at"] = made.evaluated_at.astype(np.int16)
            arrays[f"{case} correct"] = made.correct.astype(np.int16)
            arrays[f"{case} predicted_right"] = np.packbits(made.predicted_right)
        runs()
        for name in TEXTS:
            (HERE / name).write_text(text(name))
        own_task_list(Path("data/own.pt"))
        for name in ORIGINALS:
            (HERE / name).write_text(original(name))
    np.savez_compressed(NUMBERS, **arrays)
    INDEX.write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    write()
