"""NF4 in its two forms: the same numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.models import LoraSettings, attach_adapter

ARCHITECTURES = ["llama", "gpt2"]


@pytest.fixture(scope="module")
def wide(fake_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Models whose rows are multiples of the block (bitsandbytes' CPU kernels need it), with over 256 blocks a
    layer, so that double quantization has more than one block of its own."""
    from transformers import AutoModelForCausalLM

    from fake_model import fake_config

    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            config = fake_config(architecture)  # type: ignore[arg-type]
            if architecture == "gpt2":
                config.n_embd, config.n_layer, config.n_inner = 64, 2, 320
            else:
                config.hidden_size, config.num_hidden_layers, config.intermediate_size = 64, 2, 320
                config.head_dim = 16
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModelForCausalLM.from_config(config)
                for parameter in model.parameters():
                    if parameter.ndim > 1:
                        torch.nn.init.normal_(parameter, std=0.2)
            path = tmp_path_factory.mktemp(architecture)
            model.save_pretrained(path)
            for file in fake_folder("llama").glob("tokenizer*"):
                shutil.copy(file, path)
            made[architecture] = path
        return made[architecture]

    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dequantized_once_is_bit_equal_to_bitsandbytes(
    load_fake: Any, wide: Any, architecture: str, double_quant: bool, dtype: str
) -> None:
    import bitsandbytes as bnb
    from transformers.pytorch_utils import Conv1D

    options = {"quantize": "nf4", "double_quant": double_quant, "dtype": dtype}
    packed = load_fake(wide(architecture), hold="packed", **options)
    ours = load_fake(wide(architecture), hold="dequantized", **options)
    plain = load_fake(wide(architecture), dtype=dtype)
    assert (packed.info["weights_held"], ours.info["weights_held"]) == ("packed", "dequantized")
    mine, original = dict(ours.model.named_modules()), dict(plain.model.named_modules())
    n_layers = 0
    for name, layer in packed.model.named_modules():
        if not isinstance(layer, bnb.nn.Linear4bit):
            continue
        n_layers += 1
        assert layer.weight.quant_state.nested is double_quant
        theirs = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        weight = mine[name].weight
        oriented = weight.T if isinstance(mine[name], Conv1D) else weight
        assert torch.equal(oriented, theirs.to(weight.dtype)), name
        assert not torch.equal(weight, original[name].weight), name
    assert n_layers == {"llama": 7, "gpt2": 4}[architecture] * 2
    # embeddings, norms and the head stay as they are
    untouched = [n for n, p in plain.model.named_parameters() if torch.equal(p, ours.model.get_parameter(n))]
    assert any("lm_head" in n for n in untouched)
    assert len(untouched) == len(list(plain.model.parameters())) - n_layers


def test_double_quantization_changes_the_numbers(load_fake: Any, wide: Any) -> None:
    one, two = (
        load_fake(wide("llama"), quantize="nf4", hold="dequantized", double_quant=double) for double in (True, False)
    )
    a, b = one.model.model.layers[0].mlp.up_proj.weight, two.model.model.layers[0].mlp.up_proj.weight
    assert 0 < (a - b).abs().max() < 0.05


def test_packed_weights_still_let_gradients_through_after_they_were_scored_with(load_fake: Any, wide: Any) -> None:
    """bitsandbytes' CPU product for inference has no backward; a layer once called without a gradient keeps to it."""
    ids = torch.arange(7, 250, 5)[None]

    def gradients(hold: str) -> dict[str, torch.Tensor]:
        loaded = load_fake(wide("llama"), quantize="nf4", hold=hold, dtype="float32")
        with torch.inference_mode():
            loaded.model(ids)  # as the scorer does before training
        adapter = attach_adapter(loaded, LoraSettings(r=4, alpha=8), seed=0)
        for i, (name, parameter) in enumerate(adapter.parameters().items()):
            if "lora_B" in name:
                parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(i))
        loaded.model(ids).logits.float().logsumexp(-1).sum().backward()
        return {name: p.grad for name, p in adapter.parameters().items() if p.grad is not None}

    packed, dequantized = gradients("packed"), gradients("dequantized")
    assert packed.keys() == dequantized.keys()
    assert any("layers.0." in name for name in packed)
    for name, expected in dequantized.items():
        assert (packed[name] - expected).norm() < 1e-4 * expected.norm(), name


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_forms_give_the_same_logits(
    load_fake: Any, wide: Any, architecture: str, dtype: str, tolerance: float, adapted: bool
) -> None:
    ids = torch.arange(7, 250, 5)[None]

    def logits(quantize: str, hold: str) -> torch.Tensor:
        loaded = load_fake(wide(architecture), quantize=quantize, hold=hold, dtype=dtype)
        if adapted:
            adapter = attach_adapter(loaded, LoraSettings(r=4, alpha=8), seed=0)
            for i, (name, parameter) in enumerate(adapter.parameters().items()):
                if "lora_B" in name:
                    parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(i))
        with torch.no_grad():
            out: torch.Tensor = loaded.model(ids).logits.float()
        return out

    packed, dequantized, plain = logits("nf4", "packed"), logits("nf4", "dequantized"), logits("none", "auto")
    difference = (packed - dequantized).abs().mean() / dequantized.std()
    assert difference < tolerance
    assert (plain - dequantized).abs().mean() / dequantized.std() > 2 * difference  # quantizing shows, the form doesn't


def test_quantized_weights_take_sixteen_values_a_block(load_fake: Any, wide: Any) -> None:
    loaded = load_fake(wide("llama"), quantize="nf4", hold="dequantized", double_quant=False)
    blocks = loaded.model.model.layers[0].mlp.gate_proj.weight.reshape(-1, 64)
    assert all(len(block.unique()) <= 16 for block in blocks)
    assert len(blocks.unique()) > 16


def test_on_a_cpu_weights_are_held_dequantized(load_fake: Any) -> None:
    info = load_fake("llama", quantize="nf4").info
    assert (info["quantize"], info["double_quant"], info["weights_held"]) == ("nf4", True, "dequantized")
    assert load_fake("llama").info["double_quant"] is None
