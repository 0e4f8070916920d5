"""What a worker process and the main process tell each other, over a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.experiment import ExperimentConfig
from triptych.grid.cells import CellSpec, TrainingSpec
from triptych.records import CurvePoint
from triptych.runner.tasks import Outcome, Task


@dataclass(frozen=True, slots=True)
class Setting:
    """What a worker prepares its run from."""

    config: ExperimentConfig
    cells: tuple[CellSpec, ...]
    out: Path
    scores: Path | None
    runtime_choices: Mapping[str, Any]
    folder: Path
    """The current folder, which relative paths begin at."""
    environment: Mapping[str, str]
    """Variables. The fork server has those, and the folder, of the moment when it was started."""


@dataclass(frozen=True, slots=True)
class Compute:
    """To a worker: a task, and what the run chose when it began; both are empty until a worker has loaded the model."""

    task: Task
    runtime_choices: Mapping[str, Any]
    begun: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Begun:
    """From a worker: the model is loaded, and this is how it computes."""

    runtime_choices: Mapping[str, Any]
    begun: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """From a worker: a task's outcome."""

    outcome: Outcome
    peak_memory: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker: its task, or its preparation, raised this; the worker ends."""

    error: BaseException
    traceback: str


@dataclass(frozen=True, slots=True)
class TaskBegun:
    """From a worker: progress of `total` units begins (`Reporter.task`)."""

    number: int
    title: str
    total: int
    done: int
    unit: str


@dataclass(frozen=True, slots=True)
class TaskAdvanced:
    """From a worker: so many units more."""

    number: int
    units: int


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """From a worker: this progress is at its end."""

    number: int


@dataclass(frozen=True, slots=True)
class Said:
    """From a worker: a message of its reporter."""

    text: str
    warning: bool


@dataclass(frozen=True, slots=True)
class Logged:
    """From a worker: a line for the run's log, as a library's or a module's logger had it."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class CurveGrew:
    """From a worker: a training has a new point; `points` is its whole curve."""

    training: TrainingSpec
    points: Sequence[CurvePoint]


Message = Begun | Done | Failed | TaskBegun | TaskAdvanced | TaskEnded | Said | Logged | CurveGrew
