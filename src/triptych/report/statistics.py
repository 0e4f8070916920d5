"""What the rows' values can and can't tell: bootstrap intervals and paired tests.

    interval     BCa bootstrap of the mean over rows (Efron 1987; Efron & Tibshirani 1993, chapter 14)
    compare      paired by row: d_i = ppl_a,i - ppl_b,i, its mean, an interval, a sign-flip permutation test of the mean
    compare_rows the same of any value a row has, such as chrF++; of values that are 0 or 1, McNemar's exact test
    holm         Holm 1979: step-down, holds the chance of any false finding among m tests

The rows are what is resampled: an interval says how far another draw of test rows could move the mean. It holds the
seeds of the demonstrations fixed; their spread is the `std` of `seeds.summarise_few_shot`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from triptych.records import Comparison, ItemScore
from triptych.report.measures import PERPLEXITY, metric_of_key, rows_of
from triptych.report.proportions import mcnemar

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95
DRAWS = 10_000
SEED = 0
EXACT_ROWS = 12
"""Up to here all 2^n sign patterns are tried: at most 4,096."""
TIE = 1e-12
CHUNK = 1_000_000
"""Numbers held at once while resampling: 8 MB for any number of rows."""


def interval(values: npt.ArrayLike, *, draws: int = DRAWS) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `values`, in their unit.

    BCa (bias-corrected and accelerated) because rows' perplexities are skewed to the right, where the plain percentile
    interval is too low. Where BCa is not defined, it is the percentile interval; one row, or rows all equal, give an
    interval of no width. `scipy.stats.bootstrap` computes the same thing; this does it from one block of resamples
    (250 rows x 10,000 draws: about 0.02 s) and doesn't depend on the order of the rows.
    """
    return intervals([values], draws=draws)[0]


def intervals(columns: Sequence[npt.ArrayLike], *, draws: int = DRAWS) -> list[tuple[float, float]]:
    """`interval` of each of many columns: columns of the same length share their resamples.

    A resample is how often it drew each of the sorted rows, so all columns' means are one matrix product (10,000 rows x
    40 columns x 10,000 draws: about 1 s).
    """
    ordered = [np.sort(np.asarray(values, dtype=np.float64)) for values in columns]
    if any(values.size == 0 for values in ordered):
        raise ValueError("no rows to resample")
    bounds = [(float(values[0]), float(values[0])) for values in ordered]
    for rows in sorted({values.size for values in ordered}):
        places = [i for i, values in enumerate(ordered) if values.size == rows and values[0] != values[-1]]
        if not places:
            continue
        means = _resampled_means(np.column_stack([ordered[i] for i in places]), draws)
        for place, of_column in zip(places, means.T, strict=True):
            low, high = np.quantile(of_column, _levels(ordered[place], of_column))
            bounds[place] = (float(low), float(high))
    return bounds


def _resampled_means(values: FloatArray, draws: int) -> FloatArray:
    """draws x columns: the means of resamples of the rows (rows x columns), the same rows in every column."""
    generator, rows = np.random.default_rng(SEED), values.shape[0]
    parts = []
    for size in _chunks(draws, rows):
        drawn = generator.integers(0, rows, size=(size, rows), dtype=np.int32)
        drawn += rows * np.arange(size, dtype=np.int32)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        parts.append(counts.astype(np.float64) @ values / rows)
    return np.concatenate(parts)


def _chunks(draws: int, rows: int) -> Iterator[int]:
    most = max(1, CHUNK // rows)
    for start in range(0, draws, most):
        yield min(most, draws - start)


def _levels(values: FloatArray, means: FloatArray) -> FloatArray:
    """Which quantiles of the resampled means bound the interval.

    z0 = Phi^-1(share of resampled means below the mean; equal ones count half)
    a  = sum u^3 / (6 (sum u^2)^1.5), u_i = x_i - mean (the jackknife's influence of row i, up to a factor)
    level = Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z = Phi^-1(plain level)
    """
    from scipy.special import ndtr, ndtri

    plain = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    mean = values.mean()
    influence = values - mean
    spread = float((influence**2).sum()) ** 1.5
    # sums of the same numbers in another order may differ in their last bits; they must count as equal
    equal = np.abs(means - mean) <= 1e-12 * float(np.abs(values).max())
    below = float(np.mean((means < mean) & ~equal) + np.mean(equal) / 2)
    if spread == 0 or not 0 < below < 1:
        return plain
    z0, acceleration = ndtri(below), float((influence**3).sum()) / (6 * spread)
    shifted = z0 + ndtri(plain)
    divisor = 1 - acceleration * shifted
    return np.asarray(ndtr(z0 + shifted / divisor), dtype=np.float64) if (divisor > 0).all() else plain


def compare(
    a_label: str, a_items: Sequence[ItemScore], b_label: str, b_items: Sequence[ItemScore], *, draws: int = DRAWS
) -> Comparison:
    """`compare_rows` of the rows' perplexities. Pass several seeds concatenated: a row has the mean over them."""
    a, b = rows_of(a_items, PERPLEXITY), rows_of(b_items, PERPLEXITY)
    return compare_rows(a_label, a, b_label, b, metric=PERPLEXITY.key, draws=draws)


def compare_rows(
    a_label: str,
    a: Mapping[str, float],
    b_label: str,
    b: Mapping[str, float],
    *,
    metric: str,
    draws: int = DRAWS,
) -> Comparison:
    """The paired difference a - b of values by row id: mean, interval, p-value, on how many rows a is better.

    `metric` (a `Metric.key`) says which way is better, and which test is made: where every row of both is 0 or 1 by a
    metric of such values, McNemar's exact one, else sign-flip. `p_holm` is the plain p-value; correct several
    comparisons together (`corrected`).

    Raises:
        ValueError: the two don't hold the same rows.
    """
    if unpaired := a.keys() ^ b.keys():
        raise ValueError(
            f"{len(unpaired)} rows are in only one of {a_label!r} ({len(a)} rows) and {b_label!r} ({len(b)} rows)"
        )
    differences = np.array([a[row] - b[row] for row in sorted(a)])
    differences[np.abs(differences) < TIE] = 0.0
    low, high = interval(differences, draws=draws)
    kind = metric_of_key(metric)
    gains = differences if kind.higher_is_better else -differences
    if kind.zero_or_one and {*a.values(), *b.values()} <= {0.0, 1.0}:
        p_value = mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
        test = "McNemar's exact test, two-sided"
    else:
        p_value, test = sign_flip(differences, draws)
    return Comparison(
        a=a_label,
        b=b_label,
        metric=metric,
        difference=float(differences.mean()),
        ci_low=low,
        ci_high=high,
        confidence=CONFIDENCE,
        p_value=p_value,
        p_holm=p_value,
        wins=int((gains > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((gains < 0).sum()),
        n_rows=len(a),
        effect_size=effect_size(differences),
        method=f"paired by row; BCa bootstrap of the mean ({draws:,} draws, seed {SEED}); {test}",
    )


def effect_size(differences: FloatArray) -> float | None:
    """Cohen's d_z: how large the mean difference is against the scatter of the rows' differences."""
    spread = float(np.std(differences, ddof=1)) if differences.size > 1 else 0.0
    return float(differences.mean()) / spread if spread > 0 else None


def sign_flip(differences: FloatArray, draws: int) -> tuple[float, str]:
    """Two-sided p-value of the mean difference if a and b could change places in any row; and the name of the test.

    Sampled: p = (1 + count) / (1 + draws), never 0 (Phipson & Smyth 2010). Exact for few rows: p = count / 2^n.
    """
    rows = differences.size
    # a sum of the same numbers in another order may differ in its last bits; it must count as equal
    bar = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    if rows <= EXACT_ROWS:
        signs = 1.0 - 2.0 * ((np.arange(2**rows)[:, None] >> np.arange(rows)) & 1)
        p_value = float(np.mean(np.abs(signs @ differences) >= bar))
        return p_value, f"two-sided sign-flip test of the mean, exact ({2**rows:,} sign patterns)"
    generator, count = np.random.default_rng(SEED), 0
    for size in _chunks(draws, rows):
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(size, rows), dtype=np.int8)
        count += int((np.abs(signs @ differences) >= bar).sum())
    return (1 + count) / (1 + draws), f"two-sided sign-flip test of the mean ({draws:,} draws, seed {SEED})"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction, in the order given: the i-th smallest of m times (m - i + 1), never falling, at most 1."""
    p, order = np.array(p_values, dtype=np.float64), np.argsort(p_values, kind="stable")
    p[order] = np.maximum.accumulate(np.minimum(1.0, (p.size - np.arange(p.size)) * p[order]))
    return [float(value) for value in p]


def corrected(made: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons with `p_holm`, corrected together."""
    return tuple(c.model_copy(update={"p_holm": p}) for c, p in zip(made, holm([c.p_value for c in made]), strict=True))


def is_significant(c: Comparison) -> bool:
    """Whether a difference is one beyond chance: corrected p below 1 - confidence, and the interval leaves zero out.

    Both are asked for, so that no sentence, table or figure of a report can contradict another.
    """
    return (c.ci_low > 0 or c.ci_high < 0) and c.p_holm < 1 - c.confidence


def a_is_better(c: Comparison) -> bool:
    """Whether the mean speaks for `a`, significantly or not."""
    return c.difference > 0 if metric_of_key(c.metric).higher_is_better else c.difference < 0


def verdict(c: Comparison, better: str, worse: str) -> str:
    """`better` or `worse` by what the mean says of `a`, where the difference is one beyond chance."""
    return (better if a_is_better(c) else worse) if is_significant(c) else "can't be told"
