"""The sample that comes with Triptych: original (modern, classical) pairs in the study's row format."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def sample_folder() -> Path:
    """The folder of the bundled sample, with train.json and test.json."""
    return Path(str(files("triptych.data") / "sample"))
