"""The rows that a cell gets wrong, with what it answered: to be read, labelled anew or learnt from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from triptych.errors import ConfigError
from triptych.metrics import Metric
from triptych.records import CellRecord, ItemScore
from triptych.records.outputs import check_output
from triptych.records.predictions import read_written
from triptych.records.run_files import json_or_none
from triptych.records.store import read_items, read_run, write_text
from triptych.records.texts import read_rows_shown
from triptych.report.measures import PERPLEXITY
from triptych.report.study import Study
from triptych.report.tables.table import Table, to_csv

BEFORE_METRIC = ("id", "instruction", "reference", "answer")


def wrong_rows(run_dir: Path, cell: str) -> Table:
    """The rows of a cell that are not wholly right by the run's first metric that says so; in the test file's order.

    Columns: id, instruction, reference, answer (the option that was chosen, or the text that was written), the metric,
    and the NLL of the reference in nats. Texts that the run didn't keep are empty.

    Raises:
        DataError: a record is missing, torn, or of another run.
        ConfigError: the run has no such cell, or no metric by which an answer is right or wrong.
    """
    record = read_run(run_dir)
    found = _cell(cell, record.cells, run_dir)
    items = read_items(run_dir / "items.parquet")[found.cell]
    metric = _metric(Study(record), items, run_dir)
    texts = read_rows_shown(run_dir / "rows.parquet").get("test", {})
    written = {g.cell: g.row_chrf.keys() for g in record.generations}.get(found.cell)
    said = read_written(run_dir, found.cell, written) if written else None
    wrong = [item for item in items if metric.name in item.metrics and item.metrics[metric.name] < (metric.top or 0)]
    rows = tuple(
        (
            *(item.id, *texts.get(item.id, ("", "")), _answer(item, metric, said or {})),
            *(item.metrics[metric.name], item.nll_nats),
        )
        for item in wrong
    )
    return Table(f"Wrong in {found.cell}", (*BEFORE_METRIC, metric.name, "nll_nats"), rows)


def _cell(name: str, cells: Sequence[CellRecord], run_dir: Path) -> CellRecord:
    for cell in cells:
        if cell.cell == name:
            return cell
    names = [cell.cell for cell in cells]
    near = get_close_matches(name, names, n=1, cutoff=0.0)
    raise ConfigError(
        "this run has no such cell",
        where=f"--wrong, run {run_dir}",
        found=name,
        expected=", ".join(names[:12]) + (", …" if len(names) > 12 else ""),
        fix=f"the nearest is --wrong {near[0]}" if near else "score a cell first",
    )


def _metric(study: Study, items: Sequence[ItemScore], run_dir: Path) -> Metric:
    """The first that has values here and a best value, which a right answer has."""
    known = [m for m in study.metrics if m != PERPLEXITY and m.top is not None]
    for metric in sorted(known, key=lambda metric: not metric.zero_or_one):
        if any(metric.name in item.metrics for item in items):
            return metric
    raise ConfigError(
        "no metric of this cell says which rows are wrong",
        where=f"--wrong, run {run_dir}",
        found=f"metrics: {', '.join(study.record.metrics)}",
        expected="accuracy, exact_match, number, or another with a best value",
        fix="add one to `metrics` in the configuration and run it again: known scores are not computed twice",
    )


def _answer(item: ItemScore, metric: Metric, said: Mapping[str, str]) -> str:
    return said.get(item.id, "") if metric.needs == "texts" else item.chosen or ""


def export_wrong(run_dir: Path, cell: str, out: Path | None = None, *, force: bool = False) -> tuple[str, int]:
    """Write `wrong_rows` to a file: JSON (an object per row) where its name ends in `.json`, else CSV.

    Args:
        run_dir: folder of the run.
        cell: name of the cell.
        out: the file; None writes none.
        force: replace a file that this did not write.

    Returns:
        What was written, as CSV without a file; and how many rows it is.

    Raises:
        ConfigError, DataError: as `wrong_rows`.
        ForeignFileError: the file is there and of another kind, or is one of the run's.
    """
    if out is not None:
        check_output(
            out, reads={"run": run_dir}, ours=_is_ours, what="the wrong rows", force=force, example="wrong.csv"
        )
    table = wrong_rows(run_dir, cell)
    if out is not None and out.suffix == ".json":
        lines = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        text = json.dumps(lines, ensure_ascii=False, indent=1) + "\n"
    else:
        text = to_csv(table)
    if out is not None:
        write_text(out, text)
    return text, len(table.rows)


def _is_ours(path: Path) -> bool:
    """Whether a file holds wrong rows of an earlier command."""
    begin, names = path.read_bytes()[:200].decode("utf-8", errors="replace"), BEFORE_METRIC
    value = json_or_none(path) if begin.startswith("[") else None
    first = value[0] if isinstance(value, list) and value else None
    return begin.startswith(",".join(names) + ",") or (isinstance(first, dict) and {*names} <= first.keys())
