"""The bundled intents keep the promises their README makes."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations

import pytest

from triptych.data import Dataset, Row, find_overlap, load_dataset, sample_folder

FOLDER = sample_folder("sample-intents")
INTENTS = {
    "track parcel",
    "missing parcel",
    "damaged item",
    "wrong item",
    "return item",
    "refund status",
    "cancel order",
    "change address",
    "payment declined",
    "charged twice",
    "discount code",
    "account access",
}
# Jaccard of word trigrams. Stock phrases ("and how do I get", "I have to") bring unrelated messages to 0.13 at most; a
# message of ten words with a word exchanged in its middle keeps 5 of 8 trigrams, which makes 0.45.
NEAR = 0.2


@pytest.fixture(scope="module")
def intents() -> Dataset:
    return load_dataset(train=None, test=None, folder="sample-intents", train_rows=None, test_rows=None, strict=True)


def test_each_intent_has_as_many_rows(intents: Dataset) -> None:
    assert Counter(row.output for row in intents.train) == dict.fromkeys(INTENTS, 30)
    assert Counter(row.output for row in intents.test) == dict.fromkeys(INTENTS, 8)


def test_ids_count_up(intents: Dataset) -> None:
    assert [row.id for row in intents.train] == [f"en-{i:04d}" for i in range(1, 361)]
    assert [row.id for row in intents.test] == [f"en-t{i:03d}" for i in range(1, 97)]


def test_files_have_a_row_per_line_and_these_columns() -> None:
    for name, rows in (("train.json", 360), ("test.json", 96)):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) == rows + 2
        assert all(list(row) == ["id", "instruction", "output"] for row in json.loads(text))


def test_intents_are_mixed(intents: Dataset) -> None:
    for part in (intents.train, intents.test):
        for first in range(0, len(part) - 48, 24):
            assert len({row.output for row in part[first : first + 48]}) >= 9


def test_nothing_occurs_twice(intents: Dataset) -> None:
    rows = intents.train + intents.test
    assert len({row.id for row in rows}) == len(rows)
    assert len({row.instruction for row in rows}) == len(rows)
    assert len({" ".join(words(row)) for row in rows}) == len(rows)


def test_train_and_test_are_apart(intents: Dataset) -> None:
    assert not find_overlap(intents.train, intents.test)


def test_no_two_messages_are_nearly_the_same(intents: Dataset) -> None:
    grams = {row.id: trigrams(row) for row in intents.train + intents.test}
    near = [(a, b) for a, b in combinations(grams, 2) if jaccard(grams[a], grams[b]) >= NEAR]
    assert not near


def test_one_message_with_its_product_exchanged_would_be_found() -> None:
    one, other = (
        Row(id=name, instruction=f"Hello, could you tell me where my new {name} is now?", output="track parcel")
        for name in ("lamp", "kettle")
    )
    assert jaccard(trigrams(one), trigrams(other)) > 2 * NEAR


def test_no_text_is_blank_or_padded(intents: Dataset) -> None:
    for row in intents.train + intents.test:
        assert row.instruction == " ".join(row.instruction.split()) != ""
        assert row.target() == row.target().strip() != ""


def test_messages_are_as_long_as_the_readme_says(intents: Dataset) -> None:
    lengths = [len(row.instruction.split()) for row in intents.train + intents.test]
    assert min(lengths) >= 3
    assert max(lengths) <= 45


def test_few_messages_start_alike(intents: Dataset) -> None:
    starts = Counter(tuple(words(row)[:2]) for row in intents.train + intents.test)
    assert max(starts.values()) <= 6


def test_an_intents_own_words_give_it_away_in_a_fifth_of_its_rows_at_most(intents: Dataset) -> None:
    for part in (intents.train, intents.test):
        for intent in INTENTS:
            rows = [row for row in part if row.output == intent]
            telling = [row.id for row in rows if set(intent.split()) <= set(words(row))]
            assert len(telling) <= len(rows) / 5, (intent, telling)


def words(row: Row) -> list[str]:
    return re.findall(r"\w+", row.instruction.lower().replace("'", ""))


def trigrams(row: Row) -> set[tuple[str, ...]]:
    found = words(row)
    return set(zip(found, found[1:], found[2:], strict=False))


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)
