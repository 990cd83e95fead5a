"""The numbers that are added as noise are normal, and each depends on nothing but its place and what was drawn."""

import numpy as np
import pytest
from scipy import stats

from metareplay.learners.normal import normal


def test_they_are_distributed_as_they_should_be():
    numbers = normal(np.random.default_rng(0), 400_000)
    assert stats.kstest(numbers, "norm").pvalue > 0.01
    assert stats.chisquare(np.histogram(stats.norm.cdf(numbers), 1000, (0, 1))[0]).pvalue > 0.01
    assert [stats.moment(numbers.astype(float), k) for k in (2, 3, 4)] == pytest.approx([1, 0, 3], abs=0.03)
    assert 4.2 < np.abs(numbers).max() < 5.3


@pytest.mark.parametrize("lag", [1, 2, 16, 256, 784])
def test_they_do_not_follow_from_one_another(lag):
    rng = np.random.default_rng(1)
    numbers, later = normal(rng, 200_000), normal(rng, 200_000)
    for one, other in ((numbers[:-lag], numbers[lag:]), (numbers[:-lag] ** 2, numbers[lag:] ** 2), (numbers, later)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))


def test_fewer_of_them_are_the_first_ones():
    many, few = (normal(np.random.default_rng(2), count) for count in (1001, 17))
    assert np.array_equal(few, many[:17])
