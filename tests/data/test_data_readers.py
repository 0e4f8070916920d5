"""Every format gives back the rows that went in, and no bytes make the reader fail in any way but a DataError."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triptych.data import Row, read_rows
from triptych.errors import DataError

ROWS = [
    Row("a", "翻譯成文言文：\n早安。", "早。"),
    Row("b", ' 他說："是"，\t\r\n', ""),
    Row("c", "\u2028x\x00y", " 末 "),
]


def write_json(path: Path, rows: list[Row]) -> None:
    path.write_text(json.dumps([objects(row) for row in rows], ensure_ascii=False), encoding="utf-8")


def write_jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(objects(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([("output", "id", "instruction"), *((row.output, row.id, row.instruction) for row in rows)])


def write_parquet(path: Path, rows: list[Row]) -> None:
    pq.write_table(pa.Table.from_pylist([objects(row) for row in rows]), path)


def objects(row: Row) -> dict[str, str | None]:
    return {"id": row.id, "instruction": row.instruction, "output": row.output}


WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    ".json": write_json,
    ".jsonl": write_jsonl,
    ".ndjson": write_jsonl,
    ".csv": write_csv,
    ".tsv": write_csv,
    ".parquet": write_parquet,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SOME = TEXT.filter(bool)
ROW_LISTS = st.lists(st.builds(Row, SOME, SOME, TEXT), min_size=1, max_size=8, unique_by=lambda row: row.id)
FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, ROWS)
    assert read_rows(path) == ROWS
    assert read_rows(str(path)) == ROWS


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
@FOLDER
@given(rows=ROW_LISTS)
def test_rows_come_back_as_they_were(tmp_path: Path, suffix: str, rows: list[Row]) -> None:
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, rows)
    assert read_rows(path) == rows


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
@FOLDER
@given(content=st.binary(max_size=200))
def test_random_bytes_only_raise_data_errors(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    str(caught.value).encode()  # printable, whatever was in the file


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
@FOLDER
@given(data=st.data())
def test_mutated_files_give_rows_or_a_data_error(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, ROWS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(content)
    try:
        rows = read_rows(path)
    except DataError as error:
        str(error).encode()
    else:
        assert rows
        assert all(row.instruction and isinstance(row.output, str) for row in rows)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_a_byte_order_mark_is_tolerated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    WRITERS[suffix](path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_rows(path) == ROWS


def test_a_suffix_in_capitals_is_the_same_suffix(tmp_path: Path) -> None:
    write_json(tmp_path / "ROWS.JSON", ROWS)
    assert read_rows(tmp_path / "ROWS.JSON") == ROWS


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "output": "x"}\n\n{"instruction": "b", "output": "y"}\n')
    assert [row.id for row in read_rows(path)] == ["row-1", "row-2"]


def test_integer_ids_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"id": 7, "instruction": "a", "output": "x"}]')
    assert read_rows(path) == [Row("7", "a", "x")]


def test_other_columns_are_kept_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("source,instruction,output,id\nbook,a,x,1\n")
    assert read_rows(path) == [Row("1", "a", "x", (("source", "book"),))]
    path = tmp_path / "rows.json"
    extra = {"n": 3, "yes": True, "half": 0.5, "none": None, "list": [1], "object": {}, "torn": "a\ud800"}
    path.write_text(json.dumps([{"instruction": "a", "output": "x", **extra}]))
    assert read_rows(path)[0].columns == (("n", "3"), ("yes", "true"), ("half", "0.5"), ("torn", "a\\ud800"))


@pytest.mark.parametrize("row", [{"instruction": "a"}, {"instruction": "a", "output": None}])
def test_rows_to_predict_need_no_output(tmp_path: Path, row: dict[str, str | None]) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row]))
    assert read_rows(path, need_output=False) == [Row("row-1", "a", None)]


def test_rows_to_predict_may_have_outputs(tmp_path: Path) -> None:
    write_json(tmp_path / "rows.json", ROWS)
    assert read_rows(tmp_path / "rows.json", need_output=False) == ROWS
