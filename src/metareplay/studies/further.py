"""What follows a suite's runs: controls of the same cost, and seeds until comparisons are decided."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from metareplay.errors import BadInput
from metareplay.files import write_atomically
from metareplay.methods.replay import ERMatched
from metareplay.results import compare
from metareplay.results.choices import Choice
from metareplay.results.compare import Pair, Selection
from metareplay.results.groups import LOOKED_AT, LOOKS, Comparison, groups, load, looks, shared
from metareplay.results.statistics import LEVEL, next_look, sign_flip_test, smallest_p, spending
from metareplay.runs import recipes
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import Run, Status
from metareplay.runs.record import read_summary
from metareplay.runs.request import Request
from metareplay.settings import hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.studies.file import SEED, Searched, Study, StudyFile
from metareplay.studies.tune import tune
from metareplay.suites.driver import Outcome, Source, execute
from metareplay.suites.plan import as_experiment
from metareplay.suites.reader import CONTROLS
from metareplay.suites.suite import Suite

Cost = tuple[Request, Experiment, dict[str, Any]]  # a run of a method, and its ``Record.summary()``
RATES = 9  # learning rates that a control is tried with: half an order of magnitude lies between two of them
TIMED = 3  # runs that are made, one after another, to find how many gradients a control has time for


def controls(
    requests: Sequence[Request], out: Path, chosen: Sequence[Choice], asked: Sequence[str], **backend: Any
) -> list[Request]:
    """All seeds of all controls that are asked for, among ``CONTROLS``, once their cost and learning rates are chosen.

    For each method that is plain replay of as many gradients, or seconds, at a rate of its own, which is chosen by the
    protocol by which the method's settings were, or on another seed. What is tried is in ``out / "tuning"``; where no
    run is done there is no control, as the cost is not known.
    """
    costs: dict[str, list[Cost]] = {}
    for request in requests:
        experiment = as_experiment(request)
        summary, settings = Run(out / experiment.key).status().summary, asdict(experiment.method)
        if isinstance(experiment.method, ERMatched) or not settings.get("memories"):
            continue
        if summary and summary["gradients"]:
            costs.setdefault(shared(experiment.configuration()), []).append((request, experiment, summary))
    (rate,) = (Searched(own.search, own.type) for own in hyperparameters(ERMatched) if own.name == "lr")
    studies: dict[str, Study] = {}  # by their request: controls of different methods may be the same

    def timed(controls: list[Request]) -> list[float | None]:
        """The seconds that they take, each with one seed; None for one that failed."""
        of_one_seed = [replace(control, run={**control.run, "seed": SEED}) for control in controls]
        outcomes = execute(of_one_seed, out / "tuning", **backend)
        done = [outcome.state == "done" and read_summary(out / "tuning" / str(outcome.key)) for outcome in outcomes]
        return [summary["train_seconds"] if summary else None for summary in done]

    for cost in (CONTROLS[name] for name in asked):
        for own, control in zip(costs.values(), _of_cost(list(costs.values()), cost, timed), strict=True):
            protocols = (one.protocol for one in chosen if one.tuned(own[0][1].configuration()))
            study = Study(control, {"lr": rate}, next(protocols, "seeds:1"), "grid", "retained_accuracy", RATES)
            studies.setdefault(repr(control), study)
    seeds = tuple(sorted({request.run.get("seed", 0) for request in requests}))
    file, made = StudyFile("controls", tuple(studies.values()), seeds), list[Request]()
    for study, choice in zip(file.studies, tune(file, out=out / "tuning", **backend), strict=True):
        choice.save(out)
        reported, settings = study.apart()[1], {**study.request.settings, **choice.best["settings"]}
        made += [replace(reported, settings=settings, run={**reported.run, "seed": seed}) for seed in seeds]
    return made


def _of_cost(costs: list[list[Cost]], cost: str, timed: Callable[[list[Request]], list[float | None]]) -> list[Request]:
    """For each method's runs the control of as many ``gradients``, or ``seconds``, in the mean over seeds."""

    def mean(what: str) -> list[float]:  # some methods take more with one seed than with another
        return [fmean(summary[what] for _, _, summary in own) for own in costs]

    def alike() -> list[Request]:
        return [
            matched(request, asdict(experiment.method), round(number), int(experiment.spans.counts.sum()))
            for number, ((request, experiment, _), *_) in zip(gradients, costs, strict=True)
        ]

    gradients = mean("gradients")
    for _ in range(TIMED if cost == "seconds" else 0):  # seconds grow with gradients, but not from zero
        took = zip(gradients, mean("train_seconds"), timed(alike()), strict=True)
        gradients = [number * wanted / seconds if seconds else number for number, wanted, seconds in took]
    return alike()


def matched(request: Request, settings: dict[str, Any], gradients: int, examples: int) -> Request:
    """Plain replay, with the memories of a method, that takes as many gradients for so many examples."""
    memories = settings["memories"]
    plain = recipes.settings(benchmarks.find(request.benchmark).name, "eralg4", memories)[0]
    size = settings.get("replay_batch_size") or plain.get("replay_batch_size", 10)

    def cost(size: int, batches: int) -> int:
        one = ERMatched(**{"memories": memories, "replay_batch_size": size})
        return batches * (examples + one.replayed(examples))

    batches = max(1, round(gradients / cost(size, 1)))
    size = min(range(min(memories, 10 * size + 100) + 1), key=lambda size: abs(cost(size, batches) - gradients))
    own = {"memories": memories, "replay_batch_size": size, "batches_per_example": batches, "recency": 0}
    run = {name: value for name, value in request.run.items() if name != "seed"}
    return replace(request, method="er-matched", settings={**own, "lr": plain.get("lr", 0.1)}, run=run)


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
