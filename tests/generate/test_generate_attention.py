"""Attention of decode batches against whole forwards, with every way to feed the tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.generate import attention
from triptych.generate.attention import DecodeBatch
from triptych.likelihood import context
from triptych.likelihood.passes import prefix_kv


def whole(loaded: Any, ids: list[int]) -> torch.Tensor:
    """Last hidden states of one row by the model's own forward, [T, C]."""
    hidden: torch.Tensor = loaded.model.get_decoder()(torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    return hidden


def near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 2e-4 * theirs.abs().max())


@settings(max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
@torch.inference_mode()
def test_any_way_to_feed_tokens_gives_the_models_own_states(
    architecture: str, writer: Callable[..., Any], data: st.DataObject
) -> None:
    loaded = writer(architecture)
    n_prefix = data.draw(st.sampled_from([0, 1, 7, 20]), "prefix")
    lengths = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4), "prompts")
    steps = data.draw(st.integers(0, 5), "steps")
    generator = random.Random(data.draw(st.integers(0, 99), "ids"))
    prefix = [generator.randrange(256) for _ in range(n_prefix)]
    rows = [[generator.randrange(256) for _ in range(n + steps)] for n in lengths]
    batch = DecodeBatch(loaded.model, prefix_kv(loaded, prefix, None) if prefix else None, len(rows))
    cut = data.draw(st.integers(0, len(rows)), "first pass")
    parts = [range(cut), range(cut, len(rows))]
    hidden = torch.cat(
        [batch.extend([rows[i][: lengths[i]] for i in part], first=part[0]) for part in parts if len(part)]
    )
    expected = [whole(loaded, prefix + row) for row in rows]
    kept = list(range(len(rows)))
    for step in range(steps + 1):
        for at, row in enumerate(kept):
            assert near(hidden[at], expected[row][n_prefix + lengths[row] + step - 1]), (step, row)
        if step < steps:
            if len(kept) > 1 and step % 2:
                batch.keep(left := list(range(1, len(kept))))
                kept = [kept[at] for at in left]
            hidden = batch.extend([[rows[row][lengths[row] + step]] for row in kept])


@pytest.mark.parametrize("block", [1, 3, 256])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@torch.inference_mode()
def test_blocks_of_queries_change_nothing(
    architecture: str, block: int, writer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    loaded = writer(architecture)
    rows = [[(i * 31 + at) % 256 for i in range(n)] for at, n in enumerate((25, 4, 13))]
    hidden = DecodeBatch(loaded.model, None, 3).extend(rows)
    for ours, row in zip(hidden, rows, strict=True):
        assert near(ours, whole(loaded, row)[-1])


@torch.inference_mode()
def test_a_row_that_is_not_advanced_keeps_its_place(writer: Callable[..., Any]) -> None:
    loaded = writer("llama")
    batch = DecodeBatch(loaded.model, None, 2)
    batch.extend([[1, 2, 3], [4, 5]])
    for token in (7, 8, 9):
        batch.extend([[token], [token]], advance=[True, False])
    assert batch.lengths == [6, 2]
    hidden = batch.extend([[10], [6]])
    assert near(hidden[0], whole(loaded, [1, 2, 3, 7, 8, 9, 10])[-1])
    assert near(hidden[1], whole(loaded, [4, 5, 6])[-1])  # what stood in its slot is written over


def test_the_models_own_attention_is_put_back(writer: Callable[..., Any]) -> None:
    loaded = writer("llama")
    config = loaded.model.get_decoder().config
    before = config._attn_implementation
    DecodeBatch(loaded.model, None, 1).extend([[1, 2]])
    assert config._attn_implementation == before
    with pytest.raises(IndexError):
        DecodeBatch(loaded.model, None, 1).extend([[100_000]])
    assert config._attn_implementation == before
    assert context._current is None
