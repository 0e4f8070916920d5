"""Two experiments never mix in one folder, and the difference is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.errors import RunChangedError
from triptych.records.identity import changes, check_lock

FACTS: dict[str, Any] = {
    "config": {"tune": {"lr": 0.001, "target_modules": "all-linear"}, "few_shot": {"k": [1, 2]}},
    "data": {"train": "a" * 64},
}


def test_the_first_time_it_is_written(tmp_path: Path) -> None:
    assert check_lock(tmp_path / "new" / "lock.json", FACTS) == FACTS
    assert json.loads((tmp_path / "new" / "lock.json").read_text()) == FACTS


def test_the_same_facts_pass_and_what_was_added_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    check_lock(path, FACTS)
    path.write_text(json.dumps({**FACTS, "chosen": {"dtype": "float32"}}))
    before = path.read_bytes()
    as_tuples = {**FACTS, "config": {**FACTS["config"], "few_shot": {"k": (1, 2)}}}  # JSON knows no tuples
    assert check_lock(path, as_tuples)["chosen"] == {"dtype": "float32"}
    assert path.read_bytes() == before


def test_other_facts_are_refused_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    check_lock(path, FACTS)
    before = path.read_bytes()
    other = {"config": {"tune": {"lr": 0.01, "target_modules": "all-linear"}}, "data": {"train": "b" * 64}}
    with pytest.raises(RunChangedError) as caught:
        check_lock(path, other)
    message = str(caught.value)
    assert "config.tune.lr: 0.001 -> 0.01" in message
    assert "config.few_shot: {'k': [1, 2]} -> (none)" in message
    assert f"data.train: sha256 {'a' * 12}… -> sha256 {'b' * 12}…" in message
    assert "target_modules" not in message
    assert "--out" in message
    assert "--fresh" in message
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


def test_many_differences_are_counted(tmp_path: Path) -> None:
    check_lock(tmp_path / "lock.json", {str(i): 0 for i in range(20)})
    with pytest.raises(RunChangedError, match=r"… and 8 more"):
        check_lock(tmp_path / "lock.json", {str(i): 1 for i in range(20)})


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a: [1, 2] -> [2, 1]"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": None}}}, ["a.b.c: 1 -> (none)"]),
        ({"a": {}}, {"a": {"b": False}}, ["a.b: (none) -> False"]),
        ({"a": {"b": 1}}, {"a": 3}, ["a: {'b': 1} -> 3"]),
    ],
)
def test_changes(old: Any, new: Any, lines: list[str]) -> None:
    assert changes(old, new) == lines


def test_a_long_value_is_cut() -> None:
    [line] = changes({"a": "x" * 500}, {"a": ""})
    assert len(line) < 80
    assert "…" in line


nested = st.recursive(
    st.integers() | st.text(max_size=5), lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(value=st.dictionaries(st.text(max_size=3), nested, max_size=3))
def test_nothing_changes_from_itself(value: dict[str, Any]) -> None:
    assert changes(value, json.loads(json.dumps(value))) == []


@given(value=st.dictionaries(st.text(max_size=3), st.integers(), min_size=1, max_size=4))
def test_every_changed_leaf_is_one_line(value: dict[str, int]) -> None:
    assert len(changes(value, {key: number + 1 for key, number in value.items()})) == len(value)
