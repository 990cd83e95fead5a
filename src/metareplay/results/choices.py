"""How settings were chosen: what a study searched and looked at, kept beside the runs, so that no claim rests on it."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from metareplay.errors import BadInput
from metareplay.files import read_regular, write_atomically
from metareplay.results.table import Column, Row, Table, thousands
from metareplay.runs.metrics import METRICS

STUDIES = "studies"  # the folder in a folder of runs in which what was chosen is kept
STATES = ("running", "done", "pruned", "failed")
NEAR = 0.01  # trials whose score is at most this much lower than the best are nearly as good


@dataclass
class Choice:
    """One method's settings on one benchmark: what was searched, by which protocol, and what each trial gave.

    ``budget`` is how many trials there are besides the untuned one. All share the ``fixed`` settings; of the others
    ``space`` has ``[low, high, scale]``, or values.
    """

    benchmark: str
    method: str
    protocol: str
    search: str
    metric: str
    budget: int
    fixed: dict[str, Any]
    space: dict[str, list[Any]]
    used: dict[str, Any]
    """What was looked at: ``benchmark``, ``stream``, ``data_sha256`` and ``task_order`` of trials; the untuned run's
    key (``first_run``), which covers all else that they share; where other seeds are reported, ``seeds``."""
    trials: list[dict[str, Any]] = field(default_factory=list)
    """As they began, the untuned one first: ``settings``, ``state``, ``runs`` (keys), ``curve`` (accuracy after each
    task), and as far as there are any ``score``, ``gradients`` and ``seconds`` (of all its runs), ``message``."""

    @property
    def file(self) -> str:
        """The name of the file that it is kept in: it covers all but the trials."""
        return f"{_sha256({**asdict(self), 'trials': None})[:16]}.json"

    @property
    def sha256(self) -> str:
        return _sha256(asdict(self))

    @property
    def ended(self) -> list[dict[str, Any]]:
        return [trial for trial in self.trials if trial["state"] == "done"]

    @property
    def best(self) -> dict[str, Any]:
        """The first of the trials with the highest score; BadInput if none has one."""
        if not self.ended:
            why = next((trial["message"] for trial in self.trials if trial.get("message")), "none was carried out")
            raise BadInput(f"no trial of {self.method} on {self.benchmark} has a score: {why}")
        return max(self.ended, key=lambda trial: float(trial["score"]))

    def cost(self, what: str) -> float:
        """The ``gradients`` or ``seconds`` of all trials together."""
        return math.fsum(trial.get(what) or 0 for trial in self.trials)

    def tuned(self, configuration: Mapping[str, Any]) -> str | None:
        """``yes`` for a run with the settings that were chosen, ``no`` with the untuned ones; None for others."""
        if (configuration["benchmark"], configuration["method"]) != (self.benchmark, self.method) or not self.ended:
            return None
        words = {"yes": self.best, "no": self.trials[0]}
        return next((word for word, trial in words.items() if self._has(configuration, trial)), None)

    def looked_at(self, configuration: Mapping[str, Any]) -> bool:
        """Whether a run shows settings on what they were chosen on; untuned ones were not chosen."""
        same = all(configuration.get(name) == self.used[name] for name in ("benchmark", "stream", "data_sha256"))
        tasks = set(configuration.get("task_order", ())) & set(self.used["task_order"])
        seeds = self.used.get("seeds") or [configuration["seed"]]
        if not same or not tasks or configuration["seed"] not in seeds or configuration["method"] != self.method:
            return False
        return self.tuned(configuration) != "no" and any(self._has(configuration, trial) for trial in self.trials)

    def _has(self, configuration: Mapping[str, Any], trial: Mapping[str, Any]) -> bool:
        both = (configuration["hyperparameters"], self.fixed | trial["settings"])
        own, its = ({name: v for name, v in settings.items() if v not in (None, "none")} for settings in both)
        return bool(own == its)

    def save(self, out: Path) -> None:
        (out / STUDIES).mkdir(parents=True, exist_ok=True)
        write_atomically(out / STUDIES / self.file, (json.dumps(self.as_dict(), indent=1) + "\n").encode())

    def as_dict(self) -> dict[str, Any]:
        """All that it says, as plain values, and their hash."""
        return asdict(self) | {"sha256": self.sha256}

    @classmethod
    def read(cls, saved: Any) -> Self:
        """From plain values; BadInput if they are of something else, or were changed since they got their hash."""
        try:
            made = cls(**{name: value for name, value in saved.items() if name != "sha256"})
            made.looked_at({"seed": 0, **made.used, "method": made.method, "hyperparameters": {}})
            for trial in made.trials:
                made._has({"hyperparameters": {}}, trial)
                sound = trial["settings"].keys() == made.space.keys() and trial["state"] in STATES
                if not sound or not (isinstance(trial["curve"], list) and isinstance(trial["runs"], list)):
                    raise ValueError("a trial")
            if made.ended:
                table(made)
        except (TypeError, LookupError, AttributeError, ValueError) as error:
            raise BadInput(f"it does not say how settings were chosen ({type(error).__name__}: {error})") from None
        if saved.get("sha256") != made.sha256:
            raise BadInput("how settings were chosen was changed since `metareplay tune` wrote it: run that again")
        return made


def load(out: Path) -> list[Choice]:
    """All choices that are kept in a folder of runs; BadInput for a damaged one."""
    found = []
    for path in sorted((out / STUDIES).glob("*.json")):
        try:
            found.append(Choice.read(json.loads(read_regular(path))))
        except (OSError, ValueError, RecursionError) as error:  # BadInput is a ValueError
            raise BadInput(f"{path} cannot be read: {error}; delete it, and the study begins again") from error
    return found


def table(choice: Choice) -> Table:
    """What was searched, what was chosen, and how flat the optimum is: the values of all trials nearly as good."""
    best = choice.best
    near = [trial for trial in choice.ended if trial["score"] >= best["score"] - NEAR]
    rows = []
    for name, where in choice.space.items():
        good = sorted({trial["settings"][name] for trial in near}, key=lambda value: (str(type(value)), value))
        searched, shown = (", ".join(map(str, values)) for values in (where, good))
        if len(where) == 3 and where[2] in ("log", "linear"):
            searched = "{:g} to {:g} ({})".format(*where)
            shown = f"{good[0]:.3g} to {good[-1]:.3g}" if len(good) > 1 and "none" not in good else shown
        rows.append(Row((name, searched, choice.trials[0]["settings"][name], best["settings"][name], shown)))
    score = "–" if (untuned := choice.trials[0].get("score")) is None else f"{100 * untuned:.1f}"
    cells = (f"{METRICS[choice.metric].short}, %", None, score, f"{100 * best['score']:.1f}", None)
    states = Counter(trial["state"] for trial in choice.trials)
    counted = ", ".join(f"{states[state]} {state}" for state in STATES[1:] if states[state])
    within = f"within {100 * NEAR:g} point of the best"
    columns = [Column(title, holds="words") for title in ("setting", "searched")]
    columns += [Column(title) for title in ("untuned", "chosen", within)]
    cost = "{} gradients, {} s".format(*(thousands(choice.cost(what)) for what in ("gradients", "seconds")))
    notes = (
        f"{choice.search} search, {len(choice.trials)} trials ({counted}), {len(near)} of them {within}; {cost}; "
        f"sha256 {choice.sha256[:8]}.",
        f"The same in all: {', '.join(f'{name} {value}' for name, value in choice.fixed.items()) or 'nothing'}.",
        "What was looked at is no test: claims rest on other runs.",
    )
    caption = f"{choice.method} on {choice.benchmark}, by {choice.protocol}"
    return Table(tuple(columns), (*rows, Row(cells, strong=True)), caption, notes)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
