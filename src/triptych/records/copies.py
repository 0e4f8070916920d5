"""Records that can't be computed again, kept twice: a torn one is put back from its copy.

run.lock.json, run.lock.copy.json       what a run was begun with
curve.json, curve.copy.json             a learning curve: its points are of weights that are no longer there
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.records.run_files import json_or_none
from triptych.records.store import read_json, write_json

logger = logging.getLogger(__name__)


def copy_of(path: Path) -> Path:
    """Where the copy of a record is."""
    return path.with_suffix(".copy.json")


def write_twice(path: Path, value: Mapping[str, Any]) -> None:
    """Write a record, then its copy: a kill in between leaves a whole record and the copy of the one before."""
    write_json(path, value)
    write_json(copy_of(path), value)


def put_back(path: Path) -> bool:
    """Put a record that is torn or gone back from its copy, and say so. Returns whether it was put back."""
    if _whole(path) or not _whole(copy_of(path)):
        return False
    value = read_json(copy_of(path))
    logger.warning("%s was %s; it is put back from its copy", path, "torn" if path.exists() else "gone")
    write_json(path, value)
    return True


def _whole(path: Path) -> bool:
    return isinstance(json_or_none(path), dict)
