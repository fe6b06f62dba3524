"""Intervals and p-values against the formulas and against scipy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from lightning_transfer.comparison.statistics import mcnemar, wilson


@given(st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_is_the_formula(counts):
    correct, total = counts
    z, share = norm.ppf(0.975), correct / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    assert wilson(correct, total) == pytest.approx((max(middle - half, 0), min(middle + half, 1)), abs=1e-9)


def test_wilson_is_scipys():
    interval = binomtest(937, 1000).proportion_ci(0.95, "wilson")
    assert wilson(937, 1000) == (interval.low, interval.high)


def vectors(only_one, only_other, both=50, neither=7):
    one = [True] * only_one + [False] * only_other + [True] * both + [False] * neither
    other = [False] * only_one + [True] * only_other + [True] * both + [False] * neither
    return one, other


@pytest.mark.parametrize(("only_one", "only_other"), [(10, 2), (3, 9), (30, 30), (0, 5), (1, 0)])
def test_mcnemar_is_twice_the_smaller_tail(only_one, only_other):
    found = mcnemar(*vectors(only_one, only_other))
    apart = only_one + only_other
    tail = binom.cdf(min(only_one, only_other), apart, 0.5)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.p_value == pytest.approx(binomtest(only_one, apart, 0.5).pvalue)
    assert (found.only_one, found.only_other) == (only_one, only_other)
    assert found.difference == pytest.approx((only_one - only_other) / (apart + 57))


def test_two_that_agree_do_not_differ():
    assert mcnemar([True, False], [True, False]).p_value == 1.0
