"""The sample that comes with Triptych: original (modern, classical) pairs in the study's row format."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["sample_folder"]


def sample_folder() -> Path:
    """Where the bundled sample lies: a folder with train.json and test.json."""
    return Path(str(files("triptych.data") / "sample"))
