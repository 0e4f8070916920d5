"""The probe says yes to what is right and no to what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from triptych.generate import attention
from triptych.generate.attention import DecodeBatch
from triptych.generate.plan import can_decode_together
from triptych.likelihood import context
from triptych.likelihood.context import Unsupported


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "mistral", "gpt2"])
def test_what_we_know_can_decode_together(architecture: str, dtype: str, load_fake: Callable[..., Any]) -> None:
    loaded = load_fake(architecture, dtype=dtype)
    assert can_decode_together(loaded)


def wrong_window(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda s, q, p, o, how: attend(s, q, p, o, how._replace(window=None)))


def wrong_position(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = attention._DecodePass.positions
    monkeypatch.setattr(attention._DecodePass, "positions", lambda self: positions(self) + 1)


def forgotten_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    extend = DecodeBatch.extend

    def forgets(self: DecodeBatch, *args: Any, **kwargs: Any) -> torch.Tensor:
        out = extend(self, *args, **kwargs)
        self.lengths = [max(0, n - 1) if n > 9 else n for n in self.lengths]
        return out

    monkeypatch.setattr(DecodeBatch, "extend", forgets)


@pytest.mark.parametrize("mistake", [wrong_window, wrong_position, forgotten_slot])
def test_a_mistake_is_seen(
    mistake: Callable[[pytest.MonkeyPatch], None],
    load_fake: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loaded = load_fake("gemma3")
    mistake(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert not can_decode_together(loaded)
    assert "rows together differ from its own forward by" in caplog.text


def test_what_is_not_handled_is_a_no(
    load_fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise Unsupported("Odd passes sinks")

    loaded = load_fake("llama")
    monkeypatch.setattr(DecodeBatch, "extend", refuses)
    with caplog.at_level(logging.WARNING):
        assert not can_decode_together(loaded)
    assert "Odd passes sinks" in caplog.text
    assert "they are written one by one" in caplog.text


@pytest.mark.parametrize("extra", ["s_aux", "sinks", "position_bias", "alibi", "mask", "dropout", "no pass"])
def test_unknown_requests_are_refused(extra: str, load_fake: Callable[..., Any]) -> None:
    loaded = load_fake("llama")
    tensor = torch.zeros(1, 2, 1, 8)
    more = (
        {"dropout": 0.1} if extra == "dropout" else {extra: torch.ones(1)} if "_" in extra or extra == "sinks" else {}
    )
    if extra == "alibi":
        more = {"alibi": torch.ones(1)}
    step = attention._DecodePass(torch.tensor([5]), DecodeBatch(loaded.model, None, 1), 0, [0], [1])
    context._current = None if extra == "no pass" else step
    try:
        with pytest.raises(Unsupported):
            context.attention(
                torch.nn.Identity(), tensor, tensor, tensor, torch.ones(1) if extra == "mask" else None, **more
            )
    finally:
        context._current = None
