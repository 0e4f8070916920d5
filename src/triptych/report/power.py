"""How sure the numbers are, and how many rows would make them surer.

Two things move a few-shot mean, and they are not added up: which demonstrations were drawn (SD over seeds, on these
rows) and which test rows there are (standard error over rows, with these demonstrations). More seeds narrow the first,
more rows the second. What moves a QLoRA mean beside the rows is the seed of its training, a third thing.

Rows to settle (a power calculation, Cohen 1988, for the paired mean, by the normal approximation):

    n = ((z_(1 - alpha / 2m) + z_power) / |d|)^2        d: mean / SD of the paired differences
    smallest difference n rows show = (z_(1 - alpha / 2m) + z_power) * SD / sqrt(n)

m, the number of comparisons, divides alpha as the first step of Holm's correction does. It takes the difference seen
for the true one: where the data can't tell it from zero, that is an optimist's guess.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from triptych.records import Comparison
from triptych.report.numbers import number

POWER = 0.8
MOST_ROWS = 1_000_000
"""Beyond this no test set is meant."""


def rows_to_settle(comparison: Comparison, comparisons: int, *, power: float = POWER) -> int | None:
    """Rows on which a difference of this effect size is found with the given power; None for none at all."""
    if not comparison.effect_size:
        return None
    return math.ceil((_quantiles(comparison, comparisons, power) / abs(comparison.effect_size)) ** 2)


def detectable(comparison: Comparison, comparisons: int, *, power: float = POWER) -> float | None:
    """The smallest mean difference that this many rows show with the given power."""
    if not comparison.effect_size:
        return None
    deviation = abs(comparison.difference / comparison.effect_size)
    return _quantiles(comparison, comparisons, power) * deviation / math.sqrt(comparison.n_rows)


def _quantiles(comparison: Comparison, comparisons: int, power: float) -> float:
    level = (1 - comparison.confidence) / (2 * comparisons)
    return NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(power)


def round_up(value: int) -> int:
    """Two significant places: the estimate is no better than that."""
    size = max(0, len(str(value)) - 2)
    unit: int = 10**size
    return math.ceil(value / unit) * unit


def would_settle(c: Comparison, comparisons: int) -> str:
    """The same as a sentence, for a comparison that is open."""
    needed = rows_to_settle(c, comparisons)
    if needed is None:
        return "No number of rows would settle it: the rows' differences average out to nothing."
    if needed > MOST_ROWS:
        return f"If it is what it seems, not even {MOST_ROWS:,} rows would settle it."
    if needed <= c.n_rows:
        least = number(detectable(c, comparisons) or 0.0)
        return f"These rows show differences from {least} on (power {POWER * 100:g} %), so it is a close call."
    return f"If it is what it seems, about {round_up(needed):,} rows would settle it (power {POWER * 100:g} %)."
