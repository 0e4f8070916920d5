"""What is said of a model as it was loaded, and of training on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from triptych.models import LoraSettings, attach_adapter
from triptych.models.adapters import _training_warnings
from triptych.models.quantize import loading_warnings


def test_an_ordinary_model_needs_no_remark(load_fake: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "triptych"):
        loaded = load_fake("llama")
        attach_adapter(loaded, LoraSettings(r=2), seed=0)
    assert loaded.info["remarks"] == []
    assert not [record for record in caplog.records if record.name.startswith("triptych")]


def test_tensors_that_the_model_does_not_use(
    load_fake: Callable[..., Any], fake_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    folder = shutil.copytree(fake_folder("llama"), tmp_path / "m")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    some = next(iter(tensors.values()))
    save_file({**tensors, "model.layers.9.extra.weight": some.clone()}, file, {"format": "pt"})
    with caplog.at_level(logging.WARNING, "triptych"):
        loaded = load_fake(folder)
    (remark,) = loaded.info["remarks"]
    assert "1 tensors of the model's files are not used by LlamaForCausalLM: model.layers.9.extra.weight" in remark
    assert remark in caplog.text


def test_dropout_of_the_base_is_not_used(load_fake: Callable[..., Any]) -> None:
    loaded = load_fake("llama")
    assert _training_warnings(loaded.model) == []
    loaded.model.config.attention_dropout = 0.1
    (remark,) = _training_warnings(loaded.model)
    assert "attention_dropout 0.1" in remark


def test_routed_experts() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    config = AutoConfig.for_model("qwen3_moe", vocab_size=64, intermediate_size=48, **sizes, **experts)
    model = AutoModelForCausalLM.from_config(config)
    (remark,) = loading_warnings(model, (), "nf4", None)
    assert "routed experts are not quantized, " in remark
    assert "mlp.experts.gate_up_proj" in remark
    assert loading_warnings(model, (), "none", None) == []
    assert any("routed experts are not adapted" in said for said in _training_warnings(model))


def test_weights_that_are_quantized_already(load_fake: Callable[..., Any]) -> None:
    (remark,) = loading_warnings(load_fake("llama").model, (), "nf4", "gptq 4-bit")
    assert "(gptq 4-bit)" in remark
    assert "not as `quantize: nf4`" in remark
