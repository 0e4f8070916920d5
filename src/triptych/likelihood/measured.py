"""What is measured of rendered rows: the NLL of each reference and, where rows have options, which of them is chosen.

Cells, `triptych score`, the search on dev rows and the learning curve all measure here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from triptych.likelihood.options import OptionsNLL, score_options
from triptych.likelihood.score import Progress, RowNLL, Scorer, to_items
from triptych.metrics.choose import choices_by, sums
from triptych.prompts import Rendered, RenderedOptions
from triptych.records import ItemScore


def measure(
    scorer: Scorer, rows: Sequence[Rendered], options: Sequence[RenderedOptions] | None, progress: Progress | None
) -> tuple[list[ItemScore], list[RowNLL]]:
    """Score rows, with their options if there are any: a record of each, and the NLL of each reference's tokens.

    Raises:
        ScoringError: the model gives a row no finite likelihood.
        ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
    """
    if options is None:
        nlls = scorer.score(rows, progress)
        return to_items(rows, nlls), nlls
    scored = score_options(scorer, options, progress)
    nlls = [one.reference for one in scored]
    items = to_items([one.row for one in options], nlls)
    return [_chosen(*parts) for parts in zip(items, options, scored, strict=True)], nlls


def _chosen(item: ItemScore, asked: RenderedOptions, scored: OptionsNLL) -> ItemScore:
    chosen = choices_by(scored.options, asked.n_chars)
    return replace(
        item,
        metrics={name: float(place == asked.correct) for name, place in chosen.items()},
        chosen=asked.texts[chosen["accuracy"]],
        option_nll=tuple(round(value, 5) for value in sums(scored.options)),
        correct=asked.correct,
    )
