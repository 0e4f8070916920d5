"""The sample that comes with Triptych: original (modern, classical) pairs in the study's row format."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["SAMPLE", "sample_folder"]

SAMPLE = "sample"
"""The name that stands for the bundled sample wherever a data folder is asked for."""


def sample_folder() -> Path:
    """The folder of the bundled sample, with train.json and test.json."""
    return Path(str(files("triptych.data") / "sample"))
