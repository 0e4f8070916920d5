"""Two names never share a file, whatever the file system makes of case and Unicode; names of today's runs stay."""

from __future__ import annotations

import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.records.names import file_name, stored

ODD = [
    *(
        "a b",
        "a/b",
        "a:b",
        "a__b",
        "a_/b",
        "a/_b",
        "a//b",
        "A/b",
        "a/B",
        "/a/b",
        "a/b/",
        "a",
        "A",
        "a.",
        ".a",
        "..",
        ".",
    ),
    *("é", "e\u0301", "ﬁ", "fi", "ß", "ss", "İ", "i", "x" * 300, "x" * 301, "X" * 300, "提示", "提 示", "a~b", "a~"),
]


def folded(name: str) -> str:
    """As file systems compare that tell neither case nor composition apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def test_no_two_names_share_a_file() -> None:
    for a, b in combinations(ODD, 2):
        assert folded(file_name(a)) != folded(file_name(b)), (a, b)


@given(st.text(alphabet="ab_/. AB:é\u0301~", min_size=1, max_size=6), st.text(alphabet="ab_/. AB:é\u0301~", min_size=1))
def test_no_two_made_up_names_share_a_file(a: str, b: str) -> None:
    assert a == b or folded(file_name(a)) != folded(file_name(b))
    assert "/" not in file_name(a)
    assert len(file_name(a).encode()) <= 120
    assert file_name(a) not in (".", "..")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("zero_shot/default", "zero_shot__default"),
        ("few_shot/default/k=10/draw=item/seed=0", "few_shot__default__k=10__draw=item__seed=0"),
        ("few_shot/提示/bm25/k=1", "few_shot__提示__bm25__k=1"),
    ],
)
def test_names_of_todays_runs_stay(name: str, file: str) -> None:
    assert file_name(name) == file


def test_a_file_of_an_earlier_version_is_still_found(tmp_path: Path) -> None:
    before = tmp_path / "zero_shot__CoT.json"
    before.write_text("{}")
    assert stored(tmp_path, "zero_shot/CoT", ".json") == before
    assert stored(tmp_path, "zero_shot/COT", ".json").name.startswith("zero_shot__COT~")
    assert stored(tmp_path, "zero_shot/cot", ".json").name == "zero_shot__cot.json"
