"""How fast an experiment is computed: timed on the model itself (some rows of each kind of cell, and a few training
steps, as the run will compute them), remembered, or assumed.
"""

from __future__ import annotations

import time

import torch

from triptych.config.experiment import ExperimentConfig
from triptych.config.tune import TuneConfig
from triptych.likelihood.score import Scorer
from triptych.models import LoadedModel, LoraSettings, attach_adapter, identify, load_model
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
from triptych.progress import Reporter
from triptych.training.optimizer import adamw
from triptych.training.recompute import recomputed
from triptych.training.step import accumulate_gradient, rows_of_step

_PASSES = 2
"""Full passes that are timed of each kind of cell."""
_STEPS = 2


def rates_of(
    config: ExperimentConfig,
    shape: ModelShape,
    work: Gathered,
    machine: Machine,
    held: str,
    reporter: Reporter,
    *,
    calibrate: bool,
) -> Rates:
    """The rates of this machine with the weights stored so; timed now if `calibrate`, and remembered."""
    device, spec = torch.device(machine.device), config.model
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    key = rates_key(shape, quantize=spec.quantize, held=held, dtype=machine.dtype, device=name, threads=spec.threads)
    if calibrate:
        rates = calibrated_rates(config, shape, work, reporter)
        remember_rates(key, rates)
        return rates
    remembered = remembered_rates(key)
    if remembered and (remembered.training or not work.trainings):
        return remembered
    return assumed_rates(device, machine.dtype)


def calibrated_rates(config: ExperimentConfig, shape: ModelShape, work: Gathered, reporter: Reporter) -> Rates:
    """Load the model and time it on the experiment's own rows.

    Cells of one kind (strategy, number of demonstrations) are taken to run alike: one of each is timed, on rows spread
    over its whole.
    """
    identify(config.model)  # unpacks and hashes, once for all times
    began = time.perf_counter()
    loaded = load_model(config.model)
    scorer = Scorer(loaded)
    loading = time.perf_counter() - began
    kinds = {cell.kind: cell for cell in reversed(work.cells)}
    base = [cell for cell in kinds.values() if not cell.with_adapter]
    trained = [cell for cell in kinds.values() if cell.with_adapter]
    rates: dict[str, float] = {}
    training = 0.0
    with reporter.task("timing passes and steps", len(kinds) + len(work.trainings[:1]), unit="kinds") as advance:
        for cell in base:
            rates[cell.kind] = _scoring_rate(scorer, shape, cell)
            advance(1)
        if work.trainings and work.trainings[0].train:
            training = _training_rate(config.tune, shape, work.trainings[0], scorer)
            advance(1)
            for cell in trained:  # the adapter is on now
                rates[cell.kind] = _scoring_rate(scorer, shape, cell)
                advance(1)
    rates["any"] = min(rates.values(), default=training)
    said = f"calibrated: passes of {len(kinds)} kinds of cell and {_STEPS if training else 0} steps timed now"
    return Rates("calibrated", said, training, rates, loading)


def _scoring_rate(scorer: Scorer, shape: ModelShape, cell: CellRows) -> float:
    every = max(1, round(cell.work.forward / (_PASSES * scorer.budget)))
    rows = cell.rows[::every]  # spread over all of them
    scorer.score(rows[: max(1, len(rows) // 8)])  # the first passes warm up
    began = time.perf_counter()
    scorer.score(rows)
    _wait(scorer.loaded)
    return scoring_flops(shape, scoring_work(rows)) / (time.perf_counter() - began)


def _training_rate(tune: TuneConfig, shape: ModelShape, training: TrainingRows, scorer: Scorer) -> float:
    loaded = scorer.loaded
    adapter = attach_adapter(loaded, LoraSettings.of(tune), seed=tune.seed)
    optimizer = adamw(adapter, tune)
    recompute = tune.activation_checkpointing == "on"
    steps = [
        [training.train[i] for i in rows_of_step(n, len(training.train), tune.rows_per_step, tune.seed)]
        for n in range(min(training.steps, _STEPS + 1))
    ]
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
        if number or len(steps) == 1:  # the first one warms up and makes the optimizer's moments
            one = tune.model_copy(update={"max_steps": 1})
            lora = sum(p.numel() for p in adapter.parameters().values())
            flops += training_flops(shape, training_work(rows, one), lora_parameters=lora, recompute=recompute)
            seconds += time.perf_counter() - began
    return flops / seconds


def _wait(loaded: LoadedModel) -> None:
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
