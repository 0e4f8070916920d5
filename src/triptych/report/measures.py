"""A metric's value in a cell, on a row and over several seeds, whichever metric it is; and what its numbers mean.

An *average* is what a cell has one number of: `ppl_mean` and the other averages of perplexity, and every other metric
by its name in settings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from triptych.metrics import Metric, metric_of
from triptych.records import Aggregate, ItemScore

PERPLEXITY = metric_of("perplexity")
_WORDS = {
    "perplexity": "mean perplexity per token",
    "accuracy": "share of the rows whose reference is the option with the lowest NLL",
    "exact_match": "share of the rows whose text equals the reference",
    "f1": "mean over the rows of how far text and reference share their words (in Chinese, characters), 0 to 1",
    "rouge_l": "mean over the rows of the longest sequence that text and reference share, 0 to 1",
    "chrf": "mean over the rows of the text's own chrF++, 0 to 100",
    "bleu": "mean over the rows of the text's own BLEU, 0 to 100",
    "number": "share of the rows whose last number equals the reference's",
    "json": "mean over the rows of the share of JSON fields that equal the reference's, 0 to 1",
}


def average_of(metric: Metric) -> str:
    """What a cell's number of this metric is called, in tables too."""
    return "ppl_mean" if metric.name == PERPLEXITY.name else metric.name


def metric_of_key(key: str) -> Metric:
    """The metric that a comparison is of (`Comparison.metric`)."""
    return PERPLEXITY if key == PERPLEXITY.key else metric_of(key)


def meaning(metric: Metric) -> str:
    """What its numbers are, and which way is better, for a table's note."""
    words = _WORDS.get(metric.name, f"mean over the rows of what {metric.name} returns")
    return f"{words}, {'higher' if metric.higher_is_better else 'lower'} is better"


def row_words(metric: Metric) -> str:
    """What a row has of it, in a sentence: `perplexity`, `accuracy`, `row chrF++`."""
    if metric.name in ("chrf", "bleu"):
        return f"row {metric.label}"
    return metric.label.removeprefix("mean ")


def measured(aggregate: Aggregate, average: str) -> float | None:
    """A cell's number; None where it has none."""
    if average in Aggregate.model_fields and average != "metrics":
        found: float | None = getattr(aggregate, average)
        return found
    value = aggregate.metrics.get(average)
    return None if value is None or math.isnan(value.value) else value.value


def rows_of(items: Sequence[ItemScore], metric: Metric) -> dict[str, float]:
    """Row id -> its value, meaned over the seeds in which the row was scored.

    Of perplexity every row has one. Of others, a row that lacks it in some seed is left out.

    Raises:
        ValueError: seeds with different rows, or repeated ids.
    """
    values: defaultdict[str, list[float | None]] = defaultdict(list)
    for item in items:
        values[item.id].append(item.ppl if metric.name == PERPLEXITY.name else item.metrics.get(metric.name))
    if len({len(of_row) for of_row in values.values()}) > 1:
        raise ValueError("some rows were scored more often than others: seeds with different rows, or repeated ids")
    whole = {row: [value for value in of_row if value is not None] for row, of_row in values.items()}
    return {
        row: math.fsum(known) / len(known) for row, known in whole.items() if known and len(known) == len(values[row])
    }


def known_metrics(names: Iterable[str], aggregates: Sequence[Aggregate]) -> tuple[Metric, ...]:
    """Those of a run's metrics that some cell has a value of, the deciding one first; perplexity where none has."""
    found = [metric_of(name) for name in names]
    some = [m for m in found if any(measured(aggregate, average_of(m)) is not None for aggregate in aggregates)]
    return tuple(some or [PERPLEXITY])
