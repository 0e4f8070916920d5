"""One rank of a training, started by torchrun: `parallel_worker.py FOLDER MODEL CONFIG.json [what]`.

`what` is nothing, `stop` (rank 1 gets SIGTERM in step 5), `ruin` (in step 4 the weights turn NaN on rank 1) or `disk`
(rank 0 finds the disk full).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from conftest import made_rows
from triptych.errors import DiskError, TriptychError
from triptych.models import ModelSpec, load_model
from triptych.prompts import render, template_from_text
from triptych.tune import TuneConfig, TuneRows, World, joined, loop, tune


def main(folder: Path, model: str, config: dict[str, Any], what: str) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as world:
        loaded = load_model(ModelSpec(model, quantize="none", dtype="float32", device="cpu", threads=1))
        template = template_from_text("古文今譯。USER: {instruction} ASSISTANT:")
        every = [render(row, template, loaded.profile) for row in made_rows(25)]
        rows = TuneRows(every[:17], every[17:21], every[21:])  # steps of 4, the last of an epoch has one row
        disturb(what, world, loaded)
        try:
            result = tune(loaded, rows, TuneConfig(**config), folder, prompt="default", world=world)
            said = f"{result.adapter.sha256()} {len(result.curve)} {result.summary.selected_step}"
        except TriptychError as error:
            said = f"{type(error).__name__}: {error}"
        folder.with_name(f"{folder.name}.rank{world.rank}").write_text(said, encoding="utf-8")


def disturb(what: str, world: World, loaded: Any) -> None:
    """Something goes wrong on one rank."""
    real: Callable[..., Any] = loop.accumulate_gradient
    steps = 0

    def step(*arguments: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 5 and what == "stop" and world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if steps == 4 and what == "ruin" and world.rank == 1:
            with torch.no_grad():
                loaded.model.model.norm.weight[0] = float("nan")
        return real(*arguments, **options)

    loop.accumulate_gradient = step  # type: ignore[assignment]
    if what == "disk" and world.is_first:

        def full(*arguments: Any, **options: Any) -> None:
            raise DiskError("the disk is full", where="checkpoints")

        loop.save_checkpoint = full  # type: ignore[assignment]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text()), sys.argv[4])
