"""Methods beside each other: which configurations can be compared, and which of their differences are established."""

import contextlib
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from metareplay.errors import BadInput
from metareplay.results import statistics
from metareplay.results.groups import LOOKED_AT, Group, by_problem, differing, in_short, shared
from metareplay.results.statistics import Difference
from metareplay.results.table import Column, Row, Table, with_interval
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.settings import nearest

Pair = tuple[Group, Group]
CONTROL = "er-matched"
ALIKE = 1.15  # a control costs at most so many times what its method does, or the other way round


@dataclass(frozen=True)
class Selection:
    """A method as it was asked for: the text, its id, and the settings that pick one of its configurations."""

    text: str
    method: str
    settings: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``meralg1`` or ``meralg1:lr=0.03,gamma=1``; BadInput if it is neither."""
        method, _, chosen = text.rpartition(":")
        if "=" not in chosen:  # the name of a user's own method has a colon too
            return cls(text, text, {})
        pairs = [pair.partition("=") for pair in chosen.split(",")]
        if not method or not all(name and value for name, _, value in pairs):
            raise BadInput(f"{text!r} must be a method and its settings, such as meralg1:lr=0.03,gamma=1")
        return cls(text, method, {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs})

    def picks(self, group: Group) -> bool:
        own, asked = group.settings, self.settings.items()
        return group.method == self.method and all(name in own and _same(own[name], text) for name, text in asked)


class Section(NamedTuple):
    """Configurations of one problem, with as many memories or none, by the text that asked for each."""

    problem: str
    memories: int | None
    entrants: Mapping[str, Group]
    controls: Mapping[str, str] = {}  # by a control the method that it costs as much as

    @property
    def title(self) -> str:
        return self.problem if self.memories is None else f"{self.problem}, {self.memories} memories"

    @property
    def without_control(self) -> list[str]:
        known = {*self.controls, *self.controls.values()}
        return [text for text, group in self.entrants.items() if group.memories is not None and text not in known]

    @property
    def pairs(self) -> list[tuple[tuple[str, str], Pair]]:
        """All, by their texts, in the order in which the methods were asked for; a control with its method alone."""
        texts = itertools.combinations(self.entrants, 2)
        fit = [(a, b) for a, b in texts if self.controls.get(b, a) == a and a not in self.controls]
        return [((a, b), (self.entrants[a], self.entrants[b])) for a, b in fit]


def sections(
    groups: Sequence[Group], selections: Sequence[Selection],
    benchmark: str | None = None, memories: int | None = None, matched: str | None = None,
) -> list[Section]:  # fmt: skip
    """A section for each problem and number of memories in which two methods or more of those asked for were run.

    A method that keeps no memories stands in all sections of its problem. With ``matched``, each has the control beside
    it that costs as much by that measure (``gradients`` or ``train_seconds``), where there is one. BadInput if nothing
    can be compared, a method was not run, or has several configurations and none was chosen.
    """
    if len(selections) < 2 - (matched is not None):
        raise BadInput("a comparison needs two methods at least")
    on = "" if benchmark is None else f" on {benchmark}"
    there = [group for group in groups if benchmark in (None, group.benchmark)]
    if not there:
        benchmarks = {group.benchmark for group in groups}
        known = _known("; there are", benchmarks) if groups else ": `metareplay results` says how they stand"
        raise BadInput(f"there is no finished run{on}{known}")
    for selection in selections:
        _check(selection, there, on)
    found: list[Section] = []
    for problem, own in by_problem(there).items():
        picked = [(chosen.text, [group for group in own if chosen.picks(group)]) for chosen in selections]
        sizes = {group.memories for _, those in picked for group in those if group.memories is not None}
        asked = [size for size in sorted(sizes, reverse=True) or (None,) if memories in (None, size)]
        for size in asked:
            entrants = _entrants(picked, size)
            beside = _controls(own, entrants, matched) if matched else {}
            controls = {name: text for name, (text, _) in beside.items()}
            found.append(Section(problem, size, entrants | {name: one for name, (_, one) in beside.items()}, controls))
    if found := [section for section in found if len(section.entrants) > 1]:
        return found
    so_many = "" if memories is None else f" with {memories} memories"
    runs = {f"{group.label} on {group.problem}" for group in there if any(one.picks(group) for one in selections)}
    raise BadInput(f"no two of these methods were run on the same problem{so_many}; {_known('there are', runs)}")


def paired(one: Group, other: Group, metric: str, among: Collection[int] | None = None) -> list[float]:
    """A metric of one less that of the other, by seed of both (``among`` these), but those that chose settings."""
    first, second = one.values(metric), other.values(metric)
    if isinstance(first, Undefined) or isinstance(second, Undefined):
        return []
    others = dict(zip(other.seeds, second.tolist(), strict=True))
    seeds = (others.keys() - {*one.looked_at, *other.looked_at}) & set(one.seeds if among is None else among)
    return [value - others[seed] for seed, value in zip(one.seeds, first.tolist(), strict=True) if seed in seeds]


def judge(pairs: Iterable[Pair], metric: str) -> dict[Pair, Difference]:
    """Judge all differences together, each pair of configurations once.

    A pair without a common seed, or whose metric is undefined, is left out. Where seeds were added by looking, what was
    found then decides, and nothing is established of other metrics.
    """
    samples = {pair: sample for pair in pairs if (sample := paired(*pair, metric))}
    looks = [one.by_looks.get(shared(other.configuration)) for one, other in samples]
    judged = zip(samples, statistics.differences(list(samples.values())), looks, strict=True)
    return {pair: replace(one, by_looks=found and metric == LOOKED_AT) for pair, one, found in judged}


def more_seeds(section: Section, judged: Mapping[Pair, Difference], metric: str) -> list[str]:
    """For each difference that is not established, how many more seeds would probably establish one of its size."""
    lines = []
    for names, pair in section.pairs:
        one = judged.get(pair)
        if one and not one.established and one.estimate.n > 1:  # one seed shows no spread
            n = statistics.seeds_for(paired(*pair, metric), len(judged))
            number = f"more than {statistics.MOST} seeds" if n is None else f"about {n - one.estimate.n} more seeds"
            lines.append(f"{' − '.join(names)}: to establish a difference of this size takes {number}")
    return lines


def means(section: Section, metric: str) -> Table:
    """Each method's mean, in percent."""
    columns = (Column("method", holds="words", width=20), Column("seeds"), Column("mean ± 95 %"))
    found = ((text, group, percent(group, metric)) for text, group in section.entrants.items())
    return Table(columns, tuple(Row((text, seeds_of(group), mean or "undefined")) for text, group, mean in found))


def differences(section: Section, judged: Mapping[Pair, Difference], metric: str) -> Table:
    """Each pair's difference, in percent, and whether it is established."""
    columns = [Column("difference", holds="words", width=20)]
    columns += [Column(title) for title in ("seeds", "mean ± 95 %", "p", "corrected p")]
    rows = []
    for names, pair in section.pairs:
        cells: tuple[object, ...] = ("", "", "", "", _why_not(pair, metric))
        if one := judged.get(pair):
            p = [f"{value:.4f}" if value >= 0.0001 else "< 0.0001" for value in (one.p, one.corrected)]
            cells = (one.estimate.n, with_interval(one.estimate, signed=True), *p, one.verdict)
        rows.append(Row((" − ".join(names), *cells)))
    return Table((*columns, Column("", holds="words")), tuple(rows))


def tidy(found: Sequence[Section], judged: Mapping[Pair, Difference], metric: str) -> Table:
    """A row for each mean, in which ``other`` is empty, and one for each difference; in fractions."""
    titles = ("problem", "memories", "metric", "method", "other", "seeds", "mean", "half_width")
    rows: list[tuple[object, ...]] = []
    for section in found:
        where = section.problem, section.memories, metric
        for text, group in section.entrants.items():
            value = group.interval(metric)
            undefined = None, None, None, None, str(value)
            cells = undefined if isinstance(value, Undefined) else (value.mean, value.half_width, None, None, None)
            rows.append((*where, text, None, len(group.seeds), *cells))
        for names, pair in section.pairs:
            if one := judged.get(pair):
                mean = one.estimate.n, one.estimate.mean, one.estimate.half_width
                rows.append((*where, *names, *mean, one.p, one.corrected, one.verdict))
            else:
                rows.append((*where, *names, 0, None, None, None, None, _why_not(pair, metric)))
    return Table(tuple(map(Column, (*titles, "p", "corrected_p", "verdict"))), tuple(map(Row, rows)))


def _why_not(pair: Pair, metric: str) -> str:
    undefined = any(isinstance(group.values(metric), Undefined) for group in pair)
    chosen = any(group.looked_at for group in pair) and set(pair[0].seeds) & set(pair[1].seeds)
    other = "settings were chosen on these runs" if chosen else "they have no seed in common"
    return "undefined" if undefined else f"cannot be compared: {other}"


def percent(group: Group, metric: str) -> str | None:
    """A metric's mean with its interval; None where it is undefined."""
    return with_interval(group.interval(metric), signed=METRICS[metric].difference)


def seeds_of(group: Group) -> int | str:
    """How many seeds, and on how many of them settings were chosen."""
    number = len(group.seeds)
    return f"{number}, {len(group.looked_at)} to choose" if group.looked_at else number


def _check(selection: Selection, groups: Sequence[Group], on: str) -> None:
    """Say what there is where a selection picks nothing."""
    own = [group for group in groups if group.method == selection.method]
    if any(selection.picks(group) for group in own):
        return
    if not own:
        text, name, names = f"there is no run of {selection.method!r}{on}", selection.method, {g.method for g in groups}
        raise BadInput(f"{text}{nearest(name, names) or ';'} {_known('there are', names)}")
    settings = {name for group in own for name in group.settings}
    for name in selection.settings.keys() - settings:
        text = f"{selection.method} has no setting {name!r}{nearest(name, settings) or ';'}"
        raise BadInput(f"{text} {_known('it has', settings)}")
    choices = {_choice(group, set(selection.settings)) for group in own}
    raise BadInput(f"there is no run of {selection.text}{on}; {_known('there are', choices)}")


def _entrants(picked: Sequence[tuple[str, list[Group]]], size: int | None) -> dict[str, Group]:
    """The one configuration that each text picks, where it picks any."""
    entrants: dict[str, Group] = {}
    for text, those in picked:
        of_size = [group for group in those if group.memories in (size, None)]
        if len(of_size) > 1:
            choices = ", ".join(_choice(group, differing([group.settings for group in of_size])) for group in of_size)
            raise BadInput(f"{text} has several settings on {of_size[0].problem}: choose one of {choices}")
        for group in of_size:
            for other in (name for name, known in entrants.items() if known is group):
                raise BadInput(f"{other} and {text} are the same runs on {group.problem}")
            entrants[text] = group
    return entrants


def _controls(own: Sequence[Group], entrants: Mapping[str, Group], by: str) -> dict[str, tuple[str, Group]]:
    """By its name each method's control, with the method's text: of as many memories, and of nearly the same cost."""
    found = {}
    for text, group in entrants.items():
        times = {}  # what the cheaper costs
        for one in own:
            if one.method == CONTROL and one.memories == group.memories and one is not group:
                costs = [cost for each in (one, group) if isinstance(cost := each.mean(by), float) and cost > 0]
                times[one] = max(costs) / min(costs) if len(costs) == 2 else math.inf
        if times and times[best := min(times, key=times.__getitem__)] <= ALIKE:
            found[f"{CONTROL} as {text}"] = text, best
    return found


def _choice(group: Group, names: set[str]) -> str:
    """How one configuration of a method is asked for."""
    chosen = [f"{name}={in_short(value)}" for name, value in group.settings.items() if name in names]
    return f"{group.method}:{','.join(chosen)}"


def _same(value: object, text: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return value == float(text)
    return text.lower() in (str(value).lower(), in_short(value).lower())


def _known(begin: str, names: set[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{begin} {', '.join(sorted(names)[:most]) or 'none'}{more}"
