"""A number that doesn't exist is nowhere made up, and numbers of several versions are not shown as of one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_run import make_run, save_run
from rich.console import Console

from triptych.api.objects import load_run
from triptych.records import CellRecord, RunRecord, Versions
from triptych.records.schema import GenerationRecord, SearchRecord
from triptych.report import build_report, print_tables, summarise_few_shot
from triptych.report.runs import compare_runs, read_runs
from triptych.report.versions import mixed_versions

Change = Callable[[CellRecord], CellRecord]


def changed(record: RunRecord, change: Change) -> RunRecord:
    cells = tuple(map(change, record.cells))
    return record.model_copy(update={"cells": cells, "few_shot": summarise_few_shot(cells)})


def without_bits(cell: CellRecord) -> CellRecord:
    return cell.model_copy(update={"aggregate": cell.aggregate.model_copy(update={"bits_per_char": None})})


def text_on_terminal(record: RunRecord) -> str:
    out = io.StringIO()
    print_tables(record, Console(file=out, width=200))
    return out.getvalue()


OLD, NEW = Versions(torch="2.12.0", peft="0.19.1", engine="2"), Versions(torch="2.13.0", peft="0.19.1", engine="2")


def of_two_versions(cell: CellRecord) -> CellRecord:
    return cell.model_copy(update={"versions": NEW if cell.strategy == "qlora" else OLD})


# --- outputs without a character


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two versions whose outputs have no character, with its report."""
    record, items = make_run(n_rows=12, ks=(1, 3), seeds=(0, 1))
    rows = {name: [replace(item, n_chars=0) for item in cell] for name, cell in items.items()}
    folder = save_run(tmp_path_factory.mktemp("bare"), changed(changed(record, without_bits), of_two_versions), rows)
    build_report(folder)
    return folder


def test_nothing_stands_where_there_is_no_number(bare: Path) -> None:
    stored = json.loads((bare / "results.json").read_text())
    assert {cell["aggregate"]["bits_per_char"] for cell in stored["cells"]} == {None}
    assert {one["bits_per_char"] for one in stored["few_shot"]} == {None}
    for table in ("cells", "zero_shot", "few_shot"):
        with (bare / "tables" / f"{table}.csv").open(newline="") as file:
            assert {line["bits_per_char"] for line in csv.DictReader(file)} == {""}
    report = (bare / "report.md").read_text(encoding="utf-8")
    assert "no characters, so no bits per character" in report
    assert "— / — / —" in report  # the best of each, joined
    assert (bare / "report.html").stat().st_size > 1000


def test_terminal_frames_and_comparisons_do_without_it(bare: Path, tmp_path: Path) -> None:
    run = load_run(bare)
    assert "ppl_mean" in text_on_terminal(run.record)
    assert run.cells["bits_per_char"].isna().all()
    assert run.few_shot["bits_per_char"].isna().all()
    assert "<table>" in run._repr_html_()
    other = tmp_path / "other"
    save_run(other, *make_run(n_rows=12, ks=(1, 3), seeds=(0, 1)))
    for folders in ([bare, other], [other, bare]):
        tables = compare_runs(read_runs(folders)).tables
        level = {row[0]: row[3] for row in tables["levels"].rows}
        assert None in level.values()
        assert "bits_per_char" not in tables


# --- several versions


def test_a_table_of_two_versions_says_so_before_all_else(bare: Path) -> None:
    record = load_run(bare).record
    [warning] = mixed_versions(record)
    assert warning.startswith("Not all numbers here were computed with the same versions: torch 2.12.0 (zero_shot/def")
    assert "and 3 more); torch 2.13.0 (qlora/default)" in warning
    assert "peft" not in warning
    report = (bare / "report.md").read_text(encoding="utf-8")
    first_warning = report[report.index("Read this first") :].splitlines()[2]
    assert "the same versions: torch 2.12.0" in first_warning
    assert report.index("the same versions") < report.index("## 1.")
    page = (bare / "report.html").read_text(encoding="utf-8")
    assert (
        page.index("the same versions: torch 2.12.0") < page.index("Two test rows also occur") < page.index("<table>")
    )
    assert text_on_terminal(record).startswith("warning: Not all numbers here were computed with the same versions")


def test_one_version_or_none_known_says_nothing() -> None:
    record, _ = make_run(n_rows=12, ks=(1,), seeds=(0,))
    assert mixed_versions(record) == []
    assert mixed_versions(changed(record, lambda cell: cell.model_copy(update={"versions": OLD}))) == []
    assert "warning" not in text_on_terminal(record)


def test_trainings_searches_and_texts_have_versions_too() -> None:
    record, _ = make_run(n_rows=12, ks=(1,), seeds=(0,))
    record = changed(record, lambda cell: cell.model_copy(update={"versions": NEW}))
    assert record.tune is not None
    two = Versions(torch="2.12.0, 2.13.0", peft="0.19.1", engine="2")
    trained = record.model_copy(update={"tune": record.tune.model_copy(update={"versions": two})})
    assert "torch 2.12.0, 2.13.0 (training default)" in mixed_versions(trained)[0]
    texts = GenerationRecord.model_construct(cell="zero_shot/default", versions=OLD)
    assert "texts of zero_shot/default" in mixed_versions(record.model_copy(update={"generations": (texts,)}))[0]
    search = SearchRecord.model_construct(versions=OLD)
    assert "torch 2.12.0 (search)" in mixed_versions(record.model_copy(update={"search": search}))[0]
