"""The texts that a run's model wrote, a file per cell: `predictions/CELL.json`, `[{"id", "output"}]`.

Beside each is `CELL.record.json`, which says what made it; here it only shows whether the texts were changed since.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from triptych.errors import DataError
from triptych.records.disk import sha256_of_file
from triptych.records.names import stored
from triptych.records.store import read_json


def predictions_path(run_dir: Path, cell: str) -> Path:
    """Where a cell's texts are."""
    return stored(run_dir / "predictions", cell, ".json")


def read_written(run_dir: Path, cell: str, rows: Collection[str]) -> dict[str, str] | None:
    """Row id -> what the model wrote in the cell; None if the file isn't there. `rows`: ids in the cell's record.

    Raises:
        DataError: the file is torn, was changed after it was written, or is another cell's or another run's.
    """
    path = predictions_path(run_dir, cell)
    if not path.exists():
        return None
    value = read_json(path)
    try:
        texts = {str(entry["id"]): entry["output"] for entry in value}
    except (KeyError, TypeError) as error:
        raise _mismatch(path, 'no JSON list of {"id": "…", "output": "…"}') from error
    if wrong := [row for row, text in texts.items() if not isinstance(text, str)]:
        raise _mismatch(path, f"the output of row {wrong[0]!r} is no text")
    if unlike := texts.keys() ^ set(rows):
        raise _mismatch(path, f"row {min(unlike)!r} is in only one of them")
    record = path.with_suffix(".record.json")
    if record.exists() and isinstance(made := read_json(record), dict):
        facts = made.get("facts")
        if isinstance(facts, dict) and facts.get("cell") not in (None, cell):
            raise _mismatch(path, f"texts of cell {facts['cell']!r}")
        if made.get("out_sha256") not in (None, sha256_of_file(path)):
            raise _mismatch(path, "texts that were changed after they were written")
    return texts


def _mismatch(path: Path, found: str) -> DataError:
    return DataError(
        "the texts of a cell and results.json do not belong together",
        where=str(path),
        found=found,
        fix="delete this file (the report then leaves these texts out), or run the same command again: it is rebuilt",
    )
