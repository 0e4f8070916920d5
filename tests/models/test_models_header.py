"""Configuration and tokenizer without weights, and what is said when there are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import gguf, load_profile
from triptych.models.bundled import bundled_gguf
from triptych.models.cache import cache_folder
from triptych.models.header import has_chat_template, read_header
from triptych.models.shape import shape_of


@pytest.fixture
def without_weights(fake_folder: Callable[..., Path], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    return folder


def test_a_folder_needs_no_weights(without_weights: Path, fake_folder: Callable[..., Path]) -> None:
    header = read_header(ModelConfig(name=str(without_weights)))
    assert header.profile.sha256 == load_profile(ModelConfig(name=str(fake_folder("llama")))).sha256
    assert shape_of(header.config).hidden_size == 32
    assert (header.to_download, header.to_unpack) == (False, False)


def test_a_hub_id_without_network_says_so() -> None:
    with pytest.raises(ModelError) as caught:
        read_header(ModelConfig(name="nobody/no-such-model"))
    message = str(caught.value)
    assert "the hub can't be reached" in message
    assert "nobody/no-such-model" in message
    assert "weights are not needed" in message


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/nowhere", "a/b/c"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        read_header(ModelConfig(name=name))


def test_no_such_gguf() -> None:
    with pytest.raises(ModelError, match="no such GGUF file"):
        read_header(ModelConfig(name="/no/such/model.gguf"))


def test_a_gguf_file_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"not a model" * 10)
    before = set(cache_folder().glob("*")) if cache_folder().exists() else set()
    with pytest.raises(ModelError, match="this GGUF file can't be read"):
        read_header(ModelConfig(name=str(tmp_path / "model.gguf")))
    assert {p for p in cache_folder().glob("*") if p.name.startswith("header-")} <= before


def test_folder_without_config(without_weights: Path) -> None:
    (without_weights / "config.json").unlink()
    with pytest.raises(ModelError, match="this folder is not a model"):
        read_header(ModelConfig(name=str(without_weights)))


@pytest.mark.parametrize(
    ("files", "has"),
    [
        ({}, False),
        ({"chat_template.jinja": "{{ messages }}"}, True),
        ({"tokenizer_config.json": {"chat_template": "{{ messages }}"}}, True),
        ({"tokenizer_config.json": {"chat_template": None}}, False),
        ({"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "{{ messages }}"}]}}, True),
    ],
)
def test_a_chat_template_is_found_as_the_tokenizer_finds_it(
    without_weights: Path, files: dict[str, Any], has: bool
) -> None:
    for name, content in files.items():
        path = without_weights / name
        is_text = isinstance(content, str)
        path.write_text(content if is_text else json.dumps(json.loads(path.read_text()) | content))
    spec = ModelConfig(name=str(without_weights))
    assert has_chat_template(spec) == load_profile(spec).has_chat_template == has


@pytest.mark.slow
def test_the_demo_models_header_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says the same as the unpacked model, and no weights are dequantized for it."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))  # nothing is unpacked there yet
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_dequantize", lambda *_: pytest.fail("weights were dequantized"))
        header = read_header(ModelConfig(name="demo"))
        assert header.to_unpack
        assert read_header(ModelConfig(name="demo")).profile.sha256 == header.profile.sha256  # from the cache
    folder = gguf.unpack_gguf(bundled_gguf("demo"))
    whole = load_profile(ModelConfig(name=str(folder)))
    assert header.profile.sha256 == whole.sha256
    assert header.profile.encode("USER: 古文 ASSISTANT:") == whole.encode("USER: 古文 ASSISTANT:")
    assert shape_of(header.config) == shape_of(read_header(ModelConfig(name=str(folder))).config)
    assert shape_of(header.config).parameters == 268_098_176
    assert not read_header(ModelConfig(name="demo")).to_unpack
