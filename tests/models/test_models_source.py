"""Where a model's files come from: what is cheap is had without the weights, and a GGUF file is hashed once."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from tiny_gguf import write_tiny_gguf

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import (
    LoraSettings,
    attach_adapter,
    cache,
    detach_adapter,
    gguf,
    identify,
    load_model,
    load_profile,
)
from triptych.models.header import read_header
from triptych.models.shape import shape_of


def spec(name: str | Path, **more: Any) -> ModelConfig:
    return ModelConfig(name=str(name), quantize="none", dtype="float32", device="cpu", threads=1, **more)


# --- GGUF files


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_tokenizer_of_a_gguf_file_needs_no_weights(
    packed: Path, own_cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_dequantize", lambda *_: pytest.fail("weights were dequantized"))
        patch.setattr(cache, "sha256_of_file", lambda *_: pytest.fail("the whole file was read"))
        profile = load_profile(spec(packed))
        header = read_header(spec(packed))
    assert (profile.bos_id, profile.eos_id) == (257, 258)
    assert header.to_unpack
    assert not list(own_cache_folder.glob("gguf-*"))
    loaded = load_model(spec(packed))
    assert loaded.profile.record() == profile.record() == header.profile.record()
    assert loaded.profile.encode("a 古") == profile.encode("a 古")
    assert shape_of(header.config) == shape_of(loaded.model.config)
    assert torch.equal(loaded.model.lm_head.weight, loaded.model.lm_head.weight.bfloat16().float())


def test_a_gguf_file_is_hashed_once(packed: Path, own_cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)  # the file is remembered, however new it is
    hashed: list[Path] = []
    digest = cache.sha256_of_file
    monkeypatch.setattr(cache, "sha256_of_file", lambda path: (hashed.append(path), digest(path))[1])
    facts = identify(spec(packed))
    load_profile(spec(packed))
    load_model(spec(packed)).check_identity(facts)
    assert [path.name for path in hashed].count("tiny.gguf") == 1


# --- the hub


@pytest.fixture
def hub(fake_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for the hub that has one model, `owner/name`; the names of the files that were downloaded."""
    remote, local, downloaded = fake_folder("llama"), tmp_path / "snapshot", []
    local.mkdir()

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("owner/name", "v1")
        for file in sorted(remote.iterdir()):
            wanted = any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns)
            if wanted and not (local / file.name).exists():
                downloaded.append(file.name)
                shutil.copy(file, local)
        return str(local)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return downloaded


def test_what_is_cheap_of_a_hub_model_is_had_without_its_weights(hub: list[str], fake_folder: Any) -> None:
    model = spec("owner/name", revision="v1")
    profile, header = load_profile(model), read_header(model)
    assert "tokenizer.json" in hub
    assert not any(name.endswith(".safetensors") for name in hub)
    assert (header.to_download, header.to_unpack) == (True, False)
    facts = identify(model)
    assert hub[-1] == "model.safetensors"
    assert facts == identify(spec(fake_folder("llama")))
    assert profile.sha256 == facts["tokenizer_sha256"]
    assert not read_header(model).to_download


def test_a_hub_model_with_a_broken_tokenizer_is_refused_before_its_weights_are_downloaded(
    hub: list[str], tmp_path: Path
) -> None:
    model = spec("owner/name", revision="v1")
    load_profile(model)
    (tmp_path / "snapshot" / "tokenizer.json").write_text("{oops")
    for read in (identify, load_model):
        with pytest.raises(ModelError, match=r"no usable tokenizer[\s\S]*owner/name"):
            read(model)
    assert not any(name.endswith(".safetensors") for name in hub)


def test_an_adapter_of_a_hub_model_names_its_base_by_the_hub_id(hub: list[str]) -> None:
    loaded = load_model(spec("owner/name", revision="v1"))
    adapter = attach_adapter(loaded, LoraSettings(r=2), seed=0)
    assert adapter.model.peft_config["default"].base_model_name_or_path == "owner/name"
    detach_adapter(loaded, adapter)


def test_a_hub_model_without_config_json_is_named(
    hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "snapshot"))
    with pytest.raises(ModelError, match=r"is not a model[\s\S]*owner/name"):
        load_profile(spec("owner/name", revision="v1"))
