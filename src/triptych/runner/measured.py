"""What is measured of the rows of a cell: the NLL of each reference and, where rows have options, which is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from triptych.data import Row
from triptych.grid.renderer import RenderedCell
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.options import OptionsNLL, score_options
from triptych.likelihood.score import Progress, RowNLL, Scorer, to_items
from triptych.metrics.choose import choices_by, sums
from triptych.metrics.kinds import is_zero_or_one
from triptych.metrics.options import Options
from triptych.prompts import RenderedOptions
from triptych.records import Aggregate, ItemScore
from triptych.records.schema import MetricValue
from triptych.report import interval
from triptych.report.proportions import wilson


def measure(
    scorer: Scorer, rows: Sequence[Row], rendered: RenderedCell, options: Options | None, progress: Progress
) -> tuple[list[ItemScore], list[RowNLL]]:
    """Score rows as they are rendered: a record of each, and the NLL of each reference's tokens.

    Raises:
        ScoringError: the model gives a row no finite likelihood.
    """
    if options is None or rendered.options is None:
        nlls = scorer.score(rendered.rows, progress)
        return to_items(rendered.rows, nlls), nlls
    scored = score_options(scorer, rendered.options, progress)
    nlls = [one.reference for one in scored]
    items = to_items(rendered.rows, nlls)
    parts = zip(items, rows, rendered.options, scored, strict=True)
    return [_chosen(item, row, options, asked, one) for item, row, asked, one in parts], nlls


def _chosen(item: ItemScore, row: Row, options: Options, asked: RenderedOptions, scored: OptionsNLL) -> ItemScore:
    texts, correct = options.of(row), options.correct(row)
    chosen = choices_by(scored.options, asked.n_chars)
    return replace(
        item,
        metrics={name: float(place == correct) for name, place in chosen.items()},
        chosen=texts[chosen["accuracy"]],
        option_nll=tuple(round(value, 5) for value in sums(scored.options)),
        correct=correct,
    )


def averages(items: Sequence[ItemScore]) -> Aggregate:
    """All averages of a cell's rows: of their perplexities, and of every metric that rows have."""
    names = dict.fromkeys(name for item in items for name in item.metrics)
    metrics = {name: _value(name, [item.metrics[name] for item in items if name in item.metrics]) for name in names}
    return aggregate(items).model_copy(update={"metrics": metrics})


def _value(name: str, values: Sequence[float]) -> MetricValue:
    total = math.fsum(values)
    low, high = wilson(total, len(values)) if is_zero_or_one(name) else interval(values)
    return MetricValue(value=total / len(values), ci_low=low, ci_high=high, n=len(values))
