"""Options behind one prompt: each gets the NLL that it has alone, whatever stands beside it and on which model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import reference_nll
from triptych.data import Row
from triptych.likelihood.cache import score_cache
from triptych.likelihood.options import OptionsNLL, score_options
from triptych.likelihood.score import Scorer
from triptych.likelihood.trie import trie_of
from triptych.models import LoadedModel, LoraSettings, attach_adapter, detach_adapter
from triptych.prompts import RenderedOptions, render_options, template_from_mapping

TEMPLATE = template_from_mapping(
    {
        "preamble": "A preamble that is longer than the window. ",
        "zero_shot": "{preamble}{instruction} ->",
        "few_shot": {"head": "{preamble}", "demo": "{instruction} -> {output}; ", "tail": "{instruction} ->"},
    },
    name="t",
    where="test",
)
OPTIONS = ("card_arrival", "card", "card_linking", "cash", "z", "卡片到了")
ROWS = [
    Row("in", "when does it come?", "card_arrival"),
    Row("begins another", "what is in my hand", "card"),
    Row("none of them", "something else", "a stranger"),
    Row("begins like one", "nearly", "card_arr"),
    Row("long", "very long words " * 4, "z"),
    Row("short", "", "cash"),
]
DEMOS = [Row("d1", "one", "uno"), Row("d2", "two", "dos")]


def rendered(loaded: LoadedModel, rows: list[Row] = ROWS, options: tuple[str, ...] = OPTIONS) -> list[RenderedOptions]:
    return [
        render_options(row, options, TEMPLATE, loaded.profile, answers={}, demos=DEMOS if i % 2 else [])
        for i, row in enumerate(rows)
    ]


def expected(loaded: LoadedModel, asked: RenderedOptions) -> list[float]:
    """Each option and the reference alone behind the prompt, by the model's own forward and whole logits."""
    prompt = list(asked.row.ids[: asked.row.n_prompt])
    sums = []
    for answer in (*asked.options, asked.reference):
        with torch.no_grad():
            logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
        at = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        sums.append(-sum(float(logits[i, token]) for i, token in zip(at, answer, strict=True)))
    return sums


def found(one: OptionsNLL) -> list[float]:
    return [*(math.fsum(tokens.tolist()) for tokens in one.options), one.reference.nll_nats]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2", "mistral"])
@pytest.mark.parametrize("adapter", [False, True], ids=["base", "adapter"])
def test_each_option_has_the_nll_that_it_has_alone(
    load_fake: Callable[..., LoadedModel], architecture: str, adapter: bool
) -> None:
    loaded = load_fake(architecture)
    attached = attach_adapter(loaded, LoraSettings(r=2, alpha=8), seed=0) if adapter else None
    if attached is not None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            for name, weight in loaded.model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.3)
    try:
        asked = rendered(loaded)
        scorer = Scorer(loaded, budget_tokens=300)
        assert scorer.packed
        for one, row in zip(score_options(scorer, asked), asked, strict=True):
            assert found(one) == pytest.approx(expected(loaded, row), abs=2e-5)
    finally:
        if attached is not None:
            detach_adapter(loaded, attached)


def test_a_model_that_is_not_packed_gives_the_same(load_fake: Callable[..., LoadedModel]) -> None:
    loaded = load_fake("llama")
    asked = rendered(loaded)
    packed, alone = (score_options(Scorer(loaded, packed=way), asked) for way in (True, False))
    for a, b in zip(packed, alone, strict=True):
        assert found(a) == pytest.approx(found(b), abs=2e-5)


def test_uniform_logits_cost_ln_v_for_each_token(load_fake: Callable[..., LoadedModel]) -> None:
    loaded = load_fake("llama", uniform=True)
    asked = rendered(loaded)
    for one, row in zip(score_options(Scorer(loaded), asked), asked, strict=True):
        lengths = [len(ids) for ids in (*row.options, row.reference)]
        assert found(one) == pytest.approx([n * math.log(259) for n in lengths], rel=1e-6)


def test_the_reference_has_the_nll_of_a_row_without_options(load_fake: Callable[..., LoadedModel]) -> None:
    loaded = load_fake("gemma3")
    asked = rendered(loaded)
    plain = Scorer(loaded).score([one.row for one in asked])
    for one, row in zip(score_options(Scorer(loaded), asked), plain, strict=True):
        np.testing.assert_allclose(one.reference.tokens, row.tokens, atol=2e-5)
    text = TEMPLATE.prompt(ROWS[0].instruction, [])
    alone = reference_nll(loaded.model, loaded.profile.tokenizer, text, "card_arrival")
    np.testing.assert_allclose(plain[0].tokens, alone, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_order_and_number_of_options_and_rows_change_nothing(
    load_fake: Callable[..., LoadedModel], data: st.DataObject
) -> None:
    loaded = load_fake("gemma3")
    whole = {
        (row.id, option): math.fsum(tokens.tolist())
        for row, one in zip(ROWS, score_options(Scorer(loaded), rendered(loaded)), strict=True)
        for option, tokens in zip(OPTIONS, one.options, strict=True)
    }
    options = tuple(data.draw(st.lists(st.sampled_from(OPTIONS), min_size=1, unique=True)))
    chosen = data.draw(st.lists(st.sampled_from(range(len(ROWS))), min_size=1, unique=True))
    budget = data.draw(st.integers(1, 400))
    every = [
        render_options(ROWS[i], options, TEMPLATE, loaded.profile, answers={}, demos=DEMOS if i % 2 else [])
        for i in chosen
    ]
    for i, one in zip(chosen, score_options(Scorer(loaded, budget_tokens=budget), every), strict=True):
        sums = [math.fsum(tokens.tolist()) for tokens in one.options]
        assert sums == pytest.approx([whole[ROWS[i].id, option] for option in options], abs=2e-5)


def test_a_second_time_they_come_from_the_cache(load_fake: Callable[..., LoadedModel], tmp_path: Path) -> None:
    loaded = load_fake("llama")
    asked = rendered(loaded)
    cache = score_cache(loaded, tmp_path / "scores.sqlite")
    first = score_options(Scorer(loaded, cache=cache), asked)
    again = score_options(Scorer(loaded, cache=cache), asked)
    assert not any(one.reference.cached for one in first)
    assert all(one.reference.cached for one in again)
    assert [found(one) for one in again] == [found(one) for one in first]
    fewer = score_options(Scorer(loaded, cache=cache), rendered(loaded, options=OPTIONS[:2]))
    assert not any(one.reference.cached for one in fewer)
    plain = Scorer(loaded, cache=cache).score([one.row for one in asked])
    assert not any(row.cached for row in plain)  # a row with options is other content than the row alone


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8, unique=True))
def test_a_trie_has_each_beginning_once_and_every_answer_is_a_path(answers: list[tuple[int, ...]]) -> None:
    trie = trie_of(answers)
    beginnings = {answer[:n] for answer in answers for n in range(1, len(answer))}
    assert len(trie.tokens) == len(beginnings)
    assert list(trie.at) == sorted(trie.at)
    assert [tuple(trie.targets[edge] for edge in path) for path in trie.paths] == answers
    for answer, path in zip(answers, trie.paths, strict=True):
        node, seen = -1, []
        for edge in path:
            assert trie.at[edge] == node
            if after := [n for n, p in enumerate(trie.parents) if p == node and trie.tokens[n] == trie.targets[edge]]:
                (node,) = after
                seen.append(node)
        if seen:
            last = len(answer) - 2
            mine = seen[: last + 1]
            assert not mine or set(mine) == set(trie.ancestors[mine[-1]].nonzero().flatten().tolist())


def test_the_vocabulary_is_read_once_for_a_state_with_several_targets(load_fake: Callable[..., LoadedModel]) -> None:
    loaded = load_fake("gemma3")  # with a soft cap on its logits
    head = Scorer(loaded).head
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    at, targets = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([5, 9, 258, 0, 7, 8])
    together = head.nll_of_several(states, at, targets)
    torch.testing.assert_close(together, head.nll(states[at], targets), atol=1e-5, rtol=0)


def test_rows_of_one_batch_do_not_see_each_other(load_fake: Callable[..., LoadedModel]) -> None:
    loaded = load_fake("qwen3")
    asked = rendered(loaded)
    order = list(range(len(asked)))
    random.Random(3).shuffle(order)
    first = score_options(Scorer(loaded, budget_tokens=5000), asked)
    second = score_options(Scorer(loaded, budget_tokens=5000), [asked[i] for i in order])
    for place, i in enumerate(order):
        assert found(second[place]) == pytest.approx(found(first[i]), abs=2e-5)
