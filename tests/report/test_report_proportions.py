"""Wilson's interval and the exact McNemar test against scipy, tables computed by hand, and simulated nulls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from triptych.report.proportions import mcnemar, wilson


@given(st.integers(1, 5000), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_is_scipys(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    theirs = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_wilson_holds_the_share_and_stays_between_zero_and_one(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    # the other way round it is the mirror image
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_by_hand() -> None:
    # none of 10, z = 1.959964: the upper bound is z^2 / (n + z^2) = 3.841459 / 13.841459
    low, high = wilson(0, 10)
    assert low == 0
    assert high == pytest.approx(0.2775328)
    low, high = wilson(5, 10)
    # centre a half, half width z sqrt(.25 / 10 + z^2 / 400) / (1 + z^2 / 10)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(2 * 0.2634069, abs=1e-6)


def test_wilson_is_statsmodels() -> None:
    # statsmodels 0.15.0, proportion_confint(count, n, alpha, method="wilson")
    assert wilson(146, 160) == pytest.approx((0.858493682378104, 0.9471632066054043))
    assert wilson(3, 17, 0.9) == pytest.approx((0.07281446654706442, 0.36896697806902595))


def test_wilson_takes_the_mean_of_seeds() -> None:
    low, high = wilson(7.5, 10)
    assert wilson(7, 10).low < low < wilson(8, 10).low
    assert wilson(7, 10).high < high < wilson(8, 10).high


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5), (math.nan, 5)])
def test_wilson_of_no_share_is_refused(successes: float, n: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(successes, n)


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        # 2 * (1 + 6) / 2^6
        (1, 5, 2 * 7 / 64),
        # 2 / 2^5
        (5, 0, 2 / 32),
        # 2 * (1 + 10 + 45) / 2^10
        (8, 2, 112 / 1024),
        # 2 * (1 + 19 + 171 + 969 + 3,876) / 2^19; statsmodels 0.15.0 has 0.0192108154296875
        (15, 4, 2 * 5036 / 2**19),
    ],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, expected: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ(only_a: int, only_b: int) -> None:
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)
    theirs = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(theirs, rel=1e-9)


def test_mcnemar_of_many_rows_neither_overflows_nor_reaches_below_zero() -> None:
    assert 0 <= mcnemar(10_000, 100) < 1e-300
    assert mcnemar(50_000, 50_000) == 1


def test_mcnemar_finds_nothing_more_often_than_it_should_where_nothing_differs() -> None:
    """A discrete test holds its level: p <= x at most a share x of the time, and reaches near it."""
    random = np.random.default_rng(17)
    found = []
    for _ in range(3000):
        right = random.random((2, 120)) < 0.6
        found.append(mcnemar(int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())))
    p = np.array(found)
    for level in (0.01, 0.05, 0.1, 0.2, 0.5):
        # exact and two-sided: below the level, and not far below (about 58 rows differ)
        assert np.mean(p <= level) <= level + 3 * math.sqrt(level * (1 - level) / p.size)
        assert np.mean(p <= level) >= 0.5 * level
