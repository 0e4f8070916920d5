"""A run's folder: what is kept in it while the experiment goes on, and what is done already.

.triptych.lock    names the process that works here now (`records.process_lock`)
run.lock.json     facts that decide the numbers; a changed config is refused against it
cells/NAME.json   a finished cell: its record, what it was made from, and its rows
tune/             training in progress and its checkpoints
adapter/          the final adapter, PEFT's format
trainings/NAME/   further trainings of the run, each with its adapter in `final/`
predictions/      what the model wrote, a file per cell that was asked for
search.json       what a search scored on dev rows
results.json, items.parquet, report.md, curve.csv, tables/, figures/
run.log           what was said and done when, and the traceback of what ended a run (`run_log`)
rows.parquet, tokens.parquet      texts and per-token NLL, for reports that show rows
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from triptych.errors import DataError
from triptych.experiment.cells import TrainingSpec
from triptych.records import CellRecord, ItemScore
from triptych.records.predictions import file_name, predictions_path
from triptych.records.store import read_json, write_json

__all__ = ["FinishedCell", "RunFolder"]

_OURS = ("cells", "tune", "adapter", "trainings", "predictions", "figures", "tables", "trackers")
_RECORDS = ("search.json", "run.lock.json", "results.json", "items.parquet", "rows.parquet", "tokens.parquet")
_REPORTS = ("report.md", "report.html", "curve.csv", "run.log")


class FinishedCell(NamedTuple):
    """All that scoring a cell gave."""

    record: CellRecord
    items: list[ItemScore]
    token_nll: list[list[float]]
    """Per row, the NLL in nats of each scored token, to 5 decimals (`items` holds the exact sums)."""
    made_from: Mapping[str, Any] | None = None
    """The facts that its identity is the hash of (`made_from`)."""


class RunFolder:
    """Paths and finished cells of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "run.lock.json"
        self.tune = path / "tune"
        self.adapter = path / "adapter"
        self.scores = path / "cells" / "scores.sqlite"
        """Scores by content of a reproduction, which takes none from elsewhere."""

    def tune_of(self, training: TrainingSpec) -> Path:
        """Where a training works: `tune/` for the run's first."""
        return self.tune if training.first else self.path / "trainings" / file_name(training.name)

    def adapter_of(self, training: TrainingSpec) -> Path:
        """Where a training's final adapter goes: `adapter/` for the run's first."""
        return self.adapter if training.first else self.tune_of(training) / "final"

    def predictions_of(self, cell: str) -> Path:
        """What the model wrote in a cell."""
        return predictions_path(self.path, cell)

    def work(self) -> list[str]:
        """Names of what was computed here."""
        made = ("cells", "tune", "adapter", "trainings", "predictions", "search.json", "results.json")
        return [name for name in made if (self.path / name).exists()]

    def holds_work(self) -> bool:
        """Whether anything was computed here. A lock alone, of a run that failed to begin, is nothing to lose."""
        return bool(self.work())

    def clear(self) -> None:
        """Remove what a run made, and nothing else (`--fresh`): a folder that no run was begun in is left alone."""
        if not self._was_begun():
            return
        for name in _OURS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (*_RECORDS, *_REPORTS):
            (self.path / name).unlink(missing_ok=True)

    def _was_begun(self) -> bool:
        """Whether a run was begun here: by its lock or, where that is gone, by files that nothing else writes."""
        ours = (self.tune / "summary.json", self.tune / "checkpoints", self.adapter / "triptych.json")
        return self.lock.exists() or (self.path / "cells").exists() or any(path.exists() for path in ours)

    def cell_path(self, name: str) -> Path:
        """One file per cell; names from a config can't leave the folder."""
        return self.path / "cells" / f"{file_name(name)}.json"

    def save_cell(self, cell: FinishedCell) -> None:
        """Keep a finished cell."""
        rows = [
            {**asdict(item), "demo_ids": list(item.demo_ids), "token_nll": nll}
            for item, nll in zip(cell.items, cell.token_nll, strict=True)
        ]
        record = cell.record.model_dump(mode="json")
        write_json(self.cell_path(cell.record.cell), {"record": record, "made_from": cell.made_from, "items": rows})

    def load_cell(self, name: str) -> FinishedCell | None:
        """A finished cell, or None if it isn't there or is torn (then it is computed again)."""
        path = self.cell_path(name)
        if not path.exists():
            return None
        try:
            value: dict[str, Any] = read_json(path)
            token_nll = [row.pop("token_nll") for row in value["items"]]
            items = [ItemScore(**{**row, "demo_ids": tuple(row["demo_ids"])}) for row in value["items"]]
            record = CellRecord.model_validate(value["record"])
            # two names may fall on one file (`a b` and `a/b`)
            return FinishedCell(record, items, token_nll, value.get("made_from")) if record.cell == name else None
        except (DataError, KeyError, TypeError, ValueError):
            return None
