"""QLoRA training: exact, resumable, scored by the same scorer as everything else."""

from triptych.tune.config import TuneConfig, learning_rate
from triptych.tune.loop import tune
from triptych.tune.memory import TrainingBytes, training_bytes
from triptych.tune.outcome import TuneResult, read_summary
from triptych.tune.parallel import World, current_world, joined
from triptych.tune.rows import DroppedRows, TuneRows, select_rows

__all__ = [
    "DroppedRows",
    "TrainingBytes",
    "TuneConfig",
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
