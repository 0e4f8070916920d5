"""Ways to write a file that others have, read without a complaint."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych.data import Row, load_dataset, read_rows, read_source
from triptych.errors import DataError

ROWS = [Row("row-1", "a", "x"), Row("row-2", "b", "y")]


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (1.5, "1.5"), (True, "true"), (-0.0, "-0.0")])
def test_numbers_and_booleans_as_outputs(tmp_path: Path, value: object, text: str) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"instruction": "a", "output": value}))
    pq.write_table(pa.Table.from_pylist([{"instruction": "a", "output": value}]), tmp_path / "d.parquet")
    for name in ("d.jsonl", "d.parquet"):
        assert read_rows(tmp_path / name)[0].output == text


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_another_delimiter_in_csv(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f'\n"instruction"{delimiter}output\na{delimiter}x\n"b"{delimiter}y\n')
    read = read_source(path)
    assert read.rows == ROWS
    assert read.notes == (f"the fields are divided by {delimiter!r}",)
    path.write_text('instruction,"output;|"\na,x\n')
    with pytest.raises(DataError, match="missing") as caught:
        read_rows(path)
    assert "'output;|'" in (caught.value.found or "")


def test_a_long_field_in_csv(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("instruction,output\n" + "x" * 500_000 + ",y\n")
    assert len(read_rows(tmp_path / "d.csv")[0].instruction) == 500_000


def test_turns_as_json_text(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": None},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": json.dumps(turns)}]), tmp_path / "d.parquet")
    read = read_source(tmp_path / "d.parquet")
    assert read.rows == ROWS[:1]
    assert read.notes == ("column `messages` holds JSON text, read as the list it says",)
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": "[{'role': 'user'}]"}))
    with pytest.raises(DataError, match="`messages` is a text that is not JSON"):
        read_rows(tmp_path / "d.jsonl")


def test_json_lines_named_json(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"instruction": "a", "output": "x"}\n\n{"instruction": "b", "output": "y"}\n')
    read = read_source(path)
    assert read.rows == ROWS
    assert "one object on each line" in read.notes[0]
    path.write_text('{"instruction": "a", "output": "x"}\n{"instruction": \n')
    with pytest.raises(DataError, match="not JSON") as caught:
        read_rows(path)
    assert "line 2, column 17" in (caught.value.where or "")


def test_columns_and_commas_that_are_told(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"instruction": {"0": "a"}, "output": {"0": "x"}}')
    with pytest.raises(DataError, match="column by column") as caught:
        read_rows(path)
    assert "orient='records'" in (caught.value.fix or "")
    path.write_text('[{"instruction": "a", "output": "x"},\n]')
    with pytest.raises(DataError, match="not JSON") as caught:
        read_rows(path)
    assert "a comma after the last row" in (caught.value.found or "")
    assert "line 2" in (caught.value.where or "")


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "d.jsonl").write_text('{"instruction": "a", "output": "x"}\n{"instruction": "b", "output": "y"}\n')
    assert read_rows("~/d.jsonl") == ROWS
    assert len(read_rows("~/d.jsonl#1")) == 1
    for folder, name in (("~", "d.jsonl"), (None, "~/d.jsonl"), ("elsewhere", "~/d.jsonl")):
        data = load_dataset(train=name, test=None, folder=folder, train_rows=None, test_rows=None)
        assert list(data.train) == ROWS
    with pytest.raises(DataError, match="no such file"):
        read_rows("~nobody-of-this-name/d.jsonl")
