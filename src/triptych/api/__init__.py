"""Triptych in Python: `import triptych` and these names. Above the experiment, beside the command line."""

from triptych.api.calls import predict, run, score, tune
from triptych.api.objects import Predictions, Run, Scores, load_run

__all__ = ["Predictions", "Run", "Scores", "load_run", "predict", "run", "score", "tune"]
