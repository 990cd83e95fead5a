"""What the page on a method of one's own shows is what happens; and `metareplay check` says what is wrong."""

import re
import runpy
from pathlib import Path

import pytest

from metareplay import methods
from metareplay.cli import main
from metareplay.runs import conformance

PAGE = Path(__file__).parents[1] / "docs" / "own-method.md"


@pytest.fixture(autouse=True)
def _files_of_the_page(tmp_path, monkeypatch):
    """Every block of the page that begins with a file's name, as that file."""
    monkeypatch.chdir(tmp_path)
    for language, block in re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        name = block.splitlines()[0].removeprefix("# ")
        assert name.endswith({"python": ".py", "toml": ".toml"}[language])
        Path(name).write_text(block)


OF_THE_PAGE = ["plain.py:Plain", "replay.py:Replay", "derpp.py:DERPP", "si.py:SI", "balanced.py:BalancedER"]


@pytest.mark.parametrize("method", OF_THE_PAGE)
def test_the_methods_of_the_page_pass_every_check(method, capsys):
    assert main(["check", method]) == 0
    shown = capsys.readouterr().out
    assert "0 fail" in shown
    assert shown.count("✓") >= len(conformance.CHECKS) - 6
    assert re.search(r"✓ Saved and loaded on the way.*\n✓ On PyTorch it learns", shown)


def test_settings_of_a_checked_method_are_flags():
    assert main(["check", "balanced.py:BalancedER", "--memories", "3"]) == 0


def test_dark_experience_replay_holds_scores_and_synaptic_intelligence_parameters():
    from metareplay import Online, benchmark, run

    def retained(method, **settings):
        made = Online(**settings) if method == "online" else methods.find(method)(**settings)
        return run(stream, made, hidden=(40,)).metrics["retained_accuracy"]

    stream = benchmark("digits-rotations", tasks=5)
    online = retained("online", lr=0.03)
    assert retained("derpp.py:DERPP") > online + 0.2
    assert retained("si.py:SI") > online + 0.1


def test_the_balanced_memory_holds_rare_classes():
    runpy.run_path("imbalanced.py")
    from metareplay import Experiment, Trainer, benchmark

    method = methods.find("balanced.py:BalancedER")(memories=40)
    life = Trainer(Experiment(stream=benchmark("imbalanced"), method=method, hidden=(20,)))
    life.train()
    held = [list(life.learner.labels[1:]).count(label) for label in range(10)]
    assert sum(held) == 40
    assert max(held) - min(held) <= 1


WRONG = '''\
import numpy as np
import metareplay

class Forgetful(metareplay.Method):
    """One step on each batch, in an order that nobody can repeat."""

    lr: float = metareplay.setting(0.01, "(0, inf)", help="the learning rate of every SGD step")

    def observe(self, rows):
        if np.random.default_rng().random() < 0.5:
            self.learner.sgd(rows, self.lr)
'''


def test_a_method_that_breaks_a_rule_hears_which_and_the_status_is_1(capsys):
    Path("wrong.py").write_text(WRONG)
    assert main(["check", "wrong.py:Forgetful"]) == 1
    shown = capsys.readouterr()
    assert "✗ The same seed gives the same result, bit for bit." in shown.out
    assert re.search(r"wrong\.py:Forgetful fails \d+ of 24 checks", shown.err)


def test_what_was_found_is_shown_before_the_next_check_begins(monkeypatch, capsys):
    def check_that_never_ends(method):
        """It ends."""
        raise KeyboardInterrupt

    monkeypatch.setattr(conformance, "CHECKS", (conformance.CHECKS[0], check_that_never_ends))
    assert main(["check", "online"]) == 130
    assert "✓ Every setting has a meaning in words" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing.py:X"], "there is no such Python file"),
        (["balanced.py"], "must say which class"),
        (["erlag4"], "did you mean eralg4?"),
        (["eralg4", "--beta", "1"], "there is no flag --beta"),
        (["eralg4", "--lr", "-1"], "must lie in (0, inf)"),
        (["--lr", "1"], "there is no flag --lr"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(arguments, told, capsys):
    assert main(["check", *arguments]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
