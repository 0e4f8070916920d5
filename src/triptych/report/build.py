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
from triptych.records import CurvePoint, ItemScore, RunRecord
from triptych.records.manifest import remove
from triptych.records.run_files import REPORT
from triptych.records.store import read_items, read_run, write_text
from triptych.records.work_in import work_in
from triptych.report.answer import row_warnings
from triptych.report.certainty import settle_table, uncertainty_table, with_effect_sizes
from triptych.report.contenders import best_of_each, items_of, names, settings
from triptych.report.figures import draw_figures
from triptych.report.html import Page, render_html
from triptych.report.known import known_rows, known_table
from triptych.report.markdown import figure_key, render_markdown
from triptych.report.numbers import Interval
from triptych.report.payload import payload
from triptych.report.rendering import to_csv, to_latex
from triptych.report.samples import Texts, Written, read_texts_written, samples, samples_note
from triptych.report.slice_tables import difficulty, hard_table, hurt_table, slice_tables
from triptych.report.slices import Slices, by_length, column_slices, slices
from triptych.report.statistics import intervals, paired_rows
from triptych.report.tables import Table, curve_table, study_tables
from triptych.report.texts import LEFT_OUT, RowTexts, kept_note, read_texts
from triptych.report.training_tables import training_tables
from triptych.report.trainings import trainings_of
from triptych.report.versions import mixed_versions
from triptych.report.written import with_text_comparisons, written_said, written_tables

__all__ = ["build_report", "write_curve", "write_tables"]

Items = Mapping[str, Sequence[ItemScore]]

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
    if not run_dir.is_dir():
        read_run(run_dir)  # says what is missing
    with work_in(run_dir) as manifest:
        manifest.check_free(REPORT)
        return _build(run_dir, texts=texts)


def _build(run_dir: Path, *, texts: bool) -> RunRecord:
    record = read_run(run_dir)
    items = read_items(run_dir / "items.parquet")
    _check_same_run(record, items, run_dir)
    record = with_text_comparisons(with_effect_sizes(record, items))
    kept = read_texts(run_dir, items)
    written = read_texts_written(run_dir, record.generations) if texts else Written()
    side_by_side = samples(record, written, kept.rows.get("test", {}))
    bounds = _intervals(record, items)
    best = best_of_each(record.cells).values()
    figures = draw_figures(
        record,
        {setting.label: bounds[setting.label] for setting in best},
        {setting.label: paired_rows(items_of(setting, items)) for setting in best},
        run_dir / "figures",
    )
    tables = study_tables(record, bounds) | training_tables(record) | written_tables(record)
    evidence = _evidence(record, items, bounds)
    parts = _parts(record, items, kept, texts=texts)
    write_tables({**tables, **evidence, **parts.tables}, run_dir / "tables")
    if record.curve:
        write_curve(run_dir / "curve.csv", record.curve)
    # the runner may have kept the same warnings already: each is said once
    found = [
        *mixed_versions(record),
        *record.warnings,
        *_selected_on_test(record),
        *row_warnings(record.cells, items),
        *parts.notes,
    ]
    warnings = list(dict.fromkeys(found))
    more = [*evidence.values(), *parts.tables.values()]
    said = Texts(written_said(record), side_by_side, samples_note(side_by_side, record), written.note)
    write_text(
        run_dir / "report.md",
        render_markdown(record, tables, figures=figures, warnings=warnings, more=more, written=said),
    )
    page = Page(
        tables=tables,
        warnings=warnings,
        intervals=bounds,
        parts=payload(
            record,
            items,
            kept if texts else RowTexts(),
            intervals=bounds,
            slices=parts.slices,
            written=written.texts,
        ),
        written=said,
        evidence=list(evidence.values()),
        slices=list(parts.tables.values()),
        figure_key=figure_key({short: name for key in figures.values() for short, name in key.items()}),
        kept_note=kept_note(kept, [cell.cell for cell in record.cells]) if texts else LEFT_OUT,
    )
    write_text(run_dir / "report.html", render_html(record, page))
    return record


class Parts(NamedTuple):
    """The slices of the rows and the tables that are made of them."""

    slices: Slices
    tables: dict[str, Table]
    notes: list[str]
    """Why columns that the user named make no slice."""


def _parts(record: RunRecord, items: Items, kept: RowTexts, *, texts: bool) -> Parts:
    known = kept.rows.get("test", {})
    if known:
        found = slices([Row(row, *pair) for row, pair in known.items()])
    else:
        found = {"length": by_length({i.id: i.n_chars for rows in list(items.values())[:1] for i in rows})}
    wanted = _wanted(record)
    if not texts:
        # lines of the data themselves, and columns that may hold anything: what the user names was meant to be shown
        found.pop("wording", None)
        wanted = wanted or ()
    hardness = difficulty(record.cells, items)
    by_column, notes = column_slices(kept.columns, wanted, taken=[*found, *hardness])
    found |= by_column
    tables = {f"slice_{name}": table for name, table in slice_tables(record.cells, items, found).items()}
    excerpts = {row: " ".join(output.split())[:EXCERPT] for row, (_, output) in known.items()} if texts else {}
    known_already = known_rows(record, items)
    rest = {
        "hard_rows": hard_table(record.cells, items, excerpts),
        "hurt_rows": hurt_table(record.cells, items),
        "known_rows": known_table(known_already, record),
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


def _evidence(record: RunRecord, items: Items, intervals: Mapping[str, Interval]) -> dict[str, Table]:
    tables = {}
    if record.cells:
        tables["uncertainty"] = uncertainty_table(record.cells, items, intervals)
    if record.comparisons:
        tables["rows_to_settle"] = settle_table(record.comparisons, names(settings(record.cells)))
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


def _intervals(record: RunRecord, items: Items) -> dict[str, Interval]:
    """By cell, and by setting label: of a setting's mean over rows, a row entering with its mean over the seeds."""
    every = settings(record.cells)
    several = [setting for setting in every if len(setting.cells) > 1]
    names = [*(cell.cell for cell in record.cells), *(setting.label for setting in several)]
    columns = [[item.ppl for item in items[cell.cell]] for cell in record.cells]
    columns += [list(paired_rows(items_of(setting, items)).values()) for setting in several]
    found = {name: Interval(*bounds) for name, bounds in zip(names, intervals(columns), strict=True)}
    return found | {s.label: found[s.cells[0].cell] for s in every if len(s.cells) == 1}
