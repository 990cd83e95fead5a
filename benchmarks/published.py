"""The result sets in the package, made from runs, and the tables of docs/results.md, made from them.

``python -m benchmarks.published`` writes the page; ``python -m benchmarks.published SET --from RUNS`` first makes a set
anew from a folder of runs, as ``metareplay suite SET`` fills it. Of each benchmark the seeds count that all of its rows
have; a row that has no run there, or more seeds in the set already, stays as it is.
"""

import argparse
import csv
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from metareplay import METHODS
from metareplay.results import groups, sets, statistics
from metareplay.results.sets import COSTS, MEASURES, SetRow, among
from metareplay.results.table import with_interval
from metareplay.streams.catalogue import BENCHMARKS
from metareplay.suites.suite import Suite

ROOT = Path(__file__).parents[1]
PAGE, SETS = ROOT / "docs" / "results.md", ROOT / "src" / "metareplay" / "results"
PLAIN = "eralg4"
"""What the others are held against."""
SIZE = 200
"""The number of memories that is looked at most closely."""


def rows_of(name: str) -> list[SetRow]:
    """The rows of a set, and those of its suite that it lacks, without results."""
    rows = {(row.benchmark, row.method, row.memories): row for row in (sets.read(name) if name in sets.sets() else [])}
    for request in Suite.read(name, seeds=1).requests:
        settings = asdict(METHODS[request.method](**request.defaults()[0] | request.settings))
        memories = settings.get("memories")
        empty = SetRow(request.benchmark, request.method, memories, settings, (), {}, {})
        rows.setdefault((request.benchmark, request.method, memories), empty)
    return list(rows.values())


def made_from(rows: Sequence[SetRow], there: Sequence[groups.Group]) -> list[SetRow]:
    """The rows with what was run; those are left out that have no results yet."""
    runs = [among(row, there) for row in rows]
    made = []
    for row, own in zip(rows, runs, strict=True):
        others = [one for other, one in zip(rows, runs, strict=True) if one and other.benchmark == row.benchmark]
        common = set.intersection(*(set(one.seeds) for one in others)) if others else set()
        made.append(with_results(row, own, common) if own and len(common) >= max(1, len(row.seeds)) else row)
    return [row for row in made if row.seeds]


def with_results(row: SetRow, group: groups.Group, seeds: set[int]) -> SetRow:
    """The row with what these seeds of a group gave."""
    at = [place for place, seed in enumerate(group.seeds) if seed in seeds]
    values: dict[str, Any] = {name: group.values(name) for name in (*MEASURES.values(), *COSTS.values())}
    found = {of: " ".join(f"{100 * value:.2f}" for value in values[metric][at]) for of, metric in MEASURES.items()}
    cost = {what: float(f"{values[name][at].mean():.{4 if name == 'train_seconds' else 12}g}")
            for what, name in COSTS.items()}  # fmt: skip
    return row._replace(seeds=tuple(sorted(seeds)), found=found, cost=cost)


def write(name: str, rows: Sequence[SetRow]) -> None:
    with (SETS / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["benchmark", "method", "memories", "settings", "seeds", *MEASURES, *COSTS])
        for row in rows:
            settings = " ".join(f"{name}={json.dumps(value)}" for name, value in row.settings.items())
            cost = [None if cost is None else f"{cost:g}" if cost % 1 else int(cost) for cost in row.cost.values()]
            seeds = " ".join(map(str, row.seeds))
            writer.writerow([row.benchmark, row.method, row.memories, settings, seeds, *row.found.values(), *cost])


def shown(row: SetRow, measure: str) -> str:
    mean, deviation = row.mean(measure)
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def markdown(*rows: Sequence[object]) -> str:
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def page(text: str, published: Sequence[SetRow], baselines: Sequence[SetRow]) -> str:
    """The page, with its tables of published configurations and its section on the baselines made anew."""
    for benchmark in dict.fromkeys(row.benchmark for row in published):
        rows = [row for row in published if row.benchmark == benchmark]
        made = markdown(
            ["method", "memories", "seeds", *MEASURES, "SGD steps"],
            *([row.method, row.memories or "–", len(row.seeds), *(shown(row, of) for of in MEASURES),
               f"{row.cost['steps']:,.0f}"] for row in rows),
        )  # fmt: skip
        text = re.sub(rf"(### {benchmark}\n(?:(?!### |\|).*\n)*)(\|.*\n)+", lambda at, made=made: at[1] + made, text)
    parts = [*map(table, _by_benchmark(baselines).values()), established(baselines)]
    made = "\n".join(parts)
    return re.sub(r"(## Online baselines\n.*?\n)### .*?(?=\n## )", lambda at: at[1] + made, text, flags=re.DOTALL)


def _by_benchmark(rows: Sequence[SetRow]) -> dict[str, list[SetRow]]:
    return {row.benchmark: [one for one in rows if one.benchmark == row.benchmark] for row in rows}


def table(rows: Sequence[SetRow]) -> str:
    """One stream's baselines: a row for each method, a column for each number of memories."""
    sizes = sorted({row.memories for row in rows if row.memories})
    by_method = {row.method: {one.memories: one for one in rows if one.method == row.method} for row in rows}
    fair = [row for row in rows if not METHODS[row.method].needs_task_in_testing]
    best = {size: max(row.mean("RA")[0] for row in fair if row.memories in (size, None)) for size in sizes}
    lines = []
    for method, own in by_method.items():
        there = [own.get(size) or own.get(None) for size in sizes]
        cells = ["–" if row is None else shown(row, "RA") for row in there]
        cells = [f"**{cell}**" if row and row.mean("RA")[0] == best[size] else cell
                 for cell, row, size in zip(cells, there, sizes, strict=True)]  # fmt: skip
        middle = own.get(SIZE) or own[None]
        name = f"{method} *" if METHODS[method].needs_task_in_testing else method
        usual = {option.name: option.default for option in BENCHMARKS[middle.benchmark].options}
        each = (middle.cost["gradients"] or 0) / (usual["tasks"] * usual["samples_per_task"])
        lines.append([name, *cells, *(shown(middle, of) for of in ("LA", "BTI")), f"{each:.1f}"])
    lines.sort(key=lambda line: -float(str(line[1 + sizes.index(SIZE)]).strip("*").split()[0]))
    title = f"### {rows[0].benchmark} with {len(rows[0].seeds)} seeds\n"
    return f"{title}\n{markdown(['method', *sizes, 'LA', 'BTI', 'gradients'], *lines)}"


def established(rows: Sequence[SetRow]) -> str:
    """What these seeds establish: for each method beside plain replay how much, and how many seeds that takes."""
    streams = {name: _of_size(own) for name, own in _by_benchmark(rows).items()}
    seeds = min(len(own[PLAIN].seeds) for own in streams.values())
    apart: dict[str, dict[str, Any]] = {  # by method and stream the differences, seed by seed
        method: {
            name: (own[method].values("RA")[:seeds] - own[PLAIN].values("RA")[:seeds]) / 100
            for name, own in streams.items() if method in own
        }
        for method in dict.fromkeys(method for own in streams.values() for method in own) if method != PLAIN
    }  # fmt: skip
    lines = []
    for method, samples in apart.items():
        cells = []
        for name in streams:
            if (sample := samples.get(name)) is None:
                cells += ["–", "–"]
                continue
            needed = statistics.seeds_for(sample, len(apart))
            cells += [with_interval(statistics.estimate(sample), signed=True), needed or f"> {statistics.MOST}"]
        lines.append([method, *cells])
    always = {
        word: [method for method, samples in apart.items()
               if len(samples) == len(streams) and all((sign * sample > 0).all() for sample in samples.values())]
        for word, sign in (("above", 1), ("below", -1))
    }  # fmt: skip
    whole = [[sample - sample.mean() for sample in samples.values()] for samples in apart.values()]
    r = [np.corrcoef(one, other)[0, 1] for own in whole for one, other in combinations(own, 2)
         if one.any() and other.any()]  # fmt: skip
    heads = [cell for name in streams for cell in (name, "seeds")]
    pooled = {method: np.concatenate(list(samples.values())) for method, samples in apart.items()}
    judged = zip(pooled, statistics.differences(list(pooled.values())), strict=True)
    would = {method: one.estimate.mean for method, one in judged if one.established}
    enough, pairs = statistics.seeds_needed(len(apart)), len(streams) * seeds
    alike = f"{round(np.mean(r), 2) + 0.0:.2f}" if r else "unknown size"  # + 0.0: no "-0.00"
    paragraphs = (
        f"Between two methods on one stream: nothing. The smallest p that a paired sign-flip test of {seeds} seeds has "
        f"is {2 / 2**seeds:.3g}, before any correction for {len(apart)} comparisons; with {enough} seeds "
        f"(`metareplay suite online-baselines --seeds {enough}`) some could be established.",
        f"Nor are the {len(streams)} streams together {pairs} independent pairs, so that no command pools them: on "
        "each a seed draws the same images, initial weights and places in memory. Its differences on two streams have "
        f"a correlation of {alike} in the mean. Only if one takes them for independent do {pairs} pairs say, with "
        f"{SIZE} memories, in the mean of the streams and corrected for all "
        f"{len(apart)}: above `{PLAIN}` {_names([method for method, mean in would.items() if mean > 0])}; below it "
        f"{_names([method for method, mean in would.items() if mean < 0])}.",
        f"With every seed on every stream above `{PLAIN}`: {_names(always['above'])}; below it: "
        f"{_names(always['below'])}. The table has the differences from `{PLAIN}` with {SIZE} memories (points, 95 % "
        f"intervals, each for itself), and with how many seeds one of that size would probably be established among "
        f"{len(apart)}. None of this is at the same cost: how many gradients each method takes is in the tables above.",
    )
    text = "\n\n".join(textwrap.fill(paragraph, 120, break_on_hyphens=False) for paragraph in paragraphs)
    return f"### What is established, and what is not\n\n{text}\n\n{markdown(['method', *heads], *lines)}"


def _of_size(rows: Sequence[SetRow]) -> dict[str, SetRow]:
    return {row.method: row for row in rows if row.memories in (SIZE, None)}


def _names(methods: Sequence[str]) -> str:
    return ", ".join(f"`{method}`" for method in methods) or "no method"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", choices=("mer-paper", "online-baselines"), help="the set to make anew")
    parser.add_argument("--from", dest="runs", type=Path, help="the folder of runs that it is made from")
    given = parser.parse_args()
    if (given.set is None) != (given.runs is None):
        parser.error("a set is made --from a folder of runs: give both, or none")
    if given.set:
        write(given.set, made_from(rows_of(given.set), groups.load(given.runs).groups))
    both = (sets.read(name) for name in ("mer-paper", "online-baselines"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), *both), encoding="utf-8")


if __name__ == "__main__":
    main()
