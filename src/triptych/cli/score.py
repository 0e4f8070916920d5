"""`triptych score`: perplexity of one data file under one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from triptych.cli.options import (
    AllowPickle,
    Column,
    Device,
    Draw,
    Dtype,
    Embedding,
    MaxSimilarity,
    Order,
    Pool,
    PromptName,
    Quantize,
    Select,
    ShotCount,
    TemplateText,
    Threads,
)
from triptych.terminal import new_console

__all__ = ["score"]


def score(
    model: Annotated[str, typer.Option(help="Hub id, folder, .gguf file, or `demo`.", show_default=False)],
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
    embedding: Embedding = "model",
    adapter: Annotated[Path | None, typer.Option(help="Score with this adapter on.")] = None,
    quantize: Quantize = "nf4",
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    allow_pickle: AllowPickle = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many rows.")] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest rendering.")] = 2048,
    cache: Annotated[bool, typer.Option(help="Look up scores of the same tokens and weights first.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there and holds no scores.")] = False,
) -> None:
    """Score rows: NLL of output and EOS, four averages, one JSON."""
    from triptych.cli.watch import ConsoleWatcher
    from triptych.config.model import ModelConfig
    from triptych.config.read import from_options
    from triptych.config.strategies import DemosConfig
    from triptych.grid.demo_options import Shots
    from triptych.runner.score_file import ScoreRequest, score_file

    console = new_console()
    request = ScoreRequest(
        model=from_options(
            ModelConfig,
            name=model,
            quantize=quantize,
            dtype=dtype,
            device=device,
            threads=threads,
            allow_pickle=allow_pickle,
        ),
        data=data,
        prompt=prompt,
        template=template,
        shots=Shots(
            shots,
            pool=pool,
            select=select,
            seed=seed,
            draw=draw,
            order=order,
            demos=from_options(DemosConfig, column=column, max_similarity=max_similarity, embedding=embedding),
        ),
        adapter=adapter,
        limit=limit,
        max_tokens=max_tokens,
        cache=cache,
        force=force,
    )
    aggregate = score_file(request, out, ConsoleWatcher(console))
    bits = "none" if aggregate.bits_per_char is None else f"{aggregate.bits_per_char:.4f}"
    console.print(
        f"ppl_mean {aggregate.ppl_mean:.4f}   ppl_corpus {aggregate.ppl_corpus:.4f}   "
        f"ppl_geometric {aggregate.ppl_geometric:.4f}   bits_per_char {bits}   "
        f"({aggregate.n_rows} rows, {aggregate.n_tokens} tokens)",
        soft_wrap=True,
    )
    console.print(f"scores: {out}", soft_wrap=True)
