"""Choosing settings: trials are ordinary runs, what comes out is a suite, and a stopped study goes on."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from metareplay import methods
from metareplay.files import write_atomically
from metareplay.results import choices
from metareplay.results.choices import Choice
from metareplay.runs.folder import Note
from metareplay.runs.record import read_summary
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.settings import hyperparameters
from metareplay.studies.file import Study, StudyFile, read
from metareplay.studies.search import MADE
from metareplay.suites.driver import Outcome, Show, Source, execute
from metareplay.suites.plan import as_experiment


class StudyUnderWay:
    """A study and what it found so far, which is kept in the folder of runs after every change."""

    def __init__(self, study: Study, out: Path) -> None:
        self.study, self.out = study, out
        self.on, self.report = study.apart()
        experiment = as_experiment(self._request({}, study.seeds[0]))
        configuration = experiment.configuration()
        used = {name: configuration[name] for name in ("benchmark", "stream", "data_sha256", "task_order")}
        used |= {"first_run": experiment.key}
        used |= {"seeds": list(study.seeds)} if study.protocol.startswith("seeds") else {}
        untuned = {name: "none" if value is None else value for name, value in study.request.settings.items()}
        reported = as_experiment(self.report).configuration()["benchmark"]
        self.search = MADE[study.search](study.space, study.trials)
        self.choice = Choice(
            reported, configuration["method"], study.protocol, study.search, study.metric, self.search.trials,
            {name: value for name, value in untuned.items() if name not in study.space and value != "none"},
            {name: list(one.where) for name, one in study.space.items()}, used,
        )  # fmt: skip
        self.choice = {one.file: one for one in choices.load(out)}.get(self.choice.file, self.choice)
        if not self.choice.trials:
            self._begin({name: untuned[name] for name in study.space})
        self.asked = Counter[int]()  # of each trial how many of its runs
        self.values = defaultdict[int, dict[int, dict[str, Any]]](dict)
        for number, trial in enumerate(self.choice.trials):
            self.search.begin(number, trial)
            if trial["state"] != "running":
                self.search.end(number, trial)

    def _begin(self, settings: dict[str, Any]) -> None:
        self.choice.trials.append({"settings": settings, "state": "running", "runs": [], "curve": []})
        self.choice.save(self.out)

    def _request(self, settings: dict[str, Any], seed: int) -> Request:
        return replace(self.on, settings={**self.on.settings, **settings}, run={**self.on.run, "seed": seed})

    def next(self) -> list[tuple[int, Request]]:
        """The runs to begin now, each with the number of its trial: of a new trial the first, then all its others."""
        seeds, trials = self.study.seeds, self.choice.trials
        for number, trial in enumerate(trials):
            if trial["state"] == "running" and self.asked[number] in (0, 1) and self.asked[number] < len(seeds):
                if self.asked[number] and not self.values[number]:
                    continue  # whether its other seeds are worth it is not known yet
                first, self.asked[number] = self.asked[number], 1 if not self.asked[number] else len(seeds)
                these = seeds[first : self.asked[number]]
                return [(number, self._request(trial["settings"], seed)) for seed in these]
        if len(trials) > self.search.trials:
            return []
        self._begin(self.search.ask(len(trials)))
        return self.next()

    def take(self, number: int, outcome: Outcome) -> None:
        trial = self.choice.trials[number]
        if outcome.state == "not started" or trial["state"] != "running":
            return
        metric, found = self.study.metric, self.values[number]
        if outcome.state == "done":
            summary = found[outcome.request.run["seed"]] = read_summary(self.out / str(outcome.key))
            trial["runs"] = sorted({*trial["runs"], outcome.key})
            if summary[metric] is None:
                trial |= {"state": "failed", "message": summary["undefined"][metric]}
            elif len(found) == len(self.study.seeds):
                trial |= {"state": "done", "score": fmean(one[metric] for one in found.values())}
                trial["gradients"] = sum(one["gradients"] for one in found.values())
                trial["seconds"] = round(sum(one["train_seconds"] for one in found.values()), 2)
        else:
            trial |= {"state": "pruned" if outcome.state == "given up" else "failed", "message": outcome.message}
        if trial["state"] != "running":
            self.search.end(number, trial)
        self.choice.save(self.out)

    def hopeless(self, number: int, seed: int, progress: Progress | None) -> bool:
        """Take in how far a run is, and say whether its trial is to be given up."""
        trial = self.choice.trials[number]
        if trial["state"] != "running":  # another of its seeds failed
            return True
        if seed != self.study.seeds[0] or progress is None or progress.accuracy is None:
            return False
        curve = trial["curve"]
        if (missing := progress.evaluated + 1 - len(curve)) > 0:  # more than one where a report was not heard
            curve += [round(progress.accuracy, 4)] * missing
            return self.search.hopeless(number, curve)
        return False


class Tuner(Source):
    """All studies of a file under way at once: whatever is free takes the next trial of whichever has one."""

    def __init__(self, studies: Sequence[StudyUnderWay]) -> None:
        self.studies = studies
        self.of: dict[int, tuple[StudyUnderWay, int]] = {}  # by a request's identity: the driver keeps them all

    def take(self, outcome: Outcome) -> None:
        study, number = self.of[id(outcome.request)]
        study.take(number, outcome)

    def more(self) -> list[Request]:
        for study in self.studies:
            if asked := study.next():
                self.of |= {id(request): (study, number) for number, request in asked}
                return [request for _, request in asked]
        return []

    def give_up(self, request: Request, progress: Progress | None) -> bool:
        study, number = self.of[id(request)]
        return study.hopeless(number, request.run["seed"], progress)


def tune(
    study: str | Path | StudyFile, *, out: str | Path = "runs/tuning", write: str | Path | None = None,
    jobs: int | None = None, executor: str = "local", report: Show = lambda progress: None,
    note: Note = lambda text: None, address: str | None = None,
) -> list[Choice]:  # fmt: skip
    """Choose settings as a study file says, on all cores or a cluster; goes on where it was stopped.

    Parameters
    ----------
    study
        A study file (docs/tuning.md).
    out
        The folder of runs in which trials are kept, and what they gave.
    write
        A file that gets a suite of the chosen settings and, beside them, the untuned ones.
    jobs
        How many runs at once; None for as many as there are cores.
    report, note
        Called about ten times a second while something changes; and with a line that the user may want to know.
    executor, address
        ``local`` or ``ray``, and which cluster.

    Returns
    -------
    choices
        For each method and benchmark what was searched and found: ``choices[0].best["settings"]``.

    Raises
    ------
    BadInput
        If something is wrong with the file, or a method has no trial that ended.
    KeyboardInterrupt
        If it was stopped: the same call goes on from there.

    Examples
    --------
    >>> from pathlib import Path
    >>> Path("study.toml").write_text('''
    ... benchmarks = [{ name = "digits-rotations", tasks = 3, samples_per_task = 100 }]
    ... methods = ["online"]
    ... protocol = "seeds:1"
    ... search = "random"
    ... trials = 3
    ... ''') and None
    >>> chosen = metareplay.tune("study.toml", write="tuned.toml", jobs=1)
    >>> len(chosen[0].trials)
    4
    """
    file, out = study if isinstance(study, StudyFile) else read(study), Path(out)
    under_way = [StudyUnderWay(one, out) for one in file.studies]
    backend: dict[str, Any] = {"executor": executor, "address": address, "jobs": jobs}
    execute([], out, report=report, note=note, source=Tuner(under_way), **backend)
    for one in under_way:
        assert one.choice.best
    if write is not None:
        write_atomically(Path(write), suite_of(file, under_way, Path(write)).encode())
    return [one.choice for one in under_way]


def suite_of(file: StudyFile, studies: Sequence[StudyUnderWay], path: Path) -> str:
    """A suite of what was chosen, and of the untuned settings beside it; at its end is how they were chosen."""
    lines = [
        "# Settings that `metareplay tune` chose, and the untuned ones beside them: metareplay suite tuned.toml",
        "# How they were chosen is written in [[tuned]]: reports show it, and refuse claims on what was looked at.",
        "",
        f"name = {_toml(f'{file.name}, tuned')}",
        f"seeds = {_toml(list(file.seeds))}",
        *(f"{name} = {_toml(value)}" for name, value in file.passed.items()),
    ]
    for one in studies:
        kind = methods.find(one.report.method)
        chosen, untuned = one.choice.best["settings"], one.choice.trials[0]["settings"]
        request, names = one.report, {parameter.name for parameter in hyperparameters(kind)}
        for word, settings in {"chosen": chosen, **({"untuned": untuned} if untuned != chosen else {})}.items():
            given = {name: value for name, value in {**request.settings, **settings}.items() if name in names}
            table = {"benchmark": _from(request.benchmark, path), "method": _from(request.method, path)}
            table |= {name: "none" if value is None else value for name, value in given.items()}
            lines += ["", f"[[include]] # {word}"]
            lines += [f"{name} = {_toml(value)}" for name, value in {**table, **request.stream, **request.run}.items()]
    for one in studies:
        lines += ["", "[[tuned]]", *(f"{name} = {_toml(value)}" for name, value in one.choice.as_dict().items())]
    return "\n".join(lines) + "\n"


def _from(name: str, path: Path) -> str:
    """A user's own file as it is seen from the folder of a suite file; other names as they are."""
    return os.path.relpath(name, path.absolute().parent) if os.path.isabs(name) else name


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        lines = isinstance(value[0], dict) if value else False
        inside = (",\n    " if lines else ", ").join(map(_toml, value))
        return f"[\n    {inside},\n]" if lines else f"[{inside}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which TOML wants escaped, not JSON
