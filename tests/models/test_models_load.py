"""Loading: what comes out of a good folder, and what is said about a bad one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from triptych.config.model import ModelConfig
from triptych.errors import ConfigError, InputError, ModelError
from triptych.models import load_profile
from triptych.models.load import identify

ARCHITECTURES = ["llama", "qwen3", "gemma3", "mistral", "gpt2"]


@pytest.fixture
def broken(fake_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a fake model's folder, to be broken."""

    def copy(architecture: str = "llama") -> Path:
        return Path(shutil.copytree(fake_folder(architecture), tmp_path / architecture))

    return copy


def message_of(load: Callable[..., Any], source: Any, **spec: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(source, **spec)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, ModelError)
    return str(caught.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fake_model_loads(load_fake: Any, architecture: str) -> None:
    loaded = load_fake(architecture)
    assert (loaded.profile.bos_id, loaded.profile.eos_id) == (256, 257)
    assert loaded.max_tokens == 4096
    assert loaded.dtype == torch.float32
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.info["weights_sha256"] == loaded.weights_sha256
    assert loaded.info["weights_held"] == "plain"
    assert loaded.info["parameters"] == sum(p.numel() for p in loaded.model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_uniform_model_has_no_preference(load_fake: Any, architecture: str) -> None:
    loaded = load_fake(architecture, uniform=True)
    logits = loaded.model(torch.arange(259)[None]).logits
    assert logits.shape == (1, 259, 259)
    assert torch.equal(logits, torch.zeros_like(logits))


def test_random_model_has_preferences(load_fake: Any) -> None:
    assert load_fake("llama").model(torch.arange(50)[None]).logits.std() > 0.5


def test_the_fake_tokenizer_is_one_token_a_byte(load_fake: Any) -> None:
    profile = load_fake("llama").profile
    text = "Ab 古\n<b>"
    assert len(profile.encode(text)) == len(text.encode())
    assert profile.tokenizer.decode(profile.encode(text)) == text


def test_bfloat16(load_fake: Any) -> None:
    loaded = load_fake("llama", dtype="bfloat16")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.info["dtype"] == "bfloat16"


def test_weights_hash_is_of_the_weights(load_fake: Any, fake_folder: Any, broken: Any) -> None:
    first = load_fake("llama").weights_sha256
    folder = broken("llama")
    assert load_fake(folder).weights_sha256 == first
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load_fake(folder).weights_sha256 != first
    assert load_fake("llama").weights_sha256 == first


def test_loading_leaves_random_numbers_alone(load_fake: Any) -> None:
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    try:
        loaded = load_fake("llama", threads=None, quantize="nf4", hold="dequantized")
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.info["threads"] >= 1


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/nowhere", "a/b/c"])
def test_no_such_folder(load_fake: Any, name: str) -> None:
    from triptych.models import load_model

    with pytest.raises(ModelError, match="no such model folder") as caught:
        load_model(ModelConfig(name=name, threads=1))
    assert name in str(caught.value)


def test_a_file_is_no_folder(load_fake: Any, broken: Any) -> None:
    assert "no such model folder" in message_of(load_fake, broken() / "config.json")


def test_an_adapter_given_as_a_model(load_fake: Any, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    message = message_of(load_fake, tmp_path)
    assert "this folder holds an adapter, not a model" in message
    assert f"--adapter {tmp_path}" in message


def test_folder_without_config(load_fake: Any, broken: Any) -> None:
    folder = broken()
    (folder / "config.json").unlink()
    message = message_of(load_fake, folder)
    assert "this folder is not a model" in message
    assert "model.safetensors" in message  # says what it found
    assert "config.json" in message  # and what it wanted


@pytest.mark.parametrize("content", ["{oops", '{"model_type": "no-such-architecture"}', '{"hidden_size": 3}'])
def test_bad_config(load_fake: Any, broken: Any, content: str) -> None:
    folder = broken()
    (folder / "config.json").write_text(content)
    assert "the model can't be loaded" in message_of(load_fake, folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folder_without_tokenizer(load_fake: Any, broken: Any, architecture: str) -> None:
    """Some families get an empty tokenizer from transformers then, which makes every text `unknown`."""
    folder = broken(architecture)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in message_of(load_fake, folder)


def test_broken_tokenizer(load_fake: Any, broken: Any) -> None:
    folder = broken()
    (folder / "tokenizer.json").write_text("{oops")
    assert "no usable tokenizer" in message_of(load_fake, folder)


def test_no_weights(load_fake: Any, broken: Any) -> None:
    folder = broken()
    (folder / "model.safetensors").unlink()
    assert "safetensors" in message_of(load_fake, folder)


def test_pickled_weights_are_refused(load_fake: Any, broken: Any) -> None:
    folder = broken()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    message = message_of(load_fake, folder)
    assert "a pickle can run code when it is read" in message
    assert "found: pytorch_model.bin" in message
    with pytest.raises(ModelError, match="pickled"):  # a run says so before anything else
        identify(ModelConfig(name=str(folder)))
    assert "--allow-pickle" in message


def test_pickled_weights_are_read_where_they_are_allowed(load_fake: Any, broken: Any) -> None:
    folder = broken()
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    both = load_fake(folder, allow_pickle=True)
    (folder / "model.safetensors").unlink()
    loaded = load_fake(folder, allow_pickle=True)
    assert torch.equal(loaded.model.lm_head.weight, weights["lm_head.weight"])
    assert both.weights_sha256 != loaded.weights_sha256  # of the files that were read


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", None])
def test_weights_that_are_cut_short(load_fake: Any, broken: Any, content: bytes | None) -> None:
    file = broken() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    assert "the model can't be loaded" in message_of(load_fake, file.parent)


def test_missing_weights_are_not_made_up(load_fake: Any, broken: Any) -> None:
    """transformers fills what is missing with random numbers and warns; a perplexity of those would mean nothing."""
    file = broken() / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    message = message_of(load_fake, file.parent)
    assert "lack some of its weights" in message
    assert "1 missing, model.layers.1.mlp.up_proj.weight" in message


def test_tied_head_is_not_missing(load_fake: Any, fake_folder: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from fake_model import fake_config

    config = fake_config("llama")
    config.tie_word_embeddings = True
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    for file in fake_folder("llama").glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    model = load_fake(tmp_path).model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_weights_of_another_shape(load_fake: Any, broken: Any) -> None:
    file = broken() / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(weights, file, {"format": "pt"})
    assert "the model can't be loaded" in message_of(load_fake, file.parent)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda(load_fake: Any) -> None:
    with pytest.raises(ConfigError, match="none is available"):
        load_fake("llama", device="cuda")


def test_profile_without_weights(fake_folder: Any, broken: Any) -> None:
    folder = broken()
    (folder / "model.safetensors").unlink()
    profile = load_profile(ModelConfig(name=str(folder)))
    assert (profile.bos_id, profile.eos_id) == (256, 257)
    assert profile.sha256 == load_profile(ModelConfig(name=str(fake_folder("gpt2")))).sha256
