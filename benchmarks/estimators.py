"""Our classifiers beside river's and SGDClassifier, on streams that change: ``python -m benchmarks.estimators``.

Every model is asked about each example and then learns it. At the end it is asked about held-out examples of every
part of the stream. Prints the tables of ``docs/estimators.md``; with ``--draw FOLDER`` its figures are written there.
``--panel`` compares estimators on other streams instead: what their defaults are chosen by (``panel.py``).
Needs the extras ``river`` and, for figures, ``report``.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from river import datasets, forest, linear_model, naive_bayes, preprocessing, tree
from river.datasets import synth
from sklearn.linear_model import SGDClassifier

import metareplay
from benchmarks import panel
from metareplay.estimators import ContinualRiverClassifier
from metareplay.streams.stream import Stream

Example = tuple[dict[Any, float], Any]
Part = tuple[list[Example], list[Example]]
"""What is learned of one part of a stream, and what is held out of it."""

SEEDS = range(3)
WINDOWS = 40
"""Points of a curve."""
HELD_OUT = 6
"""One in so many examples."""


def of_images(stream: Stream, train: int, test: int) -> list[Part]:
    """The tasks of one of this package's streams; pixels by number."""
    parts = []
    for number, task in enumerate(stream.tasks):
        rng = np.random.default_rng(number)
        both = []
        for images, size in ((task.train, train), (task.test, test)):
            which = rng.permutation(len(images))[:size]
            rows = images.inputs(which).astype(float).tolist()
            both.append([(dict(enumerate(x)), y) for x, y in zip(rows, images.labels[which].tolist(), strict=True)])
        parts.append((both[0], both[1]))
    return parts


def cut(examples: Iterable[Example], parts: int) -> list[Part]:
    """A stream in parts of equal length, some of each held out."""
    plain = [({name: float(value) for name, value in x.items()}, y) for x, y in examples]
    size = len(plain) // parts
    pieces = [plain[begin : begin + size] for begin in range(0, parts * size, size)]
    return [
        ([e for i, e in enumerate(piece) if i % HELD_OUT], [e for i, e in enumerate(piece) if i % HELD_OUT == 0])
        for piece in pieces
    ]


STREAMS: dict[str, Callable[[], list[Part]]] = {
    "turned digits": lambda: of_images(metareplay.benchmark("digits-rotations", tasks=5), 1000, 250),
    "digits by class": lambda: of_images(metareplay.benchmark("digits-split"), 250, 100),
    "moving clusters": lambda: cut(
        synth.RandomRBFDrift(
            seed_model=3,
            seed_sample=4,
            n_classes=4,
            n_features=8,
            n_centroids=20,
            n_drift_centroids=20,
            change_speed=0.0005,
        ).take(8_000),
        4,
    ),
    "SEA": lambda: cut(
        itertools.chain(*(synth.SEA(variant, noise=0.1, seed=5).take(2_000) for variant in range(4))), 4
    ),
    "Agrawal": lambda: cut(itertools.chain(*(synth.Agrawal(rule, seed=6).take(2_000) for rule in (0, 2, 4, 6))), 4),
    "phishing": lambda: cut(datasets.Phishing(), 1),
}

ABOUT = {
    "turned digits": "real (scikit-learn's digits): five angles one after another, 1000 examples each",
    "digits by class": "real (scikit-learn's digits): two new classes after two, 250 examples each time",
    "moving clusters": "river's RandomRBFDrift: 20 clusters of four classes that wander, 8000 examples",
    "SEA": "river's SEA: four rules that contradict each other, 2000 examples each, a tenth of the labels wrong",
    "Agrawal": "river's Agrawal: four rules that contradict each other, 2000 examples each",
    "phishing": "real (river's Phishing): 1250 examples, nothing changes",
}


MODELS: dict[str, Callable[[int, list[Any]], Any]] = {
    "default": lambda seed, classes: ContinualRiverClassifier(seed=seed),
    "MER": lambda seed, classes: ContinualRiverClassifier("meralg1", memories=500, recency=None, seed=seed),
    "ER": lambda seed, classes: ContinualRiverClassifier("eralg4", seed=seed),
    "online": lambda seed, classes: ContinualRiverClassifier("online", seed=seed),
    "SGDClassifier": lambda seed, classes: panel.Scaled(SGDClassifier(loss="log_loss", random_state=seed), classes),
    "softmax regression": lambda seed, classes: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(),
    "naive Bayes": lambda seed, classes: naive_bayes.GaussianNB(),
    "Hoeffding tree": lambda seed, classes: tree.HoeffdingTreeClassifier(),
    "adaptive Hoeffding tree": lambda seed, classes: tree.HoeffdingAdaptiveTreeClassifier(seed=seed),
    "adaptive random forest": lambda seed, classes: forest.ARFClassifier(seed=seed),
}
WITHOUT_SEED = ("SGDClassifier", "softmax regression", "naive Bayes", "Hoeffding tree")


@dataclass(frozen=True)
class Outcome:
    """One model on one stream."""

    stream: str
    model: str
    seed: int
    curve: list[float]
    """Share of right answers in each of the windows, before learning."""
    prequential: float
    at_end: list[float]
    """Share of right answers on what was held out of each part, at the end."""
    microseconds: float
    """Of the processor's time, to answer and learn one example."""

    @property
    def kept(self) -> float:
        """Mean over all parts but the last."""
        return float(np.mean(self.at_end[:-1])) if len(self.at_end) > 1 else float("nan")


@cache
def parts_of(stream: str) -> list[Part]:
    return STREAMS[stream]()


def run(stream: str, name: str, seed: int) -> Outcome:
    parts = parts_of(stream)
    classes = sorted({y for train, _ in parts for _, y in train})
    model = MODELS[name](seed, classes)
    if name in ("default", "MER", "ER", "online"):  # what is compiled must not count
        MODELS[name](seed, classes).learn_one(*parts[0][0][0])
    right = []
    begin = time.process_time()
    for x, y in itertools.chain(*(train for train, _ in parts)):
        right.append(model.predict_one(x) == y)
        model.learn_one(x, y)
    seconds = time.process_time() - begin
    at_end = [float(np.mean([model.predict_one(x) == y for x, y in test])) for _, test in parts]
    curve = [float(np.mean(window)) for window in np.array_split(right, WINDOWS)]
    return Outcome(stream, name, seed, curve, float(np.mean(right)), at_end, 1e6 * seconds / len(right))


def measure(models: list[str], processes: int) -> list[Outcome]:
    jobs = [
        (stream, name, seed) for stream in STREAMS for name in models for seed in SEEDS
        if seed == 0 or name not in WITHOUT_SEED
    ]  # fmt: skip
    with ProcessPoolExecutor(processes) as pool:
        outcomes = []
        for outcome in pool.map(run, *zip(*jobs, strict=True)):
            outcomes.append(outcome)
            print(f"{len(outcomes)} of {len(jobs)}: {outcome.model} on {outcome.stream}", end="\r\033[K", flush=True)
    return outcomes


def tables(outcomes: list[Outcome]) -> Iterator[str]:
    """Markdown: means over the seeds, the best of each column in bold."""
    models = list(dict.fromkeys(outcome.model for outcome in outcomes))
    for title, value in (
        ("Prequential accuracy (%): asked before learning, over the whole stream", lambda o: 100 * o.prequential),
        ("Accuracy kept (%): on held-out examples of all earlier parts, at the end", lambda o: 100 * o.kept),
        ("Accuracy now (%): on held-out examples of the last part, at the end", lambda o: 100 * o.at_end[-1]),
        ("Microseconds of processor time to answer and learn one example", lambda o: o.microseconds),
    ):
        cells = {
            (stream, model): [value(o) for o in outcomes if (o.stream, o.model) == (stream, model)]
            for stream in STREAMS
            for model in models
        }
        streams = [stream for stream in STREAMS if not np.isnan(cells[stream, models[0]]).any()]
        best = {stream: max(round(np.mean(cells[stream, model]), 1) for model in models) for stream in streams}
        yield f"\n{title}\n"
        yield f"| model | {' | '.join(streams)} |"
        yield f"|---|{'--:|' * len(streams)}"
        for model in models:
            row = []
            for stream in streams:
                mean, spread = np.mean(cells[stream, model]), np.std(cells[stream, model])
                if title.startswith("Micro"):
                    row.append(f"{mean:.0f}")
                    continue
                text = f"{mean:.1f}" + (f" ± {spread:.1f}" if len(cells[stream, model]) > 1 else "")
                row.append(f"**{text}**" if round(mean, 1) == best[stream] else text)
            yield f"| {model} | {' | '.join(row)} |"


SHOWN = ("default", "MER", "ER", "online", "SGDClassifier", "Hoeffding tree", "adaptive random forest")
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#999999", "#e69f00", "#cc79a7", "#009e73")


def draw(outcomes: list[Outcome], folder: Path) -> None:
    import altair as alt
    import vl_convert

    colours = {name: code for name, code in zip(SHOWN, COLOURS, strict=True) if any(o.model == name for o in outcomes)}
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    colour = alt.Color("model:N", sort=list(colours), title=None, scale=scale)
    curves, kept = [], []
    for stream, model in itertools.product(STREAMS, colours):
        mine = [o for o in outcomes if (o.stream, o.model) == (stream, model)]
        curve = np.mean([o.curve for o in mine], axis=0)
        about = {"stream": stream, "model": model}
        curves += [
            about | {"at": round(100 * (i + 0.5) / WINDOWS), "accuracy": round(100 * share, 1)}
            for i, share in enumerate(curve.tolist())
        ]
        if len(mine[0].at_end) > 1:
            at_end = np.mean([o.at_end for o in mine], axis=0)
            kept += [
                about | {"part": i + 1, "accuracy": round(100 * share, 1)} for i, share in enumerate(at_end.tolist())
            ]
    y = alt.Y("accuracy:Q", title="right answers (%)", scale=alt.Scale(zero=False))
    charts = {
        "prequential": alt.Chart(alt.Data(values=curves)).mark_line(strokeWidth=1.5).encode(
            alt.X("at:Q", title="how far the stream has come (%)"), y, colour
        ),
        "kept": alt.Chart(alt.Data(values=kept)).mark_line(point=True, strokeWidth=1.5).encode(
            alt.X("part:O", title="part of the stream, asked about at its end", axis=alt.Axis(labelAngle=0)), y, colour
        ),
    }  # fmt: skip
    for name, chart in charts.items():
        grid = (
            chart.properties(width=210, height=140)
            .facet(alt.Facet("stream:N", title=None, sort=list(STREAMS)), columns=3)
            .resolve_scale(y="independent", x="shared")
            .configure(font="sans-serif")
            .configure_legend(orient="bottom", columns=7)
        )
        svg = vl_convert.vegalite_to_svg(json.loads(grid.to_json()), allowed_base_urls=[])
        (folder / f"estimators-{name}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write the figures there")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all results there; read them if they are there"
    )
    parser.add_argument("--panel", action="store_true", help="the panel instead")
    parser.add_argument("--quick", action="store_true", help="with --panel: places of at most 5 000 examples")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="with --panel: other streams")
    parser.add_argument(
        "--models", nargs="+", metavar="MODEL",
        help="some only; with --panel also settings to try, as '{\"lr\": 0.03}'",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=2, help="how many models learn at once")
    options = parser.parse_args()
    if options.panel:
        places = panel.QUICK if options.quick else panel.FULL
        models = options.models or list(panel.MODELS)
        for line in panel.panel(models, places, options.processes, options.json, options.first_seed):
            print(line, flush=True)
        return
    if options.json and options.json.exists():
        outcomes = [Outcome(**entry) for entry in json.loads(options.json.read_text(encoding="utf-8"))]
    else:
        outcomes = measure(options.models or list(MODELS), options.processes)
        if options.json:
            options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes]), encoding="utf-8")
    for name, about in ABOUT.items():
        print(f"- {name}: {about}")
    print(*tables(outcomes), sep="\n")
    if options.draw:
        draw(outcomes, options.draw)


if __name__ == "__main__":
    main()
