"""Activation checkpointing: other memory, the same gradient, and nothing left behind in the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from triptych.config.tune import TuneConfig
from triptych.errors import ConfigError
from triptych.likelihood.head import head_of
from triptych.likelihood.score import Scorer
from triptych.models.adapters import set_dropout
from triptych.prompts import Rendered
from triptych.training import TuneResult, recompute
from triptych.training.recompute import choose as decide
from triptych.training.recompute import decoder_blocks, recomputed
from triptych.training.step import accumulate_gradient

if TYPE_CHECKING:
    from triptych.models import Adapter, LoadedModel

Adapted = Callable[..., "tuple[LoadedModel, Adapter]"]


def gradient(
    loaded: LoadedModel, adapter: Adapter, rows: list[Rendered], *, on: bool, dropout: bool = False, **options: Any
) -> tuple[torch.Tensor, float, int]:
    """All gradients in a line, the NLL, and the bytes that autograd kept."""
    adapter.model.zero_grad()
    torch.manual_seed(3)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    set_dropout(adapter, on=dropout)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, recomputed(loaded.model, on=on, random=dropout):
        nll = accumulate_gradient(
            loaded, head_of(loaded.model), rows, **{"max_rows": 4, "max_tokens": 10_000, **options}
        )
    set_dropout(adapter, on=False)
    flat = torch.cat([p.grad.flatten().double() for p in adapter.parameters().values() if p.grad is not None])
    return flat, nll, sum(kept.values())


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize(
    "options", [{}, {"share_prefix": False}, {"packed": False}], ids=["shared", "apiece", "own-forward"]
)
def test_the_gradient_is_the_same(
    architecture: str, options: dict[str, Any], adapted: Adapted, rendered: Callable[..., list[Rendered]]
) -> None:
    loaded, adapter = adapted(architecture)
    rows = rendered(loaded, 10)
    plain, nll, _ = gradient(loaded, adapter, rows, on=False, **options)
    again, nll_again, _ = gradient(loaded, adapter, rows, on=True, **options)
    assert nll_again == nll
    assert plain.norm() > 1e-3
    assert apart(again, plain) < 1e-6


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_dropout_is_drawn_again_alike(
    architecture: str, adapted: Adapted, rendered: Callable[..., list[Rendered]]
) -> None:
    loaded, adapter = adapted(architecture, dropout=0.3)
    rows = rendered(loaded, 6)
    options: dict[str, Any] = {"dropout": True, "share_prefix": False}
    plain, nll, _ = gradient(loaded, adapter, rows, on=False, **options)
    again, nll_again, _ = gradient(loaded, adapter, rows, on=True, **options)
    without, *_ = gradient(loaded, adapter, rows, on=False, share_prefix=False)
    assert apart(without, plain) > 0.01  # dropout did something
    assert nll_again == nll
    assert apart(again, plain) < 1e-6


def test_less_is_kept_and_nothing_is_left_behind(adapted: Adapted, rendered: Callable[..., list[Rendered]]) -> None:
    loaded, adapter = adapted("llama")
    rows = rendered(loaded, 8)
    blocks = decoder_blocks(loaded.model)
    assert len(blocks) == 3
    before = Scorer(loaded).score(rows)
    *_, kept = gradient(loaded, adapter, rows, on=False)
    *_, kept_again = gradient(loaded, adapter, rows, on=True)
    assert kept_again < kept  # counted with what is kept while a block is computed again
    assert not any("forward" in vars(block) for block in blocks)
    with recomputed(loaded.model):
        assert [nll.tokens.tolist() for nll in Scorer(loaded).score(rows)] == [nll.tokens.tolist() for nll in before]
        assert all("forward" in vars(block) for block in blocks)


def test_training_with_it_is_training(train: Callable[..., TuneResult], tmp_path: Path) -> None:
    off = train("off", activation_checkpointing="off", epochs=1, dropout=0.1)
    on = train("on", activation_checkpointing="on", epochs=1, dropout=0.1)
    assert (off.summary.chosen["activation_checkpointing"], on.summary.chosen["activation_checkpointing"]) == (
        "off",
        "on",
    )
    assert on.summary.chosen["reason"] == "asked for"
    a, b = (r.adapter.parameters() for r in (off, on))
    assert all(torch.allclose(a[name], b[name], rtol=1e-5, atol=1e-7) for name in a)


def test_auto_turns_it_on_when_activations_do_not_fit(
    train: Callable[..., TuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = train("roomy", epochs=1)
    assert roomy.summary.chosen["activation_checkpointing"] == "off"
    assert roomy.summary.chosen["reason"] == "auto: activations fit"
    needed = sum(v for k, v in roomy.summary.chosen["memory_bytes"].items() if k not in ("weights", "adapter"))
    monkeypatch.setattr(recompute, "free_memory", lambda device: needed)
    tight = train("tight", epochs=1)
    assert tight.summary.chosen["activation_checkpointing"] == "on"
    assert tight.summary.chosen["reason"] == "auto: activations don't fit"
    totals = tight.summary.chosen["memory_total_bytes"]["plain"]
    assert totals["checkpointing_on"] < totals["checkpointing_off"]


def test_both_ways_to_hold_nf4_are_stated(
    train: Callable[..., TuneResult], load_fake: Callable[..., LoadedModel]
) -> None:
    chosen = train(loaded=load_fake("llama", quantize="nf4"), epochs=1).summary.chosen
    assert chosen["weights_held"] == "dequantized"
    totals = chosen["memory_total_bytes"]
    assert totals["packed"]["checkpointing_off"] < totals["dequantized"]["checkpointing_off"]
    assert sum(chosen["memory_bytes"].values()) == totals["dequantized"]["checkpointing_off"]


def test_a_model_without_blocks_is_refused_only_when_it_is_asked_for(
    adapted: Adapted, rendered: Callable[..., list[Rendered]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, adapter = adapted("llama")
    rows = rendered(loaded, 4)
    monkeypatch.setattr(recompute, "decoder_blocks", lambda model: [])
    monkeypatch.setattr(recompute, "free_memory", lambda device: 1)
    auto = decide(loaded, rows, TuneConfig(), adapter.target_modules, 1)
    assert not auto.recompute
    assert "activation checkpointing is off" in (auto.note or "")
    with pytest.raises(ConfigError, match=r"decoder blocks can't be found[\s\S]*LlamaForCausalLM"):
        decide(loaded, rows, TuneConfig(activation_checkpointing="on"), adapter.target_modules, 1)
