"""``metareplay show``: a run (matrix, metrics, curves) or a benchmark (images of each task) in the terminal."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from metareplay.cli.arguments import Parser
from metareplay.cli.run import show_result
from metareplay.cli.tables import console, say
from metareplay.errors import BadInput
from metareplay.results.groups import spread
from metareplay.runs.folder import CONFIGURATION, Run, find
from metareplay.runs.metrics import CURVES, Undefined
from metareplay.runs.record import RECORD, Record
from metareplay.settings import nearest
from metareplay.streams import catalogue as benchmarks
from metareplay.streams import gallery
from metareplay.streams.catalogue import BENCHMARKS
from metareplay.streams.stream import Stream

VIRIDIS = ("440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26", "fde725")
"""From 0 to 100 %, in steps of ten; it reads the same to colour-blind eyes."""
MARGIN, MOST_ROWS = 8, 25
BARS, SHADES = "▁▂▃▄▅▆▇█", " ░▒▓█"
WIDEST, MOST_TASKS = 14, 10  # of images: columns of each, which is made smaller to fit; rows
CURVE_NAMES = {
    "average_accuracy": "average accuracy on the tasks seen so far",
    "first_task": "accuracy on the first task",
    "online_accuracy": "online accuracy, of the last 1000 examples",
}


def main(argv: list[str]) -> None:
    """Show one run (accuracy matrix, metrics, curves along the stream) or benchmark (example images of each task)."""
    epilog = "WHAT is a run's folder, its key as `metareplay results` lists them, or the beginning of one;\n"
    epilog += "or a benchmark's name, or where your own data are."
    parser = Parser("metareplay show", main, epilog=epilog)
    parser.add_argument("what", metavar="WHAT", help="the run or the benchmark")
    parser.add_argument("-o", "--output", metavar="FILE.png", help="draw a benchmark's images into that file instead")
    parser.add_argument("--out", metavar="DIR", default="runs", help="the folder of runs (default: runs)")
    given = parser.parse(argv)
    path = Path(given.what)
    is_run = any((path / name).is_file() for name in (RECORD, CONFIGURATION))
    own_data = path.is_dir() and any(path.glob("*.npz")) and not is_run
    if given.what not in BENCHMARKS and path.suffix != ".pt" and not own_data:
        if given.output:
            raise BadInput(f"--output is for the images of a benchmark, and {given.what} is none")
        record, out = Record.load(find_run(given.what, Path(given.out)).folder), console()
        show_result(record)
        out.print()
        for line in (*matrix(record, out.width), *curves(record, out.width)):
            out.print(line, soft_wrap=True)
        return
    stream = benchmarks.find(given.what).stream()
    if given.output is None:
        show_images(stream)
    else:
        gallery.save_picture(stream, Path(given.output))
        say(f"the images of {given.what} are in {given.output}")


def find_run(name: str, root: Path) -> Run:
    """The run of a folder, a key, or the beginning of a key; BadInput if there is not one, or it is not done."""
    if (Path(name) / RECORD).is_file():
        return Run(Path(name))
    there = {run.key: run for run in find(root)}
    found = [name] if name in there else [key for key in there if key.startswith(name)] if name else []
    if len(found) > 1:
        some = ", ".join(sorted(found)[:3])
        raise BadInput(f"{len(found)} runs in {root} begin with {name}: {some} …; give more of it")
    if not found:
        none = f", and none at all in {root}: --out DIR names another folder of runs"
        hint = f" in {root}: `metareplay results --out {root}` lists them" if there else none
        hint = nearest(name, [*there, *BENCHMARKS]) or hint
        if Path(name).is_dir() and (runs := find(Path(name))):
            hint = f": {name} is a folder of {len(runs)} runs; name one of them, {runs[0].folder} say"
        raise BadInput(f"there is no run {name!r}{hint}")
    run = there[found[0]]
    status = run.status()
    if status.state != "done":
        why = f": {status.message}" if status.message else ""
        raise BadInput(f"the run {run.folder} has no record, it is {status.state}{why}")
    return run


def matrix(record: Record, width: int) -> list[Text]:
    """The accuracy matrix in percent, a row for each moment; of more tasks than have room, evenly spread ones."""
    if len(record.accuracy) < 2:
        return [Text("There is no accuracy matrix: there was one task only, or all came mixed.")]
    moments, tasks = record.accuracy.shape
    room = width - MARGIN
    cell = 3 if 3 * tasks <= room < 4 * tasks else 4
    rows, columns = spread(moments, MOST_ROWS), spread(tasks, max(1, room // cell))
    title = "Accuracy (%): each row after a task was learned, each column on a task"
    if len(columns) < tasks or len(rows) < moments:
        title += f"; {len(rows)} × {len(columns)} of {moments} × {tasks}"
    head = f"{'after':>{MARGIN - 1}} " + "".join(f"{task + 1:{cell}}" for task in columns)
    lines = [Text(title, "bold"), Text.assemble((head, "dim"))]
    for moment in rows:
        accuracies = [float(record.accuracy[moment, task]) for task in columns]
        cells = [(f"{100 * accuracy:{cell}.0f}", shade(accuracy)) for accuracy in accuracies]
        lines.append(Text.assemble((f"{moment + 1:{MARGIN - 1}} ", "dim"), *cells))
    return lines


def shade(accuracy: float) -> Style:
    """A cell's colours: the darker, the less; its number in whichever of black and white is read best on it."""
    colour = Color.parse(f"#{VIRIDIS[round(10 * accuracy)]}")
    red, green, blue = colour.get_truecolor()
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 110
    return Style(bgcolor=colour, color=Color.parse("#000000" if light else "#ffffff"))


def curves(record: Record, width: int) -> list[Text]:
    """The curves along the stream, as lines of bars between their lowest and highest values."""
    lines = []
    for name, title in CURVE_NAMES.items():
        curve = CURVES[name](record)
        if isinstance(curve, Undefined) or len(curve.values) < 2:
            continue
        values = 100 * curve.values
        text = f"{values[0]:.0f} % at first, {values.min():.0f} to {values.max():.0f} %, {values[-1]:.1f} % at the end"
        lines += [Text(), Text.assemble((title, "bold"), f": {text}"), Text(spark(values.tolist(), width))]
    return lines


def spark(values: list[float], width: int) -> str:
    """Bars along the stream; of more values than have room, evenly spread ones."""
    values = [values[place] for place in spread(len(values), max(2, min(width, 100)))]
    low, high = min(values), max(values)
    steps = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round(steps * (value - low))] for value in values)


def show_images(stream: Stream) -> None:
    """Print a row of images for each task, as many as there is room for, two pixels in each character."""
    out = Console(highlight=False)
    for description, images in gallery.rows(stream, max(1, (out.width + 1) // (WIDEST + 1)), MOST_TASKS):
        out.print(Text(description, "bold"))
        framed = [np.pad(_smaller(image), ((0, 0), (1, 0), (0, 0)), constant_values=-1) for image in images]
        across = np.concatenate(framed, 1)[:, 1:]  # between images a column of what no colour is
        for upper, lower in zip(across[::2], across[1::2], strict=True):
            out.print(_line(upper, lower, out.color_system is not None))


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean of each square of pixels, so that it is at most so wide, with an even number of rows."""
    factor = -(-image.shape[1] // WIDEST)
    high, wide = image.shape[0] // factor // 2 * 2, image.shape[1] // factor
    return np.asarray(image[: high * factor, : wide * factor].reshape(high, factor, wide, factor, 3).mean((1, 3)))


def _line(upper: NDArray[np.float64], lower: NDArray[np.float64], colours: bool) -> Text:
    line = Text()
    for above, below in zip(upper, lower, strict=True):
        if above[0] < 0:
            line.append(" ")
        elif colours:
            line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        else:
            line.append(SHADES[round((above.mean() + below.mean()) / 510 * (len(SHADES) - 1))])
    return line
