"""What an example costs on the streams of hundreds of tasks, all included: ``python -m benchmarks.long_streams``.

For each method the processor's time for many examples less that for few, over their difference, in a whole run that is
never tested: the least of several rounds, taken in turns. Beside it the compiled call alone that `online` makes, on the
same network, with its inputs at hand. Needs MNIST.
"""

import argparse
import time
from collections import defaultdict

import numpy as np

import metareplay
from metareplay import METHODS

DEEP, WIDE = (100, 100, 100), (300, 150)
CASES = (
    ("mnist-online-permuted", "online", {"lr": 0.003}, DEEP, 60_000, 4),
    ("mnist-online-permuted", "online", {"lr": 0.003, "weight_decay": 0.001}, DEEP, 60_000, 8),
    ("mnist-online-permuted", "l2init", {"lr": 0.003, "strength": 0.001}, DEEP, 60_000, 8),
    ("mnist-input-permuted", "online", {"lr": 0.001}, WIDE, 5000, 60),
    ("mnist-input-permuted", "adamw", {}, WIDE, 2000, 400),
    ("mnist-input-permuted", "cbp", {"base": "adamw"}, WIDE, 2000, 450),
    ("mnist-input-permuted", "upgd", {}, WIDE, 2000, 900),
)
"""Stream, method, settings, hidden layers, examples, and the microseconds that were asked for."""
FEW = 500


def seconds(stream: str, method: str, settings: dict, hidden: tuple, examples: int) -> float:
    learned = metareplay.benchmark(stream, tasks=1, samples_per_task=examples)
    experiment = metareplay.Experiment(
        stream=learned, method=METHODS[method](**settings), hidden=hidden, evaluate="never"
    )
    trainer = metareplay.Trainer(experiment)
    begin = time.process_time()
    trainer.train()
    return time.process_time() - begin


def in_one_call() -> float:
    images = metareplay.benchmark("mnist-online-permuted", tasks=1).tasks[0].train
    trainer = metareplay.Trainer(metareplay.Experiment(
        stream=metareplay.benchmark("mnist-online-permuted", tasks=1), method=METHODS["online"](lr=0.003), hidden=DEEP,
    ))  # fmt: skip
    x, y = images.inputs(np.arange(1000)), images.labels[:1000]
    begin = time.process_time()
    trainer.learner.predict_and_learn(x, y, 0, 0.003)
    return (time.process_time() - begin) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="What an example costs on the streams of hundreds of tasks.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    least: dict = defaultdict(lambda: float("inf"))
    for _ in range(rounds + 1):  # in the first all is compiled
        for number, (*case, examples, _) in enumerate(CASES):
            for count in (FEW, examples):
                least[number, count] = min(least[number, count], seconds(*case, count))
        least["call"] = min(least["call"], in_one_call())
    print("| stream | method | µs an example | asked for |\n|---|---|--:|--:|")
    for number, (stream, method, settings, _, examples, goal) in enumerate(CASES):
        each = 1e6 * (least[number, examples] - least[number, FEW]) / (examples - FEW)
        given = "".join(f" --{name.replace('_', '-')} {value}" for name, value in settings.items())
        print(f"| `{stream}` | `{method}{given}` | {each:.2f} | {goal} |")
    print(f"| the first without what lies around its compiled call | | {1e6 * least['call']:.2f} | |")


if __name__ == "__main__":
    main()
