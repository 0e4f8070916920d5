"""What a record was made from is one hash, and a difference is named."""

from __future__ import annotations

import json

import pytest

from triptych.errors import RunChangedError
from triptych.records.identity import MadeFrom, joined_versions, require_same, sha256_of, version_changes

OURS = MadeFrom({"model": {"weights_sha256": "a" * 64, "dtype": "float32"}, "k": (1, 2), "prompt": "譯"})


def test_the_hash_is_of_the_content_alone() -> None:
    reordered = json.loads(json.dumps({"prompt": "譯", "k": [1, 2], "model": OURS.facts["model"]}))
    assert OURS.sha256 == sha256_of(reordered) == OURS.record()["identity"]
    assert sha256_of({"k": 1}) != sha256_of({"k": 1.5}) != sha256_of({"k": "1"})


def test_the_same_passes() -> None:
    stored = json.loads(json.dumps(OURS.record()))
    require_same(stored, MadeFrom(dict(OURS.facts)), where="cells/a.json", what="this cell", fix="delete it")


def test_a_difference_is_named() -> None:
    stored = MadeFrom({**OURS.facts, "model": {"weights_sha256": "b" * 64, "dtype": "float32"}}).record()
    with pytest.raises(RunChangedError) as caught:
        require_same(stored, OURS, where="cells/a.json", what="this cell", fix="delete it")
    message = str(caught.value)
    assert message.startswith("this cell was made from something else than what is asked for")
    assert f"model.weights_sha256: sha256 {'b' * 12}… -> sha256 {'a' * 12}…" in message
    assert "dtype" not in message
    assert "where: cells/a.json" in message
    assert "to fix it: delete it" in message


@pytest.mark.parametrize("stored", [{}, {"made_from": {}}, None, []])
def test_a_record_that_says_nothing_is_refused(stored: object) -> None:
    with pytest.raises(RunChangedError, match=r"does not record what it was made from[\s\S]*the version that wrote it"):
        require_same(stored, OURS, where="cells/a.json", what="this cell", fix="delete it")


def test_versions() -> None:
    then, now = {"torch": "2.12", "peft": "0.19"}, {"torch": "2.13", "peft": "0.19", "engine": "2"}
    assert version_changes(then, now) == ["torch 2.12 -> 2.13"]
    assert joined_versions([then, now, then]) == {"torch": "2.12, 2.13", "peft": "0.19", "engine": "2"}
    assert joined_versions([{}, now]) == now
