"""`triptych tune`: train one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triptych.api import calls
from triptych.cli.options import option, options_of, section_options
from triptych.config.tune import TuneConfig
from triptych.terminal import new_console

_TYPES = {"target_modules": str}  # names with commas between them, or all-linear
_FLAGS = {"use_rslora": "--rslora", "use_dora": "--dora"}


@options_of(
    calls.tune,
    option("out", Path, help="Folder of the training; the adapter is in `adapter/` in it."),
    *section_options(TuneConfig, _FLAGS, _TYPES),
)
def tune(**options: Any) -> None:
    """Train a LoRA adapter on a quantized base; the same command continues an interrupted training.

    Hyper-parameters left out take the preset's values, or the defaults that `triptych run` has. On several GPUs:
    torchrun --no-python --nproc-per-node N triptych tune …
    """
    given = {name: value for name, value in options.items() if value is not None}
    from triptych.console import ConsoleReporter

    console = new_console()
    record = calls.tune(**given, reporter=ConsoleReporter(console)).record
    for point in record.curve:
        console.print(
            f"step {point.step:5d}  {point.split}  ppl_mean {point.aggregate.ppl_mean:.4f}  "
            f"ppl_corpus {point.aggregate.ppl_corpus:.4f}"
            + (f"  train loss {point.train_loss:.4f}" if point.train_loss is not None else ""),
        )
    console.print(f"adapter: {given['out'] / 'adapter'}\nreport: {given['out'] / 'report.md'}", soft_wrap=True)
