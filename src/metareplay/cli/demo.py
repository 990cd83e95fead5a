"""``metareplay demo``: what forgetting is, and what replay does about it, on real handwritten digits."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.text import Text

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import console, write
from metareplay.errors import BadInput
from metareplay.methods.base import Method
from metareplay.methods.mer import MER
from metareplay.methods.online import Online
from metareplay.results import require_drawing
from metareplay.results.groups import Contents, groups
from metareplay.results.statistics import differences, estimate
from metareplay.results.table import Column, Row, Table
from metareplay.runs import recipes
from metareplay.runs.display import Display
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import Run, find
from metareplay.runs.record import Record
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.stream import Stream

BENCHMARK = "digits-rotations"
SEEDS = 6  # the fewest that can establish a difference
MEMORIES = 200
Accuracies = NDArray[np.float64]  # in percent, ``(seeds, tasks, tasks)``: when task i ended, on task j


def main(argv: list[str]) -> None:
    """Two learners on ten tasks of real handwritten digits: one forgets, one replays; no download, under a minute."""
    parser = Parser("metareplay demo", main)
    parser.add_argument("--out", metavar="DIR", default="runs/demo", help="where it is kept (default: runs/demo)")
    out = Path(parser.parse(argv).out)
    stream = benchmarks.find(BENCHMARK).stream()
    online = Online(**recipes.settings(BENCHMARK, "online")[0])
    mer = MER(**recipes.settings(BENCHMARK, "meralg1", MEMORIES)[0])
    screen = console()
    screen.print(f"""\
{len(stream.tasks)} tasks, one after another: to read handwritten digits that are turned, in each task by another \
angle. Two learners with the same network see every example once:

  [bold]online[/]   takes one step on each example as it comes
  [bold]meralg1[/]  is Meta-Experience Replay (MER): it keeps {mer.memories} examples
           and replays some of them with each new one
""")
    records = learn(stream, {"online": online, "meralg1": mer}, range(SEEDS), out)
    accuracies = {name: 100 * np.array([record.accuracy for record in runs]) for name, runs in records.items()}
    screen.print(every_task(stream, accuracies).terminal(), "", first_task(accuracies).terminal(), "", sep="\n")
    screen.print(conclusion(accuracies))
    for text in (report([record for runs in records.values() for record in runs], out), what_next(out)):
        screen.print(text, soft_wrap=True)


def learn(stream: Stream, methods: Mapping[str, Method], seeds: Sequence[int], out: Path) -> dict[str, list[Record]]:
    """Run every method with every seed, with a bar for each run, even if that was done before: it is what is shown."""
    with Display() as display:

        def one(name: str, seed: int) -> Record:
            experiment = Experiment(stream=stream, method=methods[name], seed=seed)
            return Run(out / experiment.key).carry_out(experiment, display.run(f"{name}, seed {seed}"), again=True)

        return {name: [one(name, seed) for seed in seeds] for name in methods}


def report(records: Iterable[Record], out: Path) -> str:
    """Write a page about the runs, and say how to open it; without what draws it, say how to get that."""
    try:
        require_drawing()
    except BadInput as missing:
        return f"[bold]As a page[/]: {escape(str(missing))}, then `{_invocation()} report {out}`\n"
    from metareplay.results.page import page

    file = out / "report.html"
    write("the page", str(file), page(Contents(groups(records), source=str(out))))
    return f"[bold]As a page[/]: open {file} in a browser: {file.absolute().as_uri()}\n"


def every_task(stream: Stream, accuracies: Mapping[str, Accuracies]) -> Table:
    """Each task right after it was learned, at the end, and the change; then means with 95 % intervals over seeds."""
    columns = [Column("task"), Column("turned by")]
    columns += [Column(title, f"{name}:") for name in accuracies for title in ("learned", "at the end", "change")]
    both = map(_learned_and_ended, accuracies.values())
    found = [np.array([learned, ended, ended - learned]) for learned, ended in both]
    rows = []
    for number, task in enumerate(stream.tasks):
        cells: list[object] = [number + 1, task.description]
        for learned, ended, change in (of[:, :, number].mean(1) for of in found):
            style = "red" if change < -10 else "green" if change > -2 else ""
            cells += [f"{learned:.1f}", f"{ended:.1f}", Text(f"{change:+.1f}", style)]
        rows.append(Row(tuple(cells)))
    over_tasks = [estimate(values) for of in found for values in of.mean(2)]
    means = [f"{one.mean:{sign}.1f}" for one, sign in zip(over_tasks, ("", "", "+") * len(found), strict=True)]
    half_widths = ["" if one.half_width is None else f"± {one.half_width:.1f}" for one in over_tasks]
    rows.append(Row(("", "mean", *means), strong=True))
    below = (["± 95 %", *half_widths], ["is called", *("LA", "RA", "BTI") * len(found)])
    rows += [Row(("", *(Text(cell, "dim") for cell in words))) for words in below]
    seeds = len(next(iter(accuracies.values())))
    title = f"Accuracy on each task's test images: right after it was learned, and after all tasks (%, {seeds} seeds)"
    return Table(tuple(columns), tuple(rows), title)


def first_task(accuracies: Mapping[str, Accuracies]) -> Table:
    """The first task, after every task."""
    tasks = next(iter(accuracies.values())).shape[1]
    columns = (Column("after task", holds="words"), *(Column(str(number + 1)) for number in range(tasks)))
    rows = [Row((name, *(f"{a:.0f}" for a in runs[:, :, 0].mean(0)))) for name, runs in accuracies.items()]
    return Table(columns, tuple(rows), "Accuracy on task 1 alone, after each task (%)")


def conclusion(accuracies: Mapping[str, Accuracies]) -> str:
    """The two tables in words."""
    (online, forgot), (mer, retained) = map(_learned_and_ended, accuracies.values())
    (judged,) = differences([retained.mean(1) - forgot.mean(1)])
    return f"""\
[bold]Forgetting[/]: online read {online[:, 0].mean():.0f} % of task 1's digits when it had just learned them, and \
{forgot[:, 0].mean():.0f} % at the end: each new task overwrote the ones before. \
Over all tasks it learned {online.mean():.0f} % and retained {forgot.mean():.0f} %.

[bold]Replay[/]: meralg1 saw the same examples once, learned {mer.mean():.0f} % and retained \
{retained.mean():.0f} %. Its steps keep those directions in which new and replayed examples agree, so that \
learning one does not undo the other. That it retains more is, over {judged.estimate.n} seeds, {judged.verdict} \
(p = {judged.p:.2g}, exact permutation test).

LA is learning accuracy, RA retained accuracy, and BTI, backward transfer and interference, is RA − LA.
"""


def what_next(out: Path) -> str:
    """Commands to go on with."""
    run = min((run.key for run in find(out)), default="RUN")
    commands = {
        f"show --out {out} {run}": "One run in the terminal: on which task, after which task, how well",
        f"run {BENCHMARK} meralg1 --memories 20": "How few memories are enough?",
        "run digits-permutations meralg1": "Another kind of stream: pixels in another order in each task",
        "run digits-permutations meralg1 --help": "Everything that can be changed, and what it means",
        "run mnist-rotations meralg1 --memories 5120": "The paper's experiment: 20 million steps, in about a minute",
        "methods": "The other methods",
    }
    lines = [f"  {_invocation()} {command}\n      [dim]{why}[/]" for command, why in commands.items()]
    return "\n".join(["[bold]Try next[/]", *lines])


def _learned_and_ended(runs: Accuracies) -> tuple[Accuracies, Accuracies]:
    """On each task right after it, and at the end, ``(seeds, tasks)``."""
    return runs.diagonal(axis1=1, axis2=2), runs[:, -1]


def _invocation() -> str:
    """How to call metareplay from here: it may lie in an environment that is not active."""
    if sys.argv[0].endswith("__main__.py"):
        return "python -m metareplay"
    return "metareplay" if shutil.which("metareplay") else sys.argv[0]
