"""What methods take beside their gradients, as ``suites/plan.py`` has it: ``python -m benchmarks.beside [METHOD …]``.

Each learns two tasks of 784 inputs, one example at a time, with a 784-100-100-10 network and 200 memories, ten of them
replayed. Of the processor's time for one example more goes what ``plan.expected`` has for its gradients.
"""

import sys
import time

from benchmarks.timing import one_thread_on_one_core

one_thread_on_one_core()  # before these import PyTorch

from benchmarks import data  # noqa: E402
from benchmarks.baselines import SETTINGS  # noqa: E402
from metareplay import METHODS, Experiment, run  # noqa: E402
from metareplay.settings import hyperparameters  # noqa: E402
from metareplay.suites import plan  # noqa: E402

FEW, MANY = 100, 500


def microseconds(name: str) -> float:
    """For each batch of one example."""
    there = {one.name for one in hyperparameters(METHODS[name])}
    method = METHODS[name](**{key: value for key, value in SETTINGS.items() if key in there - {"interpolate_every"}})
    stream = data.rotations(data.images(None), 2)

    def seconds(examples: int) -> float:
        begin = time.process_time()
        run(stream, method, samples_per_task=examples, evaluate="never")
        alike = Experiment(stream=stream, method=method, samples_per_task=examples, evaluate="never")
        return time.process_time() - begin - (plan.expected(alike) or 0)

    plan.BESIDE[name] = 0.001  # so that gradients of memories are counted, and nothing else is
    seconds(FEW)  # compiles
    few, many = (min(seconds(examples) for _ in range(5)) for examples in (FEW, MANY))
    return 1e6 * (many - few) / (2 * (MANY - FEW))


if __name__ == "__main__":
    for name in sys.argv[1:] or plan.BESIDE.copy():
        print(f'"{name}": {microseconds(name):.0f},', flush=True)
