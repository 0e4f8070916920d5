"""How fast an experiment is computed: timed on the model itself (some rows of each kind of cell, and a few training
steps, as the run will compute them), remembered, or assumed.
"""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch

from triptych.config.experiment import ExperimentConfig
from triptych.config.tune import TuneConfig
from triptych.errors import TriptychError
from triptych.likelihood.score import Scorer
from triptych.models import LoadedModel, LoraSettings, attach_adapter, identify, load_model
from triptych.models.device import choose_device
from triptych.models.shape import ModelShape
from triptych.plan.memory import Machine
from triptych.plan.rows import CellRows, Gathered, TrainingRows
from triptych.plan.time import (
    Rates,
    assumed_rates,
    rates_key,
    remember_rates,
    remembered_rates,
    scoring_flops,
    training_flops,
)
from triptych.plan.tokens import scoring_work, training_work
from triptych.progress import Reporter, Silent
from triptych.runner.executors.processes import start_process
from triptych.training.optimizer import adamw
from triptych.training.recompute import recomputed
from triptych.training.step import accumulate_gradient, rows_of_step

_PASSES = 2
"""Full passes that are timed of each kind of cell."""
_STEPS = 2
_WARM_UP = 2
"""Rows of a first step that isn't counted, where only one is."""


def rates_of(
    config: ExperimentConfig,
    shape: ModelShape,
    work: Gathered,
    machine: Machine,
    held: str,
    reporter: Reporter,
    *,
    calibrate: bool,
    quickly: bool = False,
) -> Rates:
    """The rates of this machine with the weights stored so: timed now if `calibrate`, and remembered.

    With `quickly`, those that are not remembered are timed on few rows.
    """
    device, spec = torch.device(machine.device), config.model
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    key = rates_key(
        shape,
        quantize=spec.quantize,
        held=held,
        dtype=machine.dtype,
        device=name,
        threads=spec.threads,
        processes=machine.processes,
    )
    remembered = remembered_rates(key)
    if remembered and not remembered.training and work.trainings:
        remembered = None
    if calibrate or (remembered is None and quickly):
        rates = _in_processes(config, shape, work, machine.processes, reporter, quickly=not calibrate)
        remember_rates(key, rates)
        return rates
    return remembered or assumed_rates(device, machine.dtype)


def _in_processes(
    config: ExperimentConfig, shape: ModelShape, work: Gathered, processes: int, reporter: Reporter, *, quickly: bool
) -> Rates:
    """Rates as each of several processes has them while all compute; in this process where it is one."""
    if processes == 1:
        return calibrated_rates(config, shape, work, reporter, quickly=quickly)
    spec = config.model.model_copy(update={"threads": config.model.threads or 1})
    arguments = (config.model_copy(update={"model": spec}), shape, work, quickly)
    reporter.info(f"timing passes and steps in {processes} processes")
    identify(spec)  # unpacks and hashes, once for all of them
    started = [start_process(_send_rates, *arguments, name=f"triptych-timing-{n}") for n in range(processes)]
    each: list[Rates] = []
    for process, pipe in started:
        try:
            answer = pipe.recv()
        except EOFError as error:
            raise TriptychError(f"a process that timed the model ended (exit code {process.exitcode})") from error
        if isinstance(answer, BaseException):
            raise answer
        each.append(answer)
    for process, _ in started:
        process.join()
    scoring = {kind: fmean(rates.scoring[kind] for rates in each) for kind in each[0].scoring}
    return replace(
        each[0],
        said=f"{each[0].said}, in {processes} processes at the same time",
        training=fmean(rates.training for rates in each),
        scoring=scoring,
        loading_seconds=max(rates.loading_seconds for rates in each),
    )


def _send_rates(pipe: Any, config: ExperimentConfig, shape: ModelShape, work: Gathered, quickly: bool) -> None:
    """What a process that times the model runs."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # the run's own processes say it
    try:
        pipe.send(calibrated_rates(config, shape, work, Silent(), quickly=quickly))
    except BaseException as error:
        pipe.send(error)


def calibrated_rates(
    config: ExperimentConfig, shape: ModelShape, work: Gathered, reporter: Reporter, *, quickly: bool = False
) -> Rates:
    """Load the model and time it on the experiment's own rows.

    Cells of one kind (strategy, number of demonstrations) are taken to run alike: one of each is timed, on rows spread
    over its whole. With `quickly`, it is the kinds with the fewest and the most demonstrations, on few rows, and one
    training step.
    """
    identify(config.model)  # unpacks and hashes, once for all times
    if config.model.quantize == "nf4" and choose_device(config.model.device).type == "cpu":
        load_model(config.model)  # dequantizes, once for all times too
    began = time.perf_counter()
    loaded = load_model(config.model)
    scorer = Scorer(loaded)
    loading = time.perf_counter() - began
    kinds = {cell.kind: cell for cell in reversed(work.cells)}
    base = [cell for cell in kinds.values() if not cell.with_adapter]
    trained = [cell for cell in kinds.values() if cell.with_adapter and not quickly]
    passes, steps = (_PASSES, _STEPS) if not quickly else (_PASSES / 4, 0)
    if quickly:
        base = sorted(base, key=lambda cell: cell.work.forward / max(cell.work.rows, 1))
        base = base[:1] + base[1:][-1:]
    rates: dict[str, float] = {}
    training = 0.0
    with reporter.task("timing passes and steps", len(kinds) + len(work.trainings[:1]), unit="kinds") as advance:
        for cell in base:
            rates[cell.kind] = _scoring_rate(scorer, shape, cell, passes)
            advance(1)
        if work.trainings and work.trainings[0].train:
            training = _training_rate(config.tune, shape, work.trainings[0], scorer, steps)
            advance(1)
            for cell in trained:  # the adapter is on now
                rates[cell.kind] = _scoring_rate(scorer, shape, cell, passes)
                advance(1)
    rates["any"] = min(rates.values(), default=training)
    n_kinds, n_steps = len(base) + len(trained), (steps or 1) if training else 0
    said = f"calibrated: passes of {n_kinds} kinds of cell and {n_steps} step{'s' * (n_steps != 1)} timed now"
    return Rates("calibrated", said, training, rates, loading)


def _scoring_rate(scorer: Scorer, shape: ModelShape, cell: CellRows, passes: float) -> float:
    every = max(1, round(cell.work.forward / (passes * scorer.budget)))
    rows = cell.rows[::every]  # spread over all of them
    scorer.score(rows[: max(1, len(rows) // 8)])  # the first passes warm up
    began = time.perf_counter()
    scorer.score(rows)
    _wait(scorer.loaded)
    return scoring_flops(shape, scoring_work(rows)) / (time.perf_counter() - began)


def _training_rate(tune: TuneConfig, shape: ModelShape, training: TrainingRows, scorer: Scorer, n_steps: int) -> float:
    loaded = scorer.loaded
    adapter = attach_adapter(loaded, LoraSettings.of(tune), seed=tune.seed)
    optimizer = adamw(adapter, tune)
    recompute = tune.activation_checkpointing == "on"
    steps = [
        [training.train[i] for i in rows_of_step(n, len(training.train), tune.rows_per_step, tune.seed)]
        for n in range(min(training.steps, n_steps + 1))
    ]
    if len(steps) == 1:
        steps.insert(0, steps[0][:_WARM_UP])
    flops = seconds = 0.0
    for number, rows in enumerate(steps):
        began = time.perf_counter()
        with recomputed(adapter.model, on=recompute, random=tune.dropout > 0):
            accumulate_gradient(
                loaded,
                scorer.head,
                rows,
                max_rows=tune.batch_size,
                max_tokens=tune.tokens_per_pass,
                share_prefix=not tune.dropout,
                packed=scorer.packed,
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(loaded)
        if number:  # the first one warms up and makes the optimizer's moments
            one = tune.model_copy(update={"max_steps": 1})
            lora = sum(p.numel() for p in adapter.parameters().values())
            flops += training_flops(shape, training_work(rows, one), lora_parameters=lora, recompute=recompute)
            seconds += time.perf_counter() - began
    return flops / seconds


def _wait(loaded: LoadedModel) -> None:
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
