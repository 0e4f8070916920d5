"""Overlap between train and test: what counts, and how it is said."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triptych.data import Overlap, Row, empty_outputs, find_overlap, normalise


@given(st.text())
@example("´\u0301a\u200b\u0327")
@example("ǅ\u0345ΐ")
def test_normalise_is_idempotent(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.text())
def test_nothing_without_wording_is_left(text: str) -> None:
    assert all(unicodedata.category(char)[0] not in "ZPS" for char in normalise(text))


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("翻譯成文言文：\n早安。", "翻譯成文言文早安"),
        ("Ｈｅｌｌｏ，\u3000World!", "helloworld"),
        ("STRASSE straße", "strassestrasse"),
        ("\u200b\ufeff何則？", "何則"),
        ("？！……", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, wording: str) -> None:
    assert normalise(text) == wording


def test_exact_and_normalised_pairs() -> None:
    train = [Row("t1", "何則？", "為什麼"), Row("t2", "何則", "何故"), Row("t3", "他", "彼")]
    test = [Row("a", "何則？", "為什麼"), Row("b", "此", "這"), Row("c", "他。", "彼")]
    overlap = find_overlap(train, test)
    assert overlap.exact == (("a", "t1"),)
    assert overlap.normalised == (("a", "t2"), ("c", "t3"))
    assert {test for test, _ in overlap.exact + overlap.normalised} == {"a", "c"}
    assert overlap.train_ids == {"t1", "t2", "t3"}
    assert overlap
    assert overlap.message() == (
        "2 of 3 test rows occur in train (1 exactly, 1 after normalising): test a = train t1, test c ~ train t3"
    )


def test_the_same_question_with_another_answer_counts_as_normalised() -> None:
    overlap = find_overlap([Row("t", "詔可。", "x")], [Row("a", "詔可。", "y"), Row("b", "詔可。", None)])
    assert overlap.exact == ()
    assert overlap.normalised == (("a", "t"), ("b", "t"))


def test_every_train_row_is_listed() -> None:
    train = [Row(f"t{number}", "q", "x") for number in range(3)]
    overlap = find_overlap(train, [Row("a", "q", "x")])
    assert overlap.exact == (("a", "t0"), ("a", "t1"), ("a", "t2"))
    assert overlap.message().startswith("1 of 1 test rows occurs in train")
    assert overlap.message().endswith("test a = train t0 (and 2 more)")


def test_instructions_without_wording_only_count_when_equal_exactly() -> None:
    train = [Row("t1", "？", "x"), Row("t2", "！", "y")]
    assert not find_overlap(train, [Row("a", "……", "x"), Row("b", "？", "y")])
    assert find_overlap(train, [Row("a", "？", "x")]).exact == (("a", "t1"),)


def test_at_most_five_are_named() -> None:
    rows = [Row(str(number), f"q{number}", "x") for number in range(8)]
    message = find_overlap(rows, rows).message()
    assert message.count("= train") == 5
    assert message.endswith(", and 3 more")


def test_no_overlap() -> None:
    overlap = find_overlap([Row("a", "x", "y")], [Row("a", "z", "y")])
    assert overlap == Overlap((), (), 1)
    assert not overlap
    assert overlap.message() == "none of 1 test rows occurs in train"


def test_many_rows_take_linear_time() -> None:
    train = [Row(f"t{number}", f"第{number}句", "x") for number in range(20_000)]
    test = [Row(f"a{number}", f"第{number}句。", "x") for number in range(20_000)]
    start = time.perf_counter()
    assert len(find_overlap(train, test).normalised) == 20_000
    assert time.perf_counter() - start < 20  # comparing all pairs would take minutes


def test_empty_outputs_are_said() -> None:
    rows = [Row("a", "x", ""), Row("b", "x", "y"), Row("c", "x", ""), Row("d", "x", None)]
    assert empty_outputs(rows) == "2 test rows have an empty output, of which only EOS is scored: a, c"
    assert empty_outputs(rows[1:2]) is None
