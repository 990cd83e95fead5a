"""Controls of the same cost: for each method plain replay of as many gradients, or seconds, at a rate of its own."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from metareplay.methods.replay import ERMatched
from metareplay.results.choices import Choice
from metareplay.results.groups import shared
from metareplay.runs import recipes
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import Run
from metareplay.runs.record import read_summary
from metareplay.runs.request import Request
from metareplay.settings import hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.studies.file import SEED, Study, StudyFile
from metareplay.studies.search import Searched
from metareplay.studies.tune import tune
from metareplay.suites.driver import execute
from metareplay.suites.plan import as_experiment
from metareplay.suites.reader import CONTROLS

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
