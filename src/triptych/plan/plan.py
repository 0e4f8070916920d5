"""`triptych plan`: what an experiment computes, stores and writes, and how long it takes, before any weight is read.

config.json, tokenizer ─► rows rendered as in the run ─► tokens (rows, tokens)
                                                       ├─► memory              ├─► time (calibrate, time)
                                                       └─► disk                └─► what is done already
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.config.executor import executor_choice
from triptych.config.experiment import ExperimentConfig
from triptych.grid.rows import ExperimentRows
from triptych.grid.suited import with_prompts
from triptych.models import LoraSettings
from triptych.models.header import ModelHeader, read_header
from triptych.models.shape import ModelShape, shape_of
from triptych.plan.calibrate import rates_of
from triptych.plan.disk import DiskNeed, disk_needs, training_done
from triptych.plan.memory import Machine, MemoryVerdict, memory_ways
from triptych.plan.rows import CellRows, Gathered, TrainingRows, gather
from triptych.plan.time import Rates, scoring_flops, training_flops
from triptych.progress import Reporter, Silent
from triptych.runner.executors.choose import begun_with, choose_processes
from triptych.runner.executors.schedule import makespan
from triptych.runner.folder import RunFolder


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell, or a part of a search."""

    name: str
    rows: int
    tokens: int
    """Of its rows, each counted whole."""
    forward_tokens: int
    """That are computed: shared prefixes once."""
    scored_tokens: int
    longest: int
    demos_dropped: int
    exact: bool
    """False where demonstrations can't be chosen without the model."""
    seconds: float
    done: bool


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """A training with its learning curve."""

    name: str
    rows: int
    rows_too_long: int
    steps: int
    tokens: int
    """Of all steps, each row counted whole: `tokens` of the training's summary."""
    forward_tokens: int
    scored_tokens: int
    trainable_parameters: int
    points: int
    rows_per_point: int
    curve_forward_tokens: int
    exact: bool
    seconds: float
    """Of the steps."""
    curve_seconds: float
    steps_done: int
    done: bool


@dataclass(frozen=True)
class Plan:
    """What `triptych plan` shows."""

    name: str
    out: str
    model: dict[str, Any]
    cells: list[PlannedCell]
    trainings: list[PlannedTraining]
    machine: dict[str, Any]
    memory: list[MemoryVerdict]
    disk: list[DiskNeed]
    rates: Rates
    seconds: float
    """Of all of it."""
    seconds_left: float
    """Of what isn't done."""
    warnings: list[str]

    def record(self) -> dict[str, Any]:
        """For programs: everything as plain values."""
        plain = asdict(self)
        for verdict, line in zip(self.memory, plain["memory"], strict=True):
            line["need"]["peak"] = verdict.need.peak
            line["fits"] = verdict.fits
        for need, line in zip(self.disk, plain["disk"], strict=True):
            line["fits"] = need.fits
        return plain


def plan_experiment(
    config: ExperimentConfig,
    out: Path,
    *,
    memory: int | None = None,
    calibrate: bool = False,
    on: str | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """Plan an experiment. Reads no weights, unless `calibrate` is set.

    Args:
        config: what would be run.
        out: the run's folder, which need not exist.
        memory: bytes of the machine to plan for; None for this one.
        calibrate: load the model and time it.
        on: the executor, as `runner.run.run_experiment` takes it.
        reporter: told of progress.

    Raises:
        InputError: what a run would refuse, or a model whose configuration can't be read.
    """
    reporter = reporter or Silent()
    config = with_prompts(config, reporter)
    spec = config.model
    header = read_header(spec)
    shape = shape_of(header.config)
    rows = ExperimentRows.read(config, header, reporter)
    work = gather(rows, reporter)
    n_tasks = len(work.cells) + len(work.trainings)
    processes = choose_processes(executor_choice(on), rows, begun_with(RunFolder(out)), n_tasks)
    machine = Machine.of(config, memory, processes)
    ways = memory_ways(config, shape, work, machine)
    chosen = next(way for way in ways if way.chosen)
    rates = rates_of(config, shape, work, machine, chosen.held, reporter, calibrate=calibrate)
    folder, lora = RunFolder(out), LoraSettings.of(config.tune)
    adapter = shape.lora_parameters(lora.r, lora.target_modules)
    cells = [_cell(cell, shape, rates, folder) for cell in work.cells]
    recompute = bool(chosen.recompute)
    trained = [_training(one, adapter, shape, rates, folder, recompute=recompute) for one in work.trainings]
    left = _seconds(cells, trained, work, machine.processes, left=True)
    return Plan(
        name=config.name,
        out=str(out),
        model={
            "name": spec.name,
            "parameters": shape.parameters,
            "linear_parameters": shape.linear_parameters,
            "adapter_parameters": adapter if trained else 0,
            "layers": shape.n_layers,
            "context": shape.max_positions,
            "max_tokens": work.max_tokens,
            "quantize": spec.quantize,
        },
        cells=cells,
        trainings=trained,
        machine=asdict(machine),
        memory=ways,
        disk=disk_needs(config, shape, work, header, out),
        rates=rates,
        seconds=_seconds(cells, trained, work, machine.processes, left=False) + rates.loading_seconds,
        seconds_left=left + (rates.loading_seconds if left else 0),
        warnings=_warnings(work, ways, chosen, header),
    )


def _seconds(
    cells: Sequence[PlannedCell], trained: Sequence[PlannedTraining], work: Gathered, processes: int, *, left: bool
) -> float:
    """Seconds of all, or of what is left; of a training of which some steps are done, all are counted."""
    counted = [
        (rows.training, cell.seconds) for cell, rows in zip(cells, work.cells, strict=True) if not (left and cell.done)
    ]
    training = {
        rows.spec: one.seconds + one.curve_seconds
        for one, rows in zip(trained, work.trainings, strict=True)
        if not (left and one.done)
    }
    return makespan(counted, training, processes)


def _cell(cell: CellRows, shape: ModelShape, rates: Rates, folder: RunFolder) -> PlannedCell:
    work = cell.work
    scored = folder.load_cell(cell.name)
    return PlannedCell(
        name=cell.name,
        rows=work.rows,
        tokens=work.plain,
        forward_tokens=work.forward,
        scored_tokens=work.scored,
        longest=work.longest,
        demos_dropped=cell.demos_dropped,
        exact=cell.exact,
        seconds=scoring_flops(shape, work) / rates.of(cell.kind),
        done=scored is not None and len(scored.items) == work.rows,
    )


def _training(
    one: TrainingRows, adapter: int, shape: ModelShape, rates: Rates, folder: RunFolder, *, recompute: bool
) -> PlannedTraining:
    steps, done = training_done(folder, one.spec)
    flops = training_flops(shape, one.work, lora_parameters=adapter, recompute=recompute)
    return PlannedTraining(
        name=one.spec.name,
        rows=len(one.train),
        rows_too_long=one.too_long,
        steps=one.steps,
        tokens=one.work.plain,
        forward_tokens=one.work.forward,
        scored_tokens=one.work.scored,
        trainable_parameters=adapter,
        points=one.points,
        rows_per_point=one.rows_per_point,
        curve_forward_tokens=one.curve_work.forward,
        exact=one.exact,
        seconds=flops / rates.training,
        curve_seconds=scoring_flops(shape, one.curve_work) / rates.of("qlora"),
        steps_done=steps,
        done=done,
    )


def _warnings(work: Gathered, ways: list[MemoryVerdict], chosen: MemoryVerdict, header: ModelHeader) -> list[str]:
    warnings = list(work.data.warnings)
    if header.to_download or header.to_unpack:
        verb = "downloads" if header.to_download else "unpacks"
        warnings.append(f"the first use {verb} the weights: not in the time above")
    if dropped := sum(cell.demos_dropped for cell in work.cells):
        warnings.append(f"{dropped} demonstrations don't fit {work.max_tokens} tokens and would be left out")
    for one in work.trainings:
        if one.too_long:
            warnings.append(f"training {one.spec.name}: {one.too_long} rows are too long and would be left out")
        if not one.train:
            warnings.append(f"training {one.spec.name}: no row is short enough to train on")
    if not chosen.fits:
        advice = "a smaller model, a lower tune.tokens_per_pass, or a machine with more memory"
        if other := next((way for way in ways if way.fits), None):
            also = " and `tune.activation_checkpointing: on`" if other.recompute else ""
            advice = f"`model.hold: {other.held}`{also}"
        warnings.append(f"memory is too small for the run as it is set: try {advice}")
    return warnings
