"""What a suite would do: which of its runs are there already, and what the others cost."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal

from metareplay.data import catalogue as sources
from metareplay.runs.experiment import Experiment, but_the_seed
from metareplay.runs.folder import Run, find
from metareplay.runs.request import NETWORK, RUN, Request
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.catalogue import Benchmark
from metareplay.streams.stream import Stream

ENOUGH = 500  # earlier runs that are looked at to tell how long new ones will take
STEP, IMAGE = 2.5e-6, 1e-6
"""Seconds of a 784-100-100-10 perceptron on MNIST for a step, and for a test image (docs/speed.md)."""
BESIDE = {
    "eralg4": 5, "eralg5": 5, "er-matched": 10, "redo": 20, "ewc": 30, "erace": 30, "lwf": 40, "agem": 45,
    "ncm": 45, "mas": 50, "gem": 50, "si": 55, "ewc-online": 60, "derpp": 60, "der": 70, "adamw": 70, "lamaml": 100,
    "cmaml": 120, "cbp": 130, "gss": 150, "sync": 150, "clser": 170, "slda": 180, "mir": 200, "shrink-perturb": 215,
    "upgd": 265,
}  # fmt: skip
"""Microseconds that methods take beside their gradients for each batch of that perceptron: ``benchmarks/beside.py``."""
_found = set[Path]()
RUN_OPTIONS = {option.name: option for option in (*NETWORK, *RUN) if option.name != "seed"}


@dataclass(frozen=True)
class Planned:
    """A run before it starts: its ``Run.status``, ``new``, or ``unknown`` without data; SGD steps, seconds."""

    request: Request
    state: Literal["new", "done", "running", "stopped", "failed", "broken", "unknown"]
    steps: int | None
    seconds: float | None


def plan(requests: Sequence[Request], out: Path) -> list[Planned]:
    """What would be done for each run, of which ``out`` may have some; nothing is fetched, and nothing is written."""
    forget_streams()
    pace = Pace(status.summary for run in islice(find(out), ENOUGH) if (status := run.status()).summary)
    planned = []
    for request in requests:
        experiment = as_experiment(request, fetch=False)
        folder = out / experiment.key
        state: Any = Run(folder).status().state if folder.is_dir() else "new"
        state = state if experiment.stream.data_sha256 else "unknown"
        planned.append(Planned(request, state, steps_of(experiment), pace.seconds(experiment)))
    return planned


def as_experiment(request: Request, fetch: bool = True) -> Experiment:
    """What is asked for; requests of one ``stream`` share it."""
    _, method, run = request.resolved()  # complains of everything before data are loaded
    return Experiment(stream=stream(request, fetch), method=method, **run)


def stream(request: Request, fetch: bool = True) -> Stream:
    """The stream that is asked for, made once; of blank images, without a hash, where the data would be fetched."""
    blank = not fetch and not at_hand(benchmarks.find(request.benchmark))
    return _stream(request.benchmark, json.dumps(dict(request.stream), sort_keys=True), blank)


@lru_cache(maxsize=16)
def _stream(name: str, options: str, blank: bool) -> Stream:
    benchmark, source = benchmarks.find(name), dict[str, Any](sources.SOURCES)
    images = source[benchmark.data].blank() if blank else None
    return benchmark.stream(**json.loads(options), images=images, progress=False)


forget_streams = _stream.cache_clear  # to be called where a user's own data may have changed since


def steps_of(experiment: Experiment) -> int | None:
    """The SGD steps of a run, exactly; None for a user's own method."""
    sizes = experiment.spans.sizes
    return experiment.method.steps(int(sizes.sum()), int(-(-sizes // experiment.batch_size).sum()))


def expected(experiment: Experiment) -> float | None:
    """Seconds of a run of which none like it was made here, to a factor of two or three; None where nothing is known.

    A fifth of the inputs are taken to be not zero.
    """
    method, stream, sizes = experiment.method, experiment.stream, experiment.spans.sizes
    count, beside = steps_of(experiment), BESIDE.get(method.id, 0)
    if experiment.engine != "fused" or (not count and not beside):  # gdumb learns before each evaluation
        return None
    widths, examples = (*experiment.hidden, stream.classes), int(sizes.sum())
    batches = int(-(-sizes // experiment.batch_size).sum())
    used, dense = (
        sum(a * b for a, b in pairwise((inputs, *widths))) / of
        for inputs, of in ((stream.inputs // 5, 26_600), (stream.inputs, 89_400))
    )
    gradients = float(max(count or 0, examples))
    if beside:  # of the others each gradient is a step; of GEM's memories half are of earlier tasks, in the mean
        replayed = getattr(method, "memories", 0) / 2 if method.id == "gem" else getattr(method, "replay_batch_size", 0)
        gradients += float(max(count or 0, batches) * replayed)
    each = examples // experiment.batch_size // experiment.eval_every if experiment.eval_every else 0
    looks = {"never": 0, "end": 1}.get(experiment.evaluate, 1 + len(sizes) + each)
    images = len(stream.tasks) * len(stream.tasks[0].test)
    seconds = (STEP * gradients + IMAGE * images * looks) * max(0.5, used)
    return seconds + 1e-6 * beside * batches * (1 + 2 * dense) / 3


class Pace:
    """How long runs take: as earlier ones, by their ``Record.summary()``, else as ``expected``."""

    def __init__(self, summaries: Iterable[Mapping[str, Any]] = ()) -> None:
        took = defaultdict[str, list[tuple[float, int]]](list)  # seconds, and for how many runs or steps
        for summary in summaries:
            seconds, (same, like) = summary["train_seconds"] + summary["eval_seconds"], _alike(summary["configuration"])
            took[same].append((seconds, 1))
            took[like].append((seconds, summary["steps"]))
        sums = {key: tuple(map(sum, zip(*runs, strict=True))) for key, runs in took.items()}
        self.each = {key: seconds / count for key, (seconds, count) in sums.items() if count}

    def seconds(self, experiment: Experiment) -> float | None:
        """How long a run will take, about; None where nothing is known of its method or network."""
        (same, like), count = _alike(experiment.configuration()), steps_of(experiment)
        if same in self.each:
            return self.each[same]
        return self.each[like] * count if like in self.each and count else expected(experiment)


def _alike(configuration: Mapping[str, Any]) -> tuple[str, str]:
    """What runs have in common that take as long, and what those whose steps take as long."""
    names = ("benchmark", "method", "batch_size", "hidden", "engine", "device", "network")
    return repr(sorted(but_the_seed(configuration).items())), repr([configuration.get(name) for name in names])


def at_hand(benchmark: Benchmark) -> bool:
    """Whether a benchmark's data are on this machine, so that nothing need be fetched; what was found stays so."""
    source = sources.SOURCES.get(benchmark.data)
    if source is None:
        return True
    folder = sources.data_folder() / source.name
    if folder not in _found and source.present(folder):  # which reads and checks all of it
        _found.add(folder)
    return folder in _found


def flat(request: Request) -> dict[str, Any]:
    """All that decides a run, by name: what is asked for, else what the recipe says, else the default."""
    declared = (*benchmarks.find(request.benchmark).options, *NETWORK, *RUN)
    defaults = {option.name: option.default for option in declared} | request.defaults()[0]
    names = {"benchmark": request.benchmark, "method": request.method}
    return names | defaults | dict(request.stream) | dict(request.settings) | dict(request.run)


def options(request: Request) -> dict[str, str]:
    """What is asked for beside benchmark, method and seed, as short text."""
    asked = {**request.stream, **request.settings, **request.run}
    return {key: short(str(value)) for key, value in asked.items() if key != "seed"}


def name(request: Request) -> str:
    """A run in a few words: ``mnist-rotations, meralg1, memories 200, seed 0``."""
    asked = [f"{key} {value}" for key, value in options(request).items()]
    return ", ".join([short(request.benchmark), short(request.method), *asked, f"seed {request.run.get('seed', 0)}"])


def short(text: str) -> str:
    """The name of a user's own file without its folder; other names as they are."""
    return text.rstrip("/").rsplit("/", 1)[-1]
