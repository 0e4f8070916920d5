"""The bundled sample keeps the promises its README makes."""

from __future__ import annotations

import pytest

from triptych.data import Dataset, Row, find_overlap, load_dataset

HEADS = {
    "翻譯成文言文：",
    "文言文翻譯：",
    "將下面句子翻譯成文言文：",
    "翻譯成現代文：",
    "將下面句子翻譯成現代文：",
}
TAILS = {
    "翻譯成文言文：",
    "把這句話翻譯成文言文：",
    "幫我把這句話翻譯成文言文",
    "翻譯成古文：",
    "這句話在古代怎麼說：",
    "這句話在中國古代怎麼說：",
    "翻譯成現代文：",
    "把這句話翻譯成現代文。",
    "幫我把這句話翻譯成現代文",
    "翻譯成白話文：",
}


@pytest.fixture(scope="module")
def sample() -> Dataset:
    return load_dataset(train=None, test=None, folder="sample", train_rows=None, test_rows=None, strict=True)


def test_there_are_enough_rows(sample: Dataset) -> None:
    assert len(sample.train) >= 240
    assert len(sample.test) >= 60


def test_nothing_occurs_twice(sample: Dataset) -> None:
    rows = sample.train + sample.test
    for column in ("id", "instruction", "output"):
        assert len({getattr(row, column) for row in rows}) == len(rows), column


def test_train_and_test_are_apart(sample: Dataset) -> None:
    assert not find_overlap(sample.train, sample.test)
    bodies = [{body(row) for row in part} for part in (sample.train, sample.test)]
    assert not bodies[0] & bodies[1]
    # a pair turned round would show the answer as somebody else's question
    answers = {row.output for row in sample.train + sample.test}
    assert not answers & (bodies[0] | bodies[1])


def test_every_row_is_worded_as_the_study_words_it(sample: Dataset) -> None:
    for row in sample.train + sample.test:
        assert body(row), row.id


def test_no_text_is_blank_or_padded(sample: Dataset) -> None:
    for row in sample.train + sample.test:
        assert row.target() == row.target().strip() != ""
        assert row.instruction == row.instruction.strip()


def body(row: Row) -> str:
    """The sentence to translate, or "" if the row has neither a head nor a tail that is known."""
    first, _, rest = row.instruction.partition("\n")
    if first in HEADS:
        return rest
    rest, _, last = row.instruction.rpartition("\n")
    return rest if last in TAILS else ""
