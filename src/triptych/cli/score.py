"""`triptych score`: perplexity of one data file under one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

__all__ = ["score"]

Select = Literal["random", "same", "bm25", "embedding", "mmr", "longest", "shortest", "similar-length"]


def score(
    model: Annotated[str, typer.Option(help="Hub id, folder, .gguf file, or `demo`.", show_default=False)],
    data: Annotated[str, typer.Option(help="Rows to score.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the scores.", show_default=False)],
    prompt: Annotated[str, typer.Option(help="Named prompt.")] = "default",
    template: Annotated[
        str | None, typer.Option(help="A template of your own: file, or text with {instruction}.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, help="Demonstrations in each prompt (k).")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the demonstrations' draw.")] = 0,
    draw: Annotated[Literal["item", "seed"], typer.Option(help="Draw anew for each row, or once.")] = "item",
    pool: Annotated[str | None, typer.Option(help="Rows to choose demonstrations from (training data).")] = None,
    select: Annotated[Select, typer.Option(help="How demonstrations are chosen.")] = "random",
    order: Annotated[
        Literal["random", "nearest-last", "nearest-first"] | None,
        typer.Option(help="How they are shown.  [default: as drawn; nearest last, where ranked by nearness]"),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="For `same`: the column of the data whose value row and demonstration share.")
    ] = None,
    max_similarity: Annotated[
        float | None, typer.Option(help="Never show rows more like the query than this (0 to 1, Jaccard of n-grams).")
    ] = None,
    embedding: Annotated[
        str, typer.Option(help="For `embedding` and `mmr`: `model`, or a sentence-transformers model.")
    ] = "model",
    adapter: Annotated[Path | None, typer.Option(help="Score with this adapter on.")] = None,
    quantize: Annotated[Literal["nf4", "int8", "none"], typer.Option(help="How the base is quantized.")] = "nf4",
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Compute dtype.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.  [default: measured]")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights, which can run code when they are read.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many rows.")] = None,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest rendering.")] = 2048,
    cache: Annotated[bool, typer.Option(help="Look up scores of the same tokens and weights first.")] = True,
) -> None:
    """Score rows: NLL of output and EOS, four averages, one JSON."""
    from triptych.cli.watch import ConsoleWatcher
    from triptych.experiment.score_file import ScoreRequest, score_file
    from triptych.experiment.shots import Shots
    from triptych.models import ModelSpec

    console = Console()
    request = ScoreRequest(
        model=ModelSpec(
            model, quantize=quantize, dtype=dtype, device=device, threads=threads, allow_pickle=allow_pickle
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
            column=column,
            max_similarity=max_similarity,
            embedding=embedding,
        ),
        adapter=adapter,
        limit=limit,
        max_tokens=max_tokens,
        cache=cache,
    )
    aggregate = score_file(request, out, ConsoleWatcher(console))
    console.print(
        f"ppl_mean {aggregate.ppl_mean:.4f}   ppl_corpus {aggregate.ppl_corpus:.4f}   "
        f"ppl_geometric {aggregate.ppl_geometric:.4f}   bits_per_char {aggregate.bits_per_char:.4f}   "
        f"({aggregate.n_rows} rows, {aggregate.n_tokens} tokens)",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"scores: {out}", highlight=False, markup=False, soft_wrap=True)
