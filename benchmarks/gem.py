"""GEM at the last task, by the example: as it is, and with every gradient formed."""

import itertools
from typing import Any

import numpy as np

from benchmarks import models
from benchmarks.models import Case
from benchmarks.timing import Work, beside, in_turns, table
from metareplay import Images
from metareplay.data.images import ImageSet

CASES = (
    Case("gem", 5120),
    Case("gem", 200),
    Case("gem", 5120, 100, "mnist-many-permutations"),
    Case("gem", 500, 100, "mnist-many-permutations"),
)
"""Memories of 256, 10, 51 and 5 examples a task."""


def learning(case: Case, ours: models.Ours, images: Images, jacobian: Any) -> Work:
    """Learn examples of the last task, with the gradients as ``jacobian`` gives them."""
    which = np.arange(models.EXAMPLES) % len(images)
    x, y, examples = images.inputs(which), images.labels[which], itertools.count()

    def work(units: int) -> None:
        ours.learner.jacobian = jacobian  # type: ignore[method-assign]  # the one that is measured
        for i in itertools.islice(examples, units):
            one = slice(i % len(x), i % len(x) + 1)
            ours.put(x[one], y[one], case.tasks - 1)
            ours.observe()

    return work


def measure(base: ImageSet, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds an example of each case, and how many times as long with every gradient formed."""
    result = {}
    for case in CASES:
        ours, (*_, images) = models.lived(case, base)
        ways = {"ours": ours.learner.jacobian, "formed": ours.learner.gradients}
        times = in_turns({name: learning(case, ours, images, way) for name, way in ways.items()}, seconds, rounds)
        name = f"{case.benchmark}, {case.memories} memories"
        result[name] = beside(times, "formed", "ours", unit="milliseconds", per=1000)
    return result


def lines(result: dict[str, Any]) -> list[str]:
    rows = (
        (name, *(f"{row['milliseconds'][way]:.2f}" for way in ("ours", "formed")), f"{row['times_as_fast']:.2f} ×")
        for name, row in result.items()
    )
    title = "One example of gem at the last task, published settings, every memory full"
    return table(title, "ours, ms | every gradient formed, ms | ours is faster by", rows)
