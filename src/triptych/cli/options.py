"""Options that several commands have: one wording and one type each.

They are called as the parameters of the calls in `triptych.api`, so a command hands them on as they are.
"""

from __future__ import annotations

from typing import Annotated

import typer

from triptych.config import choices

# --- the model

ModelName = Annotated[str, typer.Option(help="Hub id, folder, .gguf file, or `demo`.", show_default=False)]
Revision = Annotated[str | None, typer.Option(help="Commit or tag of a hub id.")]
Quantize = Annotated[choices.Quantize, typer.Option(help="How the base is quantized.")]
DoubleQuant = Annotated[bool, typer.Option(help="Quantize the constants of NF4 too.")]
Dtype = Annotated[choices.Dtype, typer.Option(help="Compute dtype.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Hold = Annotated[
    choices.Hold,
    typer.Option(help="Keep NF4 weights dequantized (same values, faster) or packed (less memory)."),
]
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
Select = Annotated[choices.Select, typer.Option(help="How demonstrations are chosen.")]
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
MmrLambda = Annotated[float, typer.Option(help="For `mmr`: 1 is similarity to the query alone, 0 diversity alone.")]
Embedding = Annotated[str, typer.Option(help="For `embedding` and `mmr`: `model`, or a sentence-transformers model.")]
