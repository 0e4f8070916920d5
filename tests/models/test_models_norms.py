"""One kernel a norm: the same numbers as transformers' own, and only where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from triptych.models.norms import fuse_norms

if TYPE_CHECKING:
    from triptych.models import LoadedModel


@pytest.mark.parametrize(("architecture", "norms"), [("llama", 7), ("mistral", 7), ("qwen3", 13)])
def test_it_computes_what_the_norms_did(architecture: str, norms: int, load_fake: Callable[..., LoadedModel]) -> None:
    model = load_fake(architecture).model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones would hide a weight that is left out
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    ids = torch.arange(40)[None]
    before = model(ids).logits
    assert fuse_norms(model) == norms
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-5)
    assert not torch.equal(before, torch.zeros_like(before))


@pytest.mark.parametrize("architecture", ["gemma3", "gpt2"])
def test_what_computes_something_else_is_left_alone(architecture: str, load_fake: Callable[..., LoadedModel]) -> None:
    """Gemma multiplies by 1 + weight; GPT-2 has another norm."""
    assert fuse_norms(load_fake(architecture).model) == 0


def test_asking_leaves_the_weights_as_they_were(load_fake: Callable[..., LoadedModel]) -> None:
    model = load_fake("llama").model
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    fuse_norms(model)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
