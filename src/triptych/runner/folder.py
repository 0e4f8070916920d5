"""A run's folder: what is stored in it during the experiment, and what is finished.

.triptych.lock    names the process that works here now (`records.process_lock`)
manifest.json     which files here are Triptych's: no other is replaced or removed (`records.manifest`)
.replaced/        what `--fresh` will remove, until the new run holds work (`records.set_aside`)
run.lock.json     facts that decide the numbers; a changed config is refused against it
cells/NAME.json   a finished cell: its record, what it was made from, and its rows
tune/             training in progress and its checkpoints
adapter/          the final adapter, PEFT's format
trainings/NAME/   further trainings of the run, each with its adapter in `final/`
predictions/      what the model wrote, a file per cell that was asked for
search.json       what a search scored on dev rows
results.json, items.parquet, report.md, curve.csv, tables/, figures/
report.html       from the first finished cell on, of what is done so far (`live`); whole when the run is
run.log           messages and steps with their time, and the traceback of what ended a run (`run_log`)
rows.parquet, tokens.parquet      texts and per-token NLL, for reports that show rows
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from triptych.errors import DataError
from triptych.generate.record import record_of
from triptych.generate.resume_file import part_of
from triptych.grid.cells import TrainingSpec
from triptych.records import CellRecord, ItemScore
from triptych.records.manifest import Manifest, open_manifest
from triptych.records.names import stored
from triptych.records.predictions import predictions_path
from triptych.records.run_files import ADAPTER_FILES, REPORT, ROOT, TRAINING
from triptych.records.set_aside import drop, restore, set_aside
from triptych.records.store import read_json, write_json

_STAY = ("reproduction.json", *(f"cells/scores.sqlite{part}" for part in ("", "-wal", "-shm")))
"""Not set aside: a reproduction writes them before its run begins."""
_WORK = ("cells", "tune", "adapter", "trainings", "predictions", "search.json", "results.json")


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
        self._replaced = False
        self.scores = path / "cells" / "scores.sqlite"
        """Scores by content of a reproduction, which takes none from elsewhere."""

    def tune_of(self, training: TrainingSpec) -> Path:
        """Where a training works: `tune/` for the run's first."""
        return self.tune if training.first else stored(self.path / "trainings", training.name)

    def adapter_of(self, training: TrainingSpec) -> Path:
        """Where a training's final adapter goes: `adapter/` for the run's first."""
        return self.adapter if training.first else self.tune_of(training) / "final"

    def predictions_of(self, cell: str) -> Path:
        """What the model wrote in a cell."""
        return predictions_path(self.path, cell)

    def work(self) -> list[str]:
        """Names of what was computed here, of files that are Triptych's alone. A lock by itself is no work."""
        with open_manifest(self.path) as manifest:
            parts = {name.split("/")[0] for name in manifest.files if (self.path / name).exists()}
        return [name for name in _WORK if name in parts]

    def outputs(self, cells: Iterable[str], trained: Iterable[TrainingSpec], *, texts: bool) -> Iterator[str]:
        """Names, or patterns of names, of all files that a run of these cells will write here; `texts`: with theirs."""
        yield from (*ROOT, *REPORT)
        for cell in cells:
            paths = [self.cell_path(cell)]
            if texts:
                out = self.predictions_of(cell)
                paths += [out, record_of(out), part_of(out)]
            yield from (path.relative_to(self.path).as_posix() for path in paths)
        for training in trained:
            work, final = (path.relative_to(self.path) for path in (self.tune_of(training), self.adapter_of(training)))
            # checkpoints are written as training comes to them, each seen to be free then
            yield from ((work / name).as_posix() for name in TRAINING if "*" not in name)
            yield from ((final / name).as_posix() for name in ADAPTER_FILES)

    def set_aside(self) -> None:
        """Move what an earlier run left out of the way (`--fresh`), until this run holds work: see `drop_replaced`."""
        with open_manifest(self.path) as manifest:
            if manifest.files:
                set_aside(manifest, but=_STAY)
        self._replaced = True

    def drop_replaced(self) -> None:
        """This run has computed something: remove what was set aside for it."""
        if self._replaced:
            drop(self.path)
            self._replaced = False

    def give_up_replacing(self) -> None:
        """The run ends: if it computed nothing, put back what was set aside for it."""
        if self._replaced:
            with open_manifest(self.path) as manifest:
                if restore(self.path):
                    back = Manifest.read(manifest.folder)
                    manifest.files = back.files if back else {}
            self._replaced = False

    def cell_path(self, name: str) -> Path:
        """One file per cell; names from a config can't leave the folder."""
        return stored(self.path / "cells", name, ".json")

    def save_cell(self, cell: FinishedCell) -> None:
        """Write a finished cell, and remove what was set aside for it."""
        rows = [{**item.record(), "token_nll": nll} for item, nll in zip(cell.items, cell.token_nll, strict=True)]
        record = cell.record.model_dump(mode="json")
        write_json(self.cell_path(cell.record.cell), {"record": record, "made_from": cell.made_from, "items": rows})
        self.drop_replaced()

    def load_cell(self, name: str) -> FinishedCell | None:
        """A finished cell; None if it isn't there, or its file is torn (then it is computed again)."""
        path = self.cell_path(name)
        if not path.exists():
            return None
        try:
            value: dict[str, Any] = read_json(path)
            token_nll = [row.pop("token_nll") for row in value["items"]]
            items = [ItemScore.of(row) for row in value["items"]]
            record = CellRecord.model_validate(value["record"])
            return FinishedCell(record, items, token_nll, value.get("made_from")) if record.cell == name else None
        except (DataError, KeyError, TypeError, ValueError):
            return None
