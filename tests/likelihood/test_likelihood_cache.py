"""Scores by content: found again, never confused, no trouble when broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.likelihood import cache
from triptych.likelihood.cache import ScoreCache, score_cache
from triptych.likelihood.score import Scorer
from triptych.models import LoraSettings, adapter_enabled, attach_adapter
from triptych.prompts import Rendered
from triptych.records.provenance import library_versions

ROWS = [Rendered(str(i), tuple(range(10, 20 + i)), 5, 3) for i in range(6)]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call really computed."""
    counts: list[int] = []
    original = Scorer.compute

    def counting(self: Scorer, work: Any, done: Any) -> None:
        counts.append(len(work.rows))
        original(self, work, done)

    monkeypatch.setattr(Scorer, "compute", counting)
    return counts


def test_only_what_is_new_is_computed(load_fake: Callable[..., Any], tmp_path: Path, computed: list[int]) -> None:
    loaded = load_fake("llama")
    plain = [nll.tokens for nll in Scorer(loaded).score(ROWS)]
    first = Scorer(loaded, cache=ScoreCache(tmp_path / "c.sqlite", {"w": 1}))
    first.score(ROWS[1:4])
    second = Scorer(loaded, cache=ScoreCache(tmp_path / "c.sqlite", {"w": 1}))
    seen: list[int] = []
    found = second.score(ROWS[::-1], seen.append)
    assert computed == [6, 3, 3]
    assert [nll.cached for nll in found] == [row in ROWS[1:4] for row in ROWS[::-1]]
    assert sum(seen) == 6
    for nll, expected in zip(found[::-1], plain, strict=True):
        torch.testing.assert_close(torch.tensor(nll.tokens), torch.tensor(expected), atol=1e-5, rtol=0)
    again = second.score(ROWS)
    assert computed[-1] == 0
    assert [a.tokens.tolist() for a in again] == [f.tokens.tolist() for f in found[::-1]]


def test_other_weights_adapters_and_spans_are_other_scores(
    load_fake: Callable[..., Any], tmp_path: Path, computed: list[int]
) -> None:
    loaded = load_fake("llama")
    path = tmp_path / "c.sqlite"
    Scorer(loaded, cache=ScoreCache(path, {"w": 1})).score(ROWS)
    Scorer(loaded, cache=ScoreCache(path, {"w": 2})).score(ROWS)
    scorer = Scorer(loaded, cache=ScoreCache(path, {"w": 1}))
    scorer.score([Rendered(r.row_id, r.ids, r.n_prompt + 1, 3) for r in ROWS])
    adapter = attach_adapter(loaded, LoraSettings(r=2), seed=0)
    scorer.score(ROWS)  # an adapter is on, even if it adds nothing yet
    for parameter in adapter.parameters().values():
        torch.nn.init.normal_(parameter, std=0.5)
    trained = scorer.score(ROWS)
    assert computed == [6, 6, 6, 6, 6]
    with adapter_enabled(adapter, on=False):
        base = scorer.score(ROWS)
    assert computed[-1] == 0
    assert base[0].tokens.tolist() != trained[0].tokens.tolist()


@pytest.mark.parametrize("change", ["config_sha256", "weights_sha256", "weights_held", "dtype", "device", "quantize"])
def test_whatever_decides_a_score_is_in_its_key(
    load_fake: Callable[..., Any], tmp_path: Path, computed: list[int], change: str
) -> None:
    loaded = load_fake("llama")
    Scorer(loaded, cache=score_cache(loaded, tmp_path / "c.sqlite")).score(ROWS)
    Scorer(loaded, cache=score_cache(loaded, tmp_path / "c.sqlite")).score(ROWS)
    loaded.info[change] = "another"
    Scorer(loaded, cache=score_cache(loaded, tmp_path / "c.sqlite")).score(ROWS)
    assert computed == [6, 0, 6]


@pytest.mark.parametrize("name", ["torch", "transformers", "bitsandbytes", "peft", "engine"])
def test_versions_are_in_the_key_of_what_they_compute(
    load_fake: Callable[..., Any], tmp_path: Path, computed: list[int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_fake("llama", quantize="nf4" if name == "bitsandbytes" else "none")
    if name == "peft":
        attach_adapter(loaded, LoraSettings(r=2), seed=0)
    Scorer(loaded, cache=score_cache(loaded, tmp_path / "c.sqlite")).score(ROWS)
    if name == "engine":
        monkeypatch.setattr(cache, "ENGINE", cache.ENGINE + 1)
    else:
        monkeypatch.setattr(cache, "library_versions", lambda: {**library_versions(), name: "0.0.1"})
    Scorer(loaded, cache=score_cache(loaded, tmp_path / "c.sqlite")).score(ROWS)
    assert computed == [6, 6]
    if name in ("bitsandbytes", "peft"):  # neither takes part in a plain base model's scores
        monkeypatch.undo()
        plain = load_fake("llama")
        Scorer(plain, cache=score_cache(plain, tmp_path / "c.sqlite")).score(ROWS)
        monkeypatch.setattr(cache, "library_versions", lambda: {**library_versions(), name: "0.0.1"})
        assert Scorer(plain, cache=score_cache(plain, tmp_path / "c.sqlite")).cache.get(ROWS, None)[0] is not None


def test_a_broken_cache_is_no_cache(load_fake: Callable[..., Any], tmp_path: Path, computed: list[int]) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"this is no database, and long enough to be looked at as one" * 50)
    scorer = Scorer(load_fake("llama"), cache=ScoreCache(path, {}))
    assert len(scorer.score(ROWS)) == 6
    assert len(scorer.score(ROWS)) == 6
    assert computed == [6, 6]


def test_running_out_of_memory_halves_the_pass(
    load_fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from triptych.likelihood import score

    loaded = load_fake("llama")
    expected = [nll.nll_nats for nll in Scorer(loaded).score(ROWS)]
    real, refused = score.pass_nll, []

    def small(loaded: Any, head: Any, rows: Any, n_prefix: int, past: Any = None) -> Any:
        if len(rows) > 2:
            refused.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(loaded, head, rows, n_prefix, past)

    scorer = Scorer(loaded, budget_tokens=1000)
    monkeypatch.setattr(score, "pass_nll", small)
    found = [nll.nll_nats for nll in scorer.score(ROWS)]
    assert found == pytest.approx(expected, abs=1e-4)
    assert refused[0] == 6
    assert scorer.budget < 1000
    assert "out of memory" in caplog.text
