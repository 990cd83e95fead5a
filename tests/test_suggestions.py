"""A word that is not known is answered with the name that was probably meant, wherever names are looked up."""

from pathlib import Path

import pytest

from metareplay import MER, METHODS, benchmark, run
from metareplay.cli import main
from metareplay.errors import BadInput
from metareplay.learners import engines
from metareplay.results.groups import groups
from metareplay.settings import nearest
from metareplay.streams.catalogue import BENCHMARKS

FILE = """
import metareplay

class Patient(metareplay.Method):
    def observe(self, rows):
        pass

def tracker(event):
    pass
"""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("run mnst online", "mnist-"),
        ("run digits-rotations MERALG1", "meralg1"),
        ("run digits-rotations mine.py:patient", "Patient"),
        ("run digits-rotations online --enigne torch", "--engine"),
        ("run digits-rotations online --engine Fused", "fused"),
        ("run digits-rotations online --scenario domain", "domain-incremental"),
        ("run digits-rotations online --order Gradul", "gradual"),
        ("run digits-rotations online --network MPL", "mlp"),
        ("run digits-rotations online --tracker tensorbord", "tensorboard"),
        ("run digits-rotations online --tracker mine.py:traker", "tracker"),
        ("data get mnst", "mnist"),
        ("data make Rotation", "rotations"),
        ("suite digts", "digits"),
        ("suite digits --executor Ray", "ray"),
        ("compare runs online fresh --metric retained", "retained_accuracy"),
        ("compare runs online --matched gradient", "gradients"),
        ("check MERALG1", "meralg1"),
        ("sute digits", "suite"),
    ],
)
def test_the_command_line_asks_whether_another_name_was_meant(words, meant, here, capsys):
    Path("mine.py").write_text(FILE)
    assert main(words.split()) == 2
    assert f"did you mean {meant}" in capsys.readouterr().err


def test_results_ask_it_too(here, capsys):
    for method in ("online", "fresh"):
        assert main(f"run digits-rotations {method} --tasks 2 --samples-per-task 20 --hiddens 5 --quiet".split()) == 0
    for words, meant in (("ONLINE fresh", "online"), ("online:hiden=1 fresh", "hidden")):
        capsys.readouterr()
        assert main(["compare", "runs", *words.split()]) == 2
        assert f"did you mean {meant}" in capsys.readouterr().err
    (group,) = groups([run(benchmark("digits-rotations", tasks=2, samples_per_task=20), MER(memories=5))])
    with pytest.raises(BadInput, match=r"no metric 'retained'; did you mean retained_accuracy\?"):
        group.values("retained")
    with pytest.raises(BadInput, match=r"did you mean fused\?"):
        engines.chosen("fusd", "cpu", "mlp")


def test_case_makes_no_difference_and_a_part_is_enough():
    assert nearest("MERALG1", METHODS) == "; did you mean meralg1?"
    assert "mnist" in nearest("mnst", BENCHMARKS)
    for name in (*METHODS, *BENCHMARKS):
        assert nearest(name.upper(), (*METHODS, *BENCHMARKS)) == f"; did you mean {name}?"
    assert nearest("zzzz", METHODS) == nearest("", METHODS) == ""
