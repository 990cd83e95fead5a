"""``metareplay results``: the runs there are, as a table of means over seeds, and which are not done."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import WIDER_THAN_ANY_LINE
from metareplay.errors import BadInput, RunFailed
from metareplay.files import write_atomically
from metareplay.results.groups import told
from metareplay.results.statistics import estimate
from metareplay.runs.folder import Run, Status, find
from metareplay.runs.metrics import METRICS
from metareplay.runs.record import NUMBERS

MEASURES = {"retained_accuracy": "RA", "learning_accuracy": "LA", "backward_transfer": "BTI"}
NOT_DONE = {
    "running": "in hand of a process",
    "stopped": "they go on from where they are when they are started again",
    "failed": "they are tried again when they are started again",
    "broken": "they are run again when they are started again",
}


@dataclass(frozen=True)
class Listed:
    """A run and how it stands."""

    run: Run
    status: Status

    @classmethod
    def of(cls, run: Run) -> Self:
        """Look at a run; of its summary only numbers stay, since there may be many runs."""
        status = run.status()
        if status.summary is not None:
            numbers = {name: status.summary.get(name) for name in (*METRICS, *NUMBERS, "started")}
            status = replace(status, summary=numbers)
        return cls(run, status)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides it but benchmark, method and seed, each by its own name."""
        flat: dict[str, Any] = {}
        for name, value in (self.status.configuration or {}).items():
            if name not in ("benchmark", "method", "seed"):
                flat |= value if isinstance(value, dict) else {name: value}
        return flat


def main(argv: list[str]) -> None:
    """List the runs."""
    parser = Parser(
        prog="metareplay results",
        description="List the runs there are: means over seeds with 95 % intervals, in percent, and what is not done.",
    )
    parser.add_argument("--out", metavar="DIR", default="runs", help="where the records are (default: runs)")
    parser.add_argument("--csv", metavar="FILE", help="write a row for each run there, as CSV; - is standard output")
    given = parser.parse(argv)
    out = Path(given.out)
    if not out.is_dir():
        raise BadInput(f"there is no folder of runs {out}: `metareplay run` and `metareplay suite` make one (--out)")
    if given.csv not in (None, "-") and not Path(given.csv).absolute().parent.is_dir():
        raise BadInput(f"--csv is {given.csv}, but there is no folder {Path(given.csv).parent}")
    listed = [Listed.of(run) for run in find(out)]
    if given.csv == "-":
        sys.stdout.write(_csv(listed))
        return
    _show(listed, out)
    if given.csv is not None:
        _write(Path(given.csv), _csv(listed))


def _show(listed: Sequence[Listed], out: Path) -> None:
    """Print a line for each configuration, and then what is not done."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDER_THAN_ANY_LINE)
    known = [each for each in listed if each.status.configuration is not None]
    if known:
        console.print(_table(known))
        console.print(f"[dim]{'; '.join(f'{short}: {METRICS[name].meaning}' for name, short in MEASURES.items())}[/]")
    for state, meaning in NOT_DONE.items():
        those = [each for each in listed if each.status.state == state]
        if those:
            console.print(Text(f"\n{len(those)} {state}: {meaning}", "bold"), soft_wrap=True)
        for each in those:
            console.print(Text(f"  {_name(each)}"), soft_wrap=True)
    done = sum(each.status.state == "done" for each in listed)
    console.print(f"\n{done} of {len(listed)} runs in {out} are done", soft_wrap=True)


def _table(listed: Sequence[Listed]) -> Table:
    configurations: dict[str, list[Listed]] = defaultdict(list)
    for each in listed:
        configurations[_but_the_seed(each.status.configuration or {})].append(each)
    families: dict[tuple[str, str], list[list[Listed]]] = defaultdict(list)
    for group in configurations.values():
        configuration = group[0].status.configuration or {}
        families[configuration["benchmark"], configuration["method"]].append(group)

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("benchmark", "method", "settings"):
        table.add_column(title)
    for title in ("seeds", *MEASURES.values()):
        table.add_column(title, justify="right", no_wrap=True)
    for (benchmark, method), groups in sorted(families.items()):
        differing = _differing([group[0].settings for group in groups])
        rows = []
        for group in groups:
            settings = group[0].settings
            telling = ", ".join(told(name, value) for name, value in settings.items() if name in differing)
            done = [each.status.summary for each in group if each.status.summary is not None]
            seeds = str(len(done)) if len(done) == len(group) else f"{len(done)} of {len(group)}"
            measured = [_mean([summary[name] for summary in done], METRICS[name].difference) for name in MEASURES]
            rows.append((settings.get("memories", 0), Text(telling or "–"), seeds, *measured))
        for _, *row in sorted(rows, key=lambda row: (row[0], str(row[1]))):
            table.add_row(Text(benchmark), Text(method), *row)
    return table


def _but_the_seed(configuration: dict[str, Any]) -> str:
    drawn = {"seed"} | ({"task_order"} if configuration.get("order") == "shuffled" else set())
    return json.dumps([(name, value) for name, value in configuration.items() if name not in drawn])


def _differing(settings: Sequence[dict[str, Any]]) -> set[str]:
    """The settings that tell one method's configurations apart; the number of memories in any case."""
    names = {name for each in settings for name in each} - {"task_order"}
    apart = {name for name in names if len({json.dumps(each.get(name, "absent")) for each in settings}) > 1}
    return apart | {"memories"}


def _mean(values: Sequence[float | None], signed: bool) -> str:
    """The mean in percent, ± half its 95 % interval; a dash where it has no meaning."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "–"
    over_seeds = estimate(known)
    text = f"{100 * over_seeds.mean:{'+' if signed else ''}.1f}"
    return text if over_seeds.half_width is None else f"{text} ± {100 * over_seeds.half_width:.1f}"


def _name(each: Listed) -> str:
    """A run in a line: what it is, where it is, and what is to be said of it."""
    configuration = each.status.configuration
    what = "unknown"
    if configuration is not None:
        memories = configuration["hyperparameters"].get("memories")
        parts = [configuration["benchmark"], configuration["method"], f"seed {configuration['seed']}"]
        what = ", ".join(parts if memories is None else [*parts[:2], f"memories {memories}", parts[2]])
    where = f"{what} ({each.run.folder})"
    if each.status.message:
        return f"{where}: {each.status.message}"
    return where if each.status.examples is None else f"{where}: {each.status.examples} examples learned"


def _csv(listed: Sequence[Listed]) -> str:
    """A row for each run: all its settings, metrics as fractions, and costs; what is not known is empty."""
    settings = list(dict.fromkeys(name for each in listed for name in each.settings))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["key", "state", "benchmark", "method", "seed", *settings, *METRICS, *NUMBERS, "started", "message"])
    for each in listed:
        own, configuration, summary = each.settings, each.status.configuration or {}, each.status.summary or {}
        rows.writerow(
            [
                each.run.key,
                each.status.state,
                *(configuration.get(name) for name in ("benchmark", "method", "seed")),
                *(_text(own.get(name, "")) for name in settings),
                *(summary.get(name) for name in (*METRICS, *NUMBERS, "started")),
                each.status.message,
            ]
        )
    return text.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _write(path: Path, text: str) -> None:
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            path.write_text(text, encoding="utf-8")
        else:
            write_atomically(path, text.encode())
    except OSError as error:
        raise RunFailed(f"--csv {path} cannot be written: {error.strerror}") from error
