"""`triptych tune`: train one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from triptych.cli.options import AllowPickle, Device, Dtype, PromptName, Quantize, Threads
from triptych.config import choices
from triptych.terminal import new_console

__all__ = ["tune"]


def tune(
    model: Annotated[str, typer.Option(help="Hub id, folder, .gguf file, or `demo`.", show_default=False)],
    data: Annotated[str, typer.Option(help="Training rows.", show_default=False)],
    test: Annotated[str, typer.Option(help="Rows of the learning curve.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the training.", show_default=False)],
    preset: Annotated[choices.Preset | None, typer.Option(help="Defaults by name; options given win.")] = None,
    r: Annotated[int | None, typer.Option(help="Rank.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Scale: alpha / r.")] = None,
    dropout: Annotated[float | None, typer.Option(help="On the adapter's input.")] = None,
    rslora: Annotated[bool | None, typer.Option("--rslora", help="Scale: alpha / sqrt(r).", show_default=False)] = None,
    dora: Annotated[bool | None, typer.Option("--dora", help="Learn magnitudes apart.", show_default=False)] = None,
    lora_plus_ratio: Annotated[float | None, typer.Option(help="LoRA+: rate of B over rate of A.")] = None,
    target_modules: Annotated[str | None, typer.Option(help="Comma-separated names, or all-linear.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop sooner.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    schedule: Annotated[choices.Schedule | None, typer.Option(help="Decay.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Fraction of the steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Most rows of one pass.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Passes of one optimizer step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of adapter, order and dropout.")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between points of the curve.")] = None,
    eval_rows: Annotated[int | None, typer.Option(help="Test rows of a point.")] = None,
    select: Annotated[choices.SelectPoint | None, typer.Option(help="Which point's adapter.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many points no better on dev.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest training row.")] = None,
    long_rows: Annotated[choices.LongRows | None, typer.Option(help="What becomes of longer ones.")] = None,
    activation_checkpointing: Annotated[
        choices.Recompute | None, typer.Option(help="Less memory, a third more work.")
    ] = None,
    dev_rows: Annotated[int, typer.Option(min=0, help="Rows held out of the training rows.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Train on a sample of so many rows.")] = None,
    prompt: PromptName = "default",
    quantize: Quantize = "nf4",
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    allow_pickle: AllowPickle = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what an earlier training left there.")] = False,
) -> None:
    """Train a LoRA adapter on a quantized base; the same command goes on with an interrupted training.

    Hyper-parameters left out take the preset's values, or the defaults that `triptych run` has. On several GPUs:
    torchrun --no-python --nproc-per-node N triptych tune …
    """
    from triptych.config.experiment import ExperimentConfig
    from triptych.config.read import validated
    from triptych.console import ConsoleWatcher
    from triptych.runner.run import run_experiment

    given: dict[str, Any] = {
        "preset": preset,
        "r": r,
        "alpha": alpha,
        "dropout": dropout,
        "use_rslora": rslora,
        "use_dora": dora,
        "lora_plus_ratio": lora_plus_ratio,
        "target_modules": target_modules,
        "epochs": epochs,
        "max_steps": max_steps,
        "lr": lr,
        "schedule": schedule,
        "warmup": warmup,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "seed": seed,
        "eval_every": eval_every,
        "eval_rows": eval_rows,
        "select": select,
        "patience": patience,
        "max_tokens": max_tokens,
        "long_rows": long_rows,
        "activation_checkpointing": activation_checkpointing,
    }
    settings: ExperimentConfig = validated(
        {
            "name": "tune",
            "model": {
                "name": model,
                "quantize": quantize,
                "dtype": dtype,
                "device": device,
                "threads": threads,
                "allow_pickle": allow_pickle,
            },
            "data": {"train": data, "test": test, "train_rows": limit, "dev_rows": dev_rows},
            "strategies": {"qlora": {"prompt": prompt}},
            "tune": {key: value for key, value in given.items() if value is not None},
        },
        "the command line",
    )
    console = new_console()
    record = run_experiment(settings, out, fresh=fresh, watcher=ConsoleWatcher(console))
    for point in record.curve:
        console.print(
            f"step {point.step:5d}  {point.split}  ppl_mean {point.aggregate.ppl_mean:.4f}  "
            f"ppl_corpus {point.aggregate.ppl_corpus:.4f}"
            + (f"  train loss {point.train_loss:.4f}" if point.train_loss is not None else ""),
        )
    console.print(f"adapter: {out / 'adapter'}\nreport: {out / 'report.md'}", soft_wrap=True)
