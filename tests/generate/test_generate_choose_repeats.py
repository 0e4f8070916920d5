"""Stretches that may not be repeated, against transformers' own rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_generate import made_prompts, one_by_one
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from triptych.generate.choose import Chooser, Repeats
from triptych.generate.engine import generate_rows
from triptych.generate.plan import Limits
from triptych.generate.settings import GenerationSettings
from triptych.likelihood.head import Head
from triptych.progress import Silent

TOKENS = 5


@given(st.lists(st.integers(0, TOKENS - 1), min_size=1, max_size=40), st.integers(2, 6), st.integers(0, 40))
def test_what_is_banned_is_what_transformers_bans(ids: list[int], n: int, given_at_once: int) -> None:
    repeats = Repeats(n, ids[:given_at_once])
    for token in ids[given_at_once:]:
        repeats.add(token)
    scores = NoRepeatNGramLogitsProcessor(n)(torch.tensor([ids]), torch.zeros(1, TOKENS))
    assert set(repeats.banned()) == set((scores[0] == float("-inf")).nonzero().flatten().tolist())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_banned_token_is_not_chosen(temperature: float) -> None:
    head = Head(torch.tensor([[3.0], [2.0], [1.0]]))
    choose = Chooser(head, GenerationSettings(temperature=temperature), ["a", "b"])
    assert choose(torch.full((2, 1), 40.0), range(2)) == [0, 0]
    assert choose(torch.full((2, 1), 40.0), range(2), [{0, 1}, ()]) == [2, 0]


@pytest.mark.parametrize("architecture", [pytest.param("llama", marks=pytest.mark.slow), "gemma3"])
def test_rows_written_together_are_those_of_generate(architecture: str, writer: Callable[..., Any]) -> None:
    loaded = writer(architecture)
    prompts = made_prompts(loaded, 7)
    free = one_by_one(loaded, prompts, max_new_tokens=40)
    expected = one_by_one(loaded, prompts, max_new_tokens=40, no_repeat_ngram_size=2)
    assert free != expected  # the rule has something to do
    for beams in (1, 2):
        found = generate_rows(
            loaded,
            prompts,
            GenerationSettings(max_new_tokens=40, no_repeat_ngram=2, beams=beams),
            Silent(),
            limits=Limits(4, 100_000, 64),
        )
        wanted = one_by_one(loaded, prompts, max_new_tokens=40, no_repeat_ngram_size=2, num_beams=beams)
        assert [list(row.ids) for row in found] == wanted
