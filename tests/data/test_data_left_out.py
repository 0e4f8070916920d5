"""Every part of a row is used, refused by name, or counted as left out and said once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych.data import load_dataset, read_rows, read_source
from triptych.data.survey import survey
from triptych.errors import DataError

CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
LINE = '{"name": "weather", "arguments": {"city": "Oslo"}}'


def turns(*said: str) -> list[dict[str, Any]]:
    return [dict(zip(("role", "content"), text.split(": ", 1), strict=True)) for text in said]


def write(folder: Path, *rows: object, name: str = "d.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(rows, ensure_ascii=False))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "input": "", "output": "b"},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": turns("user: a", "assistant: b")},
    ],
)
def test_a_system_column_is_a_system_turn(tmp_path: Path, row: dict[str, Any]) -> None:
    read = read_source(write(tmp_path, {**row, "system": "S"}, {**row, "system": ""}, {**row, "system": None}))
    assert [row.instruction for row in read.rows] == ["S\n\na", "a", "a"]
    assert read.notes == ("column `system` is used as a system turn (1 row), before the instruction",)


def test_a_system_turn_and_a_system_column_must_agree(tmp_path: Path) -> None:
    row = {"messages": turns("system: S", "user: a", "assistant: b")}
    assert read_rows(write(tmp_path, {**row, "system": "S"}))[0].instruction == "S\n\na"
    with pytest.raises(DataError, match="another text in its system column"):
        read_rows(write(tmp_path, {**row, "system": "T"}))


def test_a_mapped_system_column(tmp_path: Path) -> None:
    path = write(tmp_path, {"q": "a", "a": "b", "role_text": "S", "system": "T"})
    columns = {"instruction": "q", "output": "a"}
    assert read_rows(path, columns={**columns, "system": "role_text"})[0].instruction == "S\n\na"
    read = read_source(path, columns=columns)
    assert read.rows[0].instruction == "a"
    assert read.notes == ("not part of the prompt (kept to cut reports by): columns `system` (1 row)",)


def test_tool_calls_are_text_of_their_turn(tmp_path: Path) -> None:
    alone = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    beside = {"role": "assistant", "content": "Wait.", "tool_calls": [CALL]}
    path = write(
        tmp_path,
        {"messages": [*turns("user: a"), alone]},
        {"messages": [*turns("user: a"), {**alone, "content": ""}, *turns("tool: rain", "assistant: It rains.")]},
        {"messages": [*turns("user: a"), beside]},
        {"messages": [*turns("user: a"), {"role": "assistant", "function_call": CALL["function"]}]},
    )
    read = read_source(path)
    assert [row.output for row in read.rows] == [LINE, "It rains.", f"Wait.\n{LINE}", LINE]
    assert read.rows[1].instruction == f"USER: a\nASSISTANT: {LINE}\nTOOL: rain"
    assert read.notes == ("4 turns with tool calls: each call is a line of JSON in the turn's text",)
    with pytest.raises(DataError, match="name no function"):
        read_rows(write(tmp_path, {"messages": [*turns("user: a"), {**alone, "tool_calls": ["x"]}]}))


def test_a_function_call_at_the_end_is_the_output(tmp_path: Path) -> None:
    said = [("human", "a"), ("gpt", "hi"), ("human", "weather?"), ("function_call", LINE)]
    path = write(tmp_path, {"conversations": [{"from": role, "value": text} for role, text in said], "tools": "[1]"})
    read = read_source(path)
    assert read.rows[0].output == LINE
    assert read.notes == ("not part of the prompt (kept to cut reports by): columns `tools` (1 row)",)


def test_other_keys_of_turns_are_counted(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "4", "reasoning_content": "2+2", "weight": 0, "name": None}
    read = read_source(write(tmp_path, *[{"messages": [*turns("user: a"), answer]}] * 2))
    assert read.notes == ("left out of the turns: the keys `reasoning_content` (2 turns), `weight` (2 turns)",)


def test_one_reader_for_a_check_and_for_a_score(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"messages": turns("user: a", "assistant: b", "user: c")},
        {"messages": turns("user: a", "assistant: b", "tool: c", "user: d")},
        {"messages": turns("user: a", "assistant: b")},
    )
    notes = (
        "1 conversation ends with a user turn: that turn is left out",
        "1 conversation ends with turns after the last answer (tool, user): these are left out",
    )
    scored = read_source(path)
    assert scored.notes == notes
    found = survey(path).train
    assert found.notes == notes
    assert found.n_without_output == 0
    assert found.lengths["instruction"].longest == 1
    to_predict = read_source(path, need_output=False)
    assert [row.output for row in to_predict.rows] == [None, None, "b"]
    assert to_predict.notes == ()


def test_columns_of_lists_and_objects(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b", "meta": {"k": 1}, "tags": ["x"], "level": 3, "none": []}]
    rows[0]["numbers"] = [1, 2]
    read = read_source(write(tmp_path, *rows))
    assert read.notes == (
        "left out, since they hold lists, objects or bytes: columns `meta` (1 row), `numbers` (1 row)",
    )
    assert read.rows[0].column("tags") == '["x"]'  # lists of texts stay: they may be a row's options
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    table = read_source(tmp_path / "d.parquet")
    assert "'meta'" in table.notes[0] and "'numbers'" in table.notes[0] and "'tags'" not in table.notes[0]
    assert table.rows[0].column("tags") == '["x"]'


@pytest.mark.parametrize("name", ["d.json", "d.jsonl"])
def test_a_key_twice_is_refused(tmp_path: Path, name: str) -> None:
    row = '{"instruction": "a", "output": "first", "output": "second"}'
    (tmp_path / name).write_text(
        f"[\n{row}\n]" if name == "d.json" else f'{{"instruction": "x", "output": "y"}}\n{row}\n'
    )
    with pytest.raises(DataError, match="has the key 'output'") as caught:
        read_rows(tmp_path / name)
    assert "line 2" in (caught.value.where or "")
    assert caught.value.found == "'first' (str) and 'second' (str)"


def test_notes_are_said_once_a_file(tmp_path: Path) -> None:
    heard: list[str] = []

    class Listens:
        def info(self, message: str) -> None:
            heard.append(message)

        def warn(self, message: str) -> None:
            heard.append(f"warning: {message}")

    path = write(tmp_path, *[{"instruction": f"a{n}", "output": n, "system": "S"} for n in range(3)])
    read_rows(path, reporter=Listens())  # type: ignore[arg-type]
    load_dataset(train=path, test=None, folder=None, train_rows=None, test_rows=None, reporter=Listens())  # type: ignore[arg-type]
    assert len([text for text in heard if "system turn" in text]) == 2
    assert f"{path}: 3 outputs are numbers, true or false: the JSON text is used, e.g. `0`" in heard


@pytest.mark.parametrize("number", ["1" * 400, "-" + "9" * 4000, "1e308"])
def test_an_output_that_is_any_number_of_json_is_its_text(number: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"id": 1, "instruction": "a", "output": {number}}}\n', encoding="utf-8")
    read = read_source(path)
    assert read.rows[0].output == json.dumps(json.loads(number))
    assert len(read.notes[0]) < 200
