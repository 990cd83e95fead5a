"""The tables of a report and of `metareplay results`: percent where people read, fractions where all is exported."""

import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from metareplay.methods import METHODS
from metareplay.results.compare import judge, percent, seeds_of
from metareplay.results.groups import Contents, Finished, Group, distinguishing, flat
from metareplay.results.statistics import Difference, Estimate, Progress, estimate
from metareplay.results.table import Column, Row, Table, thousands, with_interval
from metareplay.runs.metrics import METRICS, ORDER, Undefined
from metareplay.runs.record import NUMBERS
from metareplay.runs.request import NETWORK, RUN
from metareplay.streams.catalogue import BENCHMARKS

RA = "retained_accuracy"
PAPER = (RA, "learning_accuracy", "backward_transfer")  # what the paper's tables give
words = partial(Column, holds="words")
TO_IID = "how much less is retained than by the same run with all tasks' examples mixed (--order iid)"
MEASURED = (*(Column(one.short, meaning=one.meaning) for one in METRICS.values()), Column("to iid", meaning=TO_IID))
INTERVALS = "Mean ± half of the 95 % interval over seeds, %."
UNITS = {"steps": "SGD steps", "gradients": "gradients", "forward_passes": "forward passes"}
UNITS |= {"train_seconds": "training, s", "eval_seconds": "evaluation, s"}
UNITS |= {"parameter_bytes": "network, MB", "table_bytes": "examples, MB"}
"""The costs that are shown, and what they are called."""


class Answer(NamedTuple):
    """Which method retained most with so many memories: in words, and as a table."""

    size: int
    text: str
    table: Table


def sizes(problem: list[Group]) -> list[int]:
    """A problem's memory sizes, from the largest; without any, one of 0."""
    return sorted({group.memories or 0 for group in problem} - {0}, reverse=True) or [0]


def of_size(problem: list[Group], size: int) -> list[Group]:
    """Those with so many memories, and those that need none, from the highest retained accuracy to the lowest."""

    def place(group: Group) -> tuple[bool, float]:
        mean = group.mean(RA)
        return group.looked_at == group.seeds, 0.0 if isinstance(mean, Undefined) else -mean

    # Those on which settings were chosen stand last.
    return sorted((group for group in problem if (group.memories or size) == size), key=place)


def answers(contents: Contents, progress: Progress = lambda done, of: None) -> dict[str, list[Answer]]:
    """For each problem and each size of memory the answer."""
    found: dict[str, list[Answer]] = defaultdict(list)
    wanted = [(name, of, size) for name, of in contents.problems.items() for size in sizes(of)]
    for done, (name, of, size) in enumerate(wanted, 1):
        first, *others = ranked = of_size(of, size)
        judged = {pair[0]: one for pair, one in judge([(other, first) for other in others], RA).items()}
        table = _ranking(f"{name}, {size} memories" if size else name, ranked, judged)
        found[name].append(Answer(size, _in_words(ranked, judged), table))
        progress(done, len(wanted))
    return found


def _ranking(title: str, ranked: list[Group], judged: Mapping[Group, Difference]) -> Table:
    rows = []
    better_than_some = any(difference.established for difference in judged.values())
    for place, group in enumerate(ranked, 1):
        found, mean = judged.get(group), group.interval(RA)
        apart = "settings chosen on these" if group.looked_at or ranked[0].looked_at else "no seed in common"
        verdict, gap, p = None if place == 1 or isinstance(mean, Undefined) else apart, None, None
        if found:
            verdict = "yes" if found.established else found.verdict.partition(" to tell")[0]
            gap, p = with_interval(found.estimate, signed=True), f"{found.corrected:.2g}"
        strong = place == 1 or (better_than_some and not (found and found.established))
        rows.append(_row(group, (group.short, place, with_interval(mean), verdict, gap, p, seeds_of(group)), strong))
    columns = [words("method"), Column("rank"), Column("RA, %", meaning=METRICS[RA].meaning)]
    columns += [words("first is better?", meaning="whether that is established, at the level of 5 %")]
    columns += [Column("difference", meaning="from the first, on the seeds that both have")]
    columns += [Column("p", meaning="of an exact permutation test, corrected for all rows of this table")]
    chosen = "; ".join(f"of {group.short} seeds {ranges(group.looked_at)}" for group in ranked if group.looked_at)
    notes = [f"Settings were chosen on these runs, which no comparison counts: {chosen}."] if chosen else []
    return Table((*columns, Column("seeds")), tuple(rows), title, (*_task_notes(ranked), *notes))


def _task_notes(ranked: list[Group]) -> tuple[str, ...]:
    """Which methods have to know the task when they are tested, where the others are not given it."""
    if ranked[0].configuration.get("scenario") == "task-incremental":
        return ()
    needs = sorted({g.method for g in ranked if g.method in METHODS and METHODS[g.method].needs_task_in_testing})
    others = "; the others are not" if len(needs) < len({group.method for group in ranked}) else ""
    are = "are" if len(needs) > 1 else "is"
    return (f"{' and '.join(needs)} {are} given the task when tested{others}.",) if needs else ()


def _in_words(ranked: list[Group], judged: Mapping[Group, Difference]) -> str:
    """The best, and which others may be as good."""
    best, *others = ranked
    if isinstance(mean := best.interval(RA), Undefined):
        return f"Retained accuracy is {mean}."
    text = f"{best.short} retained most: {with_interval(mean)} %."
    open_ones = [group.short for group in others if group not in judged or not judged[group].established]
    needed = max((one.needed or 0 for one in judged.values()), default=0)
    if not open_ones:
        return f"{text} It is better than every other, with these seeds." if others else text
    if len(open_ones) == len(others):
        why = f": there are too few seeds to tell (needs at least {needed})" if needed else ""
        return f"{text} That it is better than any other is not established{why}."
    return f"{text} Not established is that it is better than {', '.join(open_ones)}."


def paper(contents: Contents) -> Table:
    """The paper's layout: methods by benchmarks, with RA, LA and BTI; a rule between sizes of memory."""
    problems = contents.problems
    columns = [words("method")]
    columns += [Column(METRICS[name].short, of, meaning=METRICS[name].meaning) for of in problems for name in PAPER]
    found: dict[tuple[int, str], dict[str, Group]] = {}
    for group in contents.groups:
        found.setdefault((group.memories or 0, group.label), {})[group.problem] = group
    rows: list[Row] = []
    for (_, label), groups in sorted(found.items(), key=lambda row: (row[0][0] > 0, -row[0][0], row[0][1])):
        cells = [percent(groups[of], name) if of in groups else None for of in problems for name in PAPER]
        one = next(iter(groups.values()))
        rule = bool(rows) and rows[-1].memories != one.memories
        rows.append(Row((label, *cells), "", one.method, one.memories, rule=rule))
    return Table(tuple(columns), tuple(rows), "Methods by benchmarks", (INTERVALS,))


def metrics(contents: Contents, problem: list[Group]) -> Table:
    """Every metric of a problem's configurations."""
    rows, notes = [], dict[str, None]()
    for group in problem:
        found = {metric.short: (group.interval(name), metric.difference) for name, metric in METRICS.items()}
        found["to iid"] = (distance_to_iid(contents, group), True)
        notes |= {f"{short} is {value}.": None for short, (value, _) in found.items() if isinstance(value, Undefined)}
        missing = missing_seeds(problem, group)
        seeds = f"{ranges(group.seeds)}{f' ({len(missing)} missing)' if missing else ''}"
        rows.append(_row(group, (group.label, seeds, *(with_interval(v, signed=s) for v, s in found.values()))))
    columns = (words("method"), words("seeds"), *MEASURED)
    return Table(columns, tuple(rows), problem[0].problem, (INTERVALS, *notes))


def distance_to_iid(contents: Contents, group: Group) -> Estimate | Undefined:
    """How much less each seed retained than the same run with all tasks' examples mixed, where there is one."""
    others = [other for other in contents.groups if other.method == group.method and other is not group]
    iid = [run for other in others if other.configuration.get("order") == "iid" for run in other.runs]

    def apart_from_order(run: Finished) -> str:
        return repr(sorted((name, value) for name, value in run.configuration.items() if name not in ORDER))

    mixed = {apart_from_order(run): run.numbers[RA] for run in iid}
    pairs = [(mixed.get(apart_from_order(run)), run.numbers[RA]) for run in group.runs]
    found = [one - other for one, other in pairs if isinstance(one, float) and isinstance(other, float)]
    return estimate(found) if found else Undefined("there is no run with --order iid that is the same in all else")


def costs(problem: list[Group]) -> Table:
    """What each configuration's runs cost: means over seeds."""

    def shown(group: Group, name: str) -> str | None:
        if isinstance(mean := group.mean(name), Undefined):
            return None
        if name.endswith("bytes"):
            return f"{mean / 1e6:.2f}"
        return f"{mean:.2g}" if name.endswith("seconds") and mean < 10 else thousands(mean)

    columns = (words("method"), Column("seeds"), *map(Column, UNITS.values()))
    rows = (_row(one, (one.label, len(one.seeds), *(shown(one, name) for name in UNITS))) for one in problem)
    return Table(columns, tuple(rows), problem[0].problem, ("Means over seeds.",))


def commands(problem: list[Group]) -> Table:
    """How to get each row again."""
    rows = [_row(group, (group.label, command(group.configuration, group.seeds))) for group in problem]
    return Table((words("method"), Column("command", holds="commands")), tuple(rows), problem[0].problem)


def missing(contents: Contents) -> Table:
    """Runs without a record, and seeds that some configurations have and others have not."""
    run, known = Column("run", holds="sentences"), Column("what is known", holds="sentences")
    rows = [Row((run.name, run.state, f"{run.why} ({run.folder.name})".strip())) for run in contents.unfinished]
    for name, problem in contents.problems.items():
        for group in problem:
            if absent := missing_seeds(problem, group):
                seeds = f"seed{'s' if len(absent) > 1 else ''} {ranges(absent)}, which others of this benchmark have"
                rows.append(Row((f"{name}, {group.label}", "seeds missing", seeds), name, group.method, group.memories))
    return Table((run, words("state"), known), tuple(rows), "Runs that are not there")


def missing_seeds(problem: list[Group], group: Group) -> list[int]:
    """The seeds that other configurations were run with, and this one was not."""
    return sorted({seed for other in problem for seed in other.seeds} - set(group.seeds))


def tidy(contents: Contents) -> Table:
    """Everything, a row for each configuration: what it is, its metrics as fractions, and what it cost."""
    titles = ["benchmark", "problem", "method", "memories", "configuration", "seeds"]
    titles += [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")] + [*NUMBERS, "command"]
    rows = []
    for group in contents.groups:
        cells: list[object] = [group.benchmark, group.problem, group.method, group.memories, group.label]
        cells.append(" ".join(map(str, group.seeds)))
        for name in METRICS:
            found = group.interval(name)
            cells += [None] * 3 if isinstance(found, Undefined) else [found.mean, *found.ends]
        cells += [group.mean(name) for name in NUMBERS]
        rows.append(Row((*cells, command(group.configuration, group.seeds))))
    return Table(tuple(map(Column, titles)), tuple(rows))


def listing(groups: list[Group]) -> Table:
    """A row for each configuration, finished or not, with what tells it from others of its benchmark and method."""
    settings = [flat(group.configuration, lambda name: name not in ("benchmark", "task_order")) for group in groups]
    families = [(group.benchmark, group.method) for group in groups]
    telling = map(", ".join, distinguishing(settings, families, always="memories"))
    rows = []
    for family, own, group in zip(families, telling, groups, strict=True):
        done, of = len(group.runs), len(group.runs) + group.unfinished
        means = [percent(group, name) if done else None for name in PAPER]
        row = Row((*family, own or None, done if done == of else f"{done} of {of}", *means))
        rows.append(((*family, group.memories or 0, own), row))
    rows.sort(key=lambda row: row[0])
    columns = [words(title) for title in ("benchmark", "method", "settings")]
    columns += [Column(title) for title in ("seeds", *(METRICS[name].short for name in PAPER))]
    return Table(tuple(columns), tuple(row for _, row in rows))


def each_run(contents: Contents) -> Table:
    """A row for each run, finished or not: all its settings, metrics as fractions, and costs."""
    runs = [run for group in contents.groups for run in group.runs]
    found = [(run.key, "done", run.configuration, run.numbers, run.summary["started"], "") for run in runs]
    found += [(run.folder.name, run.state, run.configuration or {}, {}, "", run.message) for run in contents.unfinished]
    found.sort(key=lambda run: run[0])
    own = [flat(run[2], lambda name: name not in ("benchmark", "seed"), in_order=True) for run in found]
    names = list(dict.fromkeys(name for settings in own for name in settings))
    rows = []
    for (key, state, configuration, numbers, started, message), settings in zip(found, own, strict=True):
        cells = [key, state, *(configuration.get(name) for name in ("benchmark", "method", "seed"))]
        values = [settings.get(name) for name in names]
        cells += [" ".join(map(str, value)) if isinstance(value, list) else value for value in values]
        measured = [numbers.get(name) for name in (*METRICS, *NUMBERS)]
        cells += [None if isinstance(value, Undefined) else value for value in measured]
        rows.append(Row((*cells, started, message)))
    titles = ["key", "state", "benchmark", "method", "seed", *names, *METRICS, *NUMBERS, "started", "message"]
    return Table(tuple(map(Column, titles)), tuple(rows))


def _row(group: Group, cells: tuple[object, ...], strong: bool = False) -> Row:
    return Row(cells, "", group.method, group.memories, strong)


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers, increasing, with neighbours drawn together: ``0–2, 5``."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        first = found.pop()[0] if found and number == found[-1][1] + 1 else number
        found.append((first, number))
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in found)


def command(configuration: Mapping[str, Any], seeds: Iterable[int]) -> str:
    """A line for a shell that runs a configuration with these seeds; what no flag can say is a comment behind it."""
    known = BENCHMARKS.get(configuration["benchmark"])
    usual = {option.name: option.default for option in (*RUN, *NETWORK, *(known.options if known else ()))}
    stream = configuration.get("stream", {}) | {"samples_per_task": configuration.get("samples_per_task") or 0}
    order, plain = list(configuration.get("task_order", ())), [usual["hiddens"]] * usual["layers"]
    in_order = configuration.get("order", "tasks") != "tasks" or order == list(range(stream.get("tasks", len(order))))
    own = stream | {each.name: configuration.get(each.name) for each in (*RUN, *NETWORK) if each.name != "seed"}
    own["task_order"] = None if in_order else ranges(order).replace("–", "-").replace(", ", ",")
    flags = configuration["hyperparameters"] | {n: v for n, v in own.items() if v not in (usual.get(n), None)}
    hidden = configuration.get("hidden", plain)
    if len(set(hidden)) > 1:
        flags |= {"widths": ",".join(map(str, hidden))}
    elif hidden != plain:
        flags |= {"layers": len(hidden)} | ({"hiddens": hidden[0]} if hidden else {})
    words = ["metareplay", "run", str(configuration["benchmark"]), str(configuration["method"])]
    for flag, value in ((name.replace("_", "-"), value) for name, value in flags.items()):
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    line, seeds = " ".join(map(_quoted, words)), list(seeds)
    if len(seeds) == 1:
        line = f"{line} --seed {seeds[0]}"
    else:
        line = f"for seed in {' '.join(map(str, seeds))}; do {line} --seed $seed; done"
    resumed = "  # with --from, the folder of a run whose network it goes on with"
    return line + (resumed if configuration.get("from_sha256") else "")


def _quoted(word: str) -> str:
    """A word for a shell; with characters that cannot be shown, in Bash's way."""
    if word.isprintable():
        return shlex.quote(word)
    shown = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(word))
    return f"$'{''.join(shown)}'"
