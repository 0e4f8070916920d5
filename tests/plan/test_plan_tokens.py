"""Planned tokens are the tokens that go through the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.config.tune import TuneConfig
from triptych.likelihood import branches, passes
from triptych.likelihood.options import score_options
from triptych.likelihood.score import Scorer
from triptych.models import LoraSettings
from triptych.plan.tokens import Work, scoring_work, training_work
from triptych.prompts import Rendered, RenderedOptions
from triptych.training.step import accumulate_gradient, rows_of_step


def row(name: str, prompt: list[int], output: list[int]) -> Rendered:
    return Rendered(name, (256, *prompt, *output, 257), 1 + len(prompt), len(output))


def some_rows(n: int, shared: int = 500) -> list[Rendered]:
    """Rows of unlike lengths; two groups share long prefixes, so that branches are made."""
    start = [(i * 7) % 250 for i in range(40)]
    groups = [[(i * step) % 250 for i in range(shared)] for step in (3, 5)]
    return [
        row(str(i), start + groups[i % 2] + [i % 250, (i * 3) % 250] * (1 + i % 4), [1 + i % 9] * (1 + i % 7))
        for i in range(n)
    ]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Tokens that went through the layers."""
    counted = {"forward": 0}
    forward = passes.forward

    def counting(model: Any, pack: Any) -> Any:
        counted["forward"] += len(pack.ids)
        return forward(model, pack)

    monkeypatch.setattr(passes, "forward", counting)
    monkeypatch.setattr(branches, "forward", counting)
    yield counted


@pytest.mark.parametrize("n", [1, 2, 9, 24])
@pytest.mark.parametrize("budget", [256, 4096])
def test_scoring_computes_what_was_planned(
    load_fake: Callable[..., Any], seen: dict[str, int], n: int, budget: int
) -> None:
    scorer = Scorer(load_fake("llama"), budget_tokens=budget, packed=True)
    rows = some_rows(n)
    nlls = scorer.score(rows)
    work = scoring_work(rows)
    assert work.forward == seen["forward"]
    assert work.scored == sum(len(nll.tokens) for nll in nlls)
    assert work.plain == sum(len(r.ids) for r in rows)
    if n > 2:
        assert work.forward < work.plain / 2  # prefixes were shared, or this test says nothing
        assert work.kept > 500  # the group's prefix beside the common one


@pytest.mark.parametrize("budget", [256, 4096])
def test_options_compute_what_was_planned(load_fake: Callable[..., Any], seen: dict[str, int], budget: int) -> None:
    scorer = Scorer(load_fake("llama"), budget_tokens=budget, packed=True)
    answers = ((1, 2, 3, 257), (1, 2, 257), (9, 257))  # four nodes: 1, 1 2, 1 2 3, 9
    rows = some_rows(9)
    asked = [RenderedOptions(one, ("a", "b", "c"), answers, None) for one in rows]
    own = [len({r[:n] for r in (*answers, one.reference) for n in range(1, len(r))}) for one in asked]
    score_options(scorer, asked)
    work = scoring_work(rows, asked)
    assert work.forward == seen["forward"]
    assert work.scored == sum(nodes + 1 for nodes in own)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("tokens_per_pass", [4096, 700])
def test_training_computes_what_was_planned(
    load_fake: Callable[..., Any], seen: dict[str, int], dropout: float, tokens_per_pass: int
) -> None:
    from triptych.models import attach_adapter

    config = TuneConfig(r=2, epochs=1.5, batch_size=4, dropout=dropout, tokens_per_pass=tokens_per_pass, seed=3)
    loaded = load_fake("llama")
    scorer = Scorer(loaded, packed=True)
    attach_adapter(loaded, LoraSettings.of(config), seed=0)
    rows = some_rows(10, shared=60)
    work = training_work(rows, config)
    plain = scored = steps = 0
    for step in range(config.total_steps(len(rows))):
        chosen = [rows[i] for i in rows_of_step(step, len(rows), config.rows_per_step, config.seed)]
        accumulate_gradient(
            loaded,
            scorer.head,
            chosen,
            max_rows=config.batch_size,
            max_tokens=config.tokens_per_pass,
            share_prefix=not dropout,
        )
        plain, scored = plain + sum(len(r.ids) for r in chosen), scored + sum(r.n_scored for r in chosen)
        steps += 1
    assert steps == 4
    assert (work.plain, work.scored, work.forward) == (plain, scored, seen["forward"])
    assert (work.forward < work.plain - work.rows) == (dropout == 0)  # only without dropout is anything shared


token = st.integers(0, 3)
made_row = st.tuples(st.lists(token, min_size=1, max_size=12), st.lists(token, max_size=5))


@given(st.lists(made_row, min_size=1, max_size=12))
def test_sharing_never_costs_more_than_computing_each(pairs: list[tuple[list[int], list[int]]]) -> None:
    rows = [row(str(i), prompt, output) for i, (prompt, output) in enumerate(pairs)]
    work = scoring_work(rows)
    assert work.forward <= work.plain - len(rows)
    assert work.forward >= max(len(r.ids) for r in rows) - 1
    assert work.pairs <= sum((len(r.ids) - 1) * len(r.ids) // 2 for r in rows)
    assert work.longest == max(len(r.ids) for r in rows)


def test_without_shared_tokens_pairs_are_those_of_each_row() -> None:
    rows = [row("a", [1, 2, 3], [4]), row("b", [9, 8], [7, 6])]
    work = scoring_work(rows)  # only BOS is shared: it is computed once
    assert work.forward == 1 + 4 + 4
    assert work.pairs == 15 + 15 - 1  # 5 tokens each, the first of the second row not again


def test_works_add_up() -> None:
    a, b = Work(1, 10, 8, 2, 30, 5, 10), Work(2, 20, 9, 3, 40, 7, 9)
    assert a + b == Work(3, 30, 17, 5, 70, 7, 10)
    assert a.times(3) == a + a + a
    assert Work() + a == a


def test_no_rows_are_no_work() -> None:
    assert scoring_work([]) == Work()
    assert training_work([], TuneConfig()) == Work()
