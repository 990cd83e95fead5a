"""Settings: declared once, checked once; and the name that was probably meant."""

from dataclasses import dataclass

import pytest

from metareplay import METHODS, BadInput, setting
from metareplay.settings import Hyperparameter, Range, hyperparameters, nearest
from metareplay.streams.catalogue import BENCHMARKS


@dataclass
class Rule:
    kind: str = setting("sgd", ("sgd", "adamw"), help="the rule")
    decay: float | None = setting(None, "[0, 1)", help="the decay")
    steps: int = setting(3, "[1, inf)", help="the steps")


def rule(kind: str = setting("sgd", ("sgd", "adamw"), help="the rule"), other: int = 3) -> None: ...


def named(name: str) -> Hyperparameter:
    return next(parameter for parameter in hyperparameters(Rule) if parameter.name == name)


def test_a_function_declares_settings_as_a_dataclass_does():
    assert hyperparameters(rule) == hyperparameters(Rule)[:1]
    assert [parameter.range for parameter in hyperparameters(Rule)] == ["sgd, adamw", "[0, 1) or none", "[1, inf)"]


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [("kind", "adamw", "adamw"), ("decay", None, None), ("decay", "none", None), ("decay", 0, 0.0), ("steps", 7, 7)],
)
def test_what_fits_is_taken_as_its_type(name, given, read):
    assert named(name).check(given) == read
    assert type(named(name).check(given)) is type(read)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("kind", "ADAMW", r"kind is 'ADAMW', but must be one of sgd, adamw; did you mean adamw\?"),
        ("kind", 3, "kind is 3, but must be str"),
        ("decay", 1.0, r"must lie in \[0, 1\)"),
        pytest.param("decay", 10**5000, r"decay is inf", id="huge"),
        ("steps", None, "steps is None, but must be a whole number"),
        pytest.param("steps", -(10**5000), r"is a number of about 5000 digits, but must lie in \[1, inf\)", id="whole"),
        ("steps", "x" * 5000, r"^.{0,250}$"),
    ],
)
def test_what_does_not_fit_is_said_in_a_short_line(name, given, message):
    with pytest.raises(BadInput, match=message):
        named(name).check(given)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("MERALG1", "meralg1"),
        ("meralg", "meralg1"),
        ("mnst", "mnist-rotations"),
        ("mnist-rotation", "mnist-rotations"),
        ("rotations", "mnist-rotations"),
        ("mnist_permutations", "mnist-permutations"),
        ("zzzz", None),
        ("", None),
    ],
)
def test_the_name_that_was_probably_meant(word, meant):
    for name in (*METHODS, *BENCHMARKS):
        assert nearest(name.upper(), (*METHODS, *BENCHMARKS)) == f"; did you mean {name}?"
    assert nearest(word, ["meralg1", "online", "mnist-rotations", "mnist-permutations"]) == (
        f"; did you mean {meant}?" if meant else ""
    )


def test_where_a_search_looks_is_where_a_setting_may_be():
    for name, method in METHODS.items():
        for declared in hyperparameters(method):
            search = declared.search
            ends = search[:2] if isinstance(search, Range) else search
            assert [declared.check(end) for end in ends] == list(ends), f"{name}: {declared.name}"
            if isinstance(search, Range):
                assert search.low < search.high
                assert search.scale == "linear" or (search.scale == "log" and search.low > 0)
        found = {declared.name: declared.search for declared in hyperparameters(method)}
        assert found.get("lr", True), f"{name}: `metareplay tune` needs to know where to look for lr"
