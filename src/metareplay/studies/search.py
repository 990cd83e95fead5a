"""Which settings a study tries next: at random, all of a grid, or by Optuna's TPE."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metareplay.errors import INSTALL, BadInput
from metareplay.settings import Range

FIRST_TO_PRUNE = 5  # trials that are carried out to their end before others are given up


class Searched(NamedTuple):
    """Where one setting is searched: a range of its type's numbers, or values."""

    where: Range | tuple[Any, ...]
    type: type

    def at(self, place: float) -> Any:
        """A value by its number; of a range what is so far along it, to three digits: a setting is to be read."""
        if not isinstance(self.where, Range):
            return self.where[int(place)]
        low, high, scale = self.where
        value = low + place * (high - low) if scale == "linear" else low * (high / low) ** place
        return round(value) if self.type is int else min(max(float(f"{value:.3g}"), low), high)


Space = Mapping[str, Searched]


class Random:
    """Each trial's settings are drawn with its number, whatever others gave."""

    def __init__(self, space: Space, trials: int | None) -> None:
        self.space, self.trials = space, trials or 30

    def ask(self, number: int) -> dict[str, Any]:
        """The settings of a trial; the first has number 1, the untuned one 0."""
        rng = np.random.default_rng([0, number])
        return {
            name: one.at(rng.random() if isinstance(one.where, Range) else int(rng.integers(len(one.where))))
            for name, one in self.space.items()
        }

    def begin(self, number: int, trial: Mapping[str, Any]) -> None:
        """Take a trial that goes on, or went on in an earlier process."""

    def end(self, number: int, trial: Mapping[str, Any]) -> None:
        """Take what a trial gave."""

    def hopeless(self, number: int, curve: Sequence[float]) -> bool:
        """Whether a trial with such accuracies after its first tasks is to be given up."""
        return False


class Grid(Random):
    """All combinations of values; of a range as many, evenly spread, as the number of trials has room for."""

    def __init__(self, space: Space, trials: int | None) -> None:
        ranges = sum(isinstance(one.where, Range) for one in space.values())
        values = math.prod(len(one.where) for one in space.values() if not isinstance(one.where, Range))
        if ranges and trials is None:
            raise BadInput("a grid over ranges needs a number of trials: how many points it has in all")
        each = math.floor(((trials or 0) / values) ** (1 / ranges) + 1e-9) if ranges else 0
        if (ranges and each < 2) or (trials is not None and trials < values * each**ranges):
            raise BadInput(f"this grid needs {values * 2**ranges} trials at least, not {trials}")
        points = [
            [one.at(i / (each - 1)) for i in range(each)] if isinstance(one.where, Range) else one.where
            for one in space.values()
        ]
        self.points = [dict(zip(space, point, strict=True)) for point in itertools.product(*points)]
        super().__init__(space, len(self.points))

    def ask(self, number: int) -> dict[str, Any]:
        return self.points[number - 1]


class TPE(Random):
    """Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), with median pruning."""

    def __init__(self, space: Space, trials: int | None) -> None:
        super().__init__(space, trials)
        try:
            import optuna
        except ImportError:
            raise BadInput(f'the search tpe needs Optuna: {INSTALL.format("tune")}; or search = "random"') from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna
        pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST_TO_PRUNE)
        self.study = optuna.create_study(direction="maximize", pruner=pruner)
        # A range is searched by its share of the way, so that its numbers are the same as of other searches.
        self.distributions: dict[str, Any] = {
            name: optuna.distributions.FloatDistribution(0, 1)
            if isinstance(one.where, Range)
            else optuna.distributions.CategoricalDistribution(range(len(one.where)))
            for name, one in space.items()
        }
        self.live: dict[int, Any] = {}
        self.reported: Counter[int] = Counter()  # of each trial how many accuracies

    def ask(self, number: int) -> dict[str, Any]:
        self.study.sampler = self.optuna.samplers.TPESampler(seed=number)  # else another process would draw the same
        trial = self.live[number] = self.study.ask(self.distributions)
        return {name: one.at(trial.params[name]) for name, one in self.space.items()}

    def begin(self, number: int, trial: Mapping[str, Any]) -> None:
        params: dict[str, Any] = {}
        for name, one in self.space.items():
            value = trial["settings"][name]
            if not isinstance(one.where, Range):
                params |= {name: one.where.index(value)} if value in one.where else {}
            elif value != "none" and one.where.low <= value <= one.where.high:
                low, high, scale = one.where
                whole = math.log(high / low) if scale == "log" else high - low
                params[name] = min(1.0, (math.log(value / low) if scale == "log" else value - low) / whole)
        if params.keys() == self.space.keys():  # untuned settings may lie outside
            self.study.enqueue_trial(params)
            self.live[number] = self.study.ask(self.distributions)

    def end(self, number: int, trial: Mapping[str, Any]) -> None:
        if number not in self.live:
            return
        live = self.live[number]
        self._tell(number, trial["curve"])
        state = self.optuna.trial.TrialState
        if trial["state"] == "pruned" and trial["curve"]:
            self.study.tell(live, state=state.PRUNED)
        else:  # one that diverged is as bad as can be
            self.study.tell(live, trial["score"] if trial["state"] == "done" else 0.0)

    def hopeless(self, number: int, curve: Sequence[float]) -> bool:
        if number not in self.live or not curve:
            return False
        self._tell(number, curve)
        return bool(self.live[number].should_prune())

    def _tell(self, number: int, curve: Sequence[float]) -> None:
        for step in range(self.reported[number], len(curve)):
            self.live[number].report(curve[step], step)
        self.reported[number] = len(curve)


MADE: Mapping[str, type[Random]] = {"random": Random, "grid": Grid, "tpe": TPE}
