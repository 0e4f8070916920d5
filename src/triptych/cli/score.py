"""`triptych score`: perplexity of one data file under one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from triptych.cli.options import (
    AllowPickle,
    Column,
    Device,
    DoubleQuant,
    Draw,
    Dtype,
    Embedding,
    Hold,
    MaxSimilarity,
    MmrLambda,
    ModelName,
    Order,
    Pool,
    PromptName,
    Quantize,
    Revision,
    Select,
    ShotCount,
    TemplateText,
    Threads,
)
from triptych.terminal import new_console

__all__ = ["score"]


def score(
    model: ModelName,
    data: Annotated[str, typer.Option(help="Rows to score.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the scores.", show_default=False)],
    prompt: PromptName = "default",
    template: TemplateText = None,
    shots: ShotCount = 0,
    seed: Annotated[int, typer.Option(help="Seed of the demonstrations' draw.")] = 0,
    draw: Draw = "item",
    pool: Pool = None,
    select: Select = "random",
    order: Order = None,
    column: Column = None,
    max_similarity: MaxSimilarity = None,
    mmr_lambda: MmrLambda = 0.5,
    embedding: Embedding = "model",
    adapter: Annotated[Path | None, typer.Option(help="Score with this adapter on.")] = None,
    revision: Revision = None,
    quantize: Quantize = "nf4",
    double_quant: DoubleQuant = True,
    dtype: Dtype = "auto",
    device: Device = "auto",
    hold: Hold = "auto",
    threads: Threads = None,
    allow_pickle: AllowPickle = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many rows.")] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest rendering.")] = 2048,
    cache: Annotated[bool, typer.Option(help="Look up scores of the same tokens and weights first.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there and holds no scores.")] = False,
) -> None:
    """Score rows: NLL of output and EOS, four averages, one JSON."""
    options = dict(locals())
    from triptych.api import calls
    from triptych.cli.watch import ConsoleWatcher

    console = new_console()
    aggregate = calls.score(**options, watcher=ConsoleWatcher(console)).aggregate
    bits = "none" if aggregate.bits_per_char is None else f"{aggregate.bits_per_char:.4f}"
    console.print(
        f"ppl_mean {aggregate.ppl_mean:.4f}   ppl_corpus {aggregate.ppl_corpus:.4f}   "
        f"ppl_geometric {aggregate.ppl_geometric:.4f}   bits_per_char {bits}   "
        f"({aggregate.n_rows} rows, {aggregate.n_tokens} tokens)",
        soft_wrap=True,
    )
    console.print(f"scores: {out}", soft_wrap=True)
