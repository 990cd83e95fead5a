"""What a few seeds can tell, beside independent implementations and by hand."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from metareplay import BadInput
from metareplay.results import statistics
from metareplay.results.statistics import differences, estimate, holm, seeds_needed, sign_flip_test, smallest_p

NUMBERS = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 6))


def all_signs(given):
    """The p-value by its definition, in whole numbers so that nothing is rounded."""
    whole = [round(value * 10**6) for value in given]
    choices = itertools.product((1, -1), repeat=len(whole))
    sums = [abs(sum(s * w for s, w in zip(signs, whole, strict=True))) for signs in choices]
    return sum(total >= abs(sum(whole)) for total in sums) / len(sums)


def established(effect, n, tests, studies=300):
    rng = np.random.default_rng(7)
    return float(np.mean([sign_flip_test(effect + rng.standard_normal(n)) * tests <= 0.05 for _ in range(studies)]))


@pytest.mark.parametrize(("effect", "tests"), [(1.0, 1), (1.5, 6)])
def test_so_many_seeds_establish_a_difference_of_its_size_in_four_of_five_studies(effect, tests):
    sample = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    n = statistics.seeds_for(effect + sample / sample.std(ddof=1), tests)
    assert established(effect, n, tests) > 0.75
    assert established(effect, n - 2, tests) < 0.8


def test_how_many_seeds_is_not_known_of_one_or_of_none_that_differ_nor_beyond_a_hundred():
    assert [statistics.seeds_for(sample) for sample in ([0.1], [0.0, 0.0], [0.1, -0.1, 0.01])] == [None] * 3
    assert statistics.seeds_for([0.1, 0.1, 0.1]) == 6  # the least with which any can be established
    assert statistics.seeds_for([0.1, 0.1, 0.1], tests=500) == 15  # of five hundred


def looked_at(values, first, most, spend):
    """Whether any look establishes a difference, at the level of its own or, wrongly, always at 0.05."""
    n, spent = first, 0.0
    while True:
        level = statistics.spending(n, most, spent) if spend else 0.05
        if smallest_p(n) <= level:
            spent += level
            if sign_flip_test(values[:n]) <= level:
                return True
        if n == most:
            return False
        n = statistics.next_look(n, most)


def test_looking_often_establishes_what_is_not_there_in_one_of_twenty_studies_at_most():
    studies = np.random.default_rng(3).standard_normal((2000, 18))
    assert 0.01 < np.mean([looked_at(values, 6, 18, spend=True) for values in studies]) < 0.05 + 0.01
    assert np.mean([looked_at(values, 6, 18, spend=False) for values in studies]) > 0.07  # what it guards against
    assert sum(np.diff([0, *(statistics.spending(n, 18, 0) for n in (6, 9, 14, 18))])) == pytest.approx(0.05)


@settings(max_examples=50)
@given(st.lists(NUMBERS, min_size=2, max_size=12, unique=True))
def test_an_interval_is_students(values):
    ours = estimate(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    assert ours.mean == pytest.approx(np.mean(values))
    assert ours.ends == (pytest.approx(low), pytest.approx(high))
    assert ours.n == len(values)


def test_an_interval_by_hand_of_one_seed_and_of_equal_ones():
    # s = 1, t(0.975; 2) = 4.3027 from a printed table.
    assert estimate([1.0, 2.0, 3.0]).half_width == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    one = estimate([0.7])
    assert (one.mean, one.half_width, one.ends, one.n) == (0.7, None, (None, None), 1)
    assert estimate([0.5, 0.5, 0.5]).half_width == 0


# Of tenths, which no float holds exactly, sums differ in the last bits where they are equal: ties count as far enough.
TENTHS = st.lists(st.integers(-3, 3).map(lambda n: n / 10), min_size=1, max_size=12)


@settings(max_examples=200)
@given(st.lists(NUMBERS, min_size=1, max_size=10) | TENTHS)
def test_p_is_the_share_of_all_signs_that_come_as_far(values):
    assert sign_flip_test(values) == all_signs(values)


@settings(max_examples=50)
@given(st.lists(NUMBERS, min_size=1, max_size=16), st.sampled_from([-1.0, 1e-9, 1e9]), st.randoms())
def test_p_does_not_depend_on_order_scale_or_which_method_comes_first(values, scale, random):
    shuffled = [scale * value for value in values]
    random.shuffle(shuffled)
    assert sign_flip_test(shuffled) == sign_flip_test(values)


def test_no_differences_tell_nothing_and_thirty_pairs_are_counted_exactly():
    assert sign_flip_test([0.0, 0.0, 0.0, 0.0, 0.0, 0.0]) == 1
    assert sign_flip_test([0.1, -0.1]) == 1
    # All ones: the sum of n signs is binomial, so p is known.
    values = [1.0] * 21 + [-1.0] * 9
    assert sign_flip_test(values) == pytest.approx(2 * scipy.stats.binom.cdf(9, 30, 0.5), rel=1e-12)


@pytest.mark.slow
def test_thirty_six_pairs_are_counted_and_more_are_drawn():
    for n in (36, 37):
        values = [1.0] * (n - 14) + [-1.0] * 14
        exact = 2 * scipy.stats.binom.cdf(14, n, 0.5)
        assert sign_flip_test(values) == pytest.approx(exact, rel=1e-12 if n == 36 else 0.02)
        assert sign_flip_test(values) == sign_flip_test(values)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert [holm(p).tolist() for p in ([0.03], [], [0.9, 0.8, 1.0])] == [[0.03], [], [1, 1, 1]]


PS = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(PS, st.floats(0.001, 0.999))
def test_holm_rejects_what_stepping_down_rejects_between_no_correction_and_bonferronis(p, level):
    rejected = set()
    for rank, which in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[which] * (len(p) - rank) > level:
            break
        rejected.add(which)
    corrected = holm(p)
    assert set(np.flatnonzero(corrected <= level)) == rejected
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, len(p) * np.array(p))).all()


def test_five_seeds_cannot_establish_a_difference_and_six_can():
    five, six = differences([[0.1, 0.2, 0.1, 0.3, 0.2]]), differences([[0.1, 0.2, 0.1, 0.3, 0.2, 0.2]])
    assert (five[0].p, five[0].verdict) == (0.0625, "too few seeds to tell (needs at least 6)")
    assert (six[0].p, six[0].verdict) == (0.03125, "established")


@pytest.mark.parametrize(("tests", "seeds"), [(1, 6), (2, 7), (3, 7), (4, 8), (45, 11)])
def test_more_differences_need_more_seeds(tests, seeds):
    assert seeds_needed(tests) == seeds
    clear = [np.linspace(0.1, 0.2, seeds)] * tests
    assert {difference.verdict for difference in differences(clear)} == {"established"}
    fewer = differences([values[:-1] for values in clear])
    assert {difference.verdict for difference in fewer} == {f"too few seeds to tell (needs at least {seeds})"}


def test_seeds_enough_without_a_difference_establish_none_and_many_of_one_comparison_help_another():
    (one,) = differences([[0.1, -0.1, 0.2, -0.2, 0.1, -0.1, 0.0]])
    assert (one.established, one.verdict) == (False, "not established")
    assert differences([]) == []
    # The larger sample's p is below 0.025, so that the other's need not be doubled.
    many, six = differences([np.linspace(0.1, 0.2, 10), np.linspace(0.1, 0.2, 6)])
    assert (many.verdict, six.verdict) == ("established", "established")
    assert six.corrected == 0.03125


@pytest.mark.parametrize("bad", [[], [0.1, float("nan")], [float("inf")], [[0.1, 0.2]]])
def test_what_is_no_list_of_finite_numbers_or_no_probability_is_refused(bad):
    for statistic in (estimate, sign_flip_test, lambda values: differences([values])):
        with pytest.raises(BadInput, match="a statistic needs"):
            statistic(bad)
    for wrong in (1.1, -0.1, float("nan")):
        with pytest.raises(BadInput, match="between 0 and 1"):
            holm([wrong])
