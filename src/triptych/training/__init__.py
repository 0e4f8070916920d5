"""QLoRA training: exact, resumable, scored by the same scorer as everything else."""

from triptych.training.loop import tune
from triptych.training.memory import TrainingBytes, training_bytes
from triptych.training.optimizer import learning_rate
from triptych.training.outcome import TuneResult, read_summary
from triptych.training.parallel import World, current_world, joined
from triptych.training.rows import DroppedRows, TuneRows, select_rows

__all__ = [
    "DroppedRows",
    "TrainingBytes",
    "TuneResult",
    "TuneRows",
    "World",
    "current_world",
    "joined",
    "learning_rate",
    "read_summary",
    "select_rows",
    "training_bytes",
    "tune",
]
