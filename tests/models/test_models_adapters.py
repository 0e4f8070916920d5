"""Adapters: drawn from a seed, adapter_enabled, saved in PEFT's format, and refused where they don't belong."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from triptych.errors import ModelError
from triptych.models import (
    Adapter,
    LoadedModel,
    LoraSettings,
    active_adapter_sha256,
    adapter_enabled,
    adapter_is_on,
    attach_adapter,
    load_adapter,
    save_adapter,
)
from triptych.models.adapters import set_dropout
from triptych.models.lora import lora_layers

IDS = torch.arange(3, 240, 4)[None]
LINEAR = {
    "llama": ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
    "gpt2": ("c_attn", "c_fc", "c_proj"),
}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(IDS).logits
    return out


def trained(loaded: LoadedModel, *, seed: int = 0, **settings: Any) -> Adapter:
    """An adapter whose B is not zero, so that it changes what the model says."""
    adapter = attach_adapter(loaded, LoraSettings(**{"r": 4, "alpha": 8, **settings}), seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in adapter.parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=generator)
    return adapter


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_fresh_adapter_changes_nothing(load_fake: Any, architecture: str) -> None:
    loaded = load_fake(architecture)
    before = logits(loaded.model)
    adapter = attach_adapter(loaded, LoraSettings(r=4), seed=0)
    assert torch.equal(logits(loaded.model), before)
    assert adapter.target_modules == LINEAR[architecture]
    assert len(adapter.parameters()) == 2 * 3 * {"llama": 7, "gpt2": 4}[architecture]
    assert all(p.dtype == torch.float32 for p in adapter.parameters().values())


def test_only_the_adapter_is_trainable(load_fake: Any) -> None:
    loaded = load_fake("llama")
    adapter = attach_adapter(loaded, LoraSettings(r=4), seed=0)
    assert all("lora_" in name for name in adapter.parameters())
    assert list(adapter.parameters()) == sorted(adapter.parameters())


def test_same_seed_same_adapter(load_fake: Any) -> None:
    hashes = [attach_adapter(load_fake("llama"), LoraSettings(r=4), seed=seed).sha256() for seed in (5, 5, 6)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_hash_follows_each_weight(load_fake: Any) -> None:
    adapter = attach_adapter(load_fake("llama"), LoraSettings(r=4), seed=0)
    before = adapter.sha256()
    list(adapter.parameters().values())[-1].data[0, 0] += 1e-6
    assert adapter.sha256() != before


def test_random_numbers_go_on_as_before(load_fake: Any) -> None:
    loaded = load_fake("llama")
    before = torch.get_rng_state()
    attach_adapter(loaded, LoraSettings(r=4), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("variant", [{"use_rslora": True}, {"use_dora": True}], ids=["rslora", "dora"])
def test_variants_are_pefts_and_load_back(
    load_fake: Any, fake_folder: Callable[..., Path], tmp_path: Path, architecture: str, variant: dict[str, Any]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = load_fake(architecture)
    base = logits(loaded.model)
    adapter = trained(loaded, **variant)
    for name, parameter in adapter.parameters().items():
        assert parameter.dtype == torch.float32
        if "lora_magnitude_vector" in name:
            parameter.data *= 1.1
    ours = logits(loaded.model)
    assert (ours - base).abs().max() > 0.1
    save_adapter(adapter, tmp_path, facts={})
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(fake_folder(architecture)), tmp_path).eval()
    torch.testing.assert_close(ours, logits(plain), atol=1e-5, rtol=1e-5)
    other, facts = load_adapter(load_fake(architecture), tmp_path)
    assert other.sha256() == adapter.sha256() == facts["adapter_sha256"]
    assert other.settings == LoraSettings(4, 8, 0.0, adapter.target_modules, **variant)
    assert torch.equal(logits(other.model), ours)
    with adapter_enabled(other, on=False):
        assert torch.equal(logits(other.model), base)


def test_dora_has_gradients_of_pefts_own(load_fake: Any, fake_folder: Callable[..., Path], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = load_fake("llama")
    adapter = trained(loaded, use_dora=True)
    save_adapter(adapter, tmp_path, facts={})
    model = AutoModelForCausalLM.from_pretrained(fake_folder("llama"))
    plain = PeftModel.from_pretrained(model, tmp_path, is_trainable=True).eval()
    for said in (loaded.model, plain):
        said(IDS).logits.log_softmax(-1)[..., 5].sum().backward()
    theirs = {name: p.grad for name, p in plain.named_parameters() if p.requires_grad}
    assert len(theirs) == 3 * 3 * 7
    for name, parameter in adapter.parameters().items():
        torch.testing.assert_close(parameter.grad, theirs[name], atol=1e-4, rtol=1e-4)


def test_magnitudes_are_float32_on_a_16_bit_base(load_fake: Any) -> None:
    for options in ({"dtype": "bfloat16"}, {"quantize": "nf4", "hold": "packed", "dtype": "bfloat16"}):
        adapter = attach_adapter(load_fake("llama", **options), LoraSettings(r=4, use_dora=True), seed=0)
        assert len(adapter.parameters()) == 3 * 3 * 7
        assert all(p.dtype == torch.float32 for p in adapter.parameters().values())


def test_a_missing_magnitude_is_not_silently_fresh(load_fake: Any, tmp_path: Path) -> None:
    save_adapter(trained(load_fake("llama"), use_dora=True), tmp_path, facts={})
    (tmp_path / "triptych.json").unlink()  # an adapter from elsewhere: nothing says what it was
    file = tmp_path / "adapter_model.safetensors"
    weights = {k: v for k, v in load_file(file).items() if "q_proj.lora_magnitude_vector" not in k}
    save_file(weights, file, {"format": "pt"})
    with warnings.catch_warnings(), pytest.raises(ModelError, match="doesn't fit this model") as caught:
        warnings.simplefilter("ignore")
        load_adapter(load_fake("llama"), tmp_path)
    assert "3 of the model's adapted layers get no tensor" in str(caught.value)


@pytest.mark.parametrize("use_dora", [False, True])
def test_dropout_is_switched_alone(load_fake: Any, use_dora: bool) -> None:
    loaded = load_fake("llama")
    adapter = trained(loaded, dropout=0.5, use_dora=use_dora)
    still = logits(loaded.model)
    set_dropout(adapter, on=True)
    torch.manual_seed(0)
    moved = logits(loaded.model)
    assert not torch.equal(moved, still)
    torch.manual_seed(0)
    assert torch.equal(logits(loaded.model), moved)
    set_dropout(adapter, on=False)
    assert torch.equal(logits(loaded.model), still)


def test_chosen_targets(load_fake: Any) -> None:
    adapter = attach_adapter(load_fake("llama"), LoraSettings(r=4, target_modules=("v_proj", "q_proj")), seed=0)
    assert adapter.target_modules == ("q_proj", "v_proj")
    assert len(adapter.parameters()) == 2 * 2 * 3


@pytest.mark.parametrize("name", ["query", "lm_head", "embed_tokens"])
def test_unknown_target_lists_what_there_is(load_fake: Any, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        attach_adapter(load_fake("llama"), LoraSettings(target_modules=("q_proj", name)), seed=0)
    assert name in str(caught.value)
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in str(caught.value)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_switching(load_fake: Any, architecture: str) -> None:
    loaded = load_fake(architecture)
    base = logits(loaded.model)
    assert not adapter_is_on(loaded.model)
    adapter = trained(loaded)
    adapted = logits(loaded.model)
    assert (adapted - base).abs().max() > 0.1
    assert adapter_is_on(adapter.model)
    with adapter_enabled(adapter, on=False):
        assert not adapter_is_on(adapter.model)
        assert torch.equal(logits(loaded.model), base)
        with adapter_enabled(adapter, on=True):
            assert torch.equal(logits(loaded.model), adapted)
        assert not adapter_is_on(adapter.model)
    assert adapter_is_on(adapter.model)
    assert torch.equal(logits(loaded.model), adapted)


def test_switching_back_after_an_error(load_fake: Any) -> None:
    adapter = trained(load_fake("llama"))
    with pytest.raises(RuntimeError), adapter_enabled(adapter, on=False):
        raise RuntimeError
    assert adapter_is_on(adapter.model)
    assert all(p.requires_grad for p in adapter.parameters().values())


def test_nothing_to_switch() -> None:
    with adapter_enabled(None, on=True):
        pass


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_saved_and_loaded(load_fake: Any, tmp_path: Path, architecture: str) -> None:
    loaded = load_fake(architecture)
    adapter = trained(loaded)
    facts = {"base_weights_sha256": loaded.weights_sha256, "prompt_sha256": "abc"}
    save_adapter(adapter, tmp_path / "a" / "b", facts=facts)
    again = load_fake(architecture)
    other, found = load_adapter(again, tmp_path / "a" / "b")
    assert other.sha256() == adapter.sha256() == found["adapter_sha256"]
    assert found["prompt_sha256"] == "abc"
    assert (other.settings.r, other.settings.alpha, other.target_modules) == (4, 8, adapter.target_modules)
    assert torch.equal(logits(again.model), logits(loaded.model))
    assert adapter_is_on(again.model)
    assert set(other.parameters()) == set(adapter.parameters())  # can be trained further


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_plain_peft_gives_the_same_logits(
    load_fake: Any, fake_folder: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = load_fake(architecture)
    with warnings.catch_warnings(record=True) as said:
        adapter = trained(loaded)
    assert not [w for w in said if "fan_in_fan_out" in str(w.message)]  # peft's word for a setting that doesn't fit
    save_adapter(adapter, tmp_path, facts={})
    model = AutoModelForCausalLM.from_pretrained(fake_folder(architecture))
    plain = PeftModel.from_pretrained(model, tmp_path).eval()
    torch.testing.assert_close(logits(plain), logits(loaded.model), atol=1e-5, rtol=1e-5)
    merged = plain.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(loaded.model), atol=1e-3, rtol=1e-3)


def test_the_same_training_writes_the_same_files(load_fake: Any, tmp_path: Path) -> None:
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == list(LINEAR["llama"])  # sorted: peft's set has another order in each process


def test_bfloat16_products_float32_weights(load_fake: Any) -> None:
    loaded = load_fake("llama", dtype="bfloat16")
    adapter = trained(loaded)
    assert all(p.dtype == torch.float32 for p in adapter.parameters().values())
    exact = load_fake("llama")
    trained(exact)
    assert logits(loaded.model).dtype == torch.bfloat16
    difference = (logits(loaded.model).float() - logits(exact.model)).abs().mean()
    assert difference < 0.03 * logits(exact.model).std()


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"lora_bias": True},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": r".*\.[qv]_proj"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_adapters_that_others_made(
    load_fake: Any, fake_folder: Callable[..., Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    """Ours says what peft says, whatever variant peft was told to train."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM", **options}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        theirs = get_peft_model(
            AutoModelForCausalLM.from_pretrained(fake_folder("llama")), LoraConfig(**settings)
        ).eval()
        torch.manual_seed(0)
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        theirs.save_pretrained(tmp_path)
        loaded = load_fake("llama")
        base = logits(loaded.model)
        adapter, facts = load_adapter(loaded, tmp_path)
    assert facts == {}
    named = options.get("target_modules", ["q_proj", "up_proj"])
    assert adapter.target_modules == ((named,) if isinstance(named, str) else tuple(sorted(named)))
    torch.testing.assert_close(logits(loaded.model), logits(theirs), atol=1e-5, rtol=1e-5)
    assert (logits(loaded.model) - base).abs().max() > 0.05


def test_an_adapter_for_other_weights_is_refused(load_fake: Any, tmp_path: Path) -> None:
    loaded = load_fake("llama")
    save_adapter(trained(loaded), tmp_path, facts={"base_weights_sha256": "0" * 64, "base_model": "some/llama"})
    with pytest.raises(ModelError, match="trained on another base model") as caught:
        load_adapter(load_fake("llama"), tmp_path)
    assert "some/llama" in str(caught.value)
    assert loaded.weights_sha256[:12] in str(caught.value)


def test_an_adapter_for_another_architecture_is_refused(load_fake: Any, tmp_path: Path) -> None:
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    with pytest.raises(ModelError, match="doesn't fit this model"):
        load_adapter(load_fake("gpt2"), tmp_path)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_without_an_adapter(load_fake: Any, tmp_path: Path, missing: str) -> None:
    loaded = load_fake("llama")
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    (tmp_path / missing).unlink()
    with pytest.raises(ModelError, match="this folder holds no adapter"):
        load_adapter(loaded, tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        load_adapter(loaded, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("cut", "the adapter's weights can't be read"),
        ("empty", "the adapter's weights can't be read"),
        ("config", "the adapter's configuration can't be read"),
        ("rank", "the adapter doesn't fit this model"),
    ],
)
def test_a_broken_adapter(load_fake: Any, tmp_path: Path, broken: str, said: str) -> None:
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    (tmp_path / "triptych.json").unlink()
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    if broken == "cut":
        weights.write_bytes(weights.read_bytes()[:400])
    elif broken == "empty":
        weights.write_bytes(b"")
    elif broken == "config":
        config.write_text("{oops")
    else:
        config.write_text(json.dumps({**json.loads(config.read_text()), "r": 8}))
    with pytest.raises(ModelError, match=said):
        load_adapter(load_fake("llama"), tmp_path)


def test_an_adapter_under_other_names_is_not_silently_zero(load_fake: Any, tmp_path: Path) -> None:
    """Trained inside a larger model, an adapter's weights have longer names: peft warns and adds nothing."""
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    (tmp_path / "triptych.json").unlink()
    file = tmp_path / "adapter_model.safetensors"
    weights = {k.replace("model.layers", "model.language_model.layers"): v for k, v in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    loaded = load_fake("llama")
    with pytest.warns(UserWarning), pytest.raises(ModelError, match="doesn't fit this model") as caught:
        load_adapter(loaded, tmp_path)
    assert "42 of the file's tensors have no place in the model" in str(caught.value)
    assert not lora_layers(loaded.model), "what was refused is detached again"


@pytest.mark.parametrize("harm", ["weights", "empty", "config"])
def test_an_adapter_that_was_changed_after_it_was_saved(load_fake: Any, tmp_path: Path, harm: str) -> None:
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    file = tmp_path / ("adapter_config.json" if harm == "config" else "adapter_model.safetensors")
    if harm == "weights":
        save_file({name: tensor * 3 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 99}))
    with pytest.raises(ModelError, match="changed after it was saved") as caught:
        load_adapter(load_fake("llama"), tmp_path)
    assert str(file) in str(caught.value)


def test_an_adapter_saved_before_its_files_had_hashes_is_told_by_its_weights(load_fake: Any, tmp_path: Path) -> None:
    save_adapter(trained(load_fake("llama")), tmp_path, facts={})
    record, file = tmp_path / "triptych.json", tmp_path / "adapter_model.safetensors"
    record.write_text(json.dumps({"adapter_sha256": json.loads(record.read_text())["adapter_sha256"]}))
    load_adapter(load_fake("llama"), tmp_path)
    save_file({name: tensor * 3 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="changed after it was saved"):
        load_adapter(load_fake("llama"), tmp_path)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"bias": "lora_only", "target_modules": ["q_proj"]}, "bias"),
        ({"trainable_token_indices": [5, 6]}, "trainable_tokens_delta"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
        ({"use_dora": True}, "magnitude"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "lora_embedding_A"),
    ],
)
def test_the_hash_of_the_adapter_that_is_on_sees_every_tensor_it_brings(
    fake_folder: Callable[..., Path], options: dict[str, Any], part: str
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(fake_folder("llama"), attention_bias=True)
    settings = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options}
    model = get_peft_model(AutoModelForCausalLM.from_config(config), LoraConfig(**settings))
    before = active_adapter_sha256(model)
    changed = next(p for name, p in model.named_parameters() if part in name and p.requires_grad)
    with torch.no_grad():
        changed.add_(1.0)
    assert active_adapter_sha256(model) != before
