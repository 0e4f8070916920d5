"""Shares of rows, such as accuracies: their intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

from triptych.report.numbers import Interval


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval (1927) of a share, from the number of rows that are right among `n`."""
    z, share = NormalDist().inv_cdf((1 + level) / 2), successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
