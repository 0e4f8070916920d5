"""A cache never fails the work, and what it holds is believed as far as a computed number would be."""

from __future__ import annotations

import logging
import math
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.likelihood.cache import score_cache
from triptych.likelihood.score import Scorer
from triptych.models import cache as models_cache
from triptych.models.cache import ArrayCache, cache_folder, sha256_of_large_file, writable_cache
from triptych.prompts import Rendered

ROWS = [Rendered(row_id=f"r{i}", ids=(1, 5 + i, 7, 9, 2), n_prompt=2, n_chars=3) for i in range(3)]


@pytest.fixture(scope="module")
def loaded(load_fake: Callable[..., Any]) -> Any:
    return load_fake("llama")


def scored(loaded: Any, path: Path) -> tuple[list[float], int]:
    scorer = Scorer(loaded, cache=score_cache(loaded, path))
    nlls = scorer.score(ROWS)
    return [nll.nll_nats for nll in nlls], sum(nll.cached for nll in nlls)


@pytest.mark.parametrize(
    "value",
    [
        struct.pack("<3f", math.nan, 1, 1),
        struct.pack("<3f", math.inf, 1, 1),
        struct.pack("<3f", 2000, 2000, 2000),
        struct.pack("<2f", 1, 1),
        b"abc",
        "text",
        b"",
    ],
)
def test_a_line_that_can_not_be_right_is_computed_again(value: Any, loaded: Any, tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    right, _ = scored(loaded, path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE nll SET value = ?", (value,))
    assert scored(loaded, path) == (right, 0)
    assert scored(loaded, path) == (right, 3)


@pytest.mark.parametrize("broken", ["garbage", "a folder", "under a file"])
def test_a_file_that_is_no_database_is_no_cache(
    broken: str, loaded: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scores.sqlite"
    if broken == "garbage":
        path.write_bytes(b"garbage" * 1000)
    elif broken == "a folder":
        path.mkdir()
    else:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "scores.sqlite"
    with caplog.at_level(logging.WARNING):
        numbers, cached = scored(loaded, path)
    assert cached == 0
    assert all(map(math.isfinite, numbers))
    assert len([line for line in caplog.messages if "cache" in line]) == 1
    cache = ArrayCache(path.with_name("scores.sqlite"), "vector")
    cache.put([(b"k", np.ones(3, dtype=np.float32))])
    assert cache.get([b"k"]) == [None]


@pytest.mark.parametrize("value", [struct.pack("<2f", math.nan, 1), b"abc", b""])
def test_vectors_that_can_not_be_right_are_made_again(value: bytes, tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "v.sqlite", "vector")
    cache.put([(b"a", np.ones(2, dtype=np.float32)), (b"b", np.ones(2, dtype=np.float32))])
    cache.close()
    with sqlite3.connect(tmp_path / "v.sqlite") as database:
        database.execute("UPDATE vector SET value = ? WHERE key = ?", (value, b"a"))
    first, second = ArrayCache(tmp_path / "v.sqlite", "vector").get([b"a", b"b"])
    assert first is None
    assert second is not None


@pytest.fixture
def old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(models_cache, "_SETTLED", -1e9)
    monkeypatch.setattr(models_cache, "_warned", set())
    (tmp_path / "weights").write_bytes(b"weights")
    return tmp_path / "weights"


@pytest.mark.parametrize("content", ["[]", "null", "{torn", '{"k": []}', '{"k": {"sha256": 7}}', ""])
def test_hashes_that_can_not_be_read(content: str, old_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = old_file.parent / "cache"
    cache.mkdir()
    (cache / "file-hashes.json").write_text(content)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(cache))
    assert sha256_of_large_file(old_file) == sha256_of_large_file(old_file)


def test_a_cache_that_is_a_file_is_said_once(
    old_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (old_file.parent / "cache").write_text("")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(old_file.parent / "cache"))
    for _ in range(3):
        sha256_of_large_file(old_file)
        assert writable_cache().is_dir()
    assert len(caplog.messages) == 2  # hashes, and what is made once
    assert all("set TRIPTYCH_CACHE to another folder" in line for line in caplog.messages)


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("TRIPTYCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder().is_dir()
