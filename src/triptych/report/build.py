"""From a run folder's records to its report. Needs no model and no torch: any laptop can rebuild a report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from triptych.data import Row
from triptych.errors import DataError
from triptych.records import CurvePoint, RunRecord
from triptych.records.disk import is_there
from triptych.records.manifest import remove
from triptych.records.process_lock import work_in
from triptych.records.run_files import REPORT
from triptych.records.store import read_items, read_run, write_text
from triptych.report.contamination import contamination_table, suspects
from triptych.report.figures.draw import draw_figures
from triptych.report.html.page import render_html
from triptych.report.html.payload import payload
from triptych.report.row_texts import LEFT_OUT, RowTexts, kept_note, read_texts
from triptych.report.samples import Texts, Written, read_texts_written, samples, samples_note
from triptych.report.slices import Slices, by_length, column_slices, slices
from triptych.report.study import Items, Study
from triptych.report.tables.generations import written_tables
from triptych.report.tables.overview import curve_table, study_tables
from triptych.report.tables.power import settle_table, uncertainty_table
from triptych.report.tables.rendering import to_csv, to_latex
from triptych.report.tables.slices import difficulty, hard_table, hurt_table, slice_tables
from triptych.report.tables.table import Table
from triptych.report.tables.trainings import training_tables
from triptych.report.text.answer import row_warnings
from triptych.report.text.markdown import Contents, render_markdown
from triptych.report.text.written import written_said
from triptych.report.trainings import trainings_of
from triptych.report.versions import mixed_versions

EXCERPT = 40
_LONGEST = 120
"""Characters of a table's file name."""


def build_report(run_dir: Path, *, texts: bool = True) -> RunRecord:
    """Rebuild `report.html`, `report.md`, `figures/`, `tables/` and `curve.csv` from the run's records.

    `texts=False` leaves the rows' texts, their tokens and what the models wrote out of it: for results whose rows can't
    be published.
    What a record no longer holds (a curve, a strategy) leaves no old table or figure behind. Only files that Triptych
    wrote are replaced or removed; one that was edited since is kept as `NAME.edited-1` (`records.manifest`).

    Raises:
        RunBusyError: another process works in the folder.
        ForeignFileError: a file that Triptych did not write lies where one of these belongs; nothing is written.
        DataError: a record is missing, torn, of another schema, or not of the same run as the others.
        DiskError: the folder can't be written to.
    """
    if not is_there(run_dir, Path.is_dir):
        read_run(run_dir)  # says what is missing
    with work_in(run_dir) as manifest:
        manifest.check_free(REPORT)
        return _build(run_dir, texts=texts)


def _build(run_dir: Path, *, texts: bool) -> RunRecord:
    record, items = read_run(run_dir), read_items(run_dir / "items.parquet")
    _check_same_run(record, items, run_dir)
    study = Study(record, items)
    kept = read_texts(run_dir, items)
    written = read_texts_written(run_dir, record.generations) if texts else Written()
    side_by_side = samples(study, written, kept.rows.get("test", {}))
    said = Texts(written_said(study), side_by_side, samples_note(side_by_side, record), written.note)
    figures, without_font = draw_figures(study, run_dir / "figures")
    tables = study_tables(study) | training_tables(record) | written_tables(study)
    evidence = _evidence(study)
    parts = _parts(study, kept, texts=texts)
    write_tables({**tables, **evidence, **parts.tables}, run_dir / "tables")
    if record.curve:
        write_curve(run_dir / "curve.csv", record.curve)
    # the runner may have kept the same warnings already: each is said once
    found = [
        *mixed_versions(record),
        *record.warnings,
        *_selected_on_test(record),
        *row_warnings(study),
        *parts.notes,
        *without_font,
    ]
    warnings = list(dict.fromkeys(found))
    shown = Contents(tables, figures, warnings, list(evidence.values()), list(parts.tables.values()), said)
    write_text(run_dir / "report.md", render_markdown(study, shown))
    data = payload(study, kept if texts else RowTexts(), slices=parts.slices, written=written.texts)
    missing = kept_note(kept, [cell.cell for cell in record.cells]) if texts else LEFT_OUT
    write_text(run_dir / "report.html", render_html(study, shown, data, missing))
    return study.completed


class Parts(NamedTuple):
    """The slices of the rows and the tables that are made of them."""

    slices: Slices
    tables: dict[str, Table]
    notes: list[str]
    """Why columns that the user named make no slice."""


def _parts(study: Study, kept: RowTexts, *, texts: bool) -> Parts:
    known = kept.rows.get("test", {})
    if known:
        found = slices([Row(row, *pair) for row, pair in known.items()])
    else:
        found = {"length": by_length({i.id: i.n_chars for rows in list(study.items.values())[:1] for i in rows})}
    wanted = _wanted(study.record)
    if not texts:
        # lines of the data themselves, and columns that may hold anything: what the user names was meant to be shown
        found.pop("wording", None)
        wanted = wanted or ()
    hardness = difficulty(study)
    by_column, notes = column_slices(kept.columns, wanted, taken=[*found, *hardness])
    found |= by_column
    tables = {f"slice_{name}": table for name, table in slice_tables(study, found).items()}
    excerpts = {row: " ".join(output.split())[:EXCERPT] for row, (_, output) in known.items()} if texts else {}
    known_already = suspects(study)
    rest = {
        "hard_rows": hard_table(study, excerpts),
        "hurt_rows": hurt_table(study),
        "known_rows": contamination_table(known_already, study.record),
    }
    if known_already:
        hardness["may be known already"] = {row.row_id: "yes" for row in known_already}
    tables |= {name: table for name, table in rest.items() if table is not None}
    return Parts({**found, **hardness}, tables, notes)


def _wanted(record: RunRecord) -> tuple[str, ...] | None:
    """The columns to cut by that the configuration names; None if it leaves the choice to the report."""
    value: Any = record.provenance
    for key in ("config", "report", "slices"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return tuple(map(str, value)) if isinstance(value, list | tuple) else None


def _evidence(study: Study) -> dict[str, Table]:
    tables = {}
    if study.cells:
        tables["uncertainty"] = uncertainty_table(study)
    if study.comparisons:
        tables["rows_to_settle"] = settle_table(study)
    return tables


def write_tables(tables: Mapping[str, Table], folder: Path) -> None:
    """Each table as CSV and LaTeX; tables that are no more leave no file behind, as far as Triptych wrote it."""
    written: set[Path] = set()
    for name, table in tables.items():
        stem = plain = re.sub(r"[^a-z0-9_]+", "_", name.lower())[:_LONGEST]
        # columns may have names that leave nothing: two must not share a file
        for number in count(2):
            if folder / f"{stem}.csv" not in written:
                break
            stem = f"{plain}_{number}"
        for kind, write in (("csv", to_csv), ("tex", to_latex)):
            write_text(folder / f"{stem}.{kind}", write(table))
            written.add(folder / f"{stem}.{kind}")
    for old in {*folder.glob("*.csv"), *folder.glob("*.tex")} - written:
        remove(old)


def write_curve(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write the learning curve as CSV, full precision; also called by the trainer after every evaluation."""
    write_text(path, to_csv(curve_table(points)))


def _selected_on_test(record: RunRecord) -> list[str]:
    if all(training.selected_by != "test" for training in trainings_of(record)):
        return []
    return ["The QLoRA checkpoint was selected on the test rows, so its perplexity here is too good: see section 1."]


def _check_same_run(record: RunRecord, items: Items, run_dir: Path) -> None:
    for cell in record.cells:
        rows = items.get(cell.cell, ())
        mean = math.fsum(item.ppl for item in rows) / len(rows) if rows else math.nan
        if len(rows) == cell.aggregate.n_rows and math.isclose(mean, cell.aggregate.ppl_mean, rel_tol=1e-6):
            continue
        raise DataError(
            "items.parquet and results.json do not belong together",
            where=f"{run_dir}, cell {cell.cell}",
            found=f"{len(rows)} rows with ppl_mean {mean:.6g}",
            expected=f"{cell.aggregate.n_rows} rows with ppl_mean {cell.aggregate.ppl_mean:.6g}",
            fix="delete both files and run the same command again: they are rebuilt from the finished cells",
        )
