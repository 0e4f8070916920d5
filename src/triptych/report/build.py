"""From a run folder's records to its report. Needs no model and no torch: any laptop can rebuild a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from triptych.errors import DataError
from triptych.records import CurvePoint, ItemScore, RunRecord
from triptych.records.store import read_items, read_run, write_text
from triptych.report.answer import row_warnings
from triptych.report.contenders import best_of_each, items_of, settings
from triptych.report.figures import draw_figures
from triptych.report.html import Page, render_html
from triptych.report.markdown import render_markdown
from triptych.report.numbers import Interval
from triptych.report.payload import payload
from triptych.report.rendering import to_csv
from triptych.report.statistics import interval, paired_rows
from triptych.report.tables import (
    Table,
    cells_table,
    comparisons_table,
    curve_table,
    few_shot_table,
    settings_table,
    study_table,
    zero_shot_table,
)
from triptych.report.texts import LEFT_OUT, RowTexts, kept_note, read_texts

__all__ = ["build_report", "write_curve"]

TABLES = ("study", "zero_shot", "few_shot", "cells", "comparisons", "curve", "settings")


def build_report(run_dir: Path, *, texts: bool = True) -> RunRecord:
    """Rebuild `report.html`, `report.md`, `figures/`, `tables/` and `curve.csv` from the run's records.

    `texts=False` leaves the rows' texts and tokens out of `report.html`: for results whose rows can't be published.

    What a record no longer holds (a curve, a strategy) leaves no old table or figure behind.

    Raises:
        DataError: a record is missing, torn, of another schema, or the two are not of the same run.
        DiskError: the folder can't be written to.
    """
    record = read_run(run_dir)
    items = read_items(run_dir / "items.parquet")
    _check_same_run(record, items, run_dir)
    best = [setting.label for setting in best_of_each(record.cells).values()]
    intervals = _setting_intervals(record, items)
    figures = draw_figures(record, {label: intervals[label] for label in best}, run_dir / "figures")
    tables = _tables(record, items)
    _write_tables(tables, run_dir / "tables")
    if record.curve:
        write_curve(run_dir / "curve.csv", record.curve)
    # the runner may have kept the same warnings already: each is said once
    warnings = list(dict.fromkeys([*record.warnings, *_selected_on_test(record), *row_warnings(record.cells, items)]))
    write_text(run_dir / "report.md", render_markdown(record, tables, figures=figures, warnings=warnings))
    shown = read_texts(run_dir, items) if texts else None
    write_text(run_dir / "report.html", _html(record, items, tables, warnings, shown, intervals))
    return record


def _write_tables(tables: Mapping[str, Table], folder: Path) -> None:
    for name in TABLES:
        for kind, write in (("csv", to_csv), ("tex", to_latex)):
            path = folder / f"{name}.{kind}"
            if name in tables:
                write_text(path, write(tables[name]))
            else:
                path.unlink(missing_ok=True)


def _html(
    record: RunRecord,
    items: Mapping[str, Sequence[ItemScore]],
    tables: Mapping[str, Table],
    warnings: Sequence[str],
    texts: RowTexts | None,
    intervals: Mapping[str, Interval],
) -> str:
    slices: dict[str, dict[str, str]] = {}
    parts = payload(record, items, texts or RowTexts(), intervals=intervals, slices=slices)
    note = LEFT_OUT if texts is None else kept_note(texts, [cell.cell for cell in record.cells])
    return render_html(record, Page(tables, warnings, intervals, parts, kept_note=note))


def write_curve(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write the learning curve as CSV, full precision; also called by the trainer after every evaluation."""
    write_text(path, to_csv(curve_table(points)))


def _selected_on_test(record: RunRecord) -> list[str]:
    if record.tune is None or record.tune.selected_by != "test":
        return []
    return ["The QLoRA checkpoint was selected on the test rows, so its perplexity here is too good: see section 1."]


def _check_same_run(record: RunRecord, items: Mapping[str, Sequence[ItemScore]], run_dir: Path) -> None:
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


def _setting_intervals(record: RunRecord, items: Mapping[str, Sequence[ItemScore]]) -> dict[str, Interval]:
    """Of each setting's mean over rows, a row entering with its mean over the seeds."""
    every = settings(record.cells)
    return {s.label: Interval(*interval(list(paired_rows(items_of(s, items)).values()))) for s in every}


def _tables(record: RunRecord, items: Mapping[str, Sequence[ItemScore]]) -> dict[str, Table]:
    intervals = {cell.cell: Interval(*interval([i.ppl for i in items[cell.cell]])) for cell in record.cells}
    tables = {"study": study_table(record), "cells": cells_table(record.cells, intervals)}
    if (zero_shot := zero_shot_table(record.cells, intervals)).rows:
        tables["zero_shot"] = zero_shot
    if record.few_shot:
        tables["few_shot"] = few_shot_table(record)
    if record.comparisons:
        tables["comparisons"] = comparisons_table(record.comparisons)
    if record.curve:
        tables["curve"] = curve_table(record.curve)
    if record.tune:
        tables["settings"] = settings_table(record.tune)
    return tables
