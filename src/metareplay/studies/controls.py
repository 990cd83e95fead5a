"""Controls of the same cost: for each method plain replay with as many gradients, at a rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
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
from metareplay.runs.request import Request
from metareplay.settings import hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.studies.file import Study, StudyFile
from metareplay.studies.search import Searched
from metareplay.suites.plan import as_experiment

RATES = 9
"""Learning rates that a control is tried with: half an order of magnitude lies between two of them."""


def studies(requests: Sequence[Request], out: Path, chosen: Sequence[Choice]) -> StudyFile:
    """For each configuration with a memory the search for its control's learning rate.

    It is by the protocol by which the method's own settings were chosen, or on another seed. Configurations of which no
    run is done are left out, as their cost is not known.
    """
    costs: dict[str, list[tuple[Request, Experiment, int]]] = {}
    for request in requests:
        experiment = as_experiment(request)
        summary, settings = Run(out / experiment.key).status().summary, asdict(experiment.method)
        if isinstance(experiment.method, ERMatched) or not settings.get("memories"):
            continue
        if summary and summary["gradients"]:
            own = costs.setdefault(shared(experiment.configuration()), [])
            own.append((request, experiment, summary["gradients"]))
    made: list[Study] = []
    (rate,) = (Searched(own.search, own.type) for own in hyperparameters(ERMatched) if own.name == "lr")
    for own in costs.values():
        request, experiment, _ = own[0]
        gradients = round(fmean(cost for _, _, cost in own))  # some methods take more with one seed than with another
        control = matched(request, asdict(experiment.method), gradients, int(experiment.spans.counts.sum()))
        protocols = (one.protocol for one in chosen if one.tuned(experiment.configuration()))
        if all(control != other.request for other in made):
            made.append(Study(control, {"lr": rate}, next(protocols, "seeds:1"), "grid", "retained_accuracy", RATES))
    seeds = sorted({request.run.get("seed", 0) for request in requests})
    return StudyFile("controls", tuple(made), tuple(seeds))


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
