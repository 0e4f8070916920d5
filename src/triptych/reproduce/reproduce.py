"""`triptych reproduce`: what differs now from when a run was made, and which of its numbers come out again.

records of the run ─► settings, paths of the files here ─► what differs now
                                   └► the same experiment in a fresh folder, same dtype, threads and budget, no score
                                      from a cache ─► cell by cell, training by training: agrees, or why not
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError, DataError
from triptych.grid.cells import unknown_cell
from triptych.grid.inputs import read_data, templates_of
from triptych.progress import Reporter, Silent
from triptych.records.manifest import MANIFEST, remove
from triptych.records.process_lock import LOCK_FILES, work_in
from triptych.records.store import read_items, read_json, write_json
from triptych.reproduce.agreement import CellAgreement, TrainingAgreement, Verdict, agree, worst
from triptych.reproduce.differences import Fact, differences
from triptych.reproduce.recorded import RecordedRun, identified, read_recorded, settings_again
from triptych.runner.folder import RunFolder
from triptych.runner.run import run_experiment

_MARK = "reproduction.json"


@dataclass(frozen=True)
class Reproduction:
    """The result. `verdict` is None where nothing was recomputed."""

    run: str
    out: str | None
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    dtype: str | None
    cells: tuple[CellAgreement, ...] = ()
    trainings: tuple[TrainingAgreement, ...] = ()
    verdict: Verdict | None = None

    def as_json(self) -> dict[str, Any]:
        """For `--json` and `reproduction.json`."""
        return asdict(self)


def reproduce(
    folder: Path,
    *,
    out: Path | None = None,
    cells: Collection[str] = (),
    only_check: bool = False,
    data: Path | None = None,
    model: str | None = None,
    reporter: Reporter | None = None,
) -> Reproduction:
    """Report what differs now, and compute the run again.

    Args:
        folder: a finished run.
        out: where it is computed again: a new folder, or one of an earlier reproduction. By default beside the run.
        cells: only these cells, by name; none for all.
        only_check: compute nothing.
        data: folder of the data files, where they are not where they were.
        model: the model, where its recorded name can't be found here.
        reporter: told of progress.

    Raises:
        InputError: the run can't be read, or its data or model can't be found.
    """
    reporter = reporter or Silent()
    run = read_recorded(folder)
    only = _asked_for(cells, run)
    config, notes = settings_again(run, data=data, model=model)
    rows, templates = read_data(config), templates_of(config)
    facts = differences(run, config, rows, templates, identified(config, run))
    dtype = run.runtime_choices.get("dtype") or run.record.provenance.get("model", {}).get("dtype")
    if only_check:
        return Reproduction(str(folder), None, facts, notes, dtype)
    place = out or folder.with_name(f"{folder.resolve().name}-reproduced")
    now = [asdict(fact) for fact in facts]
    for fact in facts:
        if fact.status == "changed":
            reporter.info(f"changed: {fact.sentence()}")
    _check_place(place, folder)
    with work_in(place) as manifest:
        _check_place(place, folder)  # as it is now that no other process works there
        manifest.check_free([_MARK])
        fresh = _begin(place, {"run": str(folder), "facts": now, "cells": sorted(only or ())})
        # no score is known at first; rows that cells share are looked up as they were then
        given: dict[str, Any] = {
            "runtime_choices": run.runtime_choices,
            "only": only,
            "scores": RunFolder(place).scores,
        }
        record = run_experiment(config, place, fresh=fresh, reporter=reporter, **given)
        items = [read_items(path / "items.parquet") for path in (folder, place)]
        agreements = agree(run.record, record, items[0], items[1], facts, dtype)
        verdict = worst([one.verdict for part in agreements for one in part])
        compared = {cell.cell for cell in agreements[0]}
        asked = [cell.cell for cell in run.record.cells if only is None or cell.cell in only]
        missing = tuple(f"cell {name} did not come out again" for name in asked if name not in compared)
        result = Reproduction(
            str(folder), str(place), facts, (*notes, *missing), dtype, *agreements, "different" if missing else verdict
        )
        write_json(place / _MARK, {**result.as_json(), "facts": now, "cells_asked": sorted(only or ())})
    return result


def _asked_for(cells: Collection[str], run: RecordedRun) -> frozenset[str] | None:
    names = [cell.cell for cell in run.record.cells]
    for name in cells:
        if name not in names:
            raise unknown_cell(name, names, where="--cells", what="the run has no such cell")
    winner = next((cell for cell in run.record.cells if cell.cell in cells and cell.searched is not None), None)
    if winner is not None:
        raise ConfigError(
            "this cell is the winner of a search, which is made with the whole run",
            where="--cells",
            found=winner.cell,
            fix="leave --cells out, or name other cells",
        )
    return frozenset(cells) or None


def _check_place(place: Path, folder: Path) -> None:
    """Check that the folder is new, empty, or one of an earlier reproduction."""
    mark = place / _MARK
    others = [path for path in place.iterdir() if path.name not in (*LOCK_FILES, MANIFEST)] if place.is_dir() else []
    if place.resolve() == folder.resolve() or (others and not mark.exists()):
        raise ConfigError(
            "a run is computed again in a folder of its own",
            where="--out",
            found=f"{place}, which holds {'the run itself' if place.resolve() == folder.resolve() else 'other files'}",
            expected="a new or empty folder, or one of an earlier `triptych reproduce`",
            fix="name another folder with --out",
        )


def _begin(place: Path, state: dict[str, Any]) -> bool:
    """Mark the folder as this reproduction's. Returns whether what an earlier one left there is to be removed."""
    mark = place / _MARK
    before = mark.exists()
    try:
        begun = read_json(mark) if before else None
    except DataError:  # torn: what was begun here is unknown
        begun = None
    # an interrupted one is continued if nothing changed since; a finished one says nothing about today
    fresh = before and (begun != state or (place / "results.json").exists())
    write_json(mark, state)
    for part in ("", "-wal", "-shm") if fresh else ():
        remove(place / "cells" / f"scores.sqlite{part}")
    return fresh
