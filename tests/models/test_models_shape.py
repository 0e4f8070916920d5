"""Sizes from a configuration alone are those of the model that is built from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fake_model import fake_config
from triptych.errors import ModelError
from triptych.models import LoraSettings, attach_adapter
from triptych.models.quantize import linear_layers
from triptych.models.shape import shape_of

ARCHITECTURES = ["llama", "qwen3", "gemma3", "mistral", "gpt2"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_the_built_model(architecture: Any, tied: bool) -> None:
    from transformers import AutoModelForCausalLM

    config = fake_config(architecture)
    config.tie_word_embeddings = tied
    model = AutoModelForCausalLM.from_config(config)
    shape = shape_of(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.linear_parameters == sum(layer.weight.numel() for _, layer in linear_layers(model))  # type: ignore[operator, union-attr, misc]
    assert shape.embedding_parameters == 259 * 32 * (1 if tied else 2)
    assert (shape.n_layers, shape.hidden_size, shape.vocab_size, shape.head_dim) == (3, 32, 259, 8)
    assert shape.n_kv_heads == (4 if architecture == "gpt2" else 2)
    assert shape.max_positions == 4096


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("targets", [None, "one"])
def test_adapter_parameters_are_those_of_the_attached_adapter(
    load_fake: Any, architecture: str, targets: str | None
) -> None:
    loaded = load_fake(architecture)
    shape = shape_of(loaded.model.config)
    names = None if targets is None else (next(iter(shape.targets)),)
    adapter = attach_adapter(loaded, LoraSettings(r=3, target_modules=names), seed=0)
    assert shape.lora_parameters(3, names) == sum(p.numel() for p in adapter.parameters().values())


def test_gpt2_layers_are_in_out() -> None:
    """Its weights lie the other way round."""
    assert shape_of(fake_config("gpt2")).targets["c_attn"] == [(32, 96)] * 3
    assert shape_of(fake_config("llama")).targets["down_proj"] == [(48, 32)] * 3


def test_seven_billion_parameters_take_no_memory() -> None:
    from transformers import LlamaConfig

    shape = shape_of(LlamaConfig())
    assert shape.parameters == 6_738_415_616  # what the published Llama 2 7B has
    assert shape.intermediate_size == 11008


def test_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    shape_of(fake_config("qwen3"))
    assert torch.equal(before, torch.get_rng_state())


def test_no_causal_language_model() -> None:
    from transformers import ViTConfig

    with pytest.raises(ModelError, match="no causal language model can be built"):
        shape_of(ViTConfig())
