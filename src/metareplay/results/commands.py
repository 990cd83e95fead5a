"""The command that does a run again, from its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from metareplay.streams.catalogue import BENCHMARKS

RUN = {"epochs": 1, "batch_size": 1, "eval_every": 0, "order": "tasks", "scenario": None} | {
    "engine": "fused",
    "device": "cpu",
    "network": "mlp",
}
"""What `metareplay run` does unless told otherwise; a flag for each."""

HIDDEN = [100, 100]


def command(configuration: Mapping[str, Any], seeds: Iterable[int]) -> str:
    """A line for a shell that runs a configuration with these seeds.

    What no flag can say (layers of different widths, tasks in an order of one's own) is told behind it.
    """
    words = ["metareplay", "run", str(configuration["benchmark"]), str(configuration["method"])]
    for name, value in configuration["hyperparameters"].items():
        words += _flag(name, value)
    usual = _usual_options(configuration["benchmark"])
    options = dict(configuration.get("stream", {})) | {"samples_per_task": configuration.get("samples_per_task") or 0}
    for name, value in options.items():
        if usual.get(name, None) != value and value is not None:
            words += _flag(name, value)
    for name, value in RUN.items():
        if configuration.get(name, value) != value:
            words += _flag(name, configuration[name])
    words += _network(list(configuration.get("hidden", HIDDEN)))
    line = shlex.join(words)
    seeds = list(seeds)
    if len(seeds) == 1:
        line = f"{line} --seed {seeds[0]}"
    else:
        line = f"for seed in {' '.join(map(str, seeds))}; do {line} --seed $seed; done"
    notes = _without_a_flag(configuration)
    return f"{line}  # {'; '.join(notes)}" if notes else line


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag[2:]]
    return [flag, str(value)]


def _usual_options(benchmark: str) -> dict[str, Any]:
    known = BENCHMARKS.get(benchmark)
    return {option.name: option.default for option in known.options} if known else {}


def _network(hidden: list[int]) -> list[str]:
    if hidden == HIDDEN or len(set(hidden)) > 1:
        return []
    return ["--layers", str(len(hidden)), *(["--hiddens", str(hidden[0])] if hidden else [])]


def _without_a_flag(configuration: Mapping[str, Any]) -> list[str]:
    notes = []
    hidden = list(configuration.get("hidden", HIDDEN))
    if len(set(hidden)) > 1:
        notes.append(f"from Python, with hidden={tuple(hidden)}")
    order = configuration.get("task_order")
    if configuration.get("order", "tasks") == "tasks" and order is not None and list(order) != sorted(set(order)):
        notes.append("from Python, with a task_order of its own")
    return notes
