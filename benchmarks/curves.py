"""Draw how each method keeps what it learned, a figure for each family: ``python -m benchmarks.curves [FOLDER]``.

Each learns digits-rotations, seed 0, with the settings of ``recipes.toml``, those for 200 memories if it keeps some:
drawn is the mean accuracy on the tasks met by then. Those against loss of plasticity learn digits-input-permuted, where
it is the online accuracy in each task. In grey is ``online`` on the same stream.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metareplay import METHODS, benchmark, run
from metareplay.methods import FAMILIES, Method
from metareplay.runs import recipes

WIDTH, HEIGHT, GAP, LEFT, ABREAST = 150, 90, 34, 40, 4
STEP = {"adamw": 0.001}
"""On digits-input-permuted, for which nothing is tuned; all others take .01."""


def curve(name: str, plasticity: bool) -> NDArray[np.float64]:
    """Accuracies in %, after each task or in it."""
    method: type[Method] = METHODS[name]
    if plasticity:
        record = run(benchmark("digits-input-permuted"), method(lr=STEP.get(name, 0.01)), evaluate="never")
        right, of = record.right_by_visit.T
        return 100 * right / of
    memories = 200 if hasattr(method, "memories") else None
    settings, _ = recipes.settings("digits-rotations", name, memories)
    accuracy = run(benchmark("digits-rotations"), method(**settings)).accuracy  # (visits, tasks), at the end of each
    return np.array([100 * row[: task + 1].mean() for task, row in enumerate(accuracy)])


def picture(curves: dict[str, NDArray[np.float64]], plain: NDArray[np.float64], title: str) -> str:
    drawn = []
    for place, (name, values) in enumerate(curves.items()):
        left, top = LEFT + place % ABREAST * (WIDTH + GAP), 24 + place // ABREAST * (HEIGHT + 54)
        at = np.linspace(0, WIDTH, len(values)).round(1)
        panel = []
        for percent, y in ((100, 0), (50, HEIGHT // 2), (0, HEIGHT)):
            panel.append(f'<path d="M0,{y} H{WIDTH}" stroke="#ddd"/>')
            panel.append(f'<text x="-6" y="{y + 4}" text-anchor="end">{percent}</text>')
        for line, colour in ((plain, "#bbb"), (values, "#0077bb")):
            points = " ".join(f"{x},{y}" for x, y in zip(at, (HEIGHT * (1 - line / 100)).round(1), strict=True))
            panel.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        panel.append(f'<text y="-8" font-weight="bold">{name}: {values[-1]:.0f} %</text>')
        panel.append(f'<text y="{HEIGHT + 15}">1</text>')
        panel.append(f'<text x="{WIDTH}" y="{HEIGHT + 15}" text-anchor="end">task {len(values)}</text>')
        drawn.append(f'<g transform="translate({left} {top})">{"".join(panel)}</g>')
    width = LEFT + min(len(curves), ABREAST) * (WIDTH + GAP)
    height = 24 + -(-len(curves) // ABREAST) * (HEIGHT + 54) - 24
    style = 'font-family="Liberation Sans, Arial, sans-serif" font-size="12" fill="#222"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {style}>'
    return "\n".join(
        [head, f"<title>{title}</title>", '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>\n"]
    )


def main() -> None:
    folder = Path(*sys.argv[1:] or ["docs/figures"])
    folder.mkdir(parents=True, exist_ok=True)
    plain = {plasticity: curve("online", plasticity) for plasticity in (False, True)}
    for family in FAMILIES:
        lasting = family == "plasticity"
        # er-matched is plain replay, but for the number of times that a control asks for
        names = [name for name, method in METHODS.items() if method.family == family and name != "er-matched"]
        what = "online accuracy in each task" if lasting else "mean accuracy on the tasks met"
        file = folder / f"{family}.svg"
        file.write_text(picture({name: curve(name, lasting) for name in names}, plain[lasting], f"{family}: {what}, %"))
        print(file, flush=True)


if __name__ == "__main__":
    main()
