"""A run's folder: what is kept in it while the experiment goes on, and what is done already.

run.lock.json     facts that decide the numbers; a changed config is refused against it
cells/NAME.json   a finished cell: its record and its rows
tune/             training in progress and its checkpoints
adapter/          the final adapter, PEFT's format
results.json, items.parquet, report.md, curve.csv, tables/, figures/
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.errors import DataError
from triptych.records import CellRecord, ItemScore
from triptych.records.store import read_json, write_json

__all__ = ["RunFolder"]

_OURS = ("cells", "tune", "adapter", "figures", "tables")
_FILES = ("run.lock.json", "results.json", "items.parquet", "report.md", "report.html", "curve.csv")


class RunFolder:
    """Paths and finished cells of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "run.lock.json"
        self.tune = path / "tune"
        self.adapter = path / "adapter"

    def clear(self) -> None:
        """Remove what a run made, and nothing else (`--fresh`)."""
        for name in _OURS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)

    def cell_path(self, name: str) -> Path:
        """One file per cell; names from a config can't leave the folder."""
        return self.path / "cells" / ("".join(c if c.isalnum() or c in "=-_." else "__" for c in name) + ".json")

    def save_cell(self, record: CellRecord, items: list[ItemScore]) -> None:
        """Keep a finished cell."""
        rows = [{**asdict(item), "demo_ids": list(item.demo_ids)} for item in items]
        write_json(self.cell_path(record.cell), {"record": record.model_dump(mode="json"), "items": rows})

    def load_cell(self, name: str) -> tuple[CellRecord, list[ItemScore]] | None:
        """A finished cell, or None if it isn't there or is torn (then it is computed again)."""
        path = self.cell_path(name)
        if not path.exists():
            return None
        try:
            value: dict[str, Any] = read_json(path)
            items = [ItemScore(**{**row, "demo_ids": tuple(row["demo_ids"])}) for row in value["items"]]
            return CellRecord.model_validate(value["record"]), items
        except (DataError, KeyError, TypeError, ValueError):
            return None
