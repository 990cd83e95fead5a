"""How methods keep what they learned, as numbers: ``python -m benchmarks.curves [METHOD …]``.

Each learns digits-rotations, seed 0, with the settings of ``recipes.toml``, those for 200 memories if it has some.
Prints Markdown: the mean accuracy, in %, on the tasks that were met by then, after 1 to 10 of the 10 tasks.
"""

from __future__ import annotations

import sys

from metareplay import METHODS, benchmark, run
from metareplay.runs import recipes

BENCHMARK, AFTER = "digits-rotations", (1, 2, 4, 6, 8, 10)


def main() -> None:
    """Run those named, else all that have settings."""
    stream = benchmark(BENCHMARK)
    chosen = sys.argv[1:] or [name for name in METHODS if recipes.entries(BENCHMARK, name)]
    print(f"| after so many tasks | {' | '.join(map(str, AFTER))} |\n|---|{'--:|' * len(AFTER)}", flush=True)
    for name in chosen:
        memories = 200 if hasattr(METHODS[name], "memories") else None
        settings, _ = recipes.settings(BENCHMARK, name, memories)
        accuracy = run(stream, METHODS[name](**settings)).accuracy  # (visits, tasks), at the end of each
        cells = " | ".join(f"{100 * accuracy[tasks - 1, :tasks].mean():.0f}" for tasks in AFTER)
        print(f"| `{name}` | {cells} |", flush=True)


if __name__ == "__main__":
    main()
