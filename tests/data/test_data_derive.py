"""Columns that are read off the instruction."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.data import Dataset, load_dataset
from triptych.errors import DataError

RULES = {"direction": {"to_modern": ["現代", "白話"], "to_classical": ["文言", "古"]}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = ["翻譯成現代文：a", "翻譯成文言文：b", "翻譯成白話文：c", "d", "古文 -> 現代文：e"]
    rows = [{"id": str(n), "instruction": text, "output": "x", "book": "b"} for n, text in enumerate(texts)]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    (tmp_path / "test.json").write_text(json.dumps([{"instruction": "翻譯成古文：f", "output": "x"}]))
    return tmp_path


def load(folder: Path, derive: Any, train: str = "train.json") -> Dataset:
    return load_dataset(train=train, test="test.json", folder=folder, train_rows=None, test_rows=None, derive=derive)


def test_the_first_value_that_matches_is_taken(folder: Path) -> None:
    data = load(folder, RULES)
    assert [row.column("direction") for row in data.train] == [
        "to_modern", "to_classical", "to_modern", None, "to_modern",
    ]  # fmt: skip
    assert data.train[0].columns == (("book", "b"), ("direction", "to_modern"))
    assert data.train[3].columns == (("book", "b"),)
    assert data.test[0].columns == (("direction", "to_classical"),)


def test_a_value_that_no_row_gets_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(folder, {"direction": {**RULES["direction"], "to_english": ["英"]}})
    assert caught.value.where == "data.derive.direction.to_english"
    assert caught.value.found == "no match in 6 rows"


def test_a_value_whose_rows_are_all_taken_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(folder, {"direction": {"any": ["."], **RULES["direction"]}})
    assert "all rows it matches have another value" in (caught.value.found or "")
    assert "put it before" in (caught.value.fix or "")


def test_of_a_sample_it_is_a_warning_unless_nothing_matches(folder: Path) -> None:
    rules = {"direction": {**RULES["direction"], "to_english": ["英"]}}
    data = load(folder, rules, train="train.json#4")
    assert data.warnings == ("data.derive.direction.to_english matches none of the 5 rows that are used",)
    with pytest.raises(DataError, match="gives no row"):
        load(folder, {"lang": {"en": ["English"]}}, train="train.json#4")


def test_an_expression_that_is_none(folder: Path) -> None:
    with pytest.raises(DataError, match="not a regular expression") as caught:
        load(folder, {"direction": {"x": ["(a"]}})
    assert "data.derive.direction.x" in (caught.value.where or "")
    assert "'(a': missing )" in (caught.value.found or "")


def test_a_column_of_the_file_is_not_written_over(folder: Path) -> None:
    with pytest.raises(DataError, match="is both in the file and in") as caught:
        load(folder, {"book": {"x": ["a"]}})
    assert str(folder / "train.json") in (caught.value.where or "")


def test_an_expression_that_would_never_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.data.derive._SECONDS", 0.2)
    rows = [{"instruction": "a" * 60 + "!", "output": "x"}]
    (folder / "train.json").write_text(json.dumps(rows))
    begin = time.monotonic()
    with pytest.raises(DataError, match="takes too long") as caught:
        load(folder, {"direction": {"x": ["(a|aa)+$"]}})
    assert time.monotonic() - begin < 5
    assert caught.value.where == f"{folder / 'train.json'}, data.derive.direction.x"
    with pytest.raises(DataError, match="not a regular expression"):
        load(folder, {"direction": {"x": ["a" * 100_000]}})
