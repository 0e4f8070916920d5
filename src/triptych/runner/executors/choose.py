"""How many processes compute a run.

    named (`--on local:4`)      so many, if memory holds them
    resumed                     as the lock says
    a CPU                       one of one thread for each core, as far as memory and the number of tasks allow
    GPUs                        one for each GPU that is free to use

One process with all threads is left where there is one task, one core or one GPU, under `torchrun`, and where files
can't be locked, which processes that write in one folder need.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import torch

from triptych.config.executor import VARIABLE, ExecutorChoice, cores
from triptych.errors import ConfigError
from triptych.grid.cells import CellSpec, needs_vectors, trainings
from triptych.grid.renderer import NO_LIMIT
from triptych.grid.rows import ExperimentRows
from triptych.likelihood.plan import pass_bytes, pass_tokens
from triptych.models.device import DTYPES, choose_device, choose_dtype, free_memory, visible_gpus
from triptych.models.header import model_config
from triptych.models.load import choose_weight_storage
from triptych.models.shape import ModelShape, shape_of
from triptych.models.source import header_folder
from triptych.records.disk import is_there
from triptych.records.file_lock import can_lock
from triptych.records.manifest import shared_manifest
from triptych.records.process_lock import WORKERS_LOCK
from triptych.records.run_files import json_or_none
from triptych.runner.executors.base import Executor
from triptych.runner.executors.inline import Inline
from triptych.runner.executors.local import LocalWorkers
from triptych.runner.executors.messages import Setting
from triptych.runner.executors.processes import start_server
from triptych.runner.folder import RunFolder
from triptych.runner.session import RunContext
from triptych.runner.tasks import OnCurve
from triptych.training import World
from triptych.training.memory import Held, PassSize, bytes_of_training, weight_bytes

_SAMPLED = 128
"""Training rows that are rendered to know how long a pass is."""
_LONGER = 1.5
"""Times the mean length of the sampled rows: the rows of the largest pass."""


def prepare_workers(choice: ExecutorChoice, world: World, out: Path) -> None:
    """Let worker processes import what they need while the run is prepared, if it is likely to have some."""
    likely = choice.processes or (1 if is_there(out / "results.json") else cores())
    if likely > 1 and world.size == 1:
        start_server()


def choose_executor(
    choice: ExecutorChoice,
    run: RunContext,
    world: World,
    cells: Sequence[CellSpec],
    n_tasks: int,
    on_curve: OnCurve,
    *,
    scores: Path | None,
    stack: ExitStack,
) -> Executor:
    """The executor of a run that has `n_tasks` left; what it needs until the run's end is entered into `stack`.

    Raises:
        ConfigError: the one that was named can't be had here.
    """
    if world.size > 1 and (choice.processes or 1) > 1:
        raise ConfigError(
            "under torchrun the processes of the group share each training, and there are no others",
            where=f"--on or {VARIABLE}",
            found=f"{choice}, WORLD_SIZE={world.size}",
            fix="leave --on out, or start without torchrun",
        )
    session, folder = run.session, run.folder.path
    count = choose_processes(choice, run.rows, session.runtime_choices, n_tasks) if world.size == 1 else 1
    if count > 1 and not can_lock(folder / WORKERS_LOCK):
        if choice.processes is not None:
            raise ConfigError(
                "several processes can't write in this folder: its file system has no file locks",
                where=str(folder),
                found=f"--on {choice}",
                fix="give --on local:1, or a folder on a local disk with --out",
            )
        count = 1
    if count == 1:
        return Inline(run, world, on_curve)
    if not session.begun:
        session.begin_as({**session.runtime_choices, "threads": run.config.model.threads or 1, "processes": count}, {})
    stack.enter_context(shared_manifest(folder))
    setting = Setting(run.config, tuple(cells), folder, scores, session.runtime_choices, Path.cwd(), dict(os.environ))
    on_gpus = choose_device(run.config.model.device).type == "cuda"
    threads = session.runtime_choices.get("threads")
    each = "one thread" if threads == 1 else f"{threads} threads"
    run.reporter.info(f"computing on {count} GPUs" if on_gpus else f"computing in {count} processes, of {each} each")
    return LocalWorkers(count, setting, session, run.reporter, on_curve, visible_gpus() if on_gpus else ())


def choose_processes(choice: ExecutorChoice, rows: ExperimentRows, begun_with: Mapping[str, Any], n_tasks: int) -> int:
    """The number of processes for `n_tasks`; `begun_with`: the runtime choices in the lock, empty for a new run.

    Raises:
        ConfigError: memory doesn't hold the number that was asked for.
    """
    model = rows.config.model
    if choice.processes == 1:
        return 1
    if choice.processes is None and "dtype" in begun_with:
        return int(begun_with.get("processes", 1))
    if choose_device(model.device).type == "cuda":
        most = torch.cuda.device_count() if model.device in ("auto", "cuda") else 1
        return choice.processes or min(most, max(n_tasks, 1))
    each, once = _bytes_each(rows)
    available = free_memory(torch.device("cpu"))
    fit = max(1, int((available - once) // each))
    if choice.processes is None:
        return min(max(1, cores() // (model.threads or 1)), fit, max(n_tasks, 1))
    if choice.processes > fit:
        raise ConfigError(
            "memory doesn't hold so many processes",
            where=f"--on or {VARIABLE}",
            found=f"local:{choice.processes}, about {(choice.processes * each + once) / 1e9:.1f} GB",
            expected=f"at most local:{fit}: {available / 1e9:.1f} GB are free, and one takes about {each / 1e9:.1f} GB",
            fix=f"give --on local:{fit}, or --on auto",
        )
    return choice.processes


def begun_with(folder: RunFolder) -> Mapping[str, Any]:
    """The runtime choices in a run's lock; empty where no run was begun."""
    lock = json_or_none(folder.lock)
    chosen = lock.get("chosen") if isinstance(lock, dict) else None
    return chosen if isinstance(chosen, dict) else {}


def _bytes_each(rows: ExperimentRows) -> tuple[int, int]:
    """Bytes that each worker process takes on a CPU at its peak, and those that all of them share."""
    spec, device = rows.config.model, torch.device("cpu")
    shape = shape_of(model_config(header_folder(spec), name=spec.name))
    dtype, _ = choose_dtype(spec.dtype, device)
    itemsize = DTYPES[dtype].itemsize
    free = free_memory(device)
    held: Held = choose_weight_storage(spec, shape.parameters * itemsize, "cpu", free)  # type: ignore[assignment]
    weights = weight_bytes(shape, dtype, held, double_quant=spec.double_quant)
    scoring = pass_bytes(shape, pass_tokens(shape, free, "cpu"), itemsize, "cpu")
    each = psutil.Process().memory_info().rss + max(scoring, _training_bytes(rows, shape, dtype, held))
    return (each, weights) if held == "dequantized" else (each + weights, 0)  # those are mapped from the cache


def _training_bytes(rows: ExperimentRows, shape: ModelShape, dtype: str, held: Held) -> int:
    specs, tune = trainings(rows.config), rows.config.tune
    if not specs:
        return 0
    tokens, scored = tune.tokens_per_pass, tune.tokens_per_pass // 2
    if not any(map(needs_vectors, specs)):
        sampled = [rows.row(specs[0], row, NO_LIMIT) for row in rows.data.train[:_SAMPLED]]
        tokens = min(tokens, _of_pass([len(row.ids) for row in sampled], tune.batch_size))
        scored = min(scored, _of_pass([row.n_scored for row in sampled], tune.batch_size))
    size = PassSize(tokens, scored, min(tune.batch_size, tokens))
    need = bytes_of_training(shape, size, tune, dtype=dtype, held=held, device="cpu")
    return need.adapter + need.step


def _of_pass(lengths: Sequence[int], batch_size: int) -> int:
    return round(_LONGER * batch_size * sum(lengths) / max(len(lengths), 1))
