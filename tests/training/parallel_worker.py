"""Ranks of a training. Two ways to start them:

`torchrun … parallel_worker.py FOLDER MODEL CONFIG.json WHAT` is one rank, as a user starts it. Without arguments it is
a warm process that forks the ranks for each line of JSON that it reads ({"ranks": n, "folder", "model", "config",
"what"}) with the environment that torchrun would give them, and answers with their exit codes: the same, but quicker.

WHAT is `nothing`, `stop` (rank 1 gets SIGTERM in step 5), `ruin` (in step 4 the weights turn NaN on rank 1) or `disk`
(rank 0 finds the disk full).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft  # noqa: F401
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from conftest import made_rows
from triptych.config.model import ModelConfig
from triptych.config.tune import TuneConfig
from triptych.errors import DiskError, TriptychError
from triptych.models import load_model
from triptych.prompts import render, template_from_text
from triptych.training import TuneRows, World, joined, loop, tune


def rank(folder: Path, model: str, config: dict[str, Any], what: str) -> None:
    """Train as one of the ranks, and write what came of it to `FOLDER.rankN`."""
    torch.set_num_threads(1)
    with joined("cpu") as world:
        loaded = load_model(ModelConfig(name=model, quantize="none", dtype="float32", device="cpu", threads=1))
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


def start(asked: dict[str, Any]) -> list[int]:
    """Fork the ranks and wait for them: their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for number in range(asked["ranks"]):
        pid = os.fork()
        if pid == 0:
            child(number, port, asked)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def child(number: int, port: int, asked: dict[str, Any]) -> None:
    """Become a rank; never returns."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(asked["ranks"])}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(2, 1)
    code = 70
    try:
        rank(Path(asked["folder"]), asked["model"], asked["config"], asked["what"])
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rank(Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text()), sys.argv[4])
    else:
        for line in sys.stdin:
            print(json.dumps(start(json.loads(line))), flush=True)
