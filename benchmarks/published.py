"""The tables of docs/results.md, from the result set in the package: ``python -m benchmarks.published``.

With ``--from RUNS`` the set itself is made anew from a folder of runs, as ``metareplay suite mer-paper`` fills it; rows
without a run stay as they are.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

from metareplay.results import groups, sets
from metareplay.results.sets import MEASURES, PublishedRow, published

ROOT = Path(__file__).parents[1]
PAGE, SETS = ROOT / "docs" / "results.md", ROOT / "src" / "metareplay" / "results"


def table(rows: list[PublishedRow]) -> str:
    """The rows of one benchmark in Markdown."""
    lines = [f"| method | memories | {' | '.join(MEASURES)} | SGD steps |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{mean:.1f}" + ("" if sd is None else f" ± {sd:.1f}") for mean, sd in row.found.values()]
        lines.append(f"| {row.method} | {row.memories or '–'} | {' | '.join(cells)} | {row.steps:,} |")
    return "\n".join(lines)


def page(text: str, rows: list[PublishedRow]) -> str:
    """The page with its tables of published configurations made anew."""
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        made = table([row for row in rows if row.benchmark == benchmark])
        text = re.sub(
            rf"(### {benchmark}\n(?:(?!### |\|).*\n)*)(\|.*\n)+", lambda at, made=made: at[1] + made + "\n", text
        )
    return text


def made_from(name: str, runs: Path) -> None:
    """Write the set from what was run."""
    there = groups.load(runs).groups
    with (SETS / f"{name}.csv").open("r", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, sets.read(name), strict=True):
        if group := published(row, there):
            line |= {"seeds": str(len(group.seeds)), "steps": str(int(group.values("steps")[0]))}
            for of, metric in MEASURES.items():
                values = 100 * group.values(metric)
                line |= {of: f"{values.mean():.1f}", f"{of}_sd": f"{values.std(ddof=1):.1f}" if len(values) > 1 else ""}
    with (SETS / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="runs", type=Path, help="make the set anew from this folder of runs")
    if (given := parser.parse_args()).runs:
        made_from("mer-paper", given.runs)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), sets.read("mer-paper")), encoding="utf-8")


if __name__ == "__main__":
    main()
