"""Options that several commands have: one wording and one type each."""

from __future__ import annotations

from typing import Annotated

import typer

from triptych.config import choices

__all__ = [
    "AllowPickle",
    "Column",
    "Device",
    "Draw",
    "Dtype",
    "Embedding",
    "MaxSimilarity",
    "Order",
    "Pool",
    "PromptName",
    "Quantize",
    "Select",
    "ShotCount",
    "TemplateText",
    "Threads",
]

# --- the model

Quantize = Annotated[choices.Quantize, typer.Option(help="How the base is quantized.")]
Dtype = Annotated[choices.Dtype, typer.Option(help="Compute dtype.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.  [default: measured]")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read pickled weights, which can run code when they are read.")
]

# --- the prompt

PromptName = Annotated[str, typer.Option(help="Named prompt.")]
TemplateText = Annotated[str | None, typer.Option(help="A template of your own: file, or text with {instruction}.")]

# --- demonstrations

ShotCount = Annotated[int, typer.Option(min=0, help="Demonstrations in each prompt (k).")]
Pool = Annotated[str | None, typer.Option(help="Rows to choose demonstrations from (training data).")]
Draw = Annotated[choices.Draw, typer.Option(help="Draw demonstrations anew for each row, or once.")]
Select = Annotated[
    choices.Select,
    typer.Option(help="How demonstrations are chosen."),
]
Order = Annotated[
    choices.Order | None,
    typer.Option(help="How they are shown.  [default: as drawn; nearest last, where ranked by nearness]"),
]
Column = Annotated[
    str | None, typer.Option(help="For `same`: the column of the data whose value row and demonstration share.")
]
MaxSimilarity = Annotated[
    float | None, typer.Option(help="Never show rows more like the query than this (0 to 1, Jaccard of n-grams).")
]
Embedding = Annotated[str, typer.Option(help="For `embedding` and `mmr`: `model`, or a sentence-transformers model.")]
