"""How large `report.html` is, how long it takes to write, and how soon it can be used. `pytest -s` prints it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make_run, save_run, save_texts

from triptych.report import build_report

KS = (1, 2, 3, 4, 5, 6, 8, 10, 16)


def measure(folder: Path, n_rows: int, open_report: Callable[..., Any]) -> tuple[float, float, float, float]:
    record, items = make_run(n_rows, ks=KS)
    assert len(record.cells) == 30
    save_run(folder, record, items)
    save_texts(folder, items)
    begin = time.perf_counter()
    build_report(folder)
    built = time.perf_counter() - begin
    page = open_report(folder / "report.html").load()
    ready = float(page.evaluate("document.documentElement.dataset.ready")) / 1000
    begin = time.perf_counter()
    page.click("#rows-list tr.row .open >> nth=1")
    page.wait_for_selector("tr.detail[data-ready]")
    opened = time.perf_counter() - begin
    size = (folder / "report.html").stat().st_size / 1e6
    print(
        f"\n{n_rows} rows x 30 cells: {size:.2f} MB, built in {built:.1f} s, interactive after {ready:.2f} s, ", end=""
    )
    print(f"a row opened in {opened:.2f} s")
    return size, built, ready, opened


def test_the_studys_size_is_small_and_quick(tmp_path: Path, open_report: Callable[..., Any]) -> None:
    size, _, ready, opened = measure(tmp_path, 250, open_report)
    assert size < 4
    assert ready < 5
    assert opened < 5


@pytest.mark.slow
def test_ten_thousand_rows_still_open(tmp_path: Path, open_report: Callable[..., Any]) -> None:
    size, _, ready, opened = measure(tmp_path, 10_000, open_report)
    assert size < 40
    assert ready < 20
    assert opened < 10
