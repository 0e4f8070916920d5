"""rsLoRA, DoRA, LoRA+, and bases in 4, 8, 16 and 32 bits: each learns, goes on exactly, and is saved whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from test_training_kill import log_of, numbers_of

from triptych.config.tune import TuneConfig
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.score import Scorer, to_items
from triptych.models import LoraSettings, attach_adapter, load_adapter
from triptych.prompts import Rendered
from triptych.training import TuneResult
from triptych.training.optimizer import adamw, set_rate

if TYPE_CHECKING:
    from triptych.models import LoadedModel

Train = Callable[..., TuneResult]
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rslora": ({"use_rslora": True, "alpha": 4}, {}),
    "dora": ({"use_dora": True}, {}),
    "dora-dropout": ({"use_dora": True, "dropout": 0.1}, {}),
    "lora-plus": ({"lora_plus_ratio": 4.0}, {}),
    "int8": ({}, {"quantize": "int8", "dtype": "bfloat16"}),
    "nf4-packed": ({}, {"quantize": "nf4", "hold": "packed"}),
    "bfloat16": ({}, {"dtype": "bfloat16"}),
    "dora-nf4": ({"use_dora": True}, {"quantize": "nf4", "dtype": "bfloat16"}),
}


class Killed(Exception):
    pass


def killed(curve: Sequence[Any]) -> None:
    if curve[-1].step == 8:
        raise Killed


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in ("int8", "dora-nf4", "dora-dropout", "rslora") else [])
        for n in CASES
    ],
)
def test_it_learns_goes_on_exactly_and_loads_back(
    name: str,
    train: Train,
    load_fake: Callable[..., LoadedModel],
    rendered: Callable[..., list[Rendered]],
    tmp_path: Path,
) -> None:
    config, spec = CASES[name]
    options = {**config, "epochs": 4, "r": 4, "checkpoint_every": 3}

    def base() -> LoadedModel:
        return load_fake("llama", **spec)

    whole = train("whole", loaded=base(), **options)
    log = log_of(tmp_path / "whole")
    losses = [line["loss"] for line in log]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])

    with pytest.raises(Killed):
        train("broken", loaded=base(), on_curve=killed, **options)
    broken = train("broken", loaded=base(), **options)
    assert log_of(tmp_path / "broken") == log
    assert numbers_of(tmp_path / "broken", "curve.json") == numbers_of(tmp_path / "whole", "curve.json")
    file = "adapter/adapter_model.safetensors"
    assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert broken.summary.adapter_sha256 == whole.summary.adapter_sha256

    loaded = base()
    adapter, _ = load_adapter(loaded, tmp_path / "whole" / "adapter")
    assert adapter.sha256() == whole.summary.adapter_sha256
    assert adapter.settings == replace(whole.adapter.settings, target_modules=whole.adapter.target_modules)
    rows = rendered(loaded, 24)[20:]
    assert aggregate(to_items(rows, Scorer(loaded).score(rows))) == whole.curve[-1].aggregate


def test_doras_magnitudes_are_trained_and_kept(train: Train, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    result = train(use_dora=True, epochs=2, r=4)
    names = [name for name in result.adapter.parameters() if "lora_magnitude_vector" in name]
    assert len(names) == 3 * 7
    [checkpoint] = sorted((tmp_path / "tune" / "checkpoints").iterdir())[-1:]
    kept = load_file(checkpoint / "adapter.safetensors")
    moments = load_file(checkpoint / "optimizer.safetensors")
    start = attach_adapter_of(result)
    for name in names:
        assert torch.equal(kept[name], result.adapter.parameters()[name].detach())
        assert moments[f"{name}:exp_avg"].abs().sum() > 0
        assert not torch.equal(kept[name], start[name])
    before = result.adapter.sha256()
    with torch.no_grad():
        result.adapter.parameters()[names[0]][0] += 1e-3
    assert result.adapter.sha256() != before


def attach_adapter_of(result: TuneResult) -> dict[str, torch.Tensor]:
    """The adapter before its first step: the magnitudes are the norms of the base's rows."""
    layers = {name: module for name, module in result.adapter.model.named_modules() if hasattr(module, "base_layer")}
    return {
        f"{name}.lora_magnitude_vector.default.weight": torch.linalg.norm(layer.base_layer.weight.float(), dim=1)
        for name, layer in layers.items()
    }


def test_lora_plus_gives_b_its_own_rate(load_fake: Callable[..., LoadedModel]) -> None:
    adapter = attach_adapter(load_fake("llama"), LoraSettings(r=4, use_dora=True), seed=0)
    optimizer = adamw(adapter, TuneConfig(lora_plus_ratio=16.0))
    set_rate(optimizer, 1e-3)
    names = {id(parameter): name for name, parameter in adapter.parameters().items()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == adapter.parameters().keys()
    for name, rate in rates.items():
        assert rate == pytest.approx(16e-3 if ".lora_B." in name else 1e-3)
    plain = adamw(adapter, TuneConfig())
    set_rate(plain, 1e-3)
    assert [group["lr"] for group in plain.param_groups] == [1e-3]


def test_one_step_of_lora_plus_moves_b_so_much_farther(train: Train) -> None:
    """Adam's first step is the rate, whatever the gradient: B, which starts at zero, is then as large as its rate."""
    moved = {}
    for ratio in (None, 8.0):
        result = train(f"x{ratio}", max_steps=1, lora_plus_ratio=ratio, lr=1e-3, warmup=0, eps=1e-12)
        moved[ratio] = max(p.abs().max().item() for n, p in result.adapter.parameters().items() if ".lora_B." in n)
    assert moved[None] == pytest.approx(1e-3, rel=1e-3)
    assert moved[8.0] == pytest.approx(8e-3, rel=1e-3)


def test_rslora_is_lora_at_another_scale(train: Train) -> None:
    rs = train("rs", use_rslora=True, r=4, alpha=8.0, epochs=1)
    plain = train("plain", r=4, alpha=16.0, epochs=1)  # 8 / sqrt(4) = 16 / 4
    assert rs.summary.adapter_sha256 == plain.summary.adapter_sha256
    assert [p.aggregate for p in rs.curve] == [p.aggregate for p in plain.curve]
