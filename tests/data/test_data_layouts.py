"""How files are written is detected and said; what can't be told is one message with the lines to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych.data import Row, load_dataset, read_rows, read_source
from triptych.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(*objects: dict[str, Any], name: str = "rows.json") -> Path:
        path = tmp_path / name
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(list(objects)), path)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in objects))
        else:
            path.write_text(json.dumps(objects))
        return path

    return to_file


def turns(*said: str, keys: tuple[str, str] = ("role", "content")) -> list[dict[str, str]]:
    return [dict(zip(keys, text.split(": ", 1), strict=True)) for text in said]


def test_alpaca(write: Write) -> None:
    path = write(
        {"instruction": "Translate.", "input": "good day", "output": "bonjour"},
        {"instruction": "Say yes.", "input": "", "output": "yes"},
        {"instruction": "Say no.", "input": None, "output": "no"},
    )
    read = read_source(path)
    assert [row.instruction for row in read.rows] == ["Translate.\ngood day", "Say yes.", "Say no."]
    assert read.format == "json, alpaca (instruction + input -> output)"
    assert read.rows[0].columns == ()


def test_a_history_is_not_dropped_in_silence(write: Write) -> None:
    path = write({"instruction": "a", "input": "", "output": "b", "history": [["x", "y"]]})
    with pytest.raises(DataError, match="has a history") as caught:
        read_rows(path)
    assert "messages" in (caught.value.fix or "")
    assert read_rows(write({"instruction": "a", "input": "", "output": "b", "history": []}))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize(
    ("column", "keys", "roles", "layout"),
    [
        ("messages", ("role", "content"), ("user", "assistant"), "messages"),
        ("conversations", ("from", "value"), ("human", "gpt"), "ShareGPT"),
    ],
)
def test_conversations(
    write: Write, name: str, column: str, keys: tuple[str, str], roles: tuple[str, str], layout: str
) -> None:
    user, bot = roles
    path = write(
        {"id": "a", column: turns(f"{user}: hi", f"{bot}: hello", keys=keys)},
        {"id": "b", column: turns("system: be brief", f"{user}: hi", f"{bot}: hello", keys=keys)},
        {"id": "c", column: turns(f"{user}: 1", f"{bot}: 2", f"{user}: 3", f"{bot}: 4", keys=keys)},
        {"id": "d", column: turns("system: s", f"{user}: 1", f"{bot}: 2", f"{user}: thanks", keys=keys)},
        name=name,
    )
    read = read_source(path)
    assert read.rows == [
        Row("a", "hi", "hello"),
        Row("b", "be brief\n\nhi", "hello"),
        Row("c", "USER: 1\nASSISTANT: 2\nUSER: 3", "4"),
        Row("d", "s\n\n1", "2"),
    ]
    assert read.layout.name == layout
    assert "the last assistant turn is the output" in read.format


@pytest.mark.parametrize(
    ("said", "what", "found"),
    [
        ([], "has no assistant turn", "0 turns: none"),
        (turns("user: hi"), "has no assistant turn", "1 turns: user"),
        (turns("assistant: hi"), "nothing before", "0 turns"),
        (turns("system: x", "assistant: hi"), "nothing before", "1 turns"),
        (turns("user: a", "oracle: b"), "turn 2 of a conversation has a role", "'oracle'"),
        ([{"role": "user", "content": 5}], "turn 1 of a conversation is not text", "5 (int)"),
        ([{"role": "user", "content": [{"type": "image"}]}], "turn 1 of a conversation is not text", "a list"),
        (["hi"], "turn 1 of a conversation is not an object", "'hi'"),
        ("hi", "not a list of turns", "'hi'"),
    ],
)
def test_a_conversation_that_gives_no_row(write: Write, said: object, what: str, found: str) -> None:
    good = turns("user: a", "assistant: b")
    with pytest.raises(DataError) as caught:
        read_rows(write({"messages": good}, {"messages": said}))
    assert what in caught.value.what
    assert found in (caught.value.found or "")
    assert "row 2, id 'row-2'" in (caught.value.where or "")


def test_parts_of_text_are_one_text(write: Write) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    path = write({"messages": [{"role": "user", "content": parts}, *turns("assistant: c")]})
    assert read_rows(path) == [Row("row-1", "ab", "c")]


def test_a_conversation_to_answer_has_no_output(write: Write) -> None:
    path = write({"messages": turns("user: a", "assistant: b", "user: c")})
    assert read_rows(path, need_output=False) == [Row("row-1", "USER: a\nASSISTANT: b\nUSER: c", None)]


@pytest.mark.parametrize(
    ("asks", "answers"), [("prompt", "completion"), ("question", "answer"), ("query", "response"), ("input", "output")]
)
def test_pairs(write: Write, asks: str, answers: str) -> None:
    read = read_source(write({asks: "a", answers: "b", "level": 3}))
    assert read.rows == [Row("row-1", "a", "b", (("level", "3"),))]
    assert read.format == f"json, {asks}/{answers} ({asks} -> {answers})"


def test_a_prompt_and_a_completion_of_turns(write: Write) -> None:
    path = write({"prompt": turns("system: s", "user: a"), "completion": turns("assistant: b")})
    assert read_rows(path) == [Row("row-1", "s\n\na", "b")]


@pytest.mark.parametrize("beside", ["context", "choices", "system"])
def test_a_question_that_needs_more_than_itself_is_not_guessed(write: Write, beside: str) -> None:
    with pytest.raises(DataError, match="can't be told") as caught:
        read_rows(write({"question": "a", "answer": "b", beside: "c"}))
    assert f"'{beside}'" in (caught.value.found or "")
    assert "instruction: question\n        output: answer" in (caught.value.fix or "")


def test_two_ways_to_read_a_file(write: Write) -> None:
    with pytest.raises(DataError, match="more than one way") as caught:
        read_rows(write({"prompt": "a", "completion": "b", "question": "c", "answer": "d"}))
    assert "prompt/completion or question/answer" in (caught.value.found or "")


def test_unknown_columns_are_listed_with_the_lines_to_write(write: Write) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write({"modern": "a", "classical": "b", "id": "1"}))
    assert caught.value.found == "the columns 'modern', 'classical', 'id'"
    assert "data:\n      columns:\n        instruction: " in (caught.value.fix or "")


def test_a_mapping(write: Write) -> None:
    path = write({"modern": "a", "classical": "b", "no": 7, "more": "c"})
    mapping = {"instruction": "modern", "output": "classical", "id": "no"}
    read = read_source(path, columns=mapping)
    assert read.rows == [Row("7", "a", "b", (("more", "c"),))]
    assert read.format == "json, mapped (modern -> classical)"
    assert read_rows(path, columns={**mapping, "input": "more"})[0].instruction == "a\nc"


def test_a_mapping_to_a_conversation(write: Write) -> None:
    path = write({"dialog": turns("user: a", "assistant: b")}, name="rows.parquet")
    assert read_rows(path, columns={"messages": "dialog"}) == [Row("row-1", "a", "b")]


@pytest.mark.parametrize(
    ("columns", "what", "fix"),
    [
        (
            {"instruction": "modren", "output": "classical"},
            "not there: 'modren'",
            "did you mean `instruction: modern`?",
        ),
        ({"genre": "modern"}, "'genre', which is no part", "remove it"),
        ({"modern": "instruction"}, "'modern', which is no part", "did you mean `instruction: modern`?"),
        ({"ouput": "classical"}, "'ouput', which is no part", "did you mean `output: classical`?"),
        ({"instruction": "modern"}, "can't be told", "output: "),
        ({"messages": "modern", "output": "classical"}, "either in the messages", "leave out"),
    ],
)
def test_a_wrong_mapping(write: Write, columns: dict[str, str], what: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write({"modern": "a", "classical": "b"}), columns=columns)
    assert what in caught.value.what
    assert fix in (caught.value.fix or "")


def test_train_and_test_may_be_written_differently(write: Write) -> None:
    train = write({"modern": "a", "classical": "b"}, name="train.json")
    test = write({"instruction": "c", "output": "d"}, name="test.json")
    columns = {"instruction": "modern", "output": "classical"}

    class Listens:
        heard: list[str] = []  # noqa: RUF012

        def info(self, message: str) -> None:
            self.heard.append(message)

        def warn(self, message: str) -> None:
            self.heard.append(f"warning: {message}")

    rows = {"train_rows": None, "test_rows": None}
    data = load_dataset(train=train, test=test, folder=None, columns=columns, reporter=Listens(), **rows)  # type: ignore[arg-type]
    assert (data.train[0].instruction, data.test[0].instruction) == ("a", "c")
    assert data.files["train"]["format"] == "json, mapped (modern -> classical)"
    assert Listens.heard == [f"{train}: 1 rows; json, mapped (modern -> classical)"]
    with pytest.raises(DataError, match="names columns that no file has"):
        load_dataset(train=None, test=test, folder=None, columns=columns, **rows)  # type: ignore[arg-type]


def test_ids_that_begin_late_are_noticed(write: Write) -> None:
    rows = [{"instruction": "a", "output": "b"}] * 1001
    with pytest.raises(DataError, match="some rows have an id"):
        read_rows(write(*rows, {"id": "x", "instruction": "a", "output": "b"}, name="rows.jsonl"))
