"""What a reader must know about the rows behind the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from triptych.records import ItemScore
from triptych.report.measures import PERPLEXITY
from triptych.report.numbers import together
from triptych.report.study import Study

HEAVY_SHARE = 0.05
FEWEST_ROWS = 20
"""Below this, 5 % of the rows is less than one row, and one row always carries much."""


def dominated(items: Sequence[ItemScore]) -> str | None:
    """Say so when few rows rule ppl_mean: the 5 % of rows with the highest perplexity carry over half of its sum."""
    if len(items) < FEWEST_ROWS:
        return None
    heavy = math.ceil(len(items) * HEAVY_SHARE)
    ppl = np.sort([item.ppl for item in items])
    share = float(ppl[-heavy:].sum() / ppl.sum())
    if share <= 0.5:
        return None
    corpus = math.exp(sum(item.nll_nats for item in items) / sum(item.n_tokens for item in items))
    mean, by_corpus, geometric = together(float(ppl.mean()), corpus, float(np.exp(np.log(ppl).mean())))
    return (
        f"ppl_mean is ruled by few rows: {heavy} of {len(items):,} carry {share:.0%} of its sum. "
        f"ppl_mean is {mean}; ppl_corpus, {by_corpus}, and ppl_geometric, {geometric}, say more about the other rows."
    )


def _without_values(study: Study) -> list[str]:
    """Metrics that could not be computed, and whether the first one is among them, so that another one decides."""
    first, yet = study.record.metrics[0], " yet" if study.so_far else ""
    warnings = []
    if study.cells and first not in {metric.name for metric in study.metrics}:
        warnings.append(f"No cell has a value of {first}{yet}: the answer is by {study.metric.label}.")
    failed: dict[str, list[tuple[str, str]]] = {}
    for written in study.record.generations:
        for name, why in written.metric_errors.items():
            failed.setdefault(name, []).append((written.cell, why))
    for name, cells in failed.items():
        (cell, why), more = cells[0], len(cells) - 1
        others = f" (nor {'has' if more == 1 else 'have'} {more} other cell{'s' * (more > 1)})" if more else ""
        warnings.append(f"{cell} has no {name}{others}: {why}")
    return warnings


def row_warnings(study: Study) -> list[str]:
    """What a reader must know about the rows of the best setting of each strategy: `dominated`, dropped demos."""
    cells = [setting.first.cell for setting in study.best.values()] if PERPLEXITY in study.metrics else []
    warnings = _without_values(study)
    warnings += [f"{cell}: {text}" for cell in cells if (text := dominated(study.items[cell]))]
    if short := [cell for cell in study.cells if cell.rows_with_demos_dropped]:
        rows = max(cell.rows_with_demos_dropped for cell in short)
        warnings.append(
            f"In {len(short)} of {len(study.cells)} cells demonstrations did not all fit the context and some were "
            f"left out (on up to {rows:,} rows): such a cell is not quite its k. Section 5 counts them."
        )
    return warnings
