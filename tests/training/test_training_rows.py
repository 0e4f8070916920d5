"""Rows that can't be trained on are named, counted and listed; no answer is ever cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.errors import DataError
from triptych.prompts import Rendered
from triptych.training import DroppedRows, TuneResult, select_rows
from triptych.training.rows import TuneRows, write_dropped

ROWS = [Rendered(f"row-{n}", tuple(range(n)), 2, 1) for n in (5, 30, 10, 31, 29)]


def test_drop_keeps_what_fits_in_its_order_and_names_the_rest() -> None:
    kept, dropped = select_rows(ROWS, 29, "drop")
    assert [row.row_id for row in kept] == ["row-5", "row-10", "row-29"]
    assert kept[2].ids == ROWS[4].ids
    assert dropped == DroppedRows(("row-30", "row-31"), (30, 31), 29)
    assert len(dropped) == 2


def test_all_fit() -> None:
    for policy in ("drop", "error"):
        kept, dropped = select_rows(ROWS, 31, policy)  # type: ignore[arg-type]
        assert kept == ROWS
        assert not dropped.ids


def test_error_says_which_and_how_to_mend_it() -> None:
    with pytest.raises(DataError) as caught:
        select_rows(ROWS, 29, "error")
    message = str(caught.value)
    assert "2 of 5 training rows are longer than the limit" in message
    assert "'row-30', 'row-31'" in message
    assert "up to 31 tokens" in message
    assert "long_rows: drop" in message


def test_a_row_without_scored_tokens_is_an_error_whatever_the_policy(train: Callable[..., TuneResult]) -> None:
    empty = Rendered("nothing", (1, 2, 3), 3, 0)
    for policy in ("drop", "error"):
        with pytest.raises(DataError, match=r"1 of 6 training rows have no scored token[\s\S]*'nothing'"):
            select_rows([*ROWS, empty], 100, policy)  # type: ignore[arg-type]


def test_the_list_of_dropped_rows_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "dropped.json"
    dropped = DroppedRows(tuple(f"row-{i}" for i in range(50)), tuple(range(100, 150)), 99)
    write_dropped(path, dropped)
    found = json.loads(path.read_text())
    assert (found["limit"], found["n_rows"], len(found["rows"])) == (99, 50, 50)
    assert found["rows"][49] == {"id": "row-49", "n_tokens": 149}
    assert dropped.first_ids == dropped.ids[:20]
    write_dropped(path, DroppedRows())
    assert not path.exists()


def test_a_training_records_what_was_dropped(train: Callable[..., TuneResult], tmp_path: Path) -> None:
    dropped = DroppedRows(tuple(f"long-{i}" for i in range(25)), (3000,) * 25, 2048)
    result = train(epochs=1, dropped=dropped)
    assert result.summary.rows_dropped == 25
    assert result.summary.rows_dropped_ids == tuple(f"long-{i}" for i in range(20))
    assert len(json.loads((tmp_path / "tune" / "dropped.json").read_text())["rows"]) == 25


def test_a_training_checks_its_rows_itself(train: Callable[..., TuneResult], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scored token"):
        train(extra=[Rendered("nothing", (1, 2, 3), 3, 0)])
    assert not (tmp_path / "tune").exists()
    with pytest.raises(DataError, match="2 rows, all longer"):
        train(rows=0, dropped=DroppedRows(("a", "b"), (9, 9), 8))
    assert len(TuneRows(ROWS).dropped) == 0
