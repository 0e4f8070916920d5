"""The arithmetic of an adapted layer against peft's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from triptych.models import LoraSettings, attach_adapter, detach_adapter
from triptych.models.lora import cast_once, lora_layers

if TYPE_CHECKING:
    from triptych.models import Adapter, LoadedModel

IDS = torch.arange(30)[None]


def adapted(load_fake: Callable[..., LoadedModel], architecture: str = "llama", **spec: Any) -> tuple[Any, Adapter]:
    """A model with an adapter whose B isn't zero."""
    loaded = load_fake(architecture, **spec)
    adapter = attach_adapter(loaded, LoraSettings(r=3, alpha=7.0), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return loaded, adapter


def forward_and_gradients(loaded: Any, adapter: Adapter) -> list[Tensor]:
    adapter.model.zero_grad()
    logits = loaded.model(IDS).logits
    logits.float().square().mean().backward()
    gradients = [p.grad for p in adapter.parameters().values()]
    assert all(g is not None and g.dtype == torch.float32 and bool(g.any()) for g in gradients)
    return [logits.detach(), *(g.clone() for g in gradients if g is not None)]


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_it_is_what_peft_computes(architecture: str, load_fake: Callable[..., LoadedModel]) -> None:
    loaded, adapter = adapted(load_fake, architecture)
    ours = forward_and_gradients(loaded, adapter)
    for layer in lora_layers(loaded.model):
        del layer.forward  # peft's own is the class's
    for one, other in zip(ours, forward_and_gradients(loaded, adapter), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_casting_once_changes_no_bit_and_leaves_nothing_behind(
    dtype: str, load_fake: Callable[..., LoadedModel]
) -> None:
    loaded, adapter = adapted(load_fake, dtype=dtype)
    each = forward_and_gradients(loaded, adapter)
    before = [set(vars(layer)) for layer in lora_layers(loaded.model)]
    with cast_once(loaded.model):
        once = forward_and_gradients(loaded, adapter)
    assert [set(vars(layer)) for layer in lora_layers(loaded.model)] == before
    assert all(torch.equal(a, b) for a, b in zip(each, once, strict=True))
    with torch.no_grad():  # and what is cast next time is what the weights are then
        next(iter(adapter.parameters().values())).mul_(2)
    with cast_once(loaded.model):
        assert not torch.equal(forward_and_gradients(loaded, adapter)[0], each[0])


def test_layers_are_found_once_and_forgotten_with_the_adapter(load_fake: Callable[..., LoadedModel]) -> None:
    loaded, adapter = adapted(load_fake)
    found = lora_layers(loaded.model)
    assert len(found) == 21
    assert lora_layers(loaded.model) is found
    assert lora_layers(adapter.model) == found
    detach_adapter(loaded, adapter)
    assert lora_layers(loaded.model) == []
    again = attach_adapter(loaded, LoraSettings(r=2), seed=0)
    assert len(lora_layers(loaded.model)) == 21
    assert not set(map(id, found)) & set(map(id, lora_layers(again.model)))
