"""The averages of a cell's rows with the intervals of its metrics."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.likelihood.aggregate import aggregate
from triptych.metrics.kinds import is_zero_or_one
from triptych.records import Aggregate, ItemScore
from triptych.records.schema import MetricValue
from triptych.report import interval
from triptych.report.proportions import wilson


def averages(items: Sequence[ItemScore]) -> Aggregate:
    """All averages of a cell's rows: of their perplexities, and of every metric that rows have, with its interval."""
    plain = aggregate(items)
    metrics = {name: _bounded(name, metric, items) for name, metric in plain.metrics.items()}
    return plain.model_copy(update={"metrics": metrics})


def _bounded(name: str, metric: MetricValue, items: Sequence[ItemScore]) -> MetricValue:
    values = [item.metrics[name] for item in items if name in item.metrics]
    low, high = wilson(sum(values), len(values)) if is_zero_or_one(name) else interval(values)
    return metric.model_copy(update={"ci_low": low, "ci_high": high})
