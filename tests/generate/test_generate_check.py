"""Each fault is found, in the rows that have it and in no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row
from triptych.errors import DataError
from triptych.generate.check import Check, check_predictions, greets, loops, read_predictions

ROWS = [Row(f"r{i}", f"請把這一句翻譯成文言文：春眠不覺曉{i}", None) for i in range(6)]
GOOD = [(row.id, f"春眠不覺曉，處處聞啼鳥。{i}") for i, row in enumerate(ROWS)]


def found(check: Check) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.row_ids for finding in check.findings}


def with_text(text: str) -> list[tuple[str, str]]:
    return [*GOOD[:2], ("r2", text), *GOOD[3:]]


def test_a_good_file_has_no_findings() -> None:
    check = check_predictions(GOOD, ROWS)
    assert (check.ok, check.findings, check.n_rows) == (True, (), 6)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (GOOD[1:], {"missing": ("r0",)}),
        ([*GOOD, ("x", "字")], {"unknown": ("x",)}),
        ([*GOOD, GOOD[3]], {"repeated": ("r3",)}),
        ([GOOD[1], GOOD[0], *GOOD[2:]], {"order": ("r1", "r0")}),
        ([GOOD[3], *GOOD[1:3], *GOOD[4:]], {"missing": ("r0",), "order": ("r3", "r1", "r2")}),
        ([], {"missing": tuple(row.id for row in ROWS)}),
    ],
)
def test_ids(predictions: list[tuple[str, str]], expected: dict[str, tuple[str, ...]]) -> None:
    check = check_predictions(predictions, ROWS)
    assert found(check) == expected
    assert not check.ok


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (" \n\u3000", "empty"),
        ("春眠</s>", "special"),
        ("<|im_end|>", "special"),
        ("春<end_of_turn>", "special"),
        ("[INST] 春", "special"),
        ("春<0xE6>", "special"),
        ("春<extra_id_7>", "special"),
        ("春\ufffd", "broken"),
        ("請把這一句翻譯成文言文：春眠不覺曉2 USER: 春曉", "echo"),
        ("春眠。USER: 再來", "echo"),
    ],
)
def test_texts_that_no_one_wrote(text: str, kind: str) -> None:
    check = check_predictions(
        with_text(text), ROWS, special=["<extra_id_7>"], prompt_texts=[re.compile("USER:"), re.compile(r"第\d+個例子")]
    )
    assert found(check) == {kind: ("r2",)}
    assert not check.ok


@pytest.mark.parametrize("text", ["a < b > c", "1 <s", "<3", "請把這一句", "春|眠", "[INSTANT]", "<abc>"])
def test_what_is_no_fault(text: str) -> None:
    assert check_predictions(with_text(text), ROWS).findings == ()


@pytest.mark.parametrize(
    "text", ["請把這一句翻譯成文言文：春眠不覺曉2。春曉", "好的，請把這一句，翻譯成文言文 春眠不覺曉2"]
)
def test_an_instruction_said_again_fails_and_as_the_rule_it_is_an_echo(text: str) -> None:
    check = check_predictions(with_text(text), ROWS)
    assert found(check) == {"parrot": ("r2",)}
    assert not check.ok
    decoded = [(row.id, f"{row.instruction} 春曉") for row in ROWS]
    assert found(check_predictions(decoded[:3] + GOOD[3:], ROWS)) == {"parrot": ("r0", "r1", "r2")}
    check = check_predictions(decoded[:4] + GOOD[4:], ROWS)
    assert found(check) == {"echo": ("r0", "r1", "r2", "r3")}
    assert not check.ok


def test_odd_texts_are_named_and_pass() -> None:
    varied = "".join(chr(0x4E00 + i) for i in range(90))
    check = check_predictions(with_text(varied), ROWS, stopped_by={"r2": "length", "r3": "eos", "r4": "length"})
    assert found(check) == {"cut": ("r2", "r4"), "long": ("r2",)}
    assert check.ok
    check = check_predictions(with_text("夜來風雨聲，" * 6), ROWS)
    assert found(check) == {"loop": ("r2",)}
    assert check.ok


@pytest.mark.parametrize("unit", ["a", "春", "春眠", "不覺曉，", "x" * 5 + "y"])
def test_loops(unit: str) -> None:
    enough = max(4, -(-16 // len(unit)))
    assert loops("開頭" + unit * enough)
    assert loops("開頭" + unit * enough + "\n")
    assert not loops("開頭" + unit * (enough - 1))
    assert not loops(unit * enough + "結尾。")


@given(st.text(alphabet="ab春", max_size=40))
def test_loops_is_its_definition(text: str) -> None:
    text = text.rstrip()
    expected = any(
        text.endswith(text[len(text) - size :] * times) and size * times >= 16
        for size in range(1, len(text) + 1)
        for times in range(4, len(text) + 1)
    )
    assert loops(text) == expected


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("{", "Expecting"),
        ('{"id": "a"}', "found: dict"),
        ('[{"id": "a", "output": "b"}, {"id": "c"}]', "entry 2"),
        ('[{"id": true, "output": "b"}]', "entry 1"),
        ('[{"id": "a", "output": 3}]', "entry 1"),
        ('["a"]', "entry 1"),
    ],
)
def test_a_file_that_is_no_list_of_predictions(content: str, where: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert where in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="can't be read"):
        read_predictions(tmp_path / "none.json")


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    value: list[dict[str, Any]] = [{"id": 7, "output": "a"}, {"id": "8", "output": ""}]
    (tmp_path / "p.json").write_text(json.dumps(value))
    assert read_predictions(tmp_path / "p.json") == [("7", "a"), ("8", "")]


GREETINGS = (
    *("Sure, here it is", "Sure! positive", "Sure thing", "Certainly! It is", "Of course, ", "Here is the answer: 4"),
    *(
        "Here's one",
        "Here are three",
        "I'm sorry, but",
        "I am so sorry to hear",
        "I'm happy to help",
        "I apologize for",
    ),
    *("As an AI language model", "I'd be happy to", "I cannot help", "Hello! How", "Hi there!", "SURE, x", "**Here is"),
    *(
        ' \n"Sure, ',
        "好的，這是",
        "好的！",
        "当然！",
        "當然可以",
        "没问题，",
        "以下是翻译",
        "抱歉，我",
        "很抱歉",
        "對不起，",
    ),
    *("作為一個AI", "作为人工智能", "我很乐意为您", "您好！"),
)
ANSWERS = (
    *("positive", "Surely not", "sure enough it rained", "Hereafter", "Hi-fi", "Hello Kitty", "I'm sorrowful", "Heres"),
    *(
        "Certainly not",
        "I cannot see the moon",
        "",
        "thank your mother",
        "好的東西",
        "當然之理",
        "以下",
        "您好嗎",
        "春眠",
    ),
)


def test_greetings_are_told_from_answers() -> None:
    assert [text for text in GREETINGS if not greets(text)] == []
    assert [text for text in ANSWERS if greets(text)] == []


def test_greetings_are_found_where_a_conversation_is_held() -> None:
    predictions = with_text("Sure, here is the translation: 春曉")
    check = check_predictions(predictions, ROWS, chat=True)
    assert found(check) == {"greeting": ("r2",)}
    assert check.ok  # a model may really answer so
    assert check_predictions(predictions, ROWS).findings == ()


def test_an_output_that_begins_so_itself_is_no_finding() -> None:
    rows = [Row(row.id, row.instruction, "Sure, 春曉" if row.id == "r2" else "春曉") for row in ROWS]
    predictions = [*with_text("Of course, 春曉")[:3], ("r3", "Sure, 春曉"), *GOOD[4:]]
    assert found(check_predictions(predictions, rows, chat=True)) == {"greeting": ("r3",)}
