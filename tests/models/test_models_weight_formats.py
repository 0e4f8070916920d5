"""Weights are read from safetensors and GGUF alone, told by content: a pickle of any name never reaches a reader."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.models import load_model
from triptych.models.adapter_checks import check_adapter_files
from triptych.models.adapter_store import load_adapter, save_adapter
from triptych.models.adapters import LoraSettings, attach_adapter
from triptych.models.embed import embed_texts
from triptych.models.header import read_header
from triptych.models.load import identify


class Opens:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def model(fake_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))


def spec(folder: Path, **more: Any) -> ModelConfig:
    return ModelConfig(name=str(folder), quantize="none", dtype="float32", device="cpu", threads=1, **more)


def refused(folder: Path) -> str:
    """What identifying and loading it say, the same."""
    said = []
    for read in (identify, load_model):
        with pytest.raises(ModelError) as error:
            read(spec(folder))
        said.append(str(error.value))
    assert said[0] == said[1]
    return said[0]


def index(folder: Path, file: str) -> None:
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    mapped = {"metadata": {}, "weight_map": dict.fromkeys(names, file)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(mapped))


def test_an_index_that_names_a_pickle_is_refused(model: Path, tmp_path: Path) -> None:
    index(model, "w.bin")
    (model / "w.bin").write_bytes(pickle.dumps(Opens(tmp_path / "ran")))
    message = refused(model)
    assert "the model's weights are pickled" in message
    assert "found: w.bin" in message
    assert "--allow-pickle" in message
    assert not (tmp_path / "ran").exists()


def test_a_config_that_names_a_pickle_is_refused(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "own.bin")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "transformers_weights": "own.bin"}))
    assert "found: own.bin" in refused(model)


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_pickle_that_is_called_safetensors_is_refused(
    model: Path, as_zip: bool, indexed: bool, tmp_path: Path
) -> None:
    weights, file = load_file(model / "model.safetensors"), model / "model.safetensors"
    if indexed:
        index(model, "part.safetensors")
        file = model / "part.safetensors"
    file.unlink(missing_ok=True)  # what was read is still mapped
    if as_zip:
        torch.save(weights, file)
    else:
        file.write_bytes(pickle.dumps(Opens(tmp_path / "ran")))
    message = refused(model)
    assert "are pickled" in message
    assert f"{file.name}, which is a {'zip archive' if as_zip else 'pickle'}" in message
    with pytest.raises(ModelError, match="are pickled"):  # the name promises safetensors, whatever is allowed
        load_model(spec(model, allow_pickle=True))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"\x80\x04pickled weights that are long enough.", b"PK\x03\x04" + bytes(40), b"no"]
)
def test_a_gguf_file_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    for read in (load_model, read_header):
        with pytest.raises(ModelError, match="it is no GGUF file"):
            read(spec(path))


# --- adapters


@pytest.fixture
def adapter(load_fake: Callable[..., Any], model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    save_adapter(attach_adapter(load_fake(model), LoraSettings(r=2), seed=0), folder, facts={})
    (folder / "triptych.json").unlink()  # as another tool writes it
    return folder


def test_pickled_adapters_are_refused_by_name_and_by_content(
    adapter: Path, load_fake: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(pickle.dumps(Opens(tmp_path / "ran")))
    for read in (check_adapter_files, lambda folder: load_adapter(load_fake(model), folder)):
        with pytest.raises(ModelError, match=r"adapter's weights are pickled[\s\S]*which is a pickle"):
            read(adapter)
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter's weights are pickled[\s\S]*found: adapter_model\.bin"):
        check_adapter_files(adapter)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_that_names_a_module_to_import_is_refused(
    adapter: Path, load_fake: Callable[..., Any], model: Path
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    changed = {**config, "megatron_config": {"a": 1}, "megatron_core": "of_its_own"}
    (adapter / "adapter_config.json").write_text(json.dumps(changed))
    with pytest.raises(ModelError, match="megatron_config"):
        load_adapter(load_fake(model), adapter)
    assert "of_its_own" not in sys.modules


# --- embedding models


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("the library was called")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=never))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("module", "file", "says"),
    [
        ("own.Module", "own.py", "Python code of its own"),
        ("sentence_transformers.models.Dense", "pytorch_model.bin", "are pickled"),
    ],
)
def test_embedding_models_run_no_code(module: str, file: str, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "embeds"
    (folder / "1_Own").mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "1_Own", "type": module}]))
    (folder / "1_Own" / file).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=says):
        embed_texts(["a"], model=str(folder))
