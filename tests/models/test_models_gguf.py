"""GGUF files that can't be read. Reading one that can is in the slow tests."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

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
