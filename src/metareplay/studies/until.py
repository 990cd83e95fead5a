"""Adding seeds until named comparisons are decided, without being fooled by looking often."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from metareplay.errors import BadInput
from metareplay.files import write_atomically
from metareplay.results import compare
from metareplay.results.choices import Choice
from metareplay.results.compare import Pair, Selection
from metareplay.results.groups import LOOKED_AT, LOOKS, Comparison, groups, load, looks, shared
from metareplay.results.statistics import LEVEL, next_look, sign_flip_test, smallest_p, spending
from metareplay.runs.folder import Status
from metareplay.runs.request import Request
from metareplay.suites.driver import Outcome, Source
from metareplay.suites.plan import as_experiment
from metareplay.suites.suite import Suite


def check(suite: Suite, selections: Sequence[Selection], chosen: Sequence[Choice]) -> None:
    """BadInput if comparisons could not be made: each of one configuration for a problem and size, any two meeting."""
    if not selections:
        return
    planned = [
        Status(Path(), "new", configuration=as_experiment(one, fetch=False).configuration()) for one in suite.requests
    ]
    made = groups(planned, chosen)
    asked = [one for one in selections if one.method != compare.CONTROL]  # whose settings are not known yet
    beside = Counter((group.problem, group.memories) for group in made if group.memories)
    several = len(suite.controls) * max(beside.values(), default=0) > 1
    if several and any(one.method == compare.CONTROL and not one.settings for one in selections):
        raise BadInput(
            f"compare names {compare.CONTROL}, of which each method has its own: run the suite without --until first, "
            f"and name one by its settings, as in {compare.CONTROL}:batches_per_example=5"
        )
    if len(asked) < 2:
        return
    found = compare.sections(made, asked)
    for one, other in itertools.combinations([selection.text for selection in asked], 2):
        if not any(section.entrants.keys() >= {one, other} for section in found):
            apart = "which run on no benchmark with as many memories"
            raise BadInput(f"compare names {one} and {other}, {apart}: nothing to compare")


class Until(Source):
    """A suite's runs, then seeds for what is undecided, ``most`` or all there are; earlier looks and levels stay."""

    def __init__(self, requests: Sequence[Request], selections: Sequence[Selection], out: Path, most: int) -> None:
        self.out, self.selections = out, selections
        self.requests = {shared(as_experiment(request).configuration()): request for request in requests}
        seeds = sorted({request.run.get("seed", 0) for request in requests})
        self.n, self.most = len(seeds), max(most, len(seeds))
        self.seeds = [*seeds, *range(seeds[-1] + 1, seeds[-1] + 1 + most)][: self.most]
        self.comparisons: list[Comparison] | None = None
        self.asked, self.ended = set[tuple[str, int]](), 0

    def take(self, outcome: Outcome) -> None:
        self.ended += 1

    def more(self) -> Sequence[Request]:
        if self.ended < len(self.asked):
            return ()
        if not self.asked:
            return self.ask(self.requests)
        while (open_ones := self.look()) and self.n < self.most:
            self.n = next_look(self.n, self.most)
            if requests := self.ask({key for comparison in open_ones for key in comparison.keys}):
                return requests
        return ()

    def ask(self, keys: Sequence[str] | set[str] | dict[str, Request]) -> list[Request]:
        """The seeds so far of some configurations that were not asked for before."""
        wanted = [(key, seed) for seed in self.seeds[: self.n] for key in self.requests if key in keys]
        new = [pair for pair in wanted if pair not in self.asked]
        self.asked.update(new)
        return [replace(self.requests[key], run={**self.requests[key].run, "seed": seed}) for key, seed in new]

    def look(self) -> list[Comparison]:
        """Judge what is not decided, on the first ``n`` seeds alone; what is still open, and written down."""
        there = [group for group in load(self.out).groups if shared(group.configuration) in self.requests]
        pairs: dict[str, Pair] = {}
        for section in compare.sections(there, self.selections):
            pairs |= {f"{section.title}: {' − '.join(names)}": pair for names, pair in section.pairs}
        if self.comparisons is None:
            before, self.comparisons = looks(self.out), []
            for name, pair in pairs.items():
                new = Comparison(name, [shared(group.configuration) for group in pair])
                self.comparisons.append(replace(before.get(frozenset(new.keys), new), name=name, keys=new.keys))
        tests, wanted, still = len(self.comparisons), set(self.seeds[: self.n]), list[Comparison]()
        for one in self.comparisons:
            if one.established or one.name not in pairs or LEVEL / tests - one.spent < smallest_p(self.most):
                continue
            level = spending(self.n, self.most, tests * one.spent) / tests
            if (one.looks and self.n <= one.looks[-1][0]) or smallest_p(self.n) > level:
                still.append(one)  # it was looked at, or nothing could be established: what might be spent is kept
                continue
            sample = compare.paired(*pairs[one.name], LOOKED_AT, wanted)
            if len(sample) == self.n:
                p = sign_flip_test(sample)
                one.looks.append((self.n, p, level))
                one.established = p <= level
                still += [] if one.established else [one]
        # No report is to take a p-value for one that was looked at once.
        rows = [asdict(one) for one in self.comparisons]
        name = hashlib.sha256(json.dumps([one["keys"] for one in rows]).encode()).hexdigest()[:16]
        (self.out / LOOKS).mkdir(exist_ok=True)
        write_atomically(self.out / LOOKS / f"{name}.json", json.dumps(rows, indent=1).encode())
        return still
