"""Draw who comes when in each order: ``python -m benchmarks.orders > docs/gallery/orders.svg``.

Five tasks of digits; from left to right the stream, from bottom to top each task's share of what comes then.
"""

import numpy as np

import metareplay
from metareplay.results.charts import COLOURS

ORDERS = ("tasks", "shuffled", "recurring 3", "gradual 0.5", "blurry 0.2", "iid")
TASKS, PARTS = 5, 130
PART, HEIGHT, LEFT, GAP = 4, 44, 110, 14
WIDTH = PARTS * PART


def shares(order: str, seed: int = 1) -> np.ndarray:
    """``(PARTS, TASKS)`` each task's share in each part of the stream."""
    stream = metareplay.benchmark("digits-permutations", tasks=TASKS)
    spans = metareplay.Experiment(stream=stream, method=metareplay.Online(), order=order, seed=seed).spans
    tasks = np.array(spans.visits)[np.concatenate([span.sources for span in spans])]
    return np.array([np.bincount(part, minlength=TASKS) / len(part) for part in np.array_split(tasks, PARTS)])


def _stairs(edge: np.ndarray) -> list[tuple[int, float]]:
    """Corners of a line that is level within each part; where two parts are alike there is none."""
    heights = ((1 - edge) * HEIGHT).round(1)
    ends = [*np.flatnonzero(np.diff(heights)), PARTS - 1]
    begins = [0, *(end + 1 for end in ends[:-1])]
    return [(int(x) * PART, heights[at]) for at, end in zip(begins, ends, strict=True) for x in (at, end + 1)]


def picture() -> str:
    drawn, top = [], GAP
    for order in ORDERS:
        drawn.append(f'<text x="{LEFT - 10}" y="{top + HEIGHT / 2 + 4:g}" text-anchor="end">{order}</text>')
        edges = np.pad(shares(order).cumsum(1), ((0, 0), (1, 0)))
        for task, colour in enumerate(COLOURS[2 : 2 + TASKS]):
            below, above = (_stairs(edges[:, column]) for column in (task, task + 1))
            points = " ".join(f"{x},{y:g}" for x, y in below + above[::-1])
            drawn.append(f'<polygon transform="translate({LEFT} {top})" fill="{colour}" points="{points}"/>')
        top += HEIGHT + GAP
    for task, colour in enumerate(COLOURS[2 : 2 + TASKS]):
        x = LEFT + task * 80
        drawn.append(f'<rect x="{x}" y="{top}" width="12" height="12" fill="{colour}"/>')
        drawn.append(f'<text x="{x + 18}" y="{top + 11}">task {task + 1}</text>')
    size = f'width="{LEFT + WIDTH + GAP}" height="{top + 26}"'
    style = 'font-family="sans-serif" font-size="13" fill="#222222"'
    title = "<title>Each task's share of what comes, along the stream, in six orders</title>"
    ground = '<rect width="100%" height="100%" fill="white"/>'
    body = "\n".join(drawn)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{title}{ground}\n{body}\n</svg>\n'


if __name__ == "__main__":
    print(picture(), end="")
