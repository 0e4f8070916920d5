"""Dequantized values in the cache: the model is the same to the bit, and what is wrong in the cache is never used."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from triptych.config.model import ModelConfig
from triptych.errors import ModelError
from triptych.likelihood.passes import reference_nll
from triptych.models import LoadedModel, LoraSettings, attach_adapter, kept_values
from triptych.models import cache as cache_module
from triptych.models import load as load_module
from triptych.prompts import Rendered

ARCHITECTURES = ["llama", "qwen3", "gemma3", "mistral", "gpt2"]
WARNING = "the cache can't be used"
Load = Callable[..., LoadedModel]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "_warned", set())
    return tmp_path / "cache"


@pytest.fixture
def load(load_fake: Load) -> Load:
    def nf4(architecture: str | Path = "llama", **spec: Any) -> LoadedModel:
        return load_fake(architecture, **{"quantize": "nf4", **spec})

    return nf4


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models whose original weights were read."""
    names: list[str] = []
    original = load_module.read_weights

    def counted(files: Any, config: Any, spec: ModelConfig, **options: Any) -> Any:
        names.append(Path(spec.name).name)
        return original(files, config, spec, **options)

    monkeypatch.setattr(load_module, "read_weights", counted)
    return names


def plain(load: Load, architecture: str | Path, **spec: Any) -> LoadedModel:
    """The model as it is without a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_values.KeptValues, "load", lambda _, make: make())
        return load(architecture, **spec)


def every(model: Any) -> dict[str, torch.Tensor]:
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def assert_same(one: LoadedModel, other: LoadedModel) -> None:
    left, right = every(one.model), every(other.model)
    assert list(left) == list(right)
    for name, tensor in left.items():
        same = right[name]
        assert (type(tensor), tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad) == (
            *(type(same), same.dtype, same.shape, same.stride(), same.requires_grad),
        )
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), same.reshape(-1).view(torch.uint8)), name
    shared = [[[n for n, t in all_.items() if t is one] for one in all_.values()] for all_ in (left, right)]
    assert shared[0] == shared[1]  # tied weights stay tied
    assert one.info == other.info
    assert one.model.config.to_dict() == other.model.config.to_dict()
    assert one.model.generation_config.to_dict() == other.model.generation_config.to_dict()
    assert (one.model.name_or_path, one.model.training) == (other.model.name_or_path, other.model.training)


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("nf4-*.safetensors"))


def mapped() -> int:
    return Path("/proc/self/maps").read_text().count("/nf4-")


ROW = Rendered("row", tuple(range(40, 90)), 20, 30)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_and_every_nll_is_the_same_to_the_bit(
    architecture: str, dtype: str, load: Load, read: list[str], cache: Path
) -> None:
    without = plain(load, architecture, dtype=dtype)
    first = load(architecture, dtype=dtype)
    del read[:]
    second = load(architecture, dtype=dtype)
    assert read == []
    assert len(files(cache)) == 1
    assert mapped() > 0
    nlls = [reference_nll(one, ROW) for one in (without, first, second)]
    for other, nll in zip((first, second), nlls[1:], strict=True):
        assert_same(without, other)
        assert torch.equal(nlls[0], nll)


def test_tied_weights_stay_one(fake_folder: Callable[..., Path], load: Load, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "tied"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(folder)
    without = plain(load, folder)
    load(folder)
    again = load(folder).model
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert_same(without, load(folder))


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}])
def test_gradients_of_an_adapter_are_the_same(settings: dict[str, Any], load: Load) -> None:
    gradients = []
    for one in (plain(load, "llama"), load(), load()):
        adapter = attach_adapter(one, LoraSettings(r=4, alpha=4, dropout=0.0, **settings), seed=0)
        ids = torch.arange(40, 80)[None]
        one.model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in adapter.parameters().items() if p.grad is not None})
    assert gradients[0]
    for others in gradients[1:]:
        assert list(others) == list(gradients[0])
        assert all(torch.equal(others[name], gradient) for name, gradient in gradients[0].items())


def test_modules_to_save_are_trained_apart_from_the_file(load: Load, cache: Path) -> None:
    from peft import LoraConfig, get_peft_model

    load()
    one, content = load(), files(cache)[0].read_bytes()
    wrapped = get_peft_model(one.model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    saved = [p for name, p in wrapped.named_parameters() if "modules_to_save" in name]
    ids = torch.arange(40, 80)[None]
    wrapped(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(saved, lr=0.1).step()
    assert saved and not torch.equal(saved[0], load().model.lm_head.weight)
    assert files(cache)[0].read_bytes() == content


@pytest.mark.parametrize("spec", [{"quantize": "none"}, {"quantize": "int8"}, {"hold": "packed"}])
def test_other_storage_is_not_kept(spec: dict[str, Any], load: Load, cache: Path, wide_enough: Path) -> None:
    load(wide_enough, **spec)
    assert files(cache) == []


@pytest.fixture
def wide_enough(tmp_path: Path, fake_folder: Callable[..., Path]) -> Path:
    """bitsandbytes' CPU kernels want rows of whole blocks."""
    from transformers import AutoModelForCausalLM

    from fake_model import fake_config

    config = fake_config()
    config.hidden_size, config.head_dim, config.intermediate_size = 64, 16, 64
    folder = tmp_path / "wide"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in fake_folder("llama").glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"double_quant": False}])
def test_other_settings_have_a_file_of_their_own(change: dict[str, Any], load: Load, cache: Path) -> None:
    load()
    load(**change)
    assert len(files(cache)) == 2
    assert_same(plain(load, "llama", **change), load(**change))


def test_other_versions_replace_the_file(load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    (before,) = files(cache)
    monkeypatch.setattr(kept_values, "FORMAT", kept_values.FORMAT + 1)
    load()
    (after,) = files(cache)
    assert before != after
    assert len(list(cache.glob("nf4-*.json"))) == 1


def test_other_weights_are_read_anew(load: Load, fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))
    before = load(folder)
    shutil.copy(fake_folder("llama", seed=1) / "model.safetensors", folder)
    after = load(folder)
    assert before.weights_sha256 != after.weights_sha256
    assert_same(plain(load, folder), after)


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    "a changed byte": lambda file, _: file.write_bytes(file.read_bytes()[:-200] + b"x" + file.read_bytes()[-199:]),
    "cut": lambda file, _: file.write_bytes(file.read_bytes()[:-64]),
    "no file": lambda file, _: file.unlink(),
    "a folder": lambda file, _: (file.unlink(), file.mkdir())[1],
    "torn record": lambda _, record: record.write_text(record.read_text()[:-40]) and None,
    "record of others": lambda _, record: record.write_text(json.dumps({"facts": {}, "sha256": "0"})) and None,
    "no record": lambda _, record: record.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_torn_or_changed_file_is_made_again(damage: str, load: Load, read: list[str], cache: Path) -> None:
    without = plain(load, "llama")
    load()
    (file,) = files(cache)
    DAMAGE[damage](file, file.with_suffix(".json"))
    del read[:]
    assert_same(without, load())
    assert len(read) == 1
    if damage != "a folder":  # what Triptych did not write is not replaced
        assert_same(without, load())
        assert len(read) == 1


def test_a_changed_file_with_its_old_times_is_seen(load: Load, read: list[str], cache: Path) -> None:
    load()
    (file,) = files(cache)
    state = file.stat()
    with file.open("r+b") as opened:
        opened.seek(-3000, os.SEEK_END)
        opened.write(b"changed")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    del read[:]
    load()
    assert len(read) == 1


def test_weights_that_change_while_they_are_read_are_not_kept(
    load: Load, fake_folder: Callable[..., Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))
    original = load_module.read_weights

    def changing(*given: Any, **options: Any) -> Any:
        shutil.copy(fake_folder("llama", seed=1) / "model.safetensors", folder)
        return original(*given, **options)

    monkeypatch.setattr(load_module, "read_weights", changing)
    with pytest.raises(ModelError, match="changed while they were read"):
        load(folder)
    assert files(cache) == []
    assert list(cache.glob(".nf4*")) == []  # and the lock is released


def test_a_cache_that_cannot_be_written_is_one_warning(
    load: Load, cache: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = plain(load, "llama")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert_same(without, load())
        assert_same(without, load())
    assert sum(WARNING in line and "dequantized" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("free", [0, 100_000])
def test_without_room_nothing_is_written(
    free: int, load: Load, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))
    load()
    assert files(cache) == []
    assert [WARNING in line for line in caplog.messages] == [True]


def test_a_disk_that_fills_up_leaves_nothing(
    load: Load, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: Any) -> str:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept_values, "write_tensors", full)
    without = plain(load, "llama")
    assert_same(without, load())
    assert [path.name for path in cache.iterdir() if "nf4" in path.name] == []
    assert sum(WARNING in line for line in caplog.messages) == 1


def test_a_file_that_cannot_be_mapped_is_no_obstacle(
    load: Load, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = plain(load, "llama")

    def refused(_: Path) -> Any:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(kept_values, "map_tensors", refused)
    for _ in range(2):
        assert_same(without, load())
        assert files(cache) == []
    assert sum("No such device" in line for line in caplog.messages) == 1  # and it is written once


def test_a_model_that_its_configuration_does_not_give_is_not_kept(
    load: Load, read: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def otherwise(*_: Any) -> Any:
        raise NotImplementedError("no such model")

    monkeypatch.setattr(kept_values, "empty_model", otherwise)
    without = plain(load, "llama")
    assert_same(without, load())
    assert_same(without, load())
    assert files(cache) == []
    (record,) = cache.glob("nf4-*.json")
    assert "no such model" in json.loads(record.read_text())["unfit"]


def test_warnings_are_the_same_on_both_ways(
    load: Load, fake_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(fake_folder("llama"), tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "left.over": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    said = []
    for _ in range(2):
        caplog.clear()
        remarks = load(folder).info["remarks"]
        said.append((remarks, [line for line in caplog.messages if line in remarks]))
    assert said[0] == said[1]
    assert "left.over" in said[0][1][0]


def test_two_at_once_make_one_file(load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is the file's, so two threads are to each other what two processes are."""
    made, original, both = [], load_module.dequantized_once, threading.Barrier(2)

    def slow(*given: Any, **more: Any) -> None:
        made.append(1)
        time.sleep(0.5)
        original(*given, **more)

    def one(_: int) -> LoadedModel:
        both.wait()
        return load()

    monkeypatch.setattr(load_module, "dequantized_once", slow)
    load("qwen3", quantize="none")  # what is imported on the way is imported once
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert (len(made), len(files(cache))) == (1, 1)
    assert_same(first, second)
    assert list(cache.glob(".nf4*")) == []
