"""What is said of the trainings behind QLoRA settings."""

from __future__ import annotations

from triptych.records import RunRecord, TuneSummary
from triptych.report.groups import Setting, trained_with


def trainings_of(record: RunRecord) -> tuple[TuneSummary, ...]:
    """All trainings of a run; runs of earlier versions have one or none."""
    return record.trainings or ((record.tune,) if record.tune else ())


def trainings_behind(setting: Setting, record: RunRecord) -> tuple[TuneSummary, ...]:
    """The trainings whose adapters a setting's cells were scored with; empty where the records don't say."""
    every = trainings_of(record)
    wanted = {cell.training for cell in setting.cells if cell.training}
    if wanted:
        return tuple(training for training in every if training.name in wanted)
    adapters = {cell.adapter_sha256 for cell in setting.cells}
    return tuple(t for t in every if t.adapter_sha256 in adapters) or (every if len(every) == 1 else ())


def what_training_did(setting: Setting, record: RunRecord) -> list[str]:
    """`3 epochs on 10,000 rows, step 1,876`, and with what it was trained where that is not what it was scored with."""
    if setting.strategy != "qlora":
        return []
    parts = trained_with(setting.first)
    behind = trainings_behind(setting, record)
    if behind:
        first, steps = behind[0], sorted({training.selected_step for training in behind})
        shown = f"step {steps[0]:,}" if len(steps) == 1 else f"steps {steps[0]:,} to {steps[-1]:,}"
        parts.append(f"{first.epochs:g} epoch{'s' * (first.epochs != 1)} on {first.rows:,} rows, {shown}")
    return parts
