"""Scores of 10 000 test images: ours through a map of indices, PyTorch's on images already converted."""

from typing import Any

import numpy as np
import torch

from benchmarks import plain_pytorch, steps
from benchmarks.timing import Work, beside, in_turns, median, table
from metareplay import Stream

TASK = 7
BATCH_SIZES = (100, 250, 500, 1000, 2500, 10_000)
NEEDED = (2, 4)


def measure(stream: Stream, seconds: float, rounds: int) -> dict[str, Any]:
    """Check that both predict the same, then time them; of PyTorch's batch sizes the best one counts."""
    ours = steps.learner(stream)
    ours.sgd_each(np.random.default_rng(1).integers(0, steps.MEMORIES, 10_000), 0.01)
    test = stream.tasks[TASK].test
    images = torch.from_numpy(test.inputs(np.arange(len(test))))
    parameters = [array.detach() for array in plain_pytorch.tensors(ours.layers())]

    def scores(batch_size: int) -> torch.Tensor:
        return torch.cat([plain_pytorch.forward(parameters, part) for part in images.split(batch_size)])

    with torch.inference_mode():
        mine, theirs = ours.scores(test, TASK), scores(1000).numpy()
        different = mine.argmax(1) != theirs.argmax(1)
        best, second = np.sort(theirs[different], 1)[:, :-3:-1].T
        if (best - second > 1e-4).any():
            raise SystemExit(f"{different.sum()} of {len(test)} predictions differ from PyTorch's")

        def in_pytorch(batch_size: int) -> Work:
            return lambda units: [scores(batch_size) for _ in range(units)][-1]

        competitors = {str(size): in_pytorch(size) for size in BATCH_SIZES}
        times = in_turns(competitors, seconds / 3, rounds)
        size = min(competitors, key=lambda name: median(times, name))
        competitors = {
            "ours": lambda units: [ours.scores(test, TASK) for _ in range(units)][-1],
            "PyTorch": competitors[size],
        }
        times = in_turns(competitors, seconds, rounds)
    return beside(times, "PyTorch", "ours", per=len(test)) | {
        "batch_size": int(size),
        "predictions_that_differ": int(different.sum()),
        "images": len(test),
    }


def lines(result: dict[str, Any]) -> list[str]:
    required, aim = NEEDED
    mine, theirs = result["microseconds"]["ours"], result["microseconds"]["PyTorch"]
    rows = (
        ("ours", f"{mine:.2f}", "", "", ""),
        (
            f"PyTorch, {result['batch_size']} at once",
            f"{theirs:.2f}",
            f"{result['times_as_fast']:.1f} ×",
            required,
            aim,
        ),
    )
    title = f"Evaluation on {result['images']} rotated test images, by the image"
    differ = f"{result['predictions_that_differ']} of {result['images']} predictions differ."
    return [*table(title, "µs an image | ours is faster by | required | aim", rows), "", differ]
