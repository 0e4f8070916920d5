"""`triptych score`: perplexity of one data file under one prompt."""

from __future__ import annotations

from typing import Any

from triptych.api import calls
from triptych.cli.options import options_of
from triptych.errors import TriptychError
from triptych.terminal import new_console


@options_of(calls.score, required=["out"])
def score(**given: Any) -> None:
    """Score rows: NLL of output and EOS, four averages, one JSON."""
    from triptych.console import ConsoleReporter

    console = new_console()
    scores = calls.score(**given, reporter=ConsoleReporter(console))
    aggregate = scores.aggregate
    bits = "none" if aggregate.bits_per_char is None else f"{aggregate.bits_per_char:.4f}"
    console.print(
        f"ppl_mean {aggregate.ppl_mean:.4f}   ppl_corpus {aggregate.ppl_corpus:.4f}   "
        f"ppl_geometric {aggregate.ppl_geometric:.4f}   bits_per_char {bits}   "
        f"({aggregate.n_rows} rows, {aggregate.n_tokens} tokens)",
        soft_wrap=True,
    )
    for name, metric in aggregate.metrics.items():
        low, high = (f"{bound:.4f}" for bound in (metric.ci_low, metric.ci_high) if bound is not None)
        console.print(f"{name} {metric.value:.4f} [{low}, {high}]   ({metric.n} rows)", soft_wrap=True)
    console.print(f"scores: {given['out']}", soft_wrap=True)
    if scores.failed:
        raise TriptychError("; ".join(scores.failed.values()) + f".\n  All else is in {given['out']}")
