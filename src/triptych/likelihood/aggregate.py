"""From rows to one number, four ways.

    row i:            nll_i nats over n_i scored tokens (output and EOS), c_i characters of output
    ppl_mean          mean_i exp(nll_i / n_i)               the study's number (protocol hw3, step 4)
    ppl_corpus        exp(sum_i nll_i / sum_i n_i)          "perplexity" in most papers; long rows weigh more
    ppl_geometric     exp(mean_i nll_i / n_i)               every row weighs the same, no row dominates
    bits_per_char     sum_i nll_i / ln 2 / sum_i c_i        the one that compares across tokenizers

Sums are carried exactly (`math.fsum`, so the order of rows changes nothing) and divided once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from triptych.records import Aggregate, ItemScore
from triptych.records.schema import MetricValue


def aggregate(items: Sequence[ItemScore]) -> Aggregate:
    """Average the rows of one cell. Raises ValueError for no rows: an average of nothing is not a number."""
    if not items:
        raise ValueError("no rows to aggregate")
    per_token = [item.nll_nats / item.n_tokens for item in items]
    nll = math.fsum(item.nll_nats for item in items)
    n_tokens = sum(item.n_tokens for item in items)
    n_chars = sum(item.n_chars for item in items)
    return Aggregate(
        ppl_mean=math.fsum(map(math.exp, per_token)) / len(items),
        ppl_corpus=math.exp(nll / n_tokens),
        ppl_geometric=math.exp(math.fsum(per_token) / len(items)),
        bits_per_char=nll / math.log(2) / n_chars if n_chars else None,  # a ratio to nothing is no number
        n_rows=len(items),
        n_tokens=n_tokens,
        metrics=_metrics(items),
    )


def _metrics(items: Sequence[ItemScore]) -> dict[str, MetricValue]:
    """Mean of every metric over the rows that have it, without intervals."""
    values: dict[str, list[float]] = {}
    for item in items:
        for name, value in item.metrics.items():
            values.setdefault(name, []).append(value)
    return {name: MetricValue(value=math.fsum(each) / len(each), n=len(each)) for name, each in values.items()}
