"""Rotary frequencies that depend on a row's length: every row gets those of its own plain forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from outcome import furthest, plain_nll

from triptych.generate.engine import generate_rows
from triptych.generate.settings import GenerationSettings
from triptych.likelihood.score import Scorer
from triptych.models import LoraSettings, attach_adapter
from triptych.models.rope import reset_rope, rope_limit
from triptych.progress import Silent
from triptych.prompts import Rendered, RenderedPrompt
from triptych.training.step import accumulate_gradient

LIMIT = 64
LENGTHS = (20, 100, 40, 64, 65, 90, 63)


def rows(lengths: tuple[int, ...] = LENGTHS) -> list[Rendered]:
    """Rows behind one prefix of 12 tokens, the last 6 tokens of each scored."""
    prefix = tuple(range(20, 32))
    return [
        Rendered(f"{at}", (*prefix, *((7 * i + 13 * at) % 300 for i in range(n - 12))), n - 6, 1)
        for at, n in enumerate(lengths)
    ]


def plain(folder: Path, of: list[Rendered]) -> list[torch.Tensor]:
    """Each row by a model that has seen no other."""
    from transformers import AutoModelForCausalLM

    found = []
    for row in of:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            found.append(plain_nll(model, row))
    return found


def test_the_limit_is_read(load: Callable[..., Any]) -> None:
    assert load("phi3-longrope").rope_limit == LIMIT
    assert load("llama-dynamic").rope_limit == LIMIT
    assert load("llama-yarn").rope_limit is None
    assert rope_limit(load("llama").model) is None


@pytest.mark.parametrize("name", ["phi3-longrope", "phi4mini"])
def test_longrope_is_the_row_s_own(name: str, load: Callable[..., Any], family: Callable[..., Path]) -> None:
    loaded = load(name)
    scorer = Scorer(loaded)
    assert scorer.packed
    ours = [torch.from_numpy(row.tokens) for row in scorer.score(rows())]
    assert furthest(ours, plain(family(name), rows())) < 1e-5
    again = [torch.from_numpy(row.tokens) for row in scorer.score(rows()[::-1])][::-1]
    assert furthest(ours, again) == 0


def test_dynamic_frequencies_are_the_row_s_own(load: Callable[..., Any], family: Callable[..., Path]) -> None:
    """transformers keeps the longest sequence's frequencies for the next one that is longer than the limit."""
    loaded = load("llama-dynamic")
    loaded.max_tokens = None  # by default rows beyond the model's positions are refused
    ours = [torch.from_numpy(row.tokens) for row in Scorer(loaded).score(rows())]
    assert furthest(ours, plain(family("llama-dynamic"), rows())) < 1e-5


def test_training_long_and_short_rows_together(load: Callable[..., Any]) -> None:
    """The gradient is the sum of the rows' own."""
    loaded = load("phi3-longrope")
    adapter = attach_adapter(loaded, LoraSettings(r=2), seed=0)
    scorer = Scorer(loaded)

    def gradient(packed: bool) -> torch.Tensor:
        accumulate_gradient(loaded, scorer.head, rows(), max_rows=8, max_tokens=4096, packed=packed)
        parts = [p.grad.flatten() for p in adapter.parameters().values() if p.grad is not None]
        for parameter in adapter.parameters().values():
            parameter.grad = None
        return torch.cat(parts)

    together, alone = gradient(True), gradient(False)
    assert float((together - alone).norm() / alone.norm()) < 1e-5


def test_what_crosses_the_limit_is_written_as_transformers_writes_it(
    load: Callable[..., Any], family: Callable[..., Path]
) -> None:
    from transformers import AutoModelForCausalLM

    loaded = load("phi3-longrope")
    prompts = [RenderedPrompt(row.row_id, row.ids, stop_ids=()) for row in rows((20, 50, 60, 62, 80))]
    ours = generate_rows(loaded, prompts, GenerationSettings(max_new_tokens=12), Silent())
    for prompt, row in zip(prompts, ours, strict=True):
        model = AutoModelForCausalLM.from_pretrained(family("phi3-longrope"), dtype=torch.float32).eval()
        ids = torch.tensor([prompt.ids])
        theirs = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert list(row.ids) == theirs[0, ids.shape[1] :].tolist()


def test_reset_is_what_a_fresh_model_has(load: Callable[..., Any]) -> None:
    loaded = load("llama-dynamic")
    before = loaded.model.model.rotary_emb.inv_freq.clone()
    with torch.no_grad():
        loaded.model(torch.arange(200)[None])
    assert not torch.equal(loaded.model.model.rotary_emb.inv_freq, before)
    reset_rope(loaded.model)
    assert torch.equal(loaded.model.model.rotary_emb.inv_freq, before)


def test_vectors_of_long_texts_are_the_text_s_own(load: Callable[..., Any]) -> None:
    """A text's embedding doesn't depend on whether a longer one is embedded with it."""
    from triptych.models import embed

    loaded = load("phi3-longrope")
    short, long = "the quick brown fox", "please answer in words " * 24
    alone = dict(pair for batch in embed._hidden_means([short], loaded) for pair in batch)
    both = dict(pair for batch in embed._hidden_means([long, short], loaded) for pair in batch)
    assert len(loaded.profile.encode(long)) > LIMIT
    assert abs(alone[short] - both[short]).max() < 1e-6
