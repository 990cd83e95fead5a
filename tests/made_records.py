"""Records that no run made, for tests of what is shown of them: plausible, quick, the same every time."""

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from metareplay.results.groups import Contents, Group, groups
from metareplay.runs.folder import Status
from metareplay.runs.record import Record


def record(
    method: str = "online",
    seed: int = 0,
    *,
    benchmark: str = "little",
    memories: int | None = None,
    level: float = 0.7,
    tasks: int = 4,
    inside: int = 0,
    **configuration: Any,
) -> Record:
    """A run that learns each task up to about ``level`` and then forgets some of it, of 1000 test examples each."""
    rng = np.random.default_rng([zlib.crc32(f"{benchmark} {method} {memories}".encode(errors="surrogateescape")), seed])
    visits = np.repeat(np.arange(tasks), inside + 1)
    after, task = np.meshgrid(visits, np.arange(tasks), indexing="ij")
    expected = np.where(task <= after, level - 0.02 * (after - task), 0.1)
    correct = (1000 * np.clip(expected + rng.normal(0, 0.01, expected.shape), 0, 1)).astype(int)
    examples = 10 * len(visits)
    settings = {"lr": 0.1} | ({} if memories is None else {"memories": memories})
    return Record(
        configuration={
            "benchmark": benchmark,
            "stream": {"tasks": tasks, "stream_seed": 0},
            "data_sha256": "ab" * 32,
            "method": method,
            "method_sha256": None,
            "hyperparameters": settings,
            "seed": seed,
            "hidden": [100, 100],
            "samples_per_task": examples // tasks,
            "epochs": 1,
            "batch_size": 1,
            "eval_every": 0,
            "order": "tasks",
            "task_order": list(range(tasks)),
            "scenario": "domain-incremental",
            "engine": "fused",
            "device": "cpu",
            "network": "mlp",
        }
        | configuration,
        environment={"metareplay": "1", "python": "3.11", "processor": "a <fast> one", "host": "here"},
        started=f"2026-01-01T00:00:{seed % 60:02}+00:00",
        visits=np.arange(tasks),
        evaluated_at=np.arange(0, examples + 1, 10),
        evaluated_visit=np.concatenate([[-1], visits]),
        correct=np.vstack([np.full(tasks, 100), correct]),
        test_sizes=np.full(tasks, 1000),
        predicted_right=rng.random(examples) < level,
        steps=examples * 5,
        gradients=examples * 50,
        forward_passes=examples,
        right_by_visit=np.stack([rng.binomial(examples // tasks, level, tasks), np.full(tasks, examples // tasks)], 1),
        units=rng.random((tasks, 2, 3)),
        train_seconds=float(0.5 + rng.random()) * (1 + (memories or 0) / 100),
        eval_seconds=1.5,
        compile_seconds=0.0,
        parameter_bytes=358_440,
        table_bytes=1000 * (memories or 1),
    )


def untested(*given: Any, **more: Any) -> Record:
    nothing = np.zeros(0, int)
    made = record(*given, **more, evaluate="never")
    return replace(made, evaluated_at=nothing, evaluated_visit=nothing, correct=np.zeros((0, len(made.visits)), int))


def study(seeds: int = 3) -> list[Record]:
    levels = {"online": 0.5, "ewc": 0.6, "eralg4": 0.8, "meralg1": 0.85}
    return [
        record(method, seed, benchmark=benchmark, memories=memories, level=level - (0.1 if memories == 20 else 0))
        for benchmark in ("little", "little-turned")
        for method, level in levels.items()
        for memories in ((20, 50) if method.endswith(("1", "4")) else (None,))
        for seed in range(seeds)
    ]


def results(records: Iterable[Record], unfinished: Iterable[Status] = (), source: str = "") -> Contents:
    return Contents(groups(records), list(unfinished), source)


def first_problem(records: Iterable[Record]) -> list[Group]:
    return next(iter(results(records).problems.values()))
