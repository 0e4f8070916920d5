"""How numbers are written, everywhere in a report.

One rule: three significant places. Numbers shown together (a mean and its std, a difference and its interval) share
the decimals that give the largest of them three places: `4.96 ± 0.03`, `12.3 [10.1, 14.9]`, `254 ± 8`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from triptych.records import Averaged

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EM DASH}"
"""For a missing number in sentences and joined values; a table's cell is left empty."""


class Interval(NamedTuple):
    """Two bounds, low first."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A difference with its interval."""

    value: float
    low: float
    high: float


class Probability(float):
    """A p-value: written with `p_text`."""


def together(*values: float) -> list[str]:
    """Write numbers with common decimals, so that the largest has three significant places."""
    largest = max(abs(value) for value in values)
    # the exponent after rounding: 9.996 is written 10.0, not 10.00
    places = max(0, min(6, 2 - int(f"{largest:.2e}".partition("e")[2]))) if largest else 2
    texts = [f"{abs(value):,.{places}f}" for value in values]
    return [
        f"{MINUS}{t}" if v < 0 and float(t.replace(",", "")) != 0 else t for v, t in zip(values, texts, strict=True)
    ]


def number(value: float) -> str:
    """One number; below a thousandth in scientific notation where that is shorter (a learning rate)."""
    if value != 0 and abs(value) < 1e-3:
        text = re.sub(r"e-0(\d)$", r"e-\1", f"{abs(value):.3g}")
        return f"{MINUS}{text}" if value < 0 else text
    return together(value)[0]


def spread(average: Averaged) -> str:
    """Mean ± standard deviation (n-1) over seeds; one seed has no ±."""
    return number(average.mean) if average.std is None else " ± ".join(together(average.mean, average.std))


def difference(value: float, low: float, high: float) -> str:
    """`-1.32 [-1.58, -1.09]`: a difference and its interval."""
    middle, lower, upper = together(value, low, high)
    return f"{middle} [{lower}, {upper}]"


def p_text(value: float) -> str:
    """`p < 0.001`, `p = 0.023`; never rounded to zero, and to one only from one."""
    if value < 0.001:
        return "p < 0.001"
    if 0.995 <= value < 1:
        return "p > 0.99"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"
