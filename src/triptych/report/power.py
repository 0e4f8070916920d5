"""How uncertain the numbers are, and how many rows would make them more certain.

Two things move a few-shot mean, and they are not added up: which demonstrations were drawn (SD over seeds, on these
rows) and which test rows there are (standard error over rows, with these demonstrations). More seeds narrow the first,
more rows the second. A QLoRA mean also depends on the seed of its training, a third source.

Rows to settle (a power calculation, Cohen 1988, for the paired mean, by the normal approximation):

    n = ((z_(1 - alpha / 2m) + z_power) / |d|)^2        d: mean / SD of the paired differences
    smallest difference n rows show = (z_(1 - alpha / 2m) + z_power) * SD / sqrt(n)

m, the number of comparisons, divides alpha as the first step of Holm's correction does. It takes the difference seen
for the true one: where the data can't tell it from zero, that is an optimist's guess.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from triptych.records import Comparison
from triptych.report.numbers import number
from triptych.report.statistics import is_significant
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value

POWER = 0.8
MOST_ROWS = 1_000_000
"""No test set has more."""


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
    unit: int = 10 ** max(0, len(str(value)) - 2)
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


def settle_table(study: Study) -> Table:
    """What the rows could have shown, and what it would take to settle what they did not."""
    count = len(study.comparisons)
    rows = tuple(
        (
            f"{study.name(c.a)} \N{MINUS SIGN} {study.name(c.b)}",
            c.difference,
            abs(c.difference / c.effect_size) if c.effect_size else None,
            c.effect_size,
            detectable(c, count),
            _rows_text(c, count),
        )
        for c in study.comparisons
    )
    columns = ("difference", "mean", "SD over rows", "effect size", "smallest shown", "rows to settle it")
    often = f"in {POWER * 100:g} % of cases"
    note = (
        "Effect size: mean / SD of the paired differences. Smallest shown: the difference that these rows tell from "
        f"zero {often}. Rows to settle: how many would tell a difference of this effect size from zero {often} "
        f"(normal approximation, two-sided, level divided by the {count} comparisons)."
    )
    return Table("What these rows can show", columns, rows, note)


def _rows_text(c: Comparison, count: int) -> str:
    needed = rows_to_settle(c, count)
    if is_significant(c):
        return "settled"
    if needed is None:
        return "no number would"
    return f"over {MOST_ROWS:,}" if needed > MOST_ROWS else f"about {round_up(needed):,}"


def uncertainty_table(study: Study) -> Table:
    """The spread over seeds beside the uncertainty from the rows, setting by setting."""
    trained = any(len(setting.train_seeds) > 1 for setting in study.settings)
    rows: list[tuple[Value, ...]] = []
    for setting in study.settings:
        if setting.label not in study.rows:
            continue
        over, again = setting.over_draws(study.average), setting.over_trainings(study.average)
        by_row = list(study.rows[setting.label].values())
        error = float(np.std(by_row, ddof=1)) / math.sqrt(len(by_row)) if len(by_row) > 1 else None
        training = ([again.n, again.std] if setting.train_seeds else [None, None]) if trained else []
        by_seed = (study.name(setting.label), over.mean, over.n, over.std)
        rows.append((*by_seed, error, study.intervals.get(setting.label), *training))
    more = ("training seeds", "SD over training seeds") if trained else ()
    columns = ("setting", study.average, "seeds", "SD over seeds", "SE over rows", "95 % interval over rows", *more)
    return Table(f"{'Three' if trained else 'Two'} kinds of uncertainty", columns, tuple(rows), _note(study))


def _note(study: Study) -> str:
    note = (
        "SD over seeds (n-1): what another draw of demonstrations does to the mean of these rows; empty for one seed. "
        "SE over rows: what another draw of test rows does to it, a row entering with its mean over the seeds."
    )
    tuned = study.of("qlora")
    once = [setting for setting in tuned if len(setting.train_seeds) < 2]
    if len(once) < len(tuned):
        note += (
            " SD over training seeds (n-1): what training again from another seed does to the mean of these rows; "
            "where demonstrations were drawn too, a training enters with the mean of its draws, and their SD is that "
            "within a training."
        )
    if once and len(once) == len(tuned):
        note += " QLoRA was trained with one seed: how far another would move it is not in these numbers."
    elif once:
        which = "; ".join(study.name(setting.label) for setting in once)
        note += f" Trained with one seed, so that how far another would move them is not in these numbers: {which}."
    return note
