"""The metrics of what a model wrote: values of rows, and what is wrong with references before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from triptych.config.metrics import is_own_metric, needs_texts
from triptych.data import Row
from triptych.errors import DataError
from triptych.metrics.of_texts import OF_TEXTS
from triptych.metrics.own import OwnMetricError, own_metric
from triptych.records import ItemScore


@dataclass(frozen=True)
class TextScores:
    """What texts are worth."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """Metric -> row id -> value. A metric that failed on a row has none."""
    errors: dict[str, str] = field(default_factory=dict)
    """Metric -> why it failed, with the row named."""

    def added_to(self, items: Sequence[ItemScore]) -> list[ItemScore]:
        """Rows' records with these values."""
        return with_values(items, self.values)


def with_values(items: Sequence[ItemScore], values: Mapping[str, Mapping[str, float]]) -> list[ItemScore]:
    """Rows' records with values of metrics, metric -> row id -> value."""
    found = [{name: by_row[item.id] for name, by_row in values.items() if item.id in by_row} for item in items]
    return [replace(item, metrics={**item.metrics, **own}) for item, own in zip(items, found, strict=True)]


def score_texts(metrics: Iterable[str], rows: Sequence[Row], texts: Sequence[str]) -> TextScores:
    """The metrics of texts among `metrics`, of each row's text beside its output.

    Raises:
        ConfigError: a metric of the user's own can't be imported.
    """
    scores = TextScores()
    for name, function in _functions(metrics).items():
        values: dict[str, float] = {}
        try:
            for row, text in zip(rows, texts, strict=True):
                values[row.id] = function(text, row)
        except OwnMetricError as error:
            scores.errors[name] = f"row {row.id!r}: {error}"
        else:
            scores.values[name] = values
    return scores


def check_references(metrics: Iterable[str], rows: Sequence[Row]) -> None:
    """Check that every metric can be computed, before anything is written.

    Raises:
        ConfigError: a metric of the user's own can't be imported.
        DataError: a row's output can't be a reference of a metric.
    """
    for name, function in _functions(metrics).items():
        if name not in ("number", "json"):  # all others take any reference
            continue
        for row in rows:
            try:
                function("", row)
            except ValueError as error:
                raise DataError(
                    f"an output can't be compared by the metric `{name}`: {error}",
                    where=f"row {row.id!r}",
                    found=repr(row.target()[:60]),
                    fix=f"correct the row, or leave `{name}` out of metrics",
                ) from error


def _functions(metrics: Iterable[str]) -> dict[str, Callable[[str, Row], float]]:
    """The metrics of texts, each of a text and its row."""
    of_texts = [name for name in metrics if needs_texts([name])]
    return {name: own_metric(name) if is_own_metric(name) else _of_row(OF_TEXTS[name]) for name in of_texts}


def _of_row(function: Callable[[str, str], float]) -> Callable[[str, Row], float]:
    return lambda text, row: function(text, row.target())
