"""`triptych score`: perplexity of one data file under one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from triptych.cli import options
from triptych.config.choices import MAX_TOKENS
from triptych.terminal import new_console


def score(
    model: options.ModelName,
    data: Annotated[str, typer.Option(help="Rows to score.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the scores.", show_default=False)],
    prompt: options.PromptName = "default",
    template: options.TemplateText = None,
    shots: options.ShotCount = 0,
    seed: Annotated[int, typer.Option(help="Seed of the demonstrations' draw.")] = 0,
    draw: options.Draw = "item",
    pool: options.Pool = None,
    select: options.Select = "random",
    order: options.Order = None,
    column: options.Column = None,
    max_similarity: options.MaxSimilarity = None,
    mmr_lambda: options.MmrLambda = 0.5,
    embedding: options.Embedding = "model",
    adapter: Annotated[Path | None, typer.Option(help="Score with this adapter on.")] = None,
    revision: options.Revision = None,
    quantize: options.Quantize = "nf4",
    double_quant: options.DoubleQuant = True,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    hold: options.Hold = "auto",
    threads: options.Threads = None,
    allow_pickle: options.AllowPickle = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many rows.")] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest rendering.")] = MAX_TOKENS,
    cache: Annotated[bool, typer.Option(help="Look up scores of the same tokens and weights first.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there and holds no scores.")] = False,
) -> None:
    """Score rows: NLL of output and EOS, four averages, one JSON."""
    given = dict(locals())
    from triptych.api import calls
    from triptych.console import ConsoleReporter

    console = new_console()
    aggregate = calls.score(**given, reporter=ConsoleReporter(console)).aggregate
    bits = "none" if aggregate.bits_per_char is None else f"{aggregate.bits_per_char:.4f}"
    console.print(
        f"ppl_mean {aggregate.ppl_mean:.4f}   ppl_corpus {aggregate.ppl_corpus:.4f}   "
        f"ppl_geometric {aggregate.ppl_geometric:.4f}   bits_per_char {bits}   "
        f"({aggregate.n_rows} rows, {aggregate.n_tokens} tokens)",
        soft_wrap=True,
    )
    console.print(f"scores: {out}", soft_wrap=True)
