"""Texts, further columns and tokens beside the numbers, files of older versions included."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row
from triptych.errors import DataError
from triptych.records.texts import read_columns, read_rows_shown, read_tokens, write_rows, write_tokens


@dataclass
class Bare:
    """A row that has no `columns` at all."""

    id: str
    instruction: str
    output: str | None


def test_columns_come_back_by_row_and_rows_without_have_none(tmp_path: Path) -> None:
    rows = [
        Row("a", "問", "答", (("era", "漢"), ("source", "史記"))),
        Row("b", "問", "答", (("source", "“{}"),)),
        Row("c", "問", "答"),
    ]
    path = tmp_path / "rows.parquet"
    write_rows(path, {"test": rows, "demo": [Row("a", "別", "的", (("era", "唐"),)), Bare("d", "x", "y")]})
    assert read_columns(path) == {
        "test": {"a": {"era": "漢", "source": "史記"}, "b": {"source": "“{}"}},
        "demo": {"a": {"era": "唐"}},
    }
    assert read_rows_shown(path)["test"] == {row.id: ("問", "答") for row in rows}


def test_a_file_of_an_older_version_has_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"role": ["test"], "id": ["a"], "instruction": ["i"], "output": ["o"]}), path)
    assert read_columns(path) == {}
    assert read_rows_shown(path) == {"test": {"a": ("i", "o")}}
    assert read_columns(tmp_path / "none.parquet") == {}


@pytest.mark.parametrize("text", ['{"a": ', "[1]"])
def test_columns_that_are_no_object_are_named_with_their_row(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = {"role": ["test"], "id": ["r7"], "instruction": ["i"], "output": ["o"], "columns": [text]}
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=r"(?s)row 'r7'.*delete this file"):
        read_columns(path)


def test_tokens_of_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    pq.write_table(pa.table({"cell": pa.array(["c"]), "id": ["a"]}), path)
    with pytest.raises(DataError, match="torn"):
        read_tokens(path)


tokens = st.lists(st.floats(0, 50, width=32), min_size=0, max_size=5)


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=6))
def test_tokens_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[list[float], list[float]]]
) -> None:
    path = tmp_path_factory.mktemp("tokens") / "tokens.parquet"
    pieces = {f"r{i}": [("字", len(first))] for i, (first, _) in enumerate(rows)}
    write_tokens(path, pieces, {"one": [first for first, _ in rows], "two": [second for _, second in rows]})
    found = read_tokens(path)
    assert found.pieces == pieces
    for side, cell in enumerate(("one", "two")):
        assert list(found.nll[cell]) == list(pieces)
        assert [values.tolist() for values in found.nll[cell].values()] == [row[side] for row in rows]


def test_many_tokens_are_read_without_a_python_object_each(tmp_path: Path) -> None:
    path = tmp_path / "tokens.parquet"
    block = np.random.default_rng(0).gamma(0.5, size=(4000, 50)).astype(np.float32)
    write_tokens(path, {f"r{i}": [("x", 50)] for i in range(4000)}, {f"c{i}": block for i in range(4)})
    begin = time.perf_counter()
    found = read_tokens(path)
    print(f"800,000 tokens read in {time.perf_counter() - begin:.2f} s")
    assert all(values.base is not None for values in found.nll["c3"].values())
    assert found.nll["c3"]["r3999"].tolist() == block[3999].tolist()
