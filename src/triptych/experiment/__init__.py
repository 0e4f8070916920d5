"""The grid of cells, and the runner that fills it."""

from triptych.experiment.cells import CellSpec, grid
from triptych.experiment.config import ExperimentConfig
from triptych.experiment.read import read_config
from triptych.experiment.runner import run_experiment

__all__ = ["CellSpec", "ExperimentConfig", "grid", "read_config", "run_experiment"]
