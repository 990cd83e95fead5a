"""Choosing settings: what a study file asks for, what trials look at, and that no claim rests on what was looked at."""

import contextlib
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import metareplay
from metareplay.cli import main
from metareplay.errors import BadInput
from metareplay.results import choices, compare, tables
from metareplay.results.choices import Choice
from metareplay.results.compare import Selection
from metareplay.results.groups import load
from metareplay.runs.folder import find
from metareplay.runs.request import Request
from metareplay.settings import Range
from metareplay.studies import controls
from metareplay.studies.file import Study, read
from metareplay.studies.search import Grid, Random, Searched
from metareplay.studies.tune import tune
from metareplay.suites import driver, local
from metareplay.suites.driver import Event
from metareplay.suites.plan import as_experiment
from metareplay.suites.suite import Suite
from test_local_executor import InTurn

LITTLE = 'benchmarks = [{ name = "digits-rotations", tasks = 3, samples_per_task = 30 }]\nseeds = 6\n'
LR = Searched(Range(1e-3, 1, "log"), float)


class Inline(InTurn):
    """Carries out each run at once, in this process, and tells what it reports; stops after so many runs."""

    def __init__(self, out, most=10_000):
        super().__init__(out)
        self.most = most

    def poll(self, seconds):
        if len(self.started) > self.most:
            raise KeyboardInterrupt
        job, events = self.job, list[Event]()
        self.job = None
        over = local.carry_out(job.requests[0], job.key, self.out, None, events.append)
        yield from ((job, event) for event in [*events, over])

    def end(self, job):
        pass


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    made = {"most": 10_000}

    def inline(jobs, out, *others):
        made["backend"] = Inline(out, made["most"])
        return contextlib.nullcontext(made["backend"])

    monkeypatch.setattr(local, "backend", inline)
    return made


def write(folder, text):
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_a_method_alone_is_searched_where_its_settings_say(tmp_path):
    (study,) = read(write(tmp_path, LITTLE + 'methods = ["eralg4"]\nprotocol = "seeds:2"\n')).studies
    assert study.space.keys() == {"lr", "replay_batch_size"}
    assert study.space["lr"].where == Range(1e-4, 1, "log")
    assert study.request.settings["lr"] == 0.1  # the recipe's, untuned
    assert list(study.seeds) == [1000, 1001]


def test_what_a_file_says_is_searched_and_nothing_else(tmp_path):
    text = """protocol = "seeds:1"
[methods.eralg4]
memories = 50
lr = { low = 1e-2, high = 0.5, log = true }
[[methods.meralg1]]
beta = [0.03, 0.3]
[[methods.meralg1]]
batches_per_example = { low = 1, high = 5 }
"""
    one, two, three = (study.space for study in read(write(tmp_path, LITTLE + text)).studies)
    assert one == {"lr": Searched(Range(1e-2, 0.5, "log"), float)}
    assert two == {"beta": Searched((0.03, 0.3), float)}
    assert three == {"batches_per_example": Searched(Range(1, 5, "linear"), int)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('methods = ["online"]', 'must say what settings are chosen on: protocol = "seeds:3", "first-tasks:3"'),
        ('methods = ["online"]\nprotocol = "seeds:0"', "line 4: protocol is 0, but must lie in [1, inf)"),
        ('methods = ["online"]\nprotocol = "stream:mnst"', "protocol cannot be used: there is no benchmark 'mnst'"),
        ('methods = ["online"]\nprotocol = "first-tasks:3"', "has 3 tasks: leave some to report"),
        ('protocol = "seeds:1"\n[methods.online]\nlr = { low = 1, high = 0.1 }', "line 5: methods.online.lr must be {"),
        ('protocol = "seeds:1"\n[methods.online]\nlr = { low = -1, high = 1 }', "[0] is -1.0, but must lie in (0, inf"),
        ('protocol = "seeds:1"\n[methods.online]\nlr = 0.1', "has nothing to search"),
        ('methods = ["online"]\nprotocol = "seeds:1"\nmetric = "forgetting"', "metric is 'forgetting', but must be on"),
        ('methods = ["online"]\nprotocol = "seeds:1"\nsearch = "grid"', "a grid over ranges needs a number of trials"),
        ('methods = ["online"]\nprotocol = "stream:digits-rotations"', "choose settings on another benchmark"),
        ('methods = ["online", "online"]\nprotocol = "seeds:1"', "line 3: methods[1] asks for online twice"),
        (
            'methods = ["online"]\nprotocol = "seeds:1"\ncompare = ["online", "onlin:tuned=no"]',
            "line 5: compare[1] is 'onlin:tuned=no', but what runs is online; did you mean online?",
        ),
    ],
)
def test_a_mistake_is_told_in_words_and_nothing_is_run(tmp_path, text, message):
    with pytest.raises(BadInput) as refused:
        tune(write(tmp_path, LITTLE + text), out=tmp_path / "runs")
    assert message in str(refused.value)
    assert not list(tmp_path.glob("runs/*/"))


def test_what_is_reported_are_other_seeds_than_those_of_trials(tmp_path):
    text = LITTLE.replace("seeds = 6", "seeds = [3, 1001]") + 'methods = ["online"]\nprotocol = "seeds:2"\n'
    with pytest.raises(BadInput, match="line 2: seeds are to be reported, but settings are chosen on 1001"):
        read(write(tmp_path, text))


@pytest.mark.parametrize(
    ("protocol", "apart"),
    [
        ("first-tasks:2", lambda on, report: set(on.visits).isdisjoint(report.visits) and len(report.visits) == 1),
        ("validation:0.2", lambda on, report: len(on.stream.tasks[0].train) < len(report.stream.tasks[0].train)),
        ("seeds:3", lambda on, report: on.key == report.key),  # the seed apart
        ("stream:digits-permutations", lambda on, report: on.stream.name != report.stream.name),
    ],
)
def test_a_protocol_keeps_apart_what_is_looked_at(protocol, apart):
    request = Request("digits-rotations", "online", {"lr": 0.1}, {"tasks": 3, "samples_per_task": 30})
    study = Study(request, {"lr": LR}, protocol, "random", "retained_accuracy", 2)
    on, report = map(as_experiment, study.apart())
    assert apart(on, report)
    assert on.method.lr == report.method.lr == 0.1


def test_trials_are_runs_and_what_comes_out_is_a_suite(tmp_path):
    text = 'methods = ["online"]\nprotocol = "seeds:2"\nsearch = "random"\ntrials = 5\n'
    (choice,) = tune(write(tmp_path, LITTLE + text), out=tmp_path / "runs", write=tmp_path / "tuned.toml")
    assert [trial["state"] for trial in choice.trials] == ["done"] * 6
    assert choice.trials[0]["settings"] == {"lr": 0.001}
    runs = load(tmp_path / "runs")
    assert sum(len(group.runs) for group in runs.groups) == len(find(tmp_path / "runs")) == 12
    best = max(runs.groups, key=lambda group: group.values("retained_accuracy").mean())
    assert choice.best["settings"] == {"lr": best.settings["lr"]}
    assert choice.best["score"] == pytest.approx(best.mean("retained_accuracy"))
    assert choice.cost("gradients") == 12 * 90
    suite = Suite.read(tmp_path / "tuned.toml")
    lr = {request.settings["lr"] for request in suite.requests}
    assert lr == {0.001, choice.best["settings"]["lr"]}
    assert {request.run["seed"] for request in suite.requests} == set(range(6))
    assert [Choice.read(told) for told in suite.tuned] == [choice]
    assert choices.load(tmp_path / "runs") == [choice]


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_study_that_is_stopped_anywhere_goes_on(search, tmp_path, backend):
    if search == "tpe":
        pytest.importorskip("optuna")
    text = f'methods = ["online"]\nprotocol = "seeds:2"\nsearch = "{search}"\ntrials = 4\n'
    file, done = write(tmp_path, LITTLE + text), set[str]()
    for most in (1, 3, 2):
        backend["most"] = most
        with pytest.raises(KeyboardInterrupt):
            tune(file, out=tmp_path / "runs")
        assert done.isdisjoint(backend["backend"].started)
        done = {run.key for run in find(tmp_path / "runs") if run.status().state == "done"}
    backend["most"] = 10_000
    (choice,) = tune(file, out=tmp_path / "runs")
    assert done.isdisjoint(backend["backend"].started)
    assert [trial["state"] for trial in choice.trials] == ["done"] * 5
    if search == "random":  # by its number alone, so that nothing disturbs it
        (undisturbed,) = tune(file, out=tmp_path / "others")
        assert [trial["score"] for trial in choice.trials] == [trial["score"] for trial in undisturbed.trials]


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_setting_that_may_be_none_is_searched_too(search, tmp_path):
    if search == "tpe":
        pytest.importorskip("optuna")
    (tmp_path / "own.py").write_text(
        "import metareplay\n\n\nclass Own(metareplay.Method):\n    rate: float | None = metareplay.setting("
        'None, "(0, inf)", help="a rate", search=(1e-3, 1, "log"))\n'
        '    decay: float | None = metareplay.setting(0.5, "[0, 1]", help="x")\n\n'
        "    def observe(self, rows):\n        self.learner.sgd(rows, self.rate or 0.01)\n"
    )
    text = f'protocol = "seeds:1"\nsearch = "{search}"\ntrials = 2\n[methods."own.py:Own"]\n'
    for searched in ("rate = { low = 1e-3, high = 1, log = true }\n", 'decay = ["none", 0.1]\n'):
        written = write(tmp_path, LITTLE + text + searched)
        (choice,) = tune(written, out=tmp_path / "runs", write=tmp_path / "tuned.toml")
        assert [trial["state"] for trial in choice.trials] == ["done"] * 3
        suite = Suite.read(tmp_path / "tuned.toml")
        configurations = [as_experiment(request).configuration() for request in suite.requests]
        assert Choice.read(suite.tuned[0]) == choice
        assert {choice.tuned(configuration) for configuration in configurations} >= {"yes"}
        assert None not in {choice.tuned(configuration) for configuration in configurations}


def test_trials_of_other_runs_are_not_taken_for_a_studys_own(tmp_path):
    text = LITTLE + 'protocol = "seeds:1"\nsearch = "grid"\n[methods.online]\nlr = [0.05, 0.1]\n[run]\n'
    once, twice = tune(write(tmp_path, text + "epochs = [1, 2]"), out=tmp_path / "runs")
    (wider,) = tune(write(tmp_path, text + "hiddens = 20"), out=tmp_path / "runs")
    gradients = [[trial["gradients"] for trial in one.trials] for one in (once, twice, wider)]
    assert gradients == [[90] * 3, [180] * 3, [90] * 3]
    assert not {key for trial in once.trials for key in trial["runs"]} & {
        key for trial in wider.trials for key in trial["runs"]
    }


def test_a_trial_that_diverges_is_a_bad_one_and_no_end(tmp_path):
    text = 'protocol = "seeds:1"\nsearch = "grid"\n[methods.online]\nlr = [1e20, 0.05]\n'
    (choice,) = tune(write(tmp_path, LITTLE + text), out=tmp_path / "runs")
    assert [trial["state"] for trial in choice.trials] == ["done", "failed", "done"]
    assert "the loss is not finite" in choice.trials[1]["message"]
    assert choice.best["settings"]["lr"] == 0.05
    with pytest.raises(BadInput, match="no trial of online on digits-rotations has a score: the loss is not finite"):
        assert replace(choice, trials=choice.trials[1:2]).best


def test_a_hopeless_trial_is_given_up(tmp_path):
    pytest.importorskip("optuna")
    text = 'protocol = "seeds:2"\nsearch = "tpe"\ntrials = 12\n'
    text += "[methods.online]\nlr = { low = 1e-6, high = 0.3, log = true }\n"
    (choice,) = tune(write(tmp_path, LITTLE + text), out=tmp_path / "runs")
    pruned = [trial for trial in choice.trials if trial["state"] == "pruned"]
    assert pruned
    assert all(trial not in pruned for trial in choice.trials[:5])  # Optuna's first ones, and the untuned one, end
    curves = [trial["curve"] for trial in choice.trials if trial["state"] == "done"]
    for trial in pruned:
        step = len(trial["curve"]) - 1
        assert trial["curve"][step] <= max(curve[step] for curve in curves)


def test_a_grid_has_every_combination_and_random_draws_stay_within_their_range():
    space = {"lr": LR, "size": Searched((5, 10), int), "steps": Searched(Range(1, 9, "linear"), int)}
    grid = Grid(space, 20)
    asked = [grid.ask(number) for number in range(1, grid.trials + 1)]
    assert len({tuple(one.values()) for one in asked}) == grid.trials == 18
    assert {one["lr"] for one in asked} == {0.001, 0.0316, 1.0}
    drawn = [Random(space, 30).ask(number) for number in range(1, 200)]
    assert all(1e-3 <= one["lr"] <= 1 and type(one["steps"]) is int for one in drawn)
    below = sum(one["lr"] < 0.0316 for one in drawn) / len(drawn)
    assert 0.4 < below < 0.6  # each order of magnitude as likely
    assert {one["steps"] for one in drawn} == set(range(1, 10))


def reported(tmp_path, protocol, trials=""):
    text = f'methods = ["online"]\nprotocol = "{protocol}"\nsearch = "random"\ntrials = 2\n{trials}'
    (choice,) = tune(write(tmp_path, LITTLE + text), out=tmp_path / "runs", write=tmp_path / "tuned.toml")
    return choice, Suite.read(tmp_path / "tuned.toml")


@pytest.mark.parametrize("protocol", ["first-tasks:2", "validation:0.2", "seeds:1", "stream:digits-permutations"])
def test_what_was_looked_at_is_known_and_what_is_reported_was_not(protocol, tmp_path):
    choice, suite = reported(tmp_path, protocol)
    found = load(tmp_path / "runs")
    tuned = [group for group in found.groups if group.settings["lr"] != 0.001]
    assert tuned
    assert all(group.looked_at == group.seeds for group in tuned)
    configurations = [as_experiment(request).configuration() for request in suite.requests]
    assert not any(choice.looked_at(configuration) for configuration in configurations)
    assert {choice.tuned(configuration) for configuration in configurations} <= {"yes", "no"}


def test_no_difference_is_established_on_what_settings_were_chosen_on(tmp_path):
    out = tmp_path / "runs"
    choice, _ = reported(tmp_path, "seeds:7")
    lr = choice.best["settings"]["lr"]
    for seed in range(1000, 1007):
        driver.execute(  # as an own method that wins everywhere would be run on the same seeds
            [Request("digits-rotations", "eralg4", {}, {"tasks": 3, "samples_per_task": 30}, {"seed": seed})],
            out, report=lambda progress: None, note=print, source=None,
        )  # fmt: skip
    contents = load(out)
    selections = [Selection.read(f"online:lr={lr}"), Selection.read("eralg4")]
    found = compare.sections(contents.groups, selections)
    assert compare.judge([pair for one in found for _, pair in one.pairs], "retained_accuracy") == {}
    (row,) = compare.differences(found[0], {}, "retained_accuracy").rows
    assert row.cells[-1] == "cannot be compared: settings were chosen on these runs"
    (answer,) = next(iter(tables.answers(contents).values()))
    assert answer.table.notes[-1].startswith("Settings were chosen on these runs, which no comparison counts")
    rows = {row.cells[0]: row.cells[3] for row in answer.table.rows if "tuned=yes" in str(row.cells[0])}
    assert set(rows.values()) == {"settings chosen on these"}


def test_a_suite_whose_account_of_the_choice_was_changed_is_refused(tmp_path):
    choice, suite = reported(tmp_path, "seeds:1")
    told = json.loads(json.dumps(suite.tuned[0]))
    told["trials"][1]["score"] = 0.99
    with pytest.raises(BadInput, match="was changed since"):
        Choice.read(told)
    with pytest.raises(BadInput, match="was changed since"):
        Choice.read({name: value for name, value in suite.tuned[0].items() if name != "sha256"})
    assert choices.table(choice).rows[0].cells[:3] == ("lr", "0.0001 to 1 (log)", 0.001)


@pytest.mark.parametrize(
    "changed",
    [{"metric": "luck"}, {"space": {"lr": [1, "a", "log"]}}, {"trials": [{"state": "done", "settings": {}}]},
     {"trials": [{"state": "done", "settings": {}, "score": "1", "curve": [], "runs": []}]}, {"fixed": 1},
     {"trials": [{"state": "running", "settings": {"lr": 1}, "curve": 1, "runs": []}]}],
)  # fmt: skip
def test_an_account_of_a_choice_that_is_none_is_refused_in_words(changed, tmp_path):
    choice, _ = reported(tmp_path, "seeds:1")
    replace(choice, **changed).save(tmp_path / "others")
    with pytest.raises(BadInput, match="cannot be read"):
        choices.load(tmp_path / "others")


def test_the_command_writes_a_suite_that_brings_the_account_of_the_choice(here, capsys):
    text = 'methods = ["online"]\nprotocol = "seeds:1"\nsearch = "random"\ntrials = 2\n'
    write(here, LITTLE.replace("6", "2") + text)
    assert main(["tune", "study.toml", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "online on digits-rotations, by seeds:1" in printed
    assert "to report them: metareplay suite tuned.toml" in printed
    assert main(["suite", "tuned.toml", "--quiet"]) == 0
    contents = load(here / "runs")
    assert len(contents.choices) == 1
    assert {group.tuned: group.looked_at for group in contents.groups} == {"yes": (), "no": ()}
    if importlib.util.find_spec("vl_convert"):
        from metareplay.results.page import page

        shown = page(contents)
        assert "How settings were chosen" in shown
        assert "random search, 3 trials (3 done)" in shown
    assert main(["tune", "study.toml", "--trials", "3"]) == 2


def two(folder, most, compare='["eralg4", "online"]'):
    text = f"seeds = 2\ncompare = {compare}\n[methods.online]\n[methods.eralg4]\nmemories = 30\n[methods.ewc]\n"
    (folder / "two.toml").write_text(LITTLE.replace("seeds = 6\n", "") + text)
    return main(["suite", str(folder / "two.toml"), "--quiet", "--until", "established", "--most", str(most)])


def test_seeds_are_added_to_what_is_compared_until_it_is_decided(here, capsys, backend):
    assert two(here, 16) == 0
    # 2, 3, 5 and 8 seeds: with 8, p can be 0.0078, and half of 0.05 may be spent there.
    assert "eralg4 − online: established with 8 seeds (p 0.0078, level 0.025, looks: 1)" in capsys.readouterr().out
    groups = {group.method: group for group in load(here / "runs").groups}
    assert {name: group.seeds for name, group in groups.items()} == {
        "online": tuple(range(8)), "eralg4": tuple(range(8)), "ewc": (0, 1)
    }  # fmt: skip
    assert two(here, 16) == 0
    assert backend["backend"].started == []
    assert main(["compare", "runs", "eralg4", "online", "ewc"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"eralg4 − online +8 .*  established, by looks", printed)
    assert re.search(r"online − ewc: to establish a difference of this size takes (about|more than) \d+ ", printed)


def test_where_the_limit_is_too_low_nothing_is_decided_and_what_is_wrong_is_told(here, capsys):
    assert two(here, 6) == 0  # 6 seeds reach 0.0313
    assert "established with 6 seeds (p 0.031, level 0.05" in capsys.readouterr().out
    assert two(here, 6, "[]") == 2
    assert 'needs to know what: compare = ["meralg1", "eralg4"]' in capsys.readouterr().err
    ran = len(find(here / "runs"))
    for compare_, told in (
        ('["online", "eralg5"]', "compare[1] is 'eralg5', but what runs is eralg4, ewc, online; did you mean eralg4?"),
        ('["online", "ewc:lr=7"]', "there is no run of ewc:lr=7; there are ewc:lr="),
    ):
        assert two(here, 6, compare_) == 2
        assert told in capsys.readouterr().err
    for methods, told in (
        ('compare = ["eralg4", "mir"]', "no two of these methods were run on the same problem"),
        ('compare = ["online", "eralg4", "mir:memories=50"]', "compare names eralg4 and mir:memories=50, which run on"),
        ('compare = ["eralg4", "gss"]', "several settings on digits-rotations: choose one of gss:lr=0.1, gss:lr=0.2"),
    ):
        sizes = "[methods]\nonline = {}\neralg4 = { memories = 30 }\nmir = { memories = [50, 20] }\n"
        (here / "two.toml").write_text(LITTLE + methods + "\n" + sizes + "gss = { memories = 30, lr = [0.1, 0.2] }\n")
        assert main(["suite", "two.toml", "--until", "established"]) == 2
        assert told in capsys.readouterr().err
    assert len(find(here / "runs")) == ran
    assert main(["suite", "two.toml", "--until", "sure"]) == 2


def test_what_was_spent_on_looks_stays_spent_whatever_is_asked_for_next(here, capsys, backend):
    open_pair = '["online", "ewc"]'
    assert two(here, 6, open_pair) == 0
    assert "online − ewc: not established with 6 seeds" in capsys.readouterr().out
    looks = [path.read_text() for path in (here / "runs" / "looks").iterdir()]
    for most, compare_ in ((6, open_pair), (12, open_pair), (12, '["ewc", "online", "eralg4"]')):
        assert two(here, most, compare_) == 0
        assert re.search(r"(online − ewc|ewc − online): not established with 6 seeds", capsys.readouterr().out)
    assert looks[0] in [path.read_text() for path in (here / "runs" / "looks").iterdir()]
    assert {group.method: len(group.seeds) for group in load(here / "runs").groups}["eralg4"] > 6
    assert main(["compare", "runs", "eralg4", "online", "--metric", "learning_accuracy"]) == 0  # looks were at another
    assert re.search(r"eralg4 − online +\d+ .*  not established, by looks", capsys.readouterr().out)


def test_more_seeds_than_the_limit_are_looked_at_all_the_same(here, capsys):
    two(here, 6)
    assert main(["suite", "two.toml", "--quiet", "--seeds", "8", "--until", "established", "--most", "7"]) == 0
    assert "established with" in capsys.readouterr().out
    (here / "runs" / "looks" / "0.json").write_text("[" * 100_000)
    with pytest.raises(BadInput, match=r"0\.json cannot be read"):
        load(here / "runs")


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("meralg1", {"memories": 50, "replay_batch_size": 10, "batches_per_example": 5}),
        ("meralg1", {"memories": 200, "replay_batch_size": 100, "batches_per_example": 10}),
        ("derpp", {"memories": 50}),
        ("gem", {"memories": 30}),
        ("eralg4", {"memories": 20, "replay_batch_size": 1}),
    ],
)
def test_a_control_takes_as_many_gradients(method, settings):
    request = Request("digits-rotations", method, settings, {"tasks": 3, "samples_per_task": 60}, {"seed": 3})
    record = metareplay.Trainer(request.experiment()).train()
    control = controls.matched(request, record.configuration["hyperparameters"], record.gradients or 0, 180)
    assert (control.settings["memories"], control.stream) == (settings["memories"], request.stream)
    made = metareplay.Trainer(control.experiment()).train()
    assert made.gradients == pytest.approx(record.gradients, rel=0.1)


def test_a_suite_makes_controls_tunes_them_and_compare_puts_them_beside(here, capsys):
    text = 'controls = ["er-matched"]\n[methods.meralg1]\nmemories = 30\n[methods.online]\n'
    (here / "suite.toml").write_text(LITTLE + text)
    assert main(["suite", "suite.toml", "--quiet"]) == 0
    groups = {group.method: group for group in load(here / "runs").groups}
    assert groups["er-matched"].seeds == groups["meralg1"].seeds == groups["online"].seeds
    (choice,) = choices.load(here / "runs")
    assert (choice.search, choice.protocol, len(choice.trials)) == ("grid", "seeds:1", 10)
    assert choice.best["settings"] == {"lr": groups["er-matched"].settings["lr"]}
    capsys.readouterr()
    assert main(["compare", "runs", "meralg1", "online", "--matched", "gradients"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"^er-matched as meralg1 +6 ", shown.out, re.MULTILINE)
    assert "meralg1 − er-matched as meralg1" in shown.out
    assert "online − er-matched" not in shown.out
    assert shown.err == ""  # a method without memories has no control
    assert main(["compare", "runs", "meralg1", "--matched", "steps"]) == 2
    both = text.replace('"er-matched"]', '"er-matched", "er-matched:seconds"]\ncompare = ["meralg1", "er-matched"]')
    (here / "suite.toml").write_text(LITTLE + both)
    assert main(["suite", "suite.toml", "--until", "established"]) == 2
    assert "compare names er-matched, of which each method has its own" in capsys.readouterr().err
    (here / "suite.toml").write_text(LITTLE + text.replace("er-matched", "sgd"))
    assert main(["suite", "suite.toml"]) == 2
    assert "controls[0] is 'sgd', which is no control; the controls are er-matched, er-m" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.7, 3.0, 40.0])
def test_a_control_of_as_many_seconds_is_found_by_timing_it(share):
    """However many gradients its method takes, and though its time does not begin at zero."""
    request = Request("digits-rotations", "derpp", {"memories": 50}, {"tasks": 3, "samples_per_task": 60})
    experiment, asked = request.experiment(), list[Request]()

    def seconds(control):
        steps, size = (control.settings[name] for name in ("batches_per_example", "replay_batch_size"))
        return 180 * (1e-5 + steps * 3e-5 + steps * (1 + size) * 3e-6)

    def timed(requests):
        asked.extend(requests)
        return [seconds(one) for one in requests]

    plain = 180 * (1e-5 + 3e-5 + 11 * 3e-6)
    run = request, experiment, {"gradients": 3000, "train_seconds": share * plain}
    (control,) = controls._of_cost([[run]], "seconds", timed)
    assert seconds(control) == pytest.approx(share * plain, rel=0.1)
    assert len(asked) == controls.TIMED


def test_a_configuration_has_one_control_though_its_cost_varies_with_the_seed(tmp_path):
    requests = [
        Request("digits-rotations", "ergap", {"memories": 20}, {"tasks": 2, "samples_per_task": 100}, {"seed": seed})
        for seed in range(3)
    ]
    driver.execute(requests, tmp_path, report=lambda progress: None, note=print)
    costs = [run.numbers["gradients"] for group in load(tmp_path).groups for run in group.runs]
    assert len(set(costs)) > 1
    first, *others = controls.controls(requests, tmp_path, [], ["er-matched"], report=lambda progress: None, note=print)
    assert [(one.settings, one.run["seed"]) for one in others] == [(first.settings, 1), (first.settings, 2)]
    made = metareplay.Trainer(first.experiment()).train()
    assert made.gradients == pytest.approx(sum(costs) / len(costs), rel=0.1)


def test_a_suite_that_is_stopped_makes_no_controls_and_goes_on(here, capsys, backend):
    text = 'controls = ["er-matched:seconds"]\n[methods.meralg1]\nmemories = 30\n'
    (here / "suite.toml").write_text(LITTLE.replace("6", "2") + text)
    backend["most"] = 1
    assert main(["suite", "suite.toml", "--quiet"]) == 130
    assert "stopped: 1 of 2 runs are done" in capsys.readouterr().err
    assert not Path("runs/tuning").exists()
    backend["most"] = 5  # in each of its parts
    assert main(["suite", "suite.toml", "--quiet"]) == 130  # while the control's rate is chosen
    backend["most"] = 10_000
    assert main(["suite", "suite.toml", "--quiet"]) == 0
    assert {group.method for group in load(Path("runs")).groups} == {"meralg1", "er-matched"}
