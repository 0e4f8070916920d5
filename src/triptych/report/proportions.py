"""Shares of rows: how sure one is, and whether two differ on the same rows.

wilson    score interval of a share (Wilson 1927): it stays inside 0 to 1, and is not of no width at 0 of n
mcnemar   exact test of two shares of the same rows (McNemar 1947): of the rows on which only one is right, each
          side would have half
"""

from __future__ import annotations

import math
from statistics import NormalDist

from triptych.report.numbers import Interval


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """The interval of a share, from the number of successes.

    center = (p + z^2 / 2n) / (1 + z^2 / n),  half = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

    Args:
        successes: rows that are right; a broken number where a row has the mean of several seeds.
        n: rows.
        level: of confidence.

    Raises:
        ValueError: there are no rows, or more successes than rows.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / n
    shrink = 1 + z * z / n
    center = (share + z * z / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / shrink
    # at the ends the bound is 0 or 1; what arithmetic leaves beside it must not put the share outside
    return Interval(
        0.0 if successes == 0 else max(0.0, center - half), 1.0 if successes == n else min(1.0, center + half)
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value: `only_a` rows only a has right, `only_b` rows only b; 1 where there are none."""
    from scipy.special import bdtr

    discordant = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5))) if discordant else 1.0
