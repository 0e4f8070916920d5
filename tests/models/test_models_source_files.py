"""A model is identified by exactly the files that are read, whatever they are called, and for as long as they stay."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import cache as hashes
from triptych.models import load_model
from triptych.models.load import identify
from triptych.models.source import model_files


@pytest.fixture
def model(fake_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))


def into_subfolder(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Two shards in `parts/`, as the index says; nothing beside config.json."""
    (folder / "parts").mkdir()
    names = sorted(weights)
    halves = {"parts/a.safetensors": names[::2], "parts/b.safetensors": names[1::2]}
    for file, inside in halves.items():
        save_file({name: weights[name] for name in inside}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, inside in halves.items() for name in inside}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink(missing_ok=True)


def spec(folder: Path, **more: Any) -> ModelConfig:
    return ModelConfig(name=str(folder), quantize="none", dtype="float32", device="cpu", threads=1, **more)


def test_weights_in_a_subfolder_have_a_hash_of_their_own(model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    other = Path(shutil.copytree(model, tmp_path / "other"))
    into_subfolder(model, weights)
    into_subfolder(other, {name: tensor + 0.5 for name, tensor in weights.items()})
    found = [identify(spec(folder))["weights_sha256"] for folder in (model, other)]
    assert found[0] != found[1]
    assert load_model(spec(model)).weights_sha256 == found[0]
    (model / "parts" / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights is missing[\s\S]*parts/b\.safetensors"):
        identify(spec(model))


def test_no_weights_have_no_hash(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights to identify the model by"):
        identify(spec(model))
    (model / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(ModelError, match="names no files"):
        identify(spec(model))


def test_what_is_hashed_is_what_transformers_reads(model: Path) -> None:
    (model / "stray.safetensors").write_bytes(b"not read")
    assert list(model_files(model, ModelConfig(name="m")).weights) == ["model.safetensors"]
    (model / "pytorch_model.bin").write_bytes(b"not read")
    assert list(model_files(model, ModelConfig(name="m", allow_pickle=True)).weights) == ["model.safetensors"]
    (model / "named.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    change(model / "config.json", transformers_weights="named.safetensors")
    assert list(model_files(model, ModelConfig(name="m")).weights) == ["named.safetensors"]
    change(model / "config.json", transformers_weights=None)
    (model / "model.safetensors").unlink()
    assert list(model_files(model, ModelConfig(name="m", allow_pickle=True)).weights) == ["pytorch_model.bin"]
    (model / "pytorch_model.bin").unlink()
    (model / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "x/one.bin", "b": "x/two.bin"}}')
    assert list(model_files(model, ModelConfig(name="m", allow_pickle=True)).weights) == ["x/one.bin", "x/two.bin"]


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_config_json_without_what_decides_nothing(model: Path) -> None:
    before = model_files(model, ModelConfig(name="m")).config_sha256
    change(model / "config.json", transformers_version="0", _name_or_path="x", torch_dtype="float16", dtype="float16")
    path = model / "config.json"
    path.write_text(json.dumps(dict(sorted(json.loads(path.read_text()).items(), reverse=True)), indent=7))
    assert model_files(model, ModelConfig(name="m")).config_sha256 == before
    change(model / "config.json", rope_parameters={"rope_type": "yarn", "factor": 8.0, "rope_theta": 10000.0})
    assert model_files(model, ModelConfig(name="m")).config_sha256 != before
    change(model / "generation_config.json", eos_token_id=[1, 2])
    assert model_files(model, ModelConfig(name="m")).generation_config_sha256 is not None


def test_an_adapter_beside_the_model_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelError, match="holds an adapter too"):
        load_model(spec(model))


@pytest.mark.parametrize("replaced", ["in place", "by another file"])
def test_a_remembered_hash_is_of_the_file_that_is_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: str
) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "_SETTLED", -1.0)  # remembered, however new it is
    digests: list[Path] = []
    real = hashes.sha256_of_file
    monkeypatch.setattr(hashes, "sha256_of_file", lambda path: (digests.append(path), real(path))[1])
    file = model / "model.safetensors"
    first = hashes.sha256_of_large_file(file)
    assert hashes.sha256_of_large_file(file) == first
    assert len(digests) == 1
    state, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 255
    if replaced == "in place":
        with file.open("r+b") as open_file:
            open_file.write(content)
    else:
        file.with_name("new").write_bytes(content)
        file.with_name("new").replace(file)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert hashes.sha256_of_large_file(file) != first


def test_content_is_looked_at_where_a_file_system_keeps_no_times(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "file_state", lambda path: (0, 0, path.stat().st_size, 0, 0))
    file = model / "model.safetensors"
    first = hashes.sha256_of_large_file(file)
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    assert hashes.sha256_of_large_file(file) != first


def test_a_file_that_was_just_written_is_not_remembered(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    hashes.sha256_of_large_file(model / "model.safetensors")
    assert not (tmp_path / "cache" / "file-hashes.json").exists()
