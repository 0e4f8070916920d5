"""Each way a file can be wrong is one message that names the file, the place, what was found and how to correct it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych.data import read_rows
from triptych.errors import DataError

GOOD = {"id": "a", "instruction": "x", "output": "y"}
HEADER = "id,instruction,output\n"


def rows(*changes: dict[str, object]) -> str:
    return json.dumps([{**GOOD, "id": f"id{number}", **change} for number, change in enumerate(changes, 1)])


def good_and(row: dict[str, object]) -> str:
    return json.dumps([GOOD, row])


# name: (file name, content, what the four parts of the message must hold: place, found, expected, fix)
CASES: dict[str, tuple[str, str | bytes, str, str, str, str]] = {
    "suffix": ("d.txt", "[]", "d.txt", "'.txt'", ".parquet", "rename"),
    "no suffix": ("d", "[]", "d", "without a suffix", ".jsonl", "rename"),
    "empty": ("d.json", "", "d.json", "0 bytes", "one row", "right file"),
    "empty but for a mark": ("d.csv", b"\xef\xbb\xbf\n", "d.csv", "4 bytes", "one row", "right file"),
    "empty list": ("d.json", "[]", "d.json", "an empty list", "one row", "right file"),
    "only a header": ("d.csv", HEADER, "d.csv", "nothing below", "one row", "right file"),
    "not JSON": ("d.json", '[\n {"id": x}]', "line 2, column 9", "'x}]'", "list", "correct the file there"),
    "half a file": ("d.json", '[{"id": "a", "instr', "line 1, column 14", "Unterminated", "list", "correct"),
    "lines, then none": ("d.json", '{"id": 1}\n{"id": 2\n', "line 2, column 9", "delimiter", "each line", ".json"),
    "a list in lines": ("d.jsonl", '[\n{"id": 1}\n]\n', "line 1, column 2", "Expecting value", "each line", ".json"),
    "bad line": ("d.jsonl", json.dumps(GOOD) + "\n{'id'\n", "line 2, column 2", "'id", "each line", "this line"),
    "deep": ("d.json", "[" * 100_000, "d.json", "", "objects", "plain strings"),
    "endless number": ("d.jsonl", '{"id": 1' + "0" * 5000 + "}", "line 1", "4300", "objects", "plain strings"),
    "not a list": ("d.json", '{"data": [1]}', "d.json", "'data'", "list of objects", "under 'data'"),
    "one object": ("d.json", '{"id": 1}', "d.json", "an object", "list of objects", "in one list"),
    "not objects": ("d.json", '[{"id": 1}, "x"]', "row 2", "'x' (str)", "an object", "every element"),
    "list on a line": ("d.jsonl", "[1]", "line 1", "a list", "an object", ".json"),
    "no such column": ("d.csv", "id,question,output\n1,a,b\n", "d.csv", "'question'", "'instruction'", "rename"),
    "no outputs": ("d.json", '[{"id": 1, "instruction": "a"}]', "d.json", "'id', 'instr", "'output'", "predict"),
    "nameless": ("d.json", "[{}]", "d.json", "no columns at all", "'instruction' and 'output'", "rename"),
    "no instruction": ("d.json", good_and({"id": "b", "output": ""}), "row 2, id 'b'", "no 'instr", "a string", "fill"),
    "null instruction": ("d.json", rows({}, {"instruction": None}), "row 2, id 'id2'", "null", "a string", "fill"),
    "number": ("d.json", rows({"instruction": 5}), "row 1, id 'id1'", "5 (int)", "a string", "fill"),
    "empty instruction": ("d.json", rows({"instruction": ""}), "row 1, id 'id1'", "''", "text", "fill"),
    "empty in CSV": ("d.csv", HEADER + 'a,"x\ny",z\nb,,z\n', "line 4, id 'b'", "''", "text", "remove"),
    "null output": ("d.json", rows({}, {"output": None}), "row 2, id 'id2'", "null as output", "a string", "remove"),
    "object as output": ("d.json", rows({"output": {}}), "row 1, id 'id1'", "an object", "a string", "fill"),
    "NaN as output": ("d.json", rows({"output": float("nan")}), "row 1, id 'id1'", "nan (float)", "a string", "fill"),
    "repeated id": ("d.json", rows({"id": 7}, {}, {"id": "7"}), "row 3", "'7' in row 1, row 3", "once", "rename"),
    "repeated lines": ("d.jsonl", "\n".join([json.dumps(GOOD)] * 2), "line 2", "line 1, line 2", "once", "rename"),
    "no id": ("d.json", good_and({"instruction": "x", "output": "y"}), "row 2", "other rows have", "a string", "leave"),
    "empty id": ("d.csv", HEADER + ",a,b\n", "line 2", "''", "a string", "its own id"),
    "number with a point as id": ("d.json", rows({"id": 1.5}), "row 1", "1.5 (float)", "integer", "its own id"),
    "true as id": ("d.json", rows({"id": True}), "row 1", "True (bool)", "integer", "its own id"),
    "Big5": ("d.csv", HEADER.encode() + "早".encode("big5"), "line 2", "0xa6 at byte offset 22", "UTF-8", "BIG5"),
    "UTF-16": ("d.json", "[]".encode("utf-16"), "line 1", "0xff at byte offset 0", "UTF-8", "UTF-16"),
    "marked, then not UTF-8": ("d.json", b'\xef\xbb\xbf["\xff"]', "line 1", "byte offset 5", "UTF-8", "iconv"),
    "surrogate": ("d.json", rows({}, {"output": "ab\ud83d"}), "row 2, id 'id2'", "ud83d at character 3", "UTF", "who"),
    "surrogate in an id": ("d.json", rows({"id": "\udc00"}), "row 1", "\\udc00 at character 1", "UTF-8", "whole"),
    "too many fields": ("d.csv", HEADER + "1,a, b,c\n", "line 2", "4 fields", "3 fields", "quote"),
    "too few fields": ("d.tsv", "id\tinstruction\toutput\n1\ta\n", "line 2", "2 fields", "3 fields", "quote"),
    "open quote": ("d.csv", HEADER + '1,a,b\n2,"a,b\n', "on line 3", "end of data", "quote", ".jsonl"),
    "column twice": ("d.csv", "id,output,output\n1,a,b\n", "the header", "'output'", "once", "rename"),
    "not Parquet": ("d.parquet", b"PAR1 no PAR1", "d.parquet", "Arrow", "Parquet", "again"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_one_clear_message(tmp_path: Path, case: str) -> None:
    name, content, place, found, expected, fix = CASES[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = caught(path)
    assert str(path) in (error.where or "")
    assert place in (error.where or "")
    assert found in (error.found or "")
    assert expected in (error.expected or "")
    assert fix in (error.fix or "")
    assert len(str(error)) < 1500
    str(error).encode()


def caught(path: Path | str) -> DataError:
    with pytest.raises(DataError) as info:
        read_rows(path)
    assert type(info.value) is DataError
    assert info.value.exit_code == 2
    for part in (info.value.where, info.value.found, info.value.expected, info.value.fix):
        assert part
        assert part in str(info.value)
    return info.value


def test_a_missing_file_brings_near_names(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("[]")
    error = caught(tmp_path / "trian.json")
    assert error.where == str(tmp_path / "trian.json")
    assert "no 'trian.json' in" in (error.found or "")
    assert f"did you mean {tmp_path / 'train.json'}?" in (error.fix or "")


def test_a_missing_file_with_no_near_name_brings_the_data_files(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("[]")
    (tmp_path / "notes.md").write_text("")
    fix = caught(tmp_path / "x").fix or ""
    assert "train.json" in fix
    assert "notes.md" not in fix


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = caught(tmp_path / "none" / "train.json")
    assert "no folder" in (error.found or "")
    assert error.fix == "check the path"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "without data files" in (caught(tmp_path).found or "")
    (tmp_path / "train.json").write_text("[]")
    error = caught(tmp_path)
    assert "train.json" in (error.found or "")
    assert str(tmp_path / "train.json") in (error.fix or "")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "d.json").write_text("[]")
    monkeypatch.setattr(Path, "open", refuse)
    error = caught(tmp_path / "d.json")
    assert error.found == "Permission denied"
    assert "permissions" in (error.fix or "")


@pytest.mark.parametrize("name", ["x" * 5000 + ".json", "nul\0.json"])
def test_a_name_that_can_be_no_file(name: str) -> None:
    caught(name)


def test_at_most_five_repeated_ids_are_named(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(rows(*({"id": f"same{number % 7}"} for number in range(49))))
    found = caught(path).found or ""
    assert found.count("same") == 5
    assert "'same0' in row 1, row 8, row 15, row 22, row 29 and 2 more" in found
    assert found.endswith("; and 2 more ids")


def test_null_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"instruction": ["a", None], "output": ["x", "y"]}), path)
    error = caught(path)
    assert error.where == f"{path}, row 2, id 'row-2'"
    assert error.found == "null as instruction"


def test_bytes_and_a_repeated_column_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"instruction": [b"a"], "output": ["x"]}), path)
    assert "type bytes" in (caught(path).found or "")
    columns = [pa.array(["a"])] * 3
    pq.write_table(pa.Table.from_arrays(columns, names=["instruction", "output", "output"]), path)
    assert caught(path).where == f"{path}, the header"


def test_an_output_to_predict_is_text_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(rows({"output": [5]}))
    with pytest.raises(DataError, match="the output of a row is not text"):
        read_rows(path, need_output=False)
