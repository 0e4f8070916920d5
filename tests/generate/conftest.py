"""A tiny model that writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from triptych.models import LoadedModel


@pytest.fixture(scope="session")
def writer(load_fake: Callable[..., LoadedModel], fake_folder: Callable[..., Path]) -> Callable[..., LoadedModel]:
    """`writer(architecture, adapter=...)`: a tiny model whose rows end at different lengths."""
    import torch

    from triptych.models import LoraSettings, attach_adapter

    made: dict[Any, LoadedModel] = {}

    def make(architecture: str = "llama", *, adapter: bool = False) -> LoadedModel:
        key = (architecture, adapter)
        if key not in made:
            loaded = load_fake(fake_folder(architecture, scale=0.3))
            if adapter:
                attached = attach_adapter(loaded, LoraSettings(r=4, alpha=8.0), seed=0)
                generator = torch.Generator().manual_seed(1)
                with torch.no_grad():
                    for name, parameter in attached.parameters().items():
                        if "lora_B" in name:
                            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            made[key] = loaded
        return made[key]

    return make
