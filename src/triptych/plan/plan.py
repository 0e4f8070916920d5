"""`triptych plan`: what an experiment will compute, hold and write, and how long it takes, before any weight is read.

config.json, tokenizer ─► rows rendered as in the run ─► tokens (plan_rows, plan_tokens)
                                                       ├─► memory (plan_memory)     ├─► time (plan_time)
                                                       └─► disk (plan_disk)         └─► what is done already
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from triptych.config.choices import DtypeName
from triptych.config.experiment import ExperimentConfig
from triptych.grid.rows import ExperimentRows
from triptych.likelihood.plan import pass_tokens
from triptych.models import LoraSettings
from triptych.models.device import DTYPES, choose_device, choose_dtype, choose_threads, free_memory
from triptych.models.header import ModelHeader, read_header
from triptych.models.load import choose_weight_storage
from triptych.models.shape import ModelShape, shape_of
from triptych.plan.calibrate import calibrated_rates
from triptych.plan.disk import DiskNeed, disk_needs, is_trained, steps_done
from triptych.plan.memory import MemoryVerdict, memory_need
from triptych.plan.rows import CellRows, Gathered, TrainingRows, gather
from triptych.plan.time import (
    Rates,
    assumed_rates,
    rates_key,
    remember_rates,
    remembered_rates,
    scoring_flops,
    training_flops,
)
from triptych.plan.tokens import Work
from triptych.progress import Reporter, Silent
from triptych.runner.folder import RunFolder
from triptych.training.memory import Held
from triptych.training.recompute import fits_with_room


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
    """All that is said before a run."""

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
    reporter: Reporter | None = None,
) -> Plan:
    """Plan an experiment. Reads no weights, unless it is told to calibrate.

    Args:
        config: what would be run.
        out: the run's folder, which need not exist.
        memory: bytes of the machine it shall run on; None for this one.
        calibrate: load the model and time it.
        reporter: told of progress.

    Raises:
        InputError: what a run would refuse, or a model whose configuration can't be read.
    """
    reporter = reporter or Silent()
    spec = config.model
    header = read_header(spec)
    shape = shape_of(header.config)
    work = gather(ExperimentRows.read(config, header, reporter), reporter)
    machine = _Machine.of(config, memory)
    memory_lines = _memory(config, shape, work, machine)
    rates = _rates(config, shape, work, machine, memory_lines, reporter, calibrate=calibrate)
    folder = RunFolder(out)
    cells = [_cell(cell, shape, rates, folder) for cell in work.cells]
    recompute = any(line.chosen and line.recompute for line in memory_lines)
    trained = [_training(one, config, shape, rates, folder, recompute=recompute) for one in work.trainings]
    parts = [(c.seconds, c.done) for c in cells] + [(t.seconds + t.curve_seconds, t.done) for t in trained]
    left = sum(seconds for seconds, done in parts if not done)
    lora = LoraSettings.of(config.tune)
    return Plan(
        name=config.name,
        out=str(out),
        model={
            "name": spec.name,
            "parameters": shape.parameters,
            "linear_parameters": shape.linear_parameters,
            "adapter_parameters": shape.lora_parameters(lora.r, lora.target_modules) if trained else 0,
            "layers": shape.n_layers,
            "context": shape.max_positions,
            "max_tokens": work.max_tokens,
            "quantize": spec.quantize,
        },
        cells=cells,
        trainings=trained,
        machine=asdict(machine),
        memory=memory_lines,
        disk=disk_needs(config, shape, work, header, out),
        rates=rates,
        seconds=sum(seconds for seconds, _ in parts) + rates.loading_seconds,
        seconds_left=left + (rates.loading_seconds if left else 0),
        warnings=_warnings(work, memory_lines, header),
    )


@dataclass(frozen=True)
class _Machine:
    """What it would run on."""

    device: str
    dtype: DtypeName
    dtype_reason: str
    threads: int
    named: bool
    memory: int
    """Bytes in all; of the machine that was named, if one was."""
    free: int

    @classmethod
    def of(cls, config: ExperimentConfig, memory: int | None) -> _Machine:
        device = choose_device(config.model.device)
        dtype, why = choose_dtype(config.model.dtype, device)
        threads = choose_threads(config.model.threads, DTYPES[dtype])[0] if device.type == "cpu" else 0
        here = _memory_of(device)
        return cls(str(device), dtype, why, threads, memory is not None, memory or here, memory or free_memory(device))

    @property
    def gpu(self) -> bool:
        return self.device.startswith("cuda")


def _memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    import psutil

    return int(psutil.virtual_memory().total)


def _memory(config: ExperimentConfig, shape: ModelShape, work: Gathered, machine: _Machine) -> list[MemoryVerdict]:
    """Every way to hold the model; the run's own choice first among equals."""
    import psutil

    spec = config.model
    itemsize = DTYPES[machine.dtype].itemsize
    process = int(psutil.Process().memory_info().rss)
    # a machine that was named has nothing on it yet; here, what this process holds would be held by the run as well
    available = machine.free + (0 if machine.named or machine.gpu else process)
    scoring = sum((cell.work for cell in work.cells), sum((t.curve_work for t in work.trainings), Work()))
    training = max((t.largest for t in work.trainings), key=lambda size: size.tokens + size.places, default=None)
    held_ways: list[Held] = {"none": ["plain"], "int8": ["packed"]}.get(spec.quantize, ["dequantized", "packed"])  # type: ignore[assignment]
    device = "cuda" if machine.gpu else "cpu"
    chosen = choose_weight_storage(spec, shape.parameters * itemsize, device, machine.free)
    lines = []
    for held in held_ways:
        for recompute in (False, True) if training else (False,):
            need = memory_need(
                shape,
                held,
                quantize=spec.quantize,
                double_quant=spec.double_quant,
                dtype=machine.dtype,
                process=process,
                scoring=scoring,
                budget=pass_tokens(shape, machine.free, device),
                training=training,
                tune=config.tune,
                recompute=recompute,
                gpu=machine.gpu,
            )
            lines.append(MemoryVerdict(held, recompute if training else None, need, available, chosen=False))
    return _with_chosen(lines, chosen, config.tune.activation_checkpointing)


def _with_chosen(lines: list[MemoryVerdict], held: str, recompute: str) -> list[MemoryVerdict]:
    mine = [line for line in lines if line.held == held]
    wanted = mine[0]
    free = wanted.available - wanted.need.process - wanted.need.weights
    too_little = not fits_with_room(wanted.need.training, free)
    if wanted.recompute is not None and (recompute == "on" or (recompute == "auto" and too_little)):
        wanted = mine[-1]
    return [dataclasses.replace(line, chosen=line is wanted) for line in lines]


def _rates(
    config: ExperimentConfig,
    shape: ModelShape,
    work: Gathered,
    machine: _Machine,
    memory: list[MemoryVerdict],
    reporter: Reporter,
    *,
    calibrate: bool,
) -> Rates:
    held = next(line.held for line in memory if line.chosen)
    key = rates_key(
        shape,
        quantize=config.model.quantize,
        held=held,
        dtype=machine.dtype,
        device=_device_name(machine),
        threads=config.model.threads,
    )
    if calibrate:
        rates = calibrated_rates(config, shape, work, reporter)
        remember_rates(key, rates)
        return rates
    known = remembered_rates(key)
    if known and (known.training or not work.trainings):
        return known
    return assumed_rates(torch.device(machine.device), machine.dtype)


def _device_name(machine: _Machine) -> str:
    return torch.cuda.get_device_name(torch.device(machine.device)) if machine.gpu else "cpu"


def _cell(cell: CellRows, shape: ModelShape, rates: Rates, folder: RunFolder) -> PlannedCell:
    work = cell.work
    known = folder.load_cell(cell.name)
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
        done=known is not None and len(known.items) == work.rows,
    )


def _training(
    one: TrainingRows,
    config: ExperimentConfig,
    shape: ModelShape,
    rates: Rates,
    folder: RunFolder,
    *,
    recompute: bool,
) -> PlannedTraining:
    lora = LoraSettings.of(config.tune)
    adapter = shape.lora_parameters(lora.r, lora.target_modules)
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
        rows_per_point=len(one.curve),
        curve_forward_tokens=one.curve_work.forward,
        exact=one.exact,
        seconds=flops / rates.training,
        curve_seconds=scoring_flops(shape, one.curve_work) / rates.of("qlora"),
        steps_done=steps_done(folder.tune_of(one.spec)),
        done=is_trained(folder, one.spec),
    )


def _warnings(work: Gathered, memory: list[MemoryVerdict], header: ModelHeader) -> list[str]:
    said = list(work.data.warnings)
    if header.to_download or header.to_unpack:
        said.append(
            f"the first use {'downloads' if header.to_download else 'unpacks'} the weights: not in the time above"
        )
    if dropped := sum(cell.demos_dropped for cell in work.cells):
        said.append(f"{dropped} demonstrations don't fit {work.max_tokens} tokens and would be left out")
    for one in work.trainings:
        if one.too_long:
            said.append(f"training {one.spec.name}: {one.too_long} rows are too long and would be left out")
        if not one.train:
            said.append(f"training {one.spec.name}: no row is short enough to train on")
    chosen = next(line for line in memory if line.chosen)
    if not chosen.fits:
        others = [line for line in memory if line.fits]
        way = (
            f"`model.hold: {others[0].held}`"
            + (" and `tune.activation_checkpointing: on`" if others[0].recompute else "")
            if others
            else "a smaller model, a lower tune.tokens_per_pass, or a machine with more memory"
        )
        said.append(f"memory is too small for the run as it is set: try {way}")
    return said
