"""Methods beside each other: which configurations can be compared, and which of their differences are established."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metareplay.errors import BadInput
from metareplay.results import statistics
from metareplay.results.groups import Group, differing
from metareplay.results.statistics import Difference
from metareplay.results.table import Column, Row, Table, with_interval
from metareplay.runs.metrics import METRICS, Undefined

Pair = tuple[Group, Group]


@dataclass(frozen=True)
class Selection:
    """A method as it was asked for.

    Parameters
    ----------
    text
        As it was written.
    method
        Its id.
    settings
        The values, as text, that pick one of its configurations; none where it has only one.
    """

    text: str
    method: str
    settings: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> Selection:
        """Read ``meralg1`` or ``meralg1:lr=0.03,gamma=1``.

        Raises
        ------
        BadInput
            If it is neither.
        """
        method, _, chosen = text.rpartition(":")
        if "=" not in chosen:  # the name of a user's own method has a colon too
            return cls(text, text, {})
        pairs = [pair.partition("=") for pair in chosen.split(",")]
        if not method or not all(name and value for name, _, value in pairs):
            raise BadInput(f"{text!r} must be a method and its settings, such as meralg1:lr=0.03,gamma=1")
        return cls(text, method, {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs})

    def picks(self, group: Group) -> bool:
        """Whether a configuration is one that was asked for."""
        settings = group.settings
        return group.method == self.method and all(
            name in settings and _same(settings[name], text) for name, text in self.settings.items()
        )


@dataclass(frozen=True, eq=False)
class Section:
    """Configurations to be compared: of one problem, with the same number of memories or none.

    Parameters
    ----------
    problem
        The problem's name.
    memories
        How many; None where no method here has any.
    entrants
        Each method's configuration, by the text that asked for it.
    """

    problem: str
    memories: int | None
    entrants: Mapping[str, Group]

    @property
    def title(self) -> str:
        """The problem, and how many memories."""
        return self.problem if self.memories is None else f"{self.problem}, {self.memories} memories"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs, in the order in which the methods were asked for."""
        return list(itertools.combinations(self.entrants, 2))

    def pair(self, one: str, other: str) -> Pair:
        """The two configurations of a pair."""
        return self.entrants[one], self.entrants[other]


def sections(
    groups: Sequence[Group],
    selections: Sequence[Selection],
    benchmark: str | None = None,
    memories: int | None = None,
) -> list[Section]:
    """Put the configurations that were asked for beside each other.

    There is a section for each problem and number of memories in which two methods or more were run. A method that
    keeps no memories stands in all sections of its problem.

    Raises
    ------
    BadInput
        If nothing can be compared, a method was not run, or has several configurations and none was chosen.
    """
    if len(selections) < 2:
        raise BadInput("a comparison needs two methods at least")
    there = [group for group in groups if benchmark in (None, group.benchmark)]
    if not there:
        known = _known("; there are", _benchmarks(groups)) if groups else ": `metareplay results` says how they stand"
        raise BadInput(f"there is no finished run{_on(benchmark)}{known}")
    for selection in selections:
        _check(selection, there, benchmark)
    found = []
    for problem in dict.fromkeys(group.problem for group in there):
        own = [group for group in there if group.problem == problem]
        picked = [group for group in own if any(selection.picks(group) for selection in selections)]
        sizes = sorted({group.memories for group in picked if group.memories is not None}, reverse=True)
        for size in sizes or (None,):
            if memories in (None, size):
                entrants = _entrants(own, selections, size)
                if len(entrants) > 1:
                    found.append(Section(problem, size, entrants))
    if not found:
        with_so_many = "" if memories is None else f" with {memories} memories"
        runs = sorted({f"{g.label} on {g.problem}" for g in there for chosen in selections if chosen.picks(g)})
        raise BadInput(
            f"no two of these methods were run on the same problem{with_so_many}; {_known('there are', runs)}"
        )
    return found


def paired(one: Group, other: Group, metric: str) -> list[float]:
    """How much higher a metric of one is than of the other, with each seed that both have; none if it is undefined."""
    first, second = one.values(metric), other.values(metric)
    if isinstance(first, Undefined) or isinstance(second, Undefined):
        return []
    others = dict(zip(other.seeds, second.tolist(), strict=True))
    return [value - others[seed] for seed, value in zip(one.seeds, first.tolist(), strict=True) if seed in others]


def judge(found: Iterable[Section], metric: str) -> dict[Pair, Difference]:
    """Judge all differences of all sections together, each pair of configurations once.

    A pair without a common seed, or whose metric is undefined, is left out.
    """
    pairs = {
        pair: paired(*pair, metric) for section in found for pair in itertools.starmap(section.pair, section.pairs)
    }
    pairs = {pair: sample for pair, sample in pairs.items() if sample}
    return dict(zip(pairs, statistics.differences(list(pairs.values())), strict=True))


def means(section: Section, metric: str) -> Table:
    """Each method's mean, in percent."""
    columns = (Column("method", holds="words", width=20), Column("seeds"), Column("mean ± 95 %"))
    signed = METRICS[metric].difference
    rows = [
        Row((text, len(group.seeds), with_interval(group.interval(metric), signed=signed) or "undefined"))
        for text, group in section.entrants.items()
    ]
    return Table(columns, tuple(rows))


def differences(section: Section, judged: Mapping[Pair, Difference], metric: str) -> Table:
    """Each pair's difference, in percent, and whether it is established."""
    columns = [Column("difference", holds="words", width=20)]
    columns += [Column(title) for title in ("seeds", "mean ± 95 %", "p", "corrected p")]
    rows = []
    for one, other in section.pairs:
        pair = section.pair(one, other)
        told: tuple[object, ...] = ("", "", "", "", _why_not(pair, metric))
        if found := judged.get(pair):
            numbers = found.estimate.n, with_interval(found.estimate, signed=True), _p(found.p), _p(found.corrected)
            told = (*numbers, found.verdict)
        rows.append(Row((f"{one} − {other}", *told)))
    return Table((*columns, Column("", holds="words")), tuple(rows))


def tidy(found: Sequence[Section], judged: Mapping[Pair, Difference], metric: str) -> Table:
    """A row for each mean, in which ``other`` is empty, and one for each difference; in fractions."""
    titles = [
        "problem",
        "memories",
        "metric",
        "method",
        "other",
        "seeds",
        "mean",
        "half_width",
        "p",
        "corrected_p",
        "verdict",
    ]
    rows: list[tuple[object, ...]] = []
    for section in found:
        where = section.problem, section.memories, metric
        for text, group in section.entrants.items():
            value = group.interval(metric)
            undefined = isinstance(value, Undefined)
            mean = (None, None) if isinstance(value, Undefined) else (value.mean, value.half_width)
            rows.append((*where, text, None, len(group.seeds), *mean, None, None, str(value) if undefined else None))
        for one, other in section.pairs:
            pair = section.pair(one, other)
            told: tuple[object, ...] = (0, None, None, None, None, _why_not(pair, metric))
            if difference := judged.get(pair):
                mean = difference.estimate.mean, difference.estimate.half_width
                told = (difference.estimate.n, *mean, difference.p, difference.corrected, difference.verdict)
            rows.append((*where, one, other, *told))
    return Table(tuple(map(Column, titles)), tuple(map(Row, rows)))


def _why_not(pair: Pair, metric: str) -> str:
    undefined = any(isinstance(group.values(metric), Undefined) for group in pair)
    return "undefined" if undefined else "cannot be compared: they have no seed in common"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _check(selection: Selection, groups: Sequence[Group], benchmark: str | None) -> None:
    """Say what there is where a selection picks nothing."""
    own = [group for group in groups if group.method == selection.method]
    if not own:
        methods = sorted({group.method for group in groups})
        raise BadInput(
            f"there is no finished run of {selection.method!r}{_on(benchmark)}; {_known('there are', methods)}"
        )
    if not any(selection.picks(group) for group in own):
        settings = {name for group in own for name in group.settings}
        for name in selection.settings:
            if name not in settings:
                raise BadInput(f"{selection.method} has no setting {name!r}; {_known('it has', sorted(settings))}")
        choices = sorted({_choice(group, set(selection.settings)) for group in own})
        raise BadInput(f"there is no finished run of {selection.text}{_on(benchmark)}; {_known('there are', choices)}")


def _entrants(own: Sequence[Group], selections: Sequence[Selection], size: int | None) -> dict[str, Group]:
    """The one configuration that each selection picks, where it picks any."""
    entrants: dict[str, Group] = {}
    for selection in selections:
        picked = [group for group in own if group.memories in (size, None) and selection.picks(group)]
        if not picked:
            continue
        if len(picked) > 1:
            names = differing([group.settings for group in picked])
            raise BadInput(
                f"{selection.text} was run with several settings on {picked[0].problem}: choose one of "
                f"{', '.join(_choice(group, names) for group in picked)}"
            )
        (group,) = picked
        for text, other in entrants.items():
            if other is group:
                raise BadInput(f"{text} and {selection.text} are the same runs on {group.problem}")
        entrants[selection.text] = group
    return entrants


def _choice(group: Group, names: set[str]) -> str:
    """How one configuration of a method is asked for."""
    chosen = [f"{name}={_text(value)}" for name, value in group.settings.items() if name in names]
    return f"{group.method}:{','.join(chosen)}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return "-".join(map(str, value))
    return str(value)[:8] if isinstance(value, str) and len(value) == 64 else str(value)  # a SHA-256


def _same(value: object, text: str) -> bool:
    """Whether a setting has the value that was written."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return value == float(text)
        except ValueError:
            return False
    return text.lower() in (str(value).lower(), _text(value).lower())


def _benchmarks(groups: Sequence[Group]) -> list[str]:
    return sorted({group.benchmark for group in groups})


def _on(benchmark: str | None) -> str:
    return "" if benchmark is None else f" on {benchmark}"


def _known(begin: str, names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{begin} {', '.join(names[:most]) or 'none'}{more}"
