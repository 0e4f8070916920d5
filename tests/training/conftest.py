"""Rows to train on, and trainings small enough to be run many times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from triptych.data import Row
from triptych.prompts import Rendered, render, template_from_text

if TYPE_CHECKING:
    from triptych.models import Adapter, LoadedModel
    from triptych.training import DroppedRows, TuneResult

WORDS = ["春眠", "不覺曉，", "處處", "聞啼鳥。", "夜來", "風雨聲，", "花落", "知多少？", "xy", "z "]


def made_rows(n: int) -> list[Row]:
    """Rows of unlike lengths, outputs from one character to a line."""
    return [
        Row(
            f"row-{i}",
            "翻譯：" + "".join(WORDS[(i * 3 + j) % 10] for j in range(1 + i % 5)),
            "".join(WORDS[(i * 7 + j) % 10] for j in range(1 + (i * 5) % 4)),
        )
        for i in range(n)
    ]


@pytest.fixture(scope="session")
def rendered() -> Callable[..., list[Rendered]]:
    """`rendered(loaded, n)`: n rows as that model sees them, with a preamble longer than the sliding window."""
    template = template_from_text("古文今譯。USER: {instruction} ASSISTANT:")

    def make(loaded: LoadedModel, n: int) -> list[Rendered]:
        return [render(row, template, loaded.profile) for row in made_rows(n)]

    return make


@pytest.fixture(scope="session")
def adapted(
    load_fake: Callable[..., LoadedModel], fake_folder: Callable[..., Path]
) -> Callable[..., tuple[LoadedModel, Adapter]]:
    """`adapted(architecture, ...)`: a fresh model with an adapter whose B is not zero, so that A has a gradient.

    Its weights are smaller than the other fakes': those amplify float32's rounding tenfold, in the plain reference too.
    """
    import torch

    from triptych.models import LoraSettings, attach_adapter

    def make(
        architecture: str = "llama", *, r: int = 4, dropout: float = 0.0, **spec: Any
    ) -> tuple[LoadedModel, Adapter]:
        loaded = load_fake(fake_folder(architecture, scale=0.1), **spec)
        adapter = attach_adapter(loaded, LoraSettings(r=r, alpha=8.0, dropout=dropout), seed=0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in adapter.parameters().items():
                if "lora_B" in name:
                    parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        return loaded, adapter

    return make


@pytest.fixture
def train(
    load_fake: Callable[..., LoadedModel], rendered: Callable[..., list[Rendered]], tmp_path: Path
) -> Callable[..., TuneResult]:
    """`train(folder, rows=, test=, dev=, on_curve=, dropped=, extra=, **config)`: a training on a fresh tiny model."""
    from triptych.config.tune import TuneConfig
    from triptych.training import DroppedRows, TuneRows, tune

    def run(
        folder: Path | str = "tune",
        *,
        rows: int = 20,
        test: int = 4,
        dev: int = 0,
        architecture: str = "llama",
        loaded: LoadedModel | None = None,
        on_curve: Callable[[Sequence[Any]], None] | None = None,
        dropped: DroppedRows | None = None,
        extra: Sequence[Rendered] = (),
        **config: Any,
    ) -> TuneResult:
        loaded = loaded or load_fake(architecture)
        every = rendered(loaded, rows + test + dev)
        train_rows, test_rows = [*every[:rows], *extra], every[rows : rows + test]
        given = TuneRows(train_rows, test_rows, every[rows + test :], dropped or DroppedRows())
        settings = TuneConfig(**{"r": 2, "batch_size": 4, "epochs": 2, "lr": 0.01, "eval_every": 4, **config})
        return tune(loaded, given, settings, tmp_path / folder, prompt="default", on_curve=on_curve)

    return run
