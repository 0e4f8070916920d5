"""Models of families, written once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`family(name, **changes)`: the folder of a tiny model. Don't change it."""
    import torch
    from architectures import write_model

    torch.set_num_threads(1)
    made: dict[Any, Path] = {}

    def folder(name: str, **changes: Any) -> Path:
        key = (name, *sorted(changes.items()))
        if key not in made:
            made[key] = write_model(name, tmp_path_factory.mktemp(name), **changes)
        return made[key]

    return folder


@pytest.fixture
def load(family: Callable[..., Path]) -> Callable[..., Any]:
    """`load(name_or_folder, **spec)`: a fresh load, float32 and unquantized unless told."""
    from triptych.config.model import ModelConfig
    from triptych.models import load_model

    def load(source: str | Path, **spec: Any) -> Any:
        folder = source if isinstance(source, Path) else family(source)
        options = {"quantize": "none", "dtype": "float32", "device": "cpu", "threads": 1, **spec}
        return load_model(ModelConfig(name=str(folder), **options))

    return load
