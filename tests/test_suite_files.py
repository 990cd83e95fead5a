"""Suite files: what they ask for, what is wrong with them and where, and what their runs will cost."""

import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from commands import PATIENT
from metareplay.errors import BadInput
from metareplay.methods import METHODS
from metareplay.runs import recipes
from metareplay.runs.display import in_words
from metareplay.runs.experiment import Experiment
from metareplay.runs.request import Request
from metareplay.runs.trainer import Trainer
from metareplay.streams.catalogue import benchmark
from metareplay.suites.plan import Pace, name, plan, steps_of
from metareplay.suites.reader import line_of
from metareplay.suites.suite import Suite
from test_methods import PUBLISHED as PUBLISHED_METHODS

DOCS = Path(__file__).parents[1] / "docs" / "suites.md"

SMALL = 'benchmarks = [{ name = "digits-rotations", tasks = 2, samples_per_task = 30 }]\n'


def read(folder, text, seeds=None):
    file = folder / "study.toml"
    file.write_text(text, encoding="utf-8")
    return Suite.read(file, seeds)


def asked(suite):
    return [(r.benchmark, r.method, dict(r.stream), dict(r.settings), dict(r.run)) for r in suite.requests]


ODD = '''name = "a # [b] = 'c'"  # a comment = [
seeds = [0,
   1,  # two, three
   2
]
benchmarks = [
  "digits-rotations",
  { name = "digits-permutations", tasks = [1,
      2], "q.r" = 1.5e-3 },
]
when = 1979-05-27 07:32:00
[methods.online]
[methods."my file.py:A"]
lr = [0.1, 0.3]
a.b = 3
[[methods.gem]]
memories = """one
= "two" [ """
[[methods.gem]]
memories = 2
[[exclude]]
method = \'gem\'
  [exclude.inside]
  z=1
[[exclude]]
method = ["gem",
"eralg4"]'''


def test_every_key_and_every_element_has_the_line_that_it_is_on():
    for place, line in {
        ("seeds",): 2, ("seeds", 0): 2, ("seeds", 2): 4, ("benchmarks", 1, "tasks", 1): 9,
        ("benchmarks", 1, "q.r"): 9, ("when",): 11, ("methods",): 12, ("methods", "my file.py:A"): 13,
        ("methods", "my file.py:A", "lr", 1): 14, ("methods", "my file.py:A", "a", "b"): 15, ("methods", "gem"): 16,
        ("methods", "gem", 0, "memories"): 17, ("methods", "gem", 1): 19, ("exclude", 0, "inside", "z"): 24,
        ("exclude", 1, "method", 1): 27,
    }.items():  # fmt: skip
        assert line_of(ODD, place) == line, place
        assert line_of(ODD, (*place, "other")) == line, place
    assert line_of(ODD, ("other",)) == 0
    assert all(line_of(ODD, place) for place in places(tomllib.loads(ODD)))


def places(value, above=()):
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*above, key)
        yield from places(each, (*above, key))


def test_a_suite_is_the_product_of_benchmarks_methods_settings_and_seeds(tmp_path):
    suite = read(
        tmp_path,
        """
        name = "a product"
        seeds = 2
        benchmarks = ["digits-permutations", { name = "digits-rotations", tasks = [2, 3] }]
        [methods.online]
        [methods.meralg1]
        memories = [200, 500]
        beta = [0.03, 0.1]
        """,
    )
    assert suite.name == "a product"
    assert len(suite.requests) == 3 * (1 + 4) * 2
    assert asked(suite)[1] == ("digits-permutations", "meralg1", {}, {"memories": 200, "beta": 0.03}, {"seed": 0})
    last = ("digits-rotations", "meralg1", {"tasks": 3}, {"memories": 500, "beta": 0.1}, {"seed": 1})
    assert asked(suite)[-1] == last


def test_seeds_come_one_after_another_those_of_the_command_line_first_and_without_any_there_is_one(tmp_path):
    suite = read(tmp_path, SMALL + 'seeds = [7, 3]\nmethods = ["online", "eralg4"]')
    order = [("online", 3), ("eralg4", 3), ("online", 7), ("eralg4", 7)]
    assert [(r.method, r.run["seed"]) for r in suite.requests] == order
    suite = read(tmp_path, SMALL + 'seeds = [7, 3]\nmethods = ["online"]', seeds=3)
    assert [r.run["seed"] for r in suite.requests] == [0, 1, 2]
    suite = read(tmp_path, 'benchmarks = "digits-rotations"\nmethods = "online"')
    assert suite.name == "study"
    assert asked(suite) == [("digits-rotations", "online", {}, {}, {"seed": 0})]


def test_options_of_runs_hold_for_all_a_benchmark_s_or_a_method_s_come_first(tmp_path):
    suite = read(
        tmp_path,
        """
        benchmarks = ["digits-permutations", { name = "digits-rotations", epochs = 2 }]
        [run]
        epochs = 3
        hiddens = [10, 20]
        [methods.online]
        [methods.eralg4]
        hiddens = 50
        """,
    )
    run = [(r.benchmark, r.method, r.run["epochs"], r.run["hiddens"]) for r in suite.requests]
    assert run == [
        ("digits-permutations", "online", 3, 10),
        ("digits-permutations", "online", 3, 20),
        ("digits-permutations", "eralg4", 3, 50),
        ("digits-rotations", "online", 2, 10),
        ("digits-rotations", "online", 2, 20),
        ("digits-rotations", "eralg4", 2, 50),
    ]


def test_two_grids_of_one_method_are_not_combined(tmp_path):
    text = "[[methods.gem]]\nmemories = 200\nmemory_strength = [0, 1]\n[[methods.gem]]\nmemories = 500\n"
    suite = read(tmp_path, SMALL + text)
    assert [dict(r.settings) for r in suite.requests] == [
        {"memories": 200, "memory_strength": 0.0},
        {"memories": 200, "memory_strength": 1.0},
        {"memories": 500},
    ]


EXCLUDED = """
benchmarks = ["digits-rotations", "digits-permutations"]
seeds = 2
[methods.online]
[methods.eralg4]
memories = [200, 500]
"""


@pytest.mark.parametrize(
    ("conditions", "left_out"),
    [
        ('method = "online"', 4),
        ('method = "eralg4"\nmemories = 500', 4),
        ("memories = [200, 500]", 8),
        ('benchmark = "digits-rotations"\nseed = 1', 3),
        ("lr = 0.1", 8),  # comes from the recipe
        ("batch_size = 1\nhiddens = 100\nseed = 0", 6),  # defaults
        ('benchmark = ["digits-rotations", "digits-permutations"]\nmethod = "online"\nseed = [1, 5]', 2),
    ],
)
def test_an_exclude_leaves_out_the_runs_that_have_all_that_it_says(conditions, left_out, tmp_path):
    every = read(tmp_path, EXCLUDED).requests
    assert len(every) == 12
    assert len(read(tmp_path, f"{EXCLUDED}\n[[exclude]]\n{conditions}").requests) == 12 - left_out


def test_an_include_adds_its_own_grid_with_its_own_seeds_and_is_not_excluded(tmp_path):
    suite = read(
        tmp_path,
        SMALL
        + """
        methods = ["online", "eralg4"]
        [[exclude]]
        method = "eralg4"
        [[include]]
        benchmark = ["digits-rotations", "digits-permutations"]
        method = "eralg4"
        tasks = 3
        memories = [50, 200]
        epochs = 2
        seeds = [5]
        """,
    )
    included = {"seed": 5, "epochs": 2}
    assert asked(suite)[1:] == [
        (name, "eralg4", {"tasks": 3}, {"memories": memories}, included)
        for name in ("digits-rotations", "digits-permutations")
        for memories in (50, 200)
    ]


def test_includes_alone_make_a_suite_and_what_is_asked_for_twice_is_run_once(tmp_path):
    suite = read(tmp_path, 'seeds = 2\n[[include]]\nbenchmark = "digits-rotations"\nmethod = "online"')
    assert len(suite.requests) == 2
    # Also where one says what the other takes from the recipe.
    text = "[[methods.eralg4]]\n[[methods.eralg4]]\nmemories = [500, 200]\nlr = 0.1\nreplay_batch_size = 10\n"
    suite = read(tmp_path, SMALL + text)
    assert len(suite.requests) == 2
    assert suite.notes == ("Of 3 runs that are asked for, only 2 differ: each of these runs once.",)


def test_settings_that_no_recipe_fits_are_noted_once(tmp_path):
    text = "seeds = 3\n[methods.eralg4]\nmemories = [50, 200]\n[methods.mir]\nmemories = [50, 70]"
    known = "digits-rotations with {} memories: those for 200 memories are used."
    assert read(tmp_path, SMALL + text).notes == (
        f"There are no settings for eralg4, mir on {known.format(50)}",
        f"There are no settings for mir on {known.format(70)}",
    )


def test_a_method_of_one_s_own_is_found_from_the_suite_s_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.py").write_text(PATIENT)
    monkeypatch.chdir(tmp_path / "elsewhere")
    suite = read(
        tmp_path, SMALL + '[methods."mine.py:Patient"]\ntimes = [1, 3]\n[[exclude]]\nmethod="mine.py:Patient"\ntimes=1'
    )
    (request,) = suite.requests
    assert request.method == f"{tmp_path / 'mine.py'}:Patient"
    assert request.settings == {"times": 3}
    assert request.experiment().method.times == 3


def test_data_of_one_s_own_are_found_from_the_suite_s_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine").mkdir()
    x, y = np.zeros((6, 4), np.float32), np.arange(6) % 2
    for task in range(2):
        np.savez(tmp_path / "mine" / f"task{task}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(tmp_path / "elsewhere")
    suite = read(tmp_path, 'benchmarks = [{ name = "mine", samples_per_task = [4, 0] }]\nmethods = ["online"]')
    assert [request.benchmark for request in suite.requests] == [str(tmp_path / "mine")] * 2
    assert [planned.steps for planned in plan(suite.requests, tmp_path / "runs")] == [8, 12]
    assert name(suite.requests[0]) == "mine, online, samples_per_task 4, seed 0"


def test_a_network_of_one_s_own_is_found_from_the_suite_s_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "net.py").write_text(
        "import torch\n\n\ndef linear(shape, classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    suite = read(tmp_path, SMALL + 'methods = ["online"]\n[run]\nnetwork = ["mlp", "net.py:linear"]')
    assert [request.run["network"] for request in suite.requests] == ["mlp", f"{tmp_path / 'net.py'}:linear"]
    assert [planned.seconds is None for planned in plan(suite.requests, tmp_path / "runs")] == [False, True]


HEAD = 'benchmarks = ["digits-rotations"]\n'


MISTAKES = [
    tuple(block.rsplit("=> ", 1))
    for block in (Path(__file__).with_name("suite_mistakes.txt").read_text(encoding="utf-8").strip().split("\n\n")[1:])
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_place(text, told, tmp_path):
    with pytest.raises(BadInput) as error:
        read(tmp_path, text)
    message = str(error.value)
    assert "study.toml" in message
    assert told in message
    assert "\n" not in message
    assert "--" not in message  # a file has no flags


def test_all_mistakes_are_told_together_in_the_order_of_their_lines(tmp_path):
    text = """
        seeds = 0
        benchmarks = ["digits-rotations", "none"]
        [run]
        epoch = 3
        [methods.meralg1]
        beta = [0.1, 3.0]
        gama = 1
        [methods.nothing]
    """
    with pytest.raises(BadInput) as error:
        read(tmp_path, text)
    first, *others = str(error.value).splitlines()
    assert first.endswith("study.toml has 6 mistakes; nothing was run:")
    places = "seeds benchmarks[1] run.epoch methods.meralg1.beta[1] methods.meralg1.gama methods.nothing"
    assert [line.split()[2] for line in others] == places.split()
    assert [int(line.split()[1].rstrip(":")) for line in others] == [2, 3, 5, 7, 8, 9]


def test_a_suite_that_cannot_be_read_gets_one_line_and_a_pipe_is_not_waited_for(tmp_path):
    with pytest.raises(BadInput, match="there is no suite 'mer-papers'; did you mean mer-paper"):
        Suite.read("mer-papers")
    with pytest.raises(BadInput, match=r"none\.toml cannot be read: No such file"):
        Suite.read(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(BadInput, match=r"is not text in UTF-8 \(byte 8\): save it as UTF-8"):
        Suite.read(tmp_path / "bytes.toml")
    os.mkfifo(tmp_path / "suite.toml")
    with pytest.raises(BadInput, match=r"suite\.toml cannot be read: it is a pipe"):
        Suite.read(tmp_path / "suite.toml")


BENCHMARK_AND_METHOD = HEAD + 'methods = ["online"]\n'


def test_a_suite_written_by_an_editor_of_windows_is_read(tmp_path):
    content = b"\xef\xbb\xbf" + BENCHMARK_AND_METHOD.replace("\n", "\r\n").encode()
    (tmp_path / "study.toml").write_bytes(content)
    assert len(Suite.read(tmp_path / "study.toml").requests) == 1


def grid(values):
    wholes, shares = list(range(1, values + 1)), [(i + 1) / 100 for i in range(values)]
    names = dict.fromkeys(("memories", "replay_batch_size", "batches_per_example"), wholes)
    names |= {"lr": shares, "beta": shares}
    return HEAD + "[methods.meralg1]\n" + "\n".join(f"{name} = {each}" for name, each in names.items())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds = 99999999999999999999\n" + BENCHMARK_AND_METHOD, "line 1: seeds is a number of 67 bits, but TOML's"),
        (f"seeds = {'9' * 5000}\n" + BENCHMARK_AND_METHOD, "a number in it has thousands of digits"),
        (f"benchmarks = [{{ name = 'digits-rotations', tasks = {10**9} }}]\nmethods = 'online'", "is 1000000000, but"),
        (BENCHMARK_AND_METHOD + f"x = {'[' * 10000}{']' * 10000}", "its brackets are nested too deep"),
        ("seeds = 3_000_000\n" + BENCHMARK_AND_METHOD, "methods[0] asks for 3000000 runs, 1 for each of 3000000"),
        (grid(40), "meralg1 asks for 102400000 runs, 102400000 for each of 1 seeds; a suite may have 100000"),
    ],
    ids=lambda text: text[:20],
)
def test_absurd_numbers_are_refused_at_once(text, told, tmp_path):
    with pytest.raises(BadInput) as error:
        read(tmp_path, text)
    assert told in str(error.value)
    assert len(str(error.value)) < 6000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "benchmarks = [{ name = 'mnist-rotations', min_angle = 9, max_angle = 3 }]\nmethods = 'ewc'",
            "min_angle is 9.0",
        ),
        ("benchmarks = 'mnist-permutations'\n[methods.independent]\nhiddens = 19", "independent shares"),
        (
            "benchmarks = 'mnist-rotations'\nmethods = 'ewc'\nrun.scenario = 'task-incremental'",
            "scenario is 'task-incr",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_the_data_are_downloaded(text, told, tmp_path, data_folder):
    with pytest.raises(BadInput, match=told):
        read(tmp_path, text)


def test_the_suites_that_come_with_the_package_can_be_read():
    assert Suite.shipped() == ("digits", "mer-paper", "omniglot", "online-baselines", "plasticity")
    for suite in Suite.shipped():
        assert Suite.read(suite).requests


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"widths": "300,none"}, "widths is '300,none'"),
        ({"widths": "9" * 5000}, "widths is '9+"),
        ({"widths": "3,4", "layers": 2}, "hidden cannot be given"),
    ],
)
def test_widths_of_layers_are_whole_and_given_once(given, told):
    with pytest.raises(BadInput, match=told):
        Request("digits-rotations", "online", run=given).resolved()


def test_the_digits_suite_has_every_published_method_and_is_small(tmp_path):
    planned = plan(Suite.read("digits").requests, tmp_path)
    assert {each.request.method for each in planned} == set(PUBLISHED_METHODS)
    assert sum(each.seconds or 0 for each in planned) < 60


def published():
    requests = Suite.read("mer-paper", seeds=1).requests
    assert not any(request.stream or request.settings.keys() - {"memories"} for request in requests)
    return [[r.benchmark, r.method, recipes.settings(r.benchmark, r.method, r.memories)[0]] for r in requests]


def test_the_paper_s_suite_is_the_57_published_configurations():
    assert len(published()) == 57
    assert len(Suite.read("mer-paper").requests) == 9 * 57
    told = json.dumps(sorted(published(), key=json.dumps), sort_keys=True)
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "05e50402983b514a"


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_docs_suites_are_what_they_say(tmp_path):
    assert len(read(tmp_path, examples("toml")[0]).requests) == 40
    (shown,) = (text for text in examples("toml") if "as published" in text)
    assert asked(read(tmp_path, shown)) == asked(Suite.read("mer-paper"))


SETTINGS = {
    "meralg1": {"batches_per_example": 3, "replay_batch_size": 4, "memories": 20},
    "meralg6": {"batches_per_example": 2, "replay_batch_size": 30, "memories": 20},
    "meralg7": {"replay_batch_size": 5, "memories": 3},
}


@pytest.mark.parametrize("method", METHODS)
def test_the_steps_that_are_counted_before_are_those_that_are_taken(method):
    stream = {"tasks": 3, "samples_per_task": 25}
    for run in ({}, {"batch_size": 7, "epochs": 2}, {"order": "iid", "batch_size": 4}):
        run = run | {"evaluate": "never"}
        experiment = Request("digits-rotations", method, SETTINGS.get(method, {}), stream, run).experiment()
        counted = steps_of(experiment)
        # How often ergap replays depends on what it meets; what gdumb learns, on when it is tested.
        assert counted is None if method in ("ergap", "gdumb") else counted == Trainer(experiment).train().steps


def summary(experiment, seconds):
    count = steps_of(experiment)
    return {"configuration": experiment.configuration(), "train_seconds": seconds, "eval_seconds": 0.0, "steps": count}


def test_times_are_those_of_the_same_configuration_then_of_the_same_method_and_have_words():
    stream = benchmark("digits-rotations", tasks=3, samples_per_task=100)
    first, again, longer = (
        Experiment(stream=stream, method=METHODS["online"](), seed=seed, epochs=epochs)
        for seed, epochs in ((0, 1), (1, 1), (0, 10))
    )
    pace = Pace([summary(first, 40.0)])
    assert pace.seconds(again) == 40.0
    assert pace.seconds(longer) == pytest.approx(400.0)  # ten times the steps
    other = Experiment(stream=stream, method=METHODS["taskinput"](), evaluate="never")
    assert pace.seconds(other) == Pace().seconds(other) == pytest.approx(300 * 2.5e-6, rel=0.5)
    said = {0.1: "1 s", 40: "40 s", 89: "89 s", 91: "2 min", 700: "12 min", 12_000: "3 h 20 min"}
    assert {seconds: in_words(seconds) for seconds in said} == said
