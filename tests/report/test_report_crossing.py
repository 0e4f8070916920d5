"""Where two curves over labelled rows cross: by hand, and how often the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.report.crossing import Point, crossing, difference, estimate

BUDGETS = (16, 32, 64, 128, 256)
TRUE = 70


def flat(*levels: float, rows: int = 40, noise: float = 0.001, seeds: int = 3) -> list[Point]:
    """A curve with these levels and hardly any chance."""
    draws = np.random.default_rng(0)
    return [
        Point(budget, level + noise * draws.normal(size=(seeds, rows)))
        for budget, level in zip(BUDGETS, levels, strict=False)
    ]


def test_lines_cross_in_the_middle_of_the_logarithms() -> None:
    found = crossing(estimate(difference(flat(0.6, 0.6), flat(0.5, 0.7))))
    assert found.budget == pytest.approx(np.sqrt(16 * 32), rel=0.01)
    assert found.falls and found.times == 1 and found.sure
    assert found.low is not None and found.high is not None and found.low < found.budget < found.high


def test_never_and_before() -> None:
    for a, b in ((0.9, 0.5), (0.5, 0.9)):
        found = crossing(estimate(difference(flat(a, a, a), flat(b, b, b))))
        assert (found.budget, found.low, found.high, found.sure) == (None, None, None, True)


def test_identical_curves_cannot_be_told_apart() -> None:
    curve = flat(0.5, 0.6, 0.7, noise=0.1)
    assert not crossing(estimate(difference(curve, curve))).sure
    assert not crossing(estimate(difference(curve, flat(0.5, 0.6, 0.7, noise=0.1, seeds=2)))).sure


def test_an_interval_may_be_open() -> None:
    # clear with few rows, together from 64 on
    found = crossing(estimate(difference(flat(0.9, 0.7, 0.52, 0.5, noise=0.2), flat(0.5, 0.5, 0.5, 0.5, noise=0.2))))
    assert found.low is not None and found.high is None


def test_of_several_crossings_the_last_is_given() -> None:
    found = crossing(estimate(difference(flat(0.6, 0.4, 0.6, 0.4), flat(0.5, 0.5, 0.5, 0.5))))
    assert found.times == 3
    assert found.budget == pytest.approx(np.sqrt(64 * 128), rel=0.01)


def test_correlated_seeds_are_worth_fewer() -> None:
    alike = np.array([[0.0] * 3, [2.0] * 3, [1.0] * 3])
    assert estimate([Point(16, alike), Point(32, alike)]).seeds_df == pytest.approx(2)  # the same seeds' errors twice
    turned = np.array([[1.0] * 3, [1.0] * 3, [1.0] * 3])
    assert estimate([Point(16, alike), Point(32, turned)]).seeds_df == pytest.approx(4)


def test_the_variance_of_a_mean_by_hand() -> None:
    # rows alike, seeds 0 and 2: variance between seeds 2, of their mean 1
    curve = estimate([Point(16, np.array([[0.0, 0.0], [2.0, 2.0]]))])
    assert curve.by_rows.tolist() == [[0.0]]
    assert curve.by_seeds.tolist() == [[pytest.approx(1.0)]]
    assert curve.seeds_df == 1
    value, half = curve.at(np.eye(1))
    assert value.tolist() == [1.0]
    assert half.tolist() == [pytest.approx(12.706, rel=1e-3)]  # t of one degree of freedom


def test_the_variance_of_seeds_is_pooled_over_budgets() -> None:
    one = np.array([[0.0] * 3, [2.0] * 3])
    curve = estimate([Point(16, one), Point(32, one * 0)])
    assert np.diag(curve.by_seeds).tolist() == [pytest.approx(0.5), pytest.approx(0.5)]
    assert curve.seeds_df == 2
    fixed = estimate([Point(16, one), Point(32, one * 0, fixed=True)])
    assert np.diag(fixed.by_seeds).tolist() == [pytest.approx(0.5), 0.0]


def coverage(runs: int, *, seed_sd: float, lag: float, seeds: int = 3, rows: int = 100) -> float:
    """Share of simulated runs whose interval holds the true crossing; the standard error of rows is some 0.045."""
    draws = np.random.default_rng(1)
    truth = -0.08 * (np.log(BUDGETS) - np.log(TRUE))
    hits = 0
    for _ in range(runs):
        of_seeds = draws.normal(size=(seeds, len(BUDGETS)))
        for place in range(1, len(BUDGETS)):  # nested subsets: neighbours are alike
            of_seeds[:, place] = lag * of_seeds[:, place - 1] + np.sqrt(1 - lag**2) * of_seeds[:, place]
        hard = 0.4 * draws.normal(size=rows)
        curve = []
        for place, budget in enumerate(BUDGETS):
            noise = 0.28 * draws.normal(size=(2, seeds, rows))
            ours = truth[place] + seed_sd * of_seeds[:, place : place + 1] + 0.7 * hard + noise[0]
            curve.append(Point(budget, ours - (0.3 * hard + noise[1])))
        found = crossing(estimate(curve))
        none = found.sure and found.budget is None and found.low is None and found.high is None
        hits += not none and (found.low or 0) <= TRUE <= (found.high or np.inf)
    return hits / runs


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    assert 0.88 <= coverage(100, seed_sd=0.05, lag=0.5) <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("seed_sd", "lag"), [(0.05, 0.5), (0.05, 0.8), (0.1, 0.5), (0.1, 0.8)])
def test_the_interval_holds_the_truth_in_95_of_100_runs(seed_sd: float, lag: float) -> None:
    assert 0.93 <= coverage(1000, seed_sd=seed_sd, lag=lag) <= 0.97
