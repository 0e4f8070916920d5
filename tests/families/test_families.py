"""Every family equals the plain way, or falls back and says so, or is refused before any work: no fourth outcome."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from architectures import FAMILIES, write_model
from outcome import Outcome, examine, scored_alone

SAMPLE = (
    "llama",
    "mistral-swa",
    "gemma4_text",
    "gpt2",
    "phi3-longrope",
    "olmo",
    "falcon",
    "deepseek_v3",
    "qwen3_moe",
    "codegen",
    "lfm2",
    "xlnet",
)
"""One of each kind: these run with `make test`, all with `make test-families`."""
IN_16_BITS = ("llama", "codegen", "lfm2")
"""Of these, the ones that `make test` tries in bfloat16 too."""
UNBUILDABLE = ("dbrx",)
"""transformers itself can't build these from their own configurations (5.23)."""
PACKED = frozenset((Path(__file__).parent / "packed.txt").read_text(encoding="utf-8").split())
"""Families whose rows are computed packed: none of them may lose that unnoticed."""
FLOAT32, ADAPTED = 1e-5, 1e-4
"""Nats a token of a row; and of any one token, or with an adapter."""


def variants() -> list[object]:
    sample = {("float32", name) for name in SAMPLE} | {("bfloat16", name) for name in IN_16_BITS}
    return [
        pytest.param(name, dtype, marks=[] if (dtype, name) in sample else [pytest.mark.families])
        for name in FAMILIES
        if name not in UNBUILDABLE
        for dtype in ("float32", "bfloat16")
    ]


@pytest.fixture(scope="session")
def llama_moves(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], float]:
    """How far a Llama's rows move, in a dtype, when they are computed alone instead of beside others."""
    found: dict[str, float] = {}

    def moves(dtype: str) -> float:
        if dtype not in found:
            folder = write_model("llama", tmp_path_factory.mktemp("llama"))
            found[dtype] = scored_alone(folder, dtype)
        return found[dtype]

    return moves


@pytest.mark.parametrize(("name", "dtype"), variants())
def test_a_family(name: str, dtype: str, tmp_path: Path, llama_moves: Callable[[str], float]) -> None:
    outcome = examine(name, write_model(name, tmp_path / "model"), dtype, tmp_path / "adapter")
    if table := os.environ.get("TRIPTYCH_FAMILIES"):
        Path(table).mkdir(parents=True, exist_ok=True)
        (Path(table) / f"{name} {dtype}.json").write_text(json.dumps(outcome.record()), encoding="utf-8")
    if outcome.refused is not None:
        assert re.fullmatch(r"[^\n]{20,120}", outcome.refused)
        assert name not in PACKED
        return
    check_scores(outcome, llama_moves(dtype))
    check_training(outcome)


def check_scores(outcome: Outcome, llama_moves: float) -> None:
    exact = outcome.dtype == "float32"
    assert outcome.score is not None and outcome.score_mean is not None and outcome.own_mean is not None
    if exact:
        assert outcome.score <= FLOAT32
        assert outcome.worst_token is not None and outcome.worst_token <= ADAPTED
    else:  # rounding of two ways to compute the same is as large, give or take
        assert outcome.score_mean <= 1.5 * outcome.own_mean + 1e-3
    # as many tokens meet in an expert's product as the texts send there: on some processors its size moves the rounding
    rounding = (FLOAT32 if exact else outcome.worst_token or 0.0) if outcome.routed else 0.0
    assert outcome.neighbours is not None and outcome.neighbours <= rounding
    assert outcome.order == 0
    assert outcome.shapes is not None
    assert outcome.shapes <= max(2 * llama_moves, FLOAT32)
    assert outcome.packed == (outcome.name in PACKED)
    if not outcome.packed:
        assert any("rows are scored one by one" in message for message in outcome.said)
    if exact:
        assert outcome.written is not None
        equal, of = outcome.written.split("/")
        assert equal == of


def check_training(outcome: Outcome) -> None:
    if outcome.loss is None:
        assert any(message.startswith("not trained: ") for message in outcome.said)
        return
    assert outcome.adapted > 0
    assert outcome.loaded == 0
    assert outcome.gradient is not None and outcome.reloaded is not None
    assert outcome.own_gradient is not None and outcome.own_adapted_mean is not None
    if outcome.dtype != "float32":
        assert outcome.adapted_mean is not None
        assert outcome.adapted_mean <= 1.5 * outcome.own_adapted_mean + 1e-3
        assert outcome.gradient <= 3 * outcome.own_gradient + 1e-2
    else:
        assert outcome.loss <= FLOAT32
        assert outcome.gradient <= 1e-3
        assert outcome.reloaded <= ADAPTED
