"""Trainings to kill: a process with everything imported that is forked for each (`fork_server.ForkServer`).

With `die` a training kills itself, as kill -9 would, when it is about to make its n-th change to the disk (an fsync or
a rename).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft  # noqa: F401
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from conftest import made_rows
from fork_server import serve
from triptych.config.model import ModelConfig
from triptych.config.tune import TuneConfig
from triptych.models import load_model
from triptych.prompts import render, template_from_text
from triptych.training import TuneRows, tune


def train(folder: Path, model: str) -> None:
    """60 steps with dropout, a checkpoint at every second, a point at every third, the best of dev kept."""
    loaded = load_model(ModelConfig(name=model, quantize="none", dtype="float32", device="cpu", threads=1))
    template = template_from_text("古文今譯。USER: {instruction} ASSISTANT:")
    rows = [render(row, template, loaded.profile) for row in made_rows(28)]
    config = TuneConfig(
        r=2, batch_size=4, epochs=12, lr=0.01, dropout=0.1, eval_every=3, checkpoint_every=2, select="dev"
    )
    tune(loaded, TuneRows(rows[:20], rows[20:24], rows[24:]), config, folder, prompt="default")


def die_at(n: int) -> None:
    """Be killed at the n-th change to the disk."""
    changes = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return change

    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "replace")):
        setattr(owner, name, counted(getattr(owner, name)))


def training(folder: str, model: str, die: int | None) -> int:
    """Train, or be killed at a change to the disk."""
    if die is not None:
        die_at(die)
    train(Path(folder), model)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(training)
