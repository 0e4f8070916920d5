"""QLoRA training: exact, resumable, scored by the same scorer as everything else."""

from triptych.tune.config import TuneConfig, learning_rate
from triptych.tune.loop import TuneResult, TuneRows, read_summary, tune

__all__ = ["TuneConfig", "TuneResult", "TuneRows", "learning_rate", "read_summary", "tune"]
