"""From a run folder's records to its report. Needs no model and no torch: any laptop can rebuild a report."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path

from triptych.data import Row
from triptych.errors import DataError
from triptych.records import CurvePoint, RunRecord
from triptych.records.disk import is_there
from triptych.records.manifest import remove
from triptych.records.process_lock import work_in
from triptych.records.run_files import REPORT
from triptych.records.store import read_items, read_run, write_text
from triptych.report.calibration import class_tables
from triptych.report.contamination import contamination_table, suspects
from triptych.report.crossover_shown import crossover_tables
from triptych.report.figures.draw import draw_figures
from triptych.report.hard_rows import difficulty, hard_table, hurt_table
from triptych.report.html.page import render_html
from triptych.report.html.payload import payload
from triptych.report.power import settle_table, uncertainty_table
from triptych.report.row_texts import (
    LEFT_OUT,
    RowTexts,
    Texts,
    Written,
    kept_note,
    read_texts,
    read_texts_written,
    samples,
    samples_note,
)
from triptych.report.slices import (
    Slices,
    by_length,
    column_slices,
    slice_tables,
    slices,
)
from triptych.report.study import Items, Study
from triptych.report.tables.generations import written_tables
from triptych.report.tables.overview import curve_table, study_tables
from triptych.report.tables.table import Table, to_csv, to_latex
from triptych.report.tables.trainings import training_tables, trainings_of
from triptych.report.text.markdown import Contents, render_markdown
from triptych.report.text.summaries import texts_answer
from triptych.report.text.warnings import row_warnings
from triptych.report.versions import mixed_versions

SELECTED_ON_TEST = "The QLoRA checkpoint was selected on the test rows, so its perplexity is too good: see section 1."
EXCERPT = 40
_LONGEST = 120
"""Characters of a table's file name."""


def build_report(run_dir: Path, *, texts: bool = True) -> RunRecord:
    """Rebuild `report.html`, `report.md`, `figures/`, `tables/` and `curve.csv` from the run's records.

    `texts=False` leaves the rows' texts, their tokens and what the models wrote out of it: for results whose rows can't
    be published.
    Tables and figures of what a record no longer holds are removed. Only files that Triptych wrote are replaced or
    removed; one that was edited since is kept as `NAME.edited-1` (`records.manifest`).

    Raises:
        RunBusyError: another process works in the folder.
        ForeignFileError: a file that Triptych did not write has the name of one of these; nothing is written.
        DataError: a record is missing, torn, of another schema, or not of the same run as the others.
        DiskError: the folder can't be written to.
    """
    if not is_there(run_dir / "results.json"):
        _check_whole(run_dir)
        read_run(run_dir)  # its error names what is missing
    with work_in(run_dir) as manifest:
        manifest.check_free(REPORT)
        return _build(run_dir, texts=texts)


def build_so_far(run_dir: Path, study: Study, row_texts: RowTexts) -> None:
    """Write `report.html` of a run that goes on (`study.so_far` says how far it is), and nothing else.

    No figure is drawn as a file, which is most of a report's time; the page draws its own.
    """
    written = read_texts_written(run_dir, study.record.generations)
    shown, parts, _ = _contents(study, row_texts, written)
    write_text(run_dir / "report.html", _page(study, shown, row_texts, parts, written))


def _build(run_dir: Path, *, texts: bool) -> RunRecord:
    record, items = read_run(run_dir), read_items(run_dir / "items.parquet")
    _check_same_run(record, items, run_dir)
    study = Study(record, items)
    row_texts = read_texts(run_dir, items)
    written = read_texts_written(run_dir, record.generations) if texts else Written()
    figures, without_font = draw_figures(study, run_dir / "figures")
    shown, parts, tables = _contents(study, row_texts, written, figures=figures, notes=without_font, texts=texts)
    write_tables(tables, run_dir / "tables")
    if record.curve:
        write_curve(run_dir / "curve.csv", record.curve)
    write_text(run_dir / "report.md", render_markdown(study, shown))
    write_text(run_dir / "report.html", _page(study, shown, row_texts, parts, written, texts=texts))
    return study.completed_whole


def _contents(
    study: Study,
    row_texts: RowTexts,
    written: Written,
    *,
    figures: Collection[str] = (),
    notes: Sequence[str] = (),
    texts: bool = True,
) -> tuple[Contents, Slices, dict[str, Table]]:
    """What the report shows, the slices of its rows, and every table by the name of its file."""
    record = study.record
    side_by_side = samples(study, written, row_texts.rows.get("test", {}))
    about_texts = Texts(texts_answer(study), side_by_side, samples_note(side_by_side, record), written.note)
    tables = study_tables(study) | crossover_tables(study) | training_tables(record) | written_tables(study)
    # their lines and columns are outputs of the data
    classes, whole = class_tables(study) if texts else ({}, {})
    evidence = {"uncertainty": uncertainty_table(study)} if study.cells else {}
    evidence |= {"rows_to_settle": settle_table(study)} if study.comparisons else {}
    parts, of_parts, of_slices = _slices(study, row_texts, texts=texts)
    # the runner may have kept some of them already: each is shown once
    warnings = dict.fromkeys([*mixed_versions(record), *record.warnings])
    if any(training.selected_by == "test" for training in trainings_of(record)):
        warnings[SELECTED_ON_TEST] = None
    warnings |= dict.fromkeys([*row_warnings(study), *of_slices, *notes])
    further = (list(evidence.values()), list(of_parts.values()), about_texts, list(classes.values()))
    return (
        Contents(tables, figures, list(warnings), *further),
        parts,
        {**tables, **evidence, **of_parts, **classes, **whole},
    )


def _page(
    study: Study, shown: Contents, row_texts: RowTexts, parts: Slices, written: Written, *, texts: bool = True
) -> str:
    """`report.html`."""
    data = payload(study, row_texts if texts else RowTexts(), slices=parts, written=written.texts)
    missing = kept_note(row_texts, [cell.cell for cell in study.cells]) if texts else LEFT_OUT
    return render_html(study, shown, data, missing)


def _slices(study: Study, row_texts: RowTexts, *, texts: bool) -> tuple[Slices, dict[str, Table], list[str]]:
    """The slices of the rows, the tables that are made of them, and why columns that the user named make no slice."""
    test = row_texts.rows.get("test", {})
    if test:
        parts = slices([Row(row, *pair) for row, pair in test.items()])
    else:
        parts = {"length": by_length({i.id: i.n_chars for rows in list(study.items.values())[:1] for i in rows})}
    named = study.fact("config", "report", "slices")
    columns = tuple(map(str, named)) if isinstance(named, list | tuple) else None
    if not texts:
        # wordings are lines of the data themselves, and columns may hold anything: only named ones are published
        parts.pop("wording", None)
        columns = columns or ()
    hardness = difficulty(study)
    by_column, notes = column_slices(row_texts.columns, columns, taken=[*parts, *hardness])
    parts |= by_column
    excerpts = {row: " ".join(output.split())[:EXCERPT] for row, (_, output) in test.items()} if texts else {}
    suspected = suspects(study)
    tables = {
        **{f"slice_{name}": table for name, table in slice_tables(study, parts).items()},
        **{"hard_rows": hard_table(study, excerpts), "hurt_rows": hurt_table(study)},
        "known_rows": contamination_table(suspected, study.record),
    }
    if suspected:
        hardness["may be known already"] = {row.row_id: "yes" for row in suspected}
    return {**parts, **hardness}, {name: table for name, table in tables.items() if table is not None}, notes


def _check_whole(run_dir: Path) -> None:
    """Check that a folder without results is not one of a run that was begun and is not done."""
    if not is_there(run_dir / "run.lock.json"):
        return
    there = is_there(run_dir / "report.html")
    raise DataError(
        "this run is not done yet, so there are no results to make a report of",
        where=str(run_dir),
        found=f"{len(list((run_dir / 'cells').glob('*.json')))} finished cells, no results.json",
        fix="let it end, or continue it with the same `triptych run` command"
        + ("; report.html there shows what was scored when it was written" if there else ""),
    )


def write_tables(tables: Mapping[str, Table], folder: Path) -> None:
    """Each table as CSV and LaTeX; files of other tables are removed, as far as Triptych wrote them."""
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
    """Write the learning curve as CSV, full precision; called after every evaluation of a training."""
    write_text(path, to_csv(curve_table(points)))


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
