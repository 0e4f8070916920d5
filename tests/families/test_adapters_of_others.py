"""Adapters that others made with peft: the numbers of plain peft, or a refusal that names what is in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from outcome import furthest, mean, plain_nll, probe_rows
from safetensors.torch import load_file, save_file

from triptych.errors import ModelError
from triptych.likelihood.score import Scorer
from triptych.models import LoraSettings, adapter_enabled, attach_adapter, detach_adapter, load_adapter, save_adapter
from triptych.models.lora import lora_layers
from triptych.models.quantize import linear_layers

Load = Callable[..., Any]
Family = Callable[..., Path]


def made(folder: Path, into: Path, config: Any) -> Path:
    """A peft adapter whose every trained tensor matters."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    generator = torch.Generator().manual_seed(3)
    for _, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.08
    model.save_pretrained(into)
    return into


def lora(*targets: str, **settings: Any) -> Any:
    from peft import LoraConfig

    options = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **settings}
    return LoraConfig(target_modules=list(targets) or None, **options)


def plain(
    folder: Path, adapter: Path | None, rows: list[Any], dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        return [plain_nll(model, row) for row in rows]


def scored(scorer: Scorer, rows: list[Any]) -> list[torch.Tensor]:
    return [torch.from_numpy(row.tokens) for row in scorer.score(rows)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("before", [False, True], ids=["scorer after adapter", "scorer before adapter"])
def test_lora_on_the_output_head_counts(dtype: str, before: bool, load: Load, family: Family, tmp_path: Path) -> None:
    """Packed, in every dtype, and whether or not the scorer was there before the adapter."""
    folder = made(family("llama"), tmp_path, lora("q_proj", "v_proj", "lm_head"))
    loaded = load("llama", dtype=dtype)
    scorer = Scorer(loaded) if before else None
    adapter, _ = load_adapter(loaded, folder)
    scorer = scorer or Scorer(loaded)
    rows = probe_rows(loaded.profile.tokenizer)
    expected = plain(family("llama"), folder, rows)
    ours = scored(scorer, rows)
    assert scorer.packed
    if dtype == "float32":
        assert furthest(ours, expected) < 1e-5
    else:
        assert mean(ours, expected) <= 1.5 * mean(plain(family("llama"), folder, rows, loaded.dtype), expected) + 1e-3
    with adapter_enabled(adapter, on=False):
        assert furthest(scored(scorer, rows), plain(family("llama"), None, rows)) < (
            1e-5 if dtype == "float32" else 0.3
        )


@pytest.mark.parametrize("target", ["experts", "all-linear", "target_parameters"])
def test_adapters_of_routed_experts(target: str, load: Load, family: Family, tmp_path: Path) -> None:
    """Where 2 x intermediate == hidden, a linear layer's forward fits the experts' sizes and gives other numbers."""
    folder = family("olmoe", intermediate_size=16)
    config = {
        "experts": lora("q_proj", "gate_proj", "up_proj"),
        "all-linear": lora("q_proj", "k_proj", "gate_proj", "up_proj", "down_proj"),
        "target_parameters": lora("q_proj", target_parameters=["mlp.experts.down_proj"]),
    }[target]
    adapter = made(folder, tmp_path, config)
    loaded = load(folder)
    load_adapter(loaded, adapter)
    assert {type(layer).__name__ for layer in lora_layers(loaded.model)} == {"Linear", "ParamWrapper"}
    rows = probe_rows(loaded.profile.tokenizer)
    assert furthest(scored(Scorer(loaded), rows), plain(folder, adapter, rows)) < 1e-5


def config_of_kind(kind: str) -> Any:
    import peft

    return {
        "ia3": lambda: peft.IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]),
        "loha": lambda: peft.LoHaConfig(task_type="CAUSAL_LM", r=4, alpha=8, target_modules=["q_proj"]),
        "vera": lambda: peft.VeraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"]),
        "oft": lambda: peft.OFTConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], oft_block_size=4, r=0),
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    }[kind]()


@pytest.mark.parametrize("kind", ["ia3", "loha", "vera", "oft", "prompt"])
def test_what_is_no_lora_is_refused_by_its_type(kind: str, load: Load, family: Family, tmp_path: Path) -> None:
    config = config_of_kind(kind)
    folder = made(family("llama"), tmp_path, config)
    loaded = load("llama")
    with pytest.raises(ModelError, match="only LoRA can be attached") as caught:
        load_adapter(loaded, folder)
    assert str(config.peft_type.value) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights: pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "init_lora_weights: olora"),
        ({"trainable_token_indices": [5, 6]}, "trainable_token_indices: [5, 6]"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication: [[0, 2], [1, 3]]"),
        ({"modules_to_save": ["lm_head"], "ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"bias": "all"}, "bias: all"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens: [5]"),
    ],
)
def test_what_changes_the_base_is_refused(
    settings: dict[str, Any], named: str, load: Load, family: Family, tmp_path: Path
) -> None:
    """The base with the adapter off must be the base: after the refusal it is, to the bit."""
    folder = made(family("llama"), tmp_path, lora("q_proj", **settings))
    loaded = load("llama")
    rows = probe_rows(loaded.profile.tokenizer)[:3]
    before = scored(Scorer(loaded), rows)
    with pytest.raises(ModelError) as caught:
        load_adapter(loaded, folder)
    assert named in str(caught.value)
    assert furthest(scored(Scorer(loaded), rows), before) == 0


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("llama", ["norm"]),
        ("llama", ["embed_tokens", "lm_head"]),
        ("gemma3_text", ["lm_head"]),  # tied to the embedding, which stays the base's
        ("gemma3_text", ["embed_tokens"]),
        ("qwen3", ["mlp"]),
    ],
)
def test_modules_that_an_adapter_brings_are_switched_with_it(
    name: str, modules: list[str], load: Load, family: Family, tmp_path: Path
) -> None:
    folder = family(name)
    adapter_folder = made(folder, tmp_path, lora("q_proj", modules_to_save=modules))
    loaded = load(name)
    rows = probe_rows(loaded.profile.tokenizer)[:4]
    scorer = Scorer(loaded)
    base = scored(scorer, rows)
    adapter, _ = load_adapter(loaded, adapter_folder)
    attached = scored(scorer, rows)
    assert furthest(attached, plain(folder, adapter_folder, rows)) < 1e-5
    assert furthest(attached, base) > 0.01
    with adapter_enabled(adapter, on=False):
        assert furthest(scored(scorer, rows), base) == 0
    assert furthest(scored(scorer, rows), attached) == 0
    detach_adapter(loaded, adapter)
    assert furthest(scored(scorer, rows), base) == 0


@pytest.mark.parametrize("harm", ["shape", "missing"])
def test_modules_that_do_not_fit_are_refused(harm: str, load: Load, family: Family, tmp_path: Path) -> None:
    """An adapter whose vocabulary was enlarged, and one whose file lacks the module that its configuration names."""
    folder = made(family("llama"), tmp_path, lora("q_proj", modules_to_save=["lm_head"]))
    file, name = folder / "adapter_model.safetensors", "base_model.model.lm_head.weight"
    tensors = load_file(file)
    tensors[name] = torch.cat([tensors[name], tensors[name][:8]])
    if harm == "missing":
        del tensors[name]
    save_file(tensors, file, {"format": "pt"})
    loaded = load("llama")
    base = loaded.model.lm_head.weight.detach().clone()
    with pytest.raises(ModelError) as caught:
        load_adapter(loaded, folder)
    assert "lm_head" in str(caught.value)
    assert torch.equal(loaded.model.lm_head.weight, base)


def test_base_weights_beside_an_adapter_must_be_the_base(load: Load, family: Family, tmp_path: Path) -> None:
    """peft saves the head's own weights with an adapter on the head: equal ones are fine, others are refused."""
    folder = made(family("llama"), tmp_path, lora("q_proj", "lm_head"))
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.lm_head.base_layer.weight"
    base = load("llama").model.lm_head.weight
    save_file({**tensors, name: base.detach().clone()}, file, {"format": "pt"})
    load_adapter(load("llama"), folder)
    save_file({**tensors, name: base.detach() + 1}, file, {"format": "pt"})
    loaded = load("llama")
    with pytest.raises(ModelError, match="replace the base model's") as caught:
        load_adapter(loaded, folder)
    assert name in str(caught.value)
    assert torch.equal(loaded.model.lm_head.weight, base)


def test_an_adapter_of_more_layers_is_refused(load: Load, family: Family, tmp_path: Path) -> None:
    """Trained on five layers, put on a base of three: two layers' tensors would have no place."""
    folder = made(family("llama", num_hidden_layers=5), tmp_path, lora("q_proj"))
    with pytest.raises(ModelError, match="doesn't fit this model") as caught:
        load_adapter(load("llama"), folder)
    assert "4 of the file's tensors have no place in the model" in str(caught.value)
    assert "layers.3.self_attn.q_proj.lora_A" in str(caught.value)


def test_every_tensor_of_the_file_is_in_the_model(load: Load, family: Family, tmp_path: Path) -> None:
    """peft renames some of these families' keys on the way in, and drops those it finds no place for."""
    config = lora("gate_proj", "up_proj", "down_proj", "q_proj")
    folder = made(family("laguna"), tmp_path, config)
    loaded = load("laguna")
    load_adapter(loaded, folder)
    file = load_file(folder / "adapter_model.safetensors")
    there = {n.replace(".default", ""): p for n, p in loaded.model.named_parameters() if ".lora_" in n}
    assert {f"base_model.model.{name}" for name in there} == file.keys()
    assert all(torch.equal(file[f"base_model.model.{name}"], p.detach()) for name, p in there.items())


def test_our_adapter_of_a_mixture_of_experts_reads_back_in_plain_peft(
    load: Load, family: Family, tmp_path: Path
) -> None:
    loaded = load("laguna")
    adapter = attach_adapter(loaded, LoraSettings(r=4), seed=0)
    for name, parameter in adapter.parameters().items():
        if "lora_B" in name:
            parameter.data += 0.1
    save_adapter(adapter, tmp_path, facts={})
    rows = probe_rows(loaded.profile.tokenizer)[:4]
    assert furthest(scored(Scorer(loaded), rows), plain(family("laguna"), tmp_path, rows)) < 1e-5


@pytest.mark.parametrize("settings", [{"dropout": 0.1}, {"use_dora": True}])
def test_layers_that_peft_names_by_weight_take_no_dropout(settings: dict[str, Any], load: Load) -> None:
    loaded = load("deepseek_v3")
    with pytest.raises(ModelError, match="with dropout or DoRA"):
        attach_adapter(loaded, LoraSettings(r=4, **settings), seed=0)
    attach_adapter(loaded, LoraSettings(r=4, target_modules=("q_a_proj", "o_proj"), **settings), seed=0)


def test_an_adapter_that_wraps_a_router_is_refused(load: Load, family: Family, tmp_path: Path) -> None:
    """peft's own forward can't compute it either: the router returns more than one tensor."""
    folder = made(family("phimoe"), tmp_path, lora("q_proj", "router"))
    loaded = load("phimoe")
    with pytest.raises(ModelError, match="a module that is no linear layer"):
        load_adapter(loaded, folder)
    assert not lora_layers(loaded.model)


def test_the_config_says_which_layers(load: Load, tmp_path: Path) -> None:
    """Names where they name linear layers only, paths where a name also ends something else's path."""
    adapter = attach_adapter(load("llama"), LoraSettings(r=2), seed=0)
    save_adapter(adapter, tmp_path, facts={})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    loaded = load("gemma3n_text")
    linear = {name for name, _ in linear_layers(loaded.model)}
    mixed = attach_adapter(loaded, LoraSettings(r=2), seed=0)
    assert set(mixed.model.targeted_module_names) == linear
