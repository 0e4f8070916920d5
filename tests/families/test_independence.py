"""No row's likelihood depends on what is computed beside it; a model that can't be scored is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import FAMILIES, config_of
from outcome import furthest, probe_rows, said

from triptych.errors import ModelError
from triptych.generate.plan import can_decode_together
from triptych.likelihood import probe
from triptych.likelihood.probe import can_be_packed
from triptych.likelihood.score import Scorer
from triptych.models import load_model
from triptych.models.small_copy import small_copy
from triptych.training.loop import tune

Load = Callable[..., Any]
LEAKY = ("codegen", "jamba", "lfm2", "recurrent_gemma", "openai-gpt", "bamba", "granitemoehybrid")


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests change what is tried between one try and the next."""
    monkeypatch.setattr(probe, "key_of", lambda *_: None)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, "bfloat16") for name in LEAKY), ("codegen", "float32"), ("codegen", "float16"), ("lfm2", "float16")],
)
def test_rows_that_would_meet_are_computed_alone(name: str, dtype: str, load: Load) -> None:
    loaded = load(name, dtype=dtype)
    with said() as messages:
        assert not can_be_packed(loaded)
        assert not can_decode_together(loaded)
    assert len(messages) == 2
    assert all("one by one" in message for message in messages)


def test_a_leak_weaker_than_rounding_is_found(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of all rows' mean hidden state, added to each: in bfloat16 that is about the size of the rounding."""
    from triptych.likelihood import passes

    loaded = load("llama", dtype="bfloat16")
    assert can_be_packed(loaded)
    forward = passes.forward

    def leaks(model: Any, pack: Any) -> torch.Tensor:
        hidden = forward(model, pack)
        return hidden + 1e-2 * hidden.mean(0) if pack.lengths else hidden

    monkeypatch.setattr(passes, "forward", leaks)
    with said() as messages:
        assert not can_be_packed(loaded)
    assert "with the text of the row beside it" in messages[0]


def test_int8_rows_are_scored_alone_and_it_is_said(load: Load) -> None:
    """Which columns LLM.int8() keeps in 16 bits depends on all rows of a pass."""
    loaded = load("llama", quantize="int8", dtype="bfloat16")
    rows = probe_rows(loaded.profile.tokenizer)
    with said() as messages:
        scorer = Scorer(loaded)
    assert "int8 products depend on all rows of a pass" in messages[0]
    together = [torch.from_numpy(row.tokens) for row in scorer.score(rows)]
    alone = [torch.from_numpy(scorer.score([row])[0].tokens) for row in rows]
    assert furthest(together, alone) == 0


@pytest.mark.parametrize("name", ["xlnet", "gemma3-bidir"])
def test_a_model_that_looks_ahead_is_refused(name: str, load: Load) -> None:
    with pytest.raises(ModelError, match="is not causal"):
        Scorer(load(name))


def test_a_model_whose_own_forward_fails_is_refused(load: Load) -> None:
    loaded = load("llama")
    loaded.model.model.layers[0].mlp.up_proj.weight.data = torch.zeros(5, 5)
    with pytest.raises(ModelError, match="own forward fails on a row of a few dozen tokens"):
        Scorer(loaded)


def test_a_head_that_is_read_wrongly_is_found(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared on the same hidden states, where only the head's own rounding is left."""
    loaded = load("granite", dtype="bfloat16")
    assert can_be_packed(loaded)
    loaded.model.config.logits_scaling *= 1.5
    read = probe.head_of(loaded.model)
    loaded.model.config.logits_scaling /= 1.5
    monkeypatch.setattr(probe, "head_of", lambda _model: read)
    with said() as messages:
        assert not can_be_packed(loaded)
    assert "its output head gives other logits than its weight" in messages[0]


def test_a_mistake_that_only_the_small_copy_shows(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions off by one move a bfloat16 NLL by little more than its rounding; in float32 they can't hide."""
    from triptych.likelihood.attention import Pack

    loaded = load("llama-linear", dtype="bfloat16")
    positions = Pack.positions
    monkeypatch.setattr(probe, "_off_by", {})
    monkeypatch.setattr(probe, "require_close", lambda *_: None)
    monkeypatch.setattr(Pack, "positions", lambda self: positions(self) * 2)
    with said() as messages:
        assert not can_be_packed(loaded)
    assert "on a small copy, rows together differ" in messages[0]


def test_unknown_token_ids_are_refused_before_training(load: Load, tmp_path: Path) -> None:
    from triptych.config.tune import TuneConfig
    from triptych.prompts import Rendered
    from triptych.training.rows import TuneRows

    rows = [Rendered("fine", (5, 6, 7, 8), 2, 1), Rendered("beyond", (5, 6, 384, 8), 2, 1)]
    with pytest.raises(ModelError, match="not in the model's vocabulary") as caught:
        tune(load("llama"), TuneRows(rows), TuneConfig(epochs=1), tmp_path, prompt="default")
    assert "row 'beyond'" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_weights_of_another_library_are_refused_by_its_name(
    name: str, family: Callable[..., Path], tmp_path: Path
) -> None:
    import json
    import shutil

    from triptych.config.model import ModelConfig

    folder = shutil.copytree(family("llama"), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": name, "bits": 4, "group_size": 128}})
    )
    with pytest.raises(ModelError, match="quantized by a library that isn't installed"):
        load_model(ModelConfig(name=str(folder), dtype="float32", device="cpu", threads=1))


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_folder_quantized_by_bitsandbytes_is_used_as_it_is(
    kind: str, load: Load, family: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    options: dict[str, Any] = (
        {"load_in_8bit": True}
        if kind == "int8"
        else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    )
    model = AutoModelForCausalLM.from_pretrained(family("llama"), quantization_config=BitsAndBytesConfig(**options))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(family("llama")).save_pretrained(tmp_path)
    with said() as messages:
        loaded = load(tmp_path, quantize="nf4")
    assert loaded.info["quantize"] == f"bitsandbytes {kind}"
    assert loaded.info["double_quant"] is None
    assert f"quantized already (bitsandbytes {kind})" in messages[0]
    weight = loaded.model.model.layers[0].mlp.up_proj.weight
    assert type(weight).__name__ == {"nf4": "Params4bit", "int8": "Int8Params"}[kind]


def default_sized() -> list[str]:
    """Families that are packed, once each, by their own default sizes: what small copies are made of."""
    packed = (Path(__file__).parent / "packed.txt").read_text(encoding="utf-8").split()
    first = {}
    for name in packed:
        first.setdefault(FAMILIES[name]["family"], name)
    return sorted(first.values())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("llama", "gemma3_text", "qwen3_moe") else [pytest.mark.families])
        for n in default_sized()
    ],
)
def test_a_small_copy_of_a_model_of_default_size(name: str) -> None:
    """From billions of parameters to a few millions, of the same class, and it computes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(config_of(name).model_type)
    if getattr(config, "num_experts_per_tok", 1) is None:  # DeepSeek-V2's default configuration leaves it open
        config.num_experts_per_tok = 2
    try:
        with torch.device("meta"):
            large = AutoModelForCausalLM.from_config(config)
    except TypeError:
        pytest.skip("transformers can't build this family from its own default configuration")
    small = small_copy(large)
    assert small is not None
    assert type(small.get_decoder()) is type(large.get_decoder())
    assert sum(p.numel() for p in small.parameters()) < 150e6
    with torch.no_grad():
        assert torch.isfinite(small(torch.arange(3, 40)[None]).logits).all()


def test_the_sizes_of_every_family_can_be_read() -> None:
    """Some give a size for each layer, some none at all, as what has no attention."""
    from dataclasses import asdict

    from triptych.models.shape import sizes_of

    for name in FAMILIES:
        sizes = sizes_of(config_of(name).get_text_config())
        assert all(size > 0 for size in asdict(sizes).values()), name
    assert sizes_of(config_of("gemma4_text")).head_dim == 16
    assert sizes_of(config_of("deepseek_v3")).head_dim == 12
    assert sizes_of(config_of("mamba")).n_heads == 1


def test_a_vocabulary_of_few_words_is_no_hindrance(load: Load) -> None:
    from transformers import AutoModelForCausalLM

    loaded = load("llama")
    config = config_of("llama")
    config.vocab_size = 40
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 1, 2
    loaded.model = AutoModelForCausalLM.from_config(config).eval()
    assert can_be_packed(loaded)
