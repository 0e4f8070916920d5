"""Where two curves over numbers of labelled rows cross, and how sure that is.

Each curve has, at each budget b, values v of S_b subsets (seeds) on the same n rows. Two chances are in its mean m_b:

    of the rows       variance over the n rows of the mean over seeds, / n; covariances between budgets likewise
    of the subsets    variance between seeds' means, pooled over budgets, / S_b; neighbouring budgets of a seed share
                      rows, so their correlation is estimated too

The difference of two curves is formed row by row and seed by seed, so that what both share cancels out. Between budgets
it is linear in the logarithm of the rows. The crossing's 95 % interval is every number of rows around it at which the
difference is within t standard errors of zero (Fieller's way: the test is turned round), with t of Satterthwaite's
degrees of freedom: few seeds make t large, where percentiles of a bootstrap over three seeds would cover some 75 %
only. Seeds' errors at neighbouring budgets are correlated, so pooling them gives fewer degrees of freedom than their
number.

Shape legend: B budgets   S seeds   N rows   X places
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
_PER_STEP = 256
"""Places between two budgets at which the difference is tested."""


@dataclass(frozen=True)
class Point:
    """A curve at one number of labelled rows."""

    budget: int
    values: Floats
    """[S, N]"""
    fixed: bool = False
    """Nothing is drawn: another seed would give the same."""


@dataclass(frozen=True)
class Estimate:
    """Means over a curve's budgets with the covariance of their errors, by rows and by seeds."""

    budgets: tuple[int, ...]
    means: Floats
    """[B]"""
    by_rows: Floats
    """[B, B] covariance."""
    by_seeds: Floats
    """[B, B]"""
    n_rows: int
    seeds_df: float
    """Degrees of freedom of the variance between seeds; 0: there was one seed everywhere, and it is taken for zero."""

    @cached_property
    def positions(self) -> Floats:
        """[B] logarithms of the budgets."""
        return np.log(np.array(self.budgets, dtype=np.float64))

    def at(self, weights: Floats) -> tuple[Floats, Floats]:
        """Value and half width of the interval, each [X], of means weighted by [X, B]."""
        rows = np.maximum(np.einsum("xb,bc,xc->x", weights, self.by_rows, weights), 0.0)
        seeds = np.einsum("xb,bc,xc->x", weights, self.by_seeds, weights)
        return weights @ self.means, _t(rows, self.n_rows - 1, seeds, self.seeds_df) * np.sqrt(rows + seeds)


def estimate(points: Sequence[Point]) -> Estimate:
    """A curve's means and their errors; budgets ascending, the same rows everywhere."""
    of_rows = np.stack([point.values.mean(0) for point in points])
    n_rows = of_rows.shape[1]
    by_rows = np.zeros((len(points),) * 2)
    if n_rows > 1:
        by_rows += np.atleast_2d(np.cov(of_rows)) / n_rows
        by_rows -= np.diag([_interaction(point.values) for point in points])
    residuals = [(means := point.values.mean(1)) - means.mean() for point in points]
    free = np.array([len(one) - 1.0 for one in residuals])
    variance = float(sum((one**2).sum() for one in residuals) / max(1.0, free.sum()))
    errors = np.array([0.0 if point.fixed else math.sqrt(variance / len(point.values)) for point in points])
    lag = _correlation(residuals)
    correlation = lag ** np.abs(np.subtract.outer(np.arange(len(points)), np.arange(len(points))))
    # the variance of a sum of correlated estimates of one variance says how many independent ones they are worth
    worth = float(free.sum() ** 2 / (np.sqrt(np.outer(free, free)) * correlation**2).sum()) if free.any() else 0.0
    return Estimate(
        tuple(point.budget for point in points),
        of_rows.mean(1),
        by_rows,
        np.outer(errors, errors) * correlation,
        n_rows,
        worth,
    )


def difference(a: Sequence[Point], b: Sequence[Point]) -> list[Point]:
    """a - b at the budgets that both have: by seeds where both have as many, else of their means."""
    theirs = {point.budget: point for point in b}
    made = []
    for ours in a:
        if (other := theirs.get(ours.budget)) is None:
            continue
        x, y = ours.values, other.values
        if len(x) != len(y) and min(len(x), len(y)) > 1:
            x, y = x.mean(0, keepdims=True), y.mean(0, keepdims=True)
        made.append(Point(ours.budget, x - y, ours.fixed and other.fixed))
    return made


@dataclass(frozen=True)
class SignChange:
    """Where a difference crosses zero."""

    budget: float | None
    """None where it doesn't, or where that can't be told."""
    low: float | None
    """Of the 95 % interval; None where that is open, or where there is none."""
    high: float | None
    falls: bool = False
    """The difference is above zero before, and below after."""
    times: int = 0
    """How often the means cross."""
    sure: bool = True
    """False where the difference can't be told from zero anywhere."""


def crossing(curve: Estimate) -> SignChange:
    """Where a difference crosses zero; the last place, where it does so several times."""
    x, weights = _places(curve.positions)
    value, half = curve.at(weights)
    may_be_zero = np.abs(value) <= half
    changes = [(i, j) for i, j in pairwise(np.flatnonzero(value).tolist()) if value[i] * value[j] < 0]
    if may_be_zero.all():
        return SignChange(None, None, None, times=len(changes), sure=False)
    if not changes:
        where = np.flatnonzero(may_be_zero).tolist()
        return SignChange(None, *(_bounds(x, where[0], where[-1]) if where else (None, None)))
    before, after = first, last = changes[-1]
    while first > 0 and may_be_zero[first - 1]:
        first -= 1
    while last + 1 < len(x) and may_be_zero[last + 1]:
        last += 1
    share = value[before] / (value[before] - value[after])
    budget = float(np.exp(x[before] + share * (x[after] - x[before])))
    return SignChange(budget, *_bounds(x, first, last), falls=bool(value[before] > 0), times=len(changes))


def _bounds(x: Floats, first: int, last: int) -> tuple[float | None, float | None]:
    """The numbers of rows next to these places, at which the two can be told apart; None beyond the budgets."""
    low = None if first == 0 else float(np.exp(x[first - 1]))
    return low, None if last + 1 == len(x) else float(np.exp(x[last + 1]))


def _places(positions: Floats) -> tuple[Floats, Floats]:
    """Places from the first budget's to the last's, [X], and how each weighs the budgets around it, [X, B]."""
    n = len(positions)
    if n == 1:
        return positions, np.ones((1, 1))
    at = np.linspace(0, n - 1, (n - 1) * _PER_STEP + 1)
    left = np.minimum(at.astype(int), n - 2)
    weights = np.zeros((len(at), n))
    weights[np.arange(len(at)), left] = 1 - (at - left)
    weights[np.arange(len(at)), left + 1] += at - left
    return weights @ positions, weights


def _interaction(values: Floats) -> float:
    """What rows and seeds together add to the variance of the mean of [S, N]; the one between seeds holds it too."""
    n_seeds, n_rows = values.shape
    if n_seeds == 1:
        return 0.0
    left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((left**2).sum() / ((n_seeds - 1) * (n_rows - 1) * values.size))


def _correlation(residuals: Sequence[Floats]) -> float:
    """Of seeds' errors at neighbouring budgets, 0 to 1: subsets of one seed share rows."""
    pairs = [(a, b) for a, b in pairwise(residuals) if len(a) == len(b) > 1]
    spread = sum(float((a**2).sum() + (b**2).sum()) / 2 for a, b in pairs)
    return min(1.0, max(0.0, sum(float(a @ b) for a, b in pairs) / spread)) if spread else 0.0


def _t(rows: Floats, rows_df: int, seeds: Floats, seeds_df: float) -> Floats:
    """Student's t for a sum of two variances (Satterthwaite 1946)."""
    from scipy import stats

    parts = [part**2 / df for part, df in ((rows, rows_df), (seeds, seeds_df)) if df > 0]
    total = np.maximum(sum(parts, np.zeros_like(rows)), 1e-300)
    df = np.maximum((rows + seeds) ** 2 / total, 1.0)
    return np.asarray(stats.t.ppf(0.5 + CONFIDENCE / 2, df), dtype=np.float64)
