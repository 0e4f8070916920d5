"""`--within 10m`: as many test rows, training rows and points of the curve as fit in a time.

    rates: remembered, or timed now on few rows, in as many processes as will compute
    test rows       16 to all: a seeded sample, the same for every cell; more time gives a superset
    training rows   32 to all, a nested sample too; both are at the same place between their least and all, by factors
    points          of the curve: as many as take a quarter of the training's time, at least two

What is chosen becomes part of the settings, so the lock holds it and a resumed run keeps it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from triptych.config.executor import executor_choice
from triptych.config.experiment import ExperimentConfig
from triptych.config.within import seconds_of
from triptych.errors import ConfigError
from triptych.grid.cells import grid
from triptych.grid.rows import ExperimentRows
from triptych.grid.suited import with_prompts
from triptych.models import LoraSettings
from triptych.models.header import read_header
from triptych.models.shape import ModelShape, shape_of
from triptych.plan.calibrate import rates_of
from triptych.plan.memory import Machine, memory_ways
from triptych.plan.rows import CellRows, Gathered, TrainingRows, gather
from triptych.plan.time import Rates, scoring_flops, training_flops
from triptych.plan.tokens import scoring_work, training_work
from triptych.progress import Reporter
from triptych.records.run_files import json_or_none
from triptych.runner.executors.choose import begun_with, choose_processes
from triptych.runner.executors.schedule import makespan
from triptych.runner.folder import RunFolder

LEAST_TEST, LEAST_TRAIN = 16, 32
"""Rows; there are more training rows where more demonstrations are shown."""
MOST_POINTS = 11
_SAMPLED_TEST, _SAMPLED_TRAIN = 96, 256
"""Rows that are rendered to count tokens. Where there are more, their tokens are estimated by proportion."""
_USED = 0.93
"""Share of the time that is planned for: estimates are a little long, and off by some per cent."""
_CURVE = 0.25
"""Share of the training's time that its curve may take."""
_REPORT = 6.0
"""Seconds of reading, checking, and writing the report (measured: 5)."""
_STEPS = 40
"""Of the search for the largest share that fits."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of an experiment is computed."""

    test: int
    train: int
    points: int


def fit_within(
    config: ExperimentConfig,
    out: Path,
    reporter: Reporter,
    *,
    began: float,
    on: str | None = None,
    fresh: bool = False,
) -> ExperimentConfig:
    """The settings with the rows and points that fit in `config.within`; those of the run that was begun in `out`.

    `began`: when the time began to run, as `time.time` has it.

    Raises:
        ConfigError: the smallest possible run takes longer.
        InputError: what a run would refuse.
    """
    within = config.within
    if within is None:
        return config
    if not fresh and (begun := _of_lock(config, out)):
        return begun
    config = with_prompts(config, reporter)
    if config.generate is not None:
        reporter.warn(f"the run may take longer than {within}: how long writing texts takes is not estimated")
    seconds = seconds_of(within)
    header = read_header(config.model)
    shape = shape_of(header.config)
    whole = ExperimentRows.read(config, header, reporter).data
    n_test, n_train = len(whole.test), len(whole.train)
    sampled = Sizes(min(n_test, _SAMPLED_TEST), min(n_train, max(_SAMPLED_TRAIN, _least_train(config))), MOST_POINTS)
    rows = ExperimentRows.read(_sized(config, sampled, n_test, n_train), header)
    work = gather(rows, reporter)
    choice = executor_choice(on)
    processes = choose_processes(choice, rows, begun_with(RunFolder(out)), len(work.cells) + len(work.trainings))
    machine = Machine.of(config, None, processes)
    way = next(way for way in memory_ways(config, shape, work, machine) if way.chosen)
    rates = rates_of(config, shape, work, machine, way.held, reporter, calibrate=False, quickly=True)
    left = seconds * _USED - (time.time() - began)
    estimate = _Estimate(config, shape, work, rates, processes, n_test, n_train, recompute=bool(way.recompute))
    sizes = estimate.largest(left)
    if sizes is None:
        least = estimate.seconds(estimate.sizes(0.0)) / _USED + time.time() - began
        raise ConfigError(
            "the smallest possible run takes longer",
            where="--within",
            found=within,
            expected=f"at least {math.ceil(least)}s: {estimate.least_test} test rows and {estimate.least_train} "
            f"training rows, on this machine as it is now ({rates.said})",
            fix=f"give --within {math.ceil(least / 60 + 0.5)}m, or fewer cells",
        )
    reporter.info(_said(within, sizes, n_test, n_train, estimate.seconds(sizes) + time.time() - began))
    return _sized(config, sizes, n_test, n_train)


class _Estimate:
    """Seconds that an experiment takes at some sizes."""

    def __init__(
        self,
        config: ExperimentConfig,
        shape: ModelShape,
        work: Gathered,
        rates: Rates,
        processes: int,
        n_test: int,
        n_train: int,
        *,
        recompute: bool,
    ) -> None:
        self.config, self.shape, self.work, self.rates, self.processes = config, shape, work, rates, processes
        self.n_test, self.n_train, self.recompute = n_test, n_train, recompute
        self.least_test, self.least_train = min(n_test, LEAST_TEST), min(n_train, _least_train(config))
        self._counted: dict[tuple[str, int], float] = {}
        """Operations a row of a cell, by its name and how many rows were counted; a step of a training."""

    def largest(self, seconds: float) -> Sizes | None:
        """The largest sizes that fit; None if none do."""
        if self.seconds(self.sizes(1.0)) <= seconds:
            return self.sizes(1.0)
        low, high = 0.0, 1.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.seconds(self.sizes(middle)) <= seconds else (low, middle)
            if self.sizes(low) == self.sizes(high):
                break
        sizes = self.sizes(low)
        return sizes if self.seconds(sizes) <= seconds else None

    def sizes(self, share: float) -> Sizes:
        """The sizes at a share from 0, the least, to 1, all rows: they grow with it, one by one."""
        test = _between(self.least_test, self.n_test, share)
        train = _between(self.least_train, self.n_train, share)
        points = 2
        for one in self.work.trainings[:1]:
            point = self._point(one, test)
            points = min(2 + int(_CURVE * self._steps(one, train) / point), MOST_POINTS) if point else MOST_POINTS
        return Sizes(test, train, points)

    def seconds(self, sizes: Sizes) -> float:
        """Until the report is written, from now on."""
        cells = [(cell.training, self._cell(cell, sizes.test)) for cell in self.work.cells]
        trainings = {
            one.spec: self._steps(one, sizes.train) + sizes.points * self._point(one, sizes.test)
            for one in self.work.trainings
        }
        return makespan(cells, trainings, self.processes) + self.rates.loading_seconds + _REPORT

    def _cell(self, cell: CellRows, n_rows: int) -> float:
        if cell.name.startswith("search/"):  # on dev rows, which stay as they are
            n_rows = len(cell.rows)
        rows, options = cell.rows[:n_rows], cell.options and cell.options[:n_rows]
        if (key := (cell.name, len(rows))) not in self._counted:
            self._counted[key] = scoring_flops(self.shape, scoring_work(rows, options)) / max(len(rows), 1)
        return self._counted[key] * n_rows / self.rates.of(cell.kind)

    def _point(self, one: TrainingRows, n_test: int) -> float:
        flops = scoring_flops(self.shape, one.curve_work) / max(one.points * one.rows_per_point, 1)
        return flops * (n_test + len(self.work.data.dev)) / self.rates.of("qlora")

    def _steps(self, one: TrainingRows, n_train: int) -> float:
        tune = self.config.tune.model_copy(update={"seed": one.spec.seed})
        if (key := (one.spec.name, 0)) not in self._counted:
            lora = LoraSettings.of(tune)
            parameters = self.shape.lora_parameters(lora.r, lora.target_modules)
            counted = training_work(one.train, tune.model_copy(update={"epochs": 1, "max_steps": None}))
            flops = training_flops(self.shape, counted, lora_parameters=parameters, recompute=self.recompute)
            self._counted[key] = flops / max(counted.rows / tune.rows_per_step, 1)
        return self._counted[key] * tune.total_steps(n_train) / self.rates.training


def _least_train(config: ExperimentConfig) -> int:
    """Enough to choose demonstrations from, where the test rows among them are left out."""
    return max(LEAST_TRAIN, 2 * max((cell.k for cell in grid(config)), default=0))


def _between(least: int, most: int, share: float) -> int:
    """From `least` to `most`, by equal factors: half way from 16 to 400 is 80."""
    return int(least * (most / max(least, 1)) ** share + 1e-9)


def _sized(config: ExperimentConfig, sizes: Sizes, n_test: int, n_train: int) -> ExperimentConfig:
    data = {
        "test_sample": sizes.test if sizes.test < n_test else config.data.test_sample,
        "train_rows": sizes.train if sizes.train < n_train else config.data.train_rows,
    }
    total = config.tune.total_steps(max(sizes.train, 1))
    every = max(config.tune.eval_every or 1, -(-total // (sizes.points - 1)))
    tune = config.tune.model_copy(update={"eval_every": every})
    return config.model_copy(update={"data": config.data.model_copy(update=data), "tune": tune})


def _of_lock(config: ExperimentConfig, out: Path) -> ExperimentConfig | None:
    """The sizes that a run with the same limit was begun with."""
    lock = json_or_none(RunFolder(out).lock)
    match lock:
        case {"config": {"within": config.within, "data": {**data}, "tune": {**tune}}}:
            rows = {name: data.get(name) for name in ("test_sample", "train_rows")}
            every = {"eval_every": tune.get("eval_every")}
        case _:
            return None
    return config.model_copy(
        update={"data": config.data.model_copy(update=rows), "tune": config.tune.model_copy(update=every)}
    )


def _said(within: str, sizes: Sizes, n_test: int, n_train: int, seconds: float) -> str:
    parts = [_of(sizes.test, n_test, "test rows")]
    if n_train:
        parts.append(_of(sizes.train, n_train, "training rows"))
    return (
        f"within {within}: {', '.join(parts)}, {sizes.points} points of the curve; about {seconds / 60:.1f} min in all"
    )


def _of(n: int, every: int, what: str) -> str:
    return f"all {n} {what}" if n == every else f"{n} of {every} {what} (a seeded sample)"
