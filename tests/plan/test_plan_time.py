"""Operations are counted by the book, and a rate's origin is always known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fake_model import fake_config
from triptych.models.shape import shape_of
from triptych.plan.time import (
    Rates,
    assumed_rates,
    rates_key,
    remember_rates,
    remembered_rates,
    scoring_flops,
    training_flops,
)
from triptych.plan.tokens import Work

SHAPE = shape_of(fake_config("llama"))
WORK = Work(rows=2, plain=30, forward=20, scored=5, pairs=100)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))
    return tmp_path


def test_scoring_is_layers_attention_and_head() -> None:
    layers, attention, head = 2 * 23040 * 20, 4 * 4 * 8 * 3 * 100, 2 * 32 * 259 * 5
    assert scoring_flops(SHAPE, WORK) == layers + attention + head


def test_torch_counts_the_same(load_fake: object) -> None:
    """A plain forward of 20 tokens, counted by torch: everything but attention, which its fused kernel hides."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(fake_config("llama"), attn_implementation="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(20)[None])
    full = Work(rows=1, plain=20, forward=20, scored=20, pairs=20 * 20)
    assert counter.get_total_flops() == pytest.approx(scoring_flops(SHAPE, full), rel=0.02)


def test_checkpointing_computes_the_layers_again() -> None:
    kept = training_flops(SHAPE, WORK, lora_parameters=100, recompute=False)
    again = training_flops(SHAPE, WORK, lora_parameters=100, recompute=True)
    assert again - kept == scoring_flops(SHAPE, WORK) - 2 * 32 * 259 * 5


def test_rates_are_remembered_by_what_they_are_good_for(cache: Path) -> None:
    def key(dtype: str = "float32", held: str = "plain") -> str:
        return rates_key(SHAPE, quantize="none", held=held, dtype=dtype, device="cpu", threads=1)

    assert remembered_rates(key()) is None
    remember_rates(key(), Rates("calibrated", "now", 5.0, {"zero_shot": 7.0, "any": 6.0}, 3.0))
    remember_rates(key("bfloat16"), Rates("calibrated", "now", 9.0, {"any": 8.0}))
    known = remembered_rates(key())
    assert known is not None
    assert (known.origin, known.training, known.loading_seconds) == ("remembered", 5.0, 3.0)
    assert (known.of("zero_shot"), known.of("few_shot k=9")) == (7.0, 6.0)
    assert remembered_rates(key(held="packed")) is None
    (cache / "rates.json").write_text("{torn", encoding="utf-8")
    assert remembered_rates(key()) is None
    (cache / "rates.json").write_text(f'{{"{key()}": {{"training": "x"}}}}', encoding="utf-8")
    assert remembered_rates(key()) is None


def test_assumed_rates_say_so() -> None:
    rates = assumed_rates(torch.device("cpu"), "float32")
    assert rates.origin == "assumed"
    assert "timed now" in rates.said
    assert "--calibrate" in rates.said
    assert 0 < rates.training < rates.of("anything")


def test_the_budget_is_the_scorers_own(load_fake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.likelihood import plan

    loaded = load_fake("llama")  # type: ignore[operator]
    for free in (1 << 20, 1 << 25, 1 << 34):
        monkeypatch.setattr(plan, "free_memory", lambda _, free=free: free)
        assert plan.pass_tokens(SHAPE, free, "cpu") == plan.default_budget(loaded)
