"""`triptych tune`: train one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from triptych.cli import options
from triptych.config import choices
from triptych.terminal import new_console


def tune(
    model: options.ModelName,
    data: Annotated[str, typer.Option(help="Training rows.", show_default=False)],
    test: Annotated[str, typer.Option(help="Rows of the learning curve.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the training.", show_default=False)],
    preset: Annotated[choices.Preset | None, typer.Option(help="Defaults by name; options given win.")] = None,
    r: Annotated[int | None, typer.Option(help="Rank.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Scale: alpha / r.")] = None,
    dropout: Annotated[float | None, typer.Option(help="On the adapter's input.")] = None,
    use_rslora: Annotated[
        bool | None, typer.Option("--rslora", help="Scale: alpha / sqrt(r).", show_default=False)
    ] = None,
    use_dora: Annotated[bool | None, typer.Option("--dora", help="Learn magnitudes apart.", show_default=False)] = None,
    lora_plus_ratio: Annotated[float | None, typer.Option(help="LoRA+: rate of B over rate of A.")] = None,
    target_modules: Annotated[str | None, typer.Option(help="Comma-separated names, or all-linear.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop sooner.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    schedule: Annotated[choices.Schedule | None, typer.Option(help="Decay.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Fraction of the steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Most rows of one pass.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Passes of one optimizer step.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's.")] = None,
    betas: Annotated[tuple[float, float] | None, typer.Option(help="AdamW's.", show_default=False)] = None,
    eps: Annotated[float | None, typer.Option(help="AdamW's.")] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help="Scale gradients down to this norm.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of adapter, order and dropout.")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between points of the curve.")] = None,
    eval_rows: Annotated[int | None, typer.Option(help="Test rows of a point.")] = None,
    select: Annotated[choices.SelectPoint | None, typer.Option(help="Which point's adapter.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many points no better on dev.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest training row.")] = None,
    long_rows: Annotated[choices.LongRows | None, typer.Option(help="What becomes of longer ones.")] = None,
    tokens_per_pass: Annotated[int | None, typer.Option(help="Most tokens of one pass; bounds memory.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    keep: Annotated[int | None, typer.Option(help="Checkpoints kept.")] = None,
    activation_checkpointing: Annotated[
        choices.Recompute | None, typer.Option(help="Less memory, a third more work.")
    ] = None,
    dev_rows: Annotated[int, typer.Option(min=0, help="Rows held out of the training rows.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on a sample of so many rows.")] = None,
    prompt: options.PromptName = "default",
    revision: options.Revision = None,
    quantize: options.Quantize = "nf4",
    double_quant: options.DoubleQuant = True,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    hold: options.Hold = "auto",
    threads: options.Threads = None,
    allow_pickle: options.AllowPickle = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what an earlier training left there.")] = False,
) -> None:
    """Train a LoRA adapter on a quantized base; the same command goes on with an interrupted training.

    Hyper-parameters left out take the preset's values, or the defaults that `triptych run` has. On several GPUs:
    torchrun --no-python --nproc-per-node N triptych tune …
    """
    given = {name: value for name, value in locals().items() if value is not None}
    from triptych.api import calls
    from triptych.console import ConsoleReporter

    console = new_console()
    record = calls.tune(**given, reporter=ConsoleReporter(console)).record
    for point in record.curve:
        console.print(
            f"step {point.step:5d}  {point.split}  ppl_mean {point.aggregate.ppl_mean:.4f}  "
            f"ppl_corpus {point.aggregate.ppl_corpus:.4f}"
            + (f"  train loss {point.train_loss:.4f}" if point.train_loss is not None else ""),
        )
    console.print(f"adapter: {out / 'adapter'}\nreport: {out / 'report.md'}", soft_wrap=True)
