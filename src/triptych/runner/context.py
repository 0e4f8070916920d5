"""What every step of a run works with, made by `prepare` when all input was checked."""

from __future__ import annotations

from dataclasses import dataclass

from triptych.config.experiment import ExperimentConfig
from triptych.grid.cells import TrainingSpec
from triptych.grid.rows import ExperimentRows
from triptych.models import Adapter
from triptych.progress import Reporter
from triptych.runner.folder import FinishedCell, RunFolder
from triptych.runner.made_from import RunFacts
from triptych.runner.session import Session


@dataclass(frozen=True)
class RunContext:
    """One run's rows, model, folder and finished cells."""

    config: ExperimentConfig
    folder: RunFolder
    reporter: Reporter
    rows: ExperimentRows
    session: Session
    facts: RunFacts
    """From what each record is made."""
    finished: dict[str, FinishedCell]
    """Cells that are scored, by name; cells are added as the run goes on."""

    def attach(self, training: TrainingSpec | None) -> Adapter | None:
        """Put a training's adapter on the model; None for the base model's own cells."""
        return self.session.attach(self.folder.adapter_of(training)) if training else None
