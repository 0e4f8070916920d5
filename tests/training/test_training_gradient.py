"""The gradient of a step is that of the protocol, however the step is cut into passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.likelihood.head import head_of
from triptych.likelihood.passes import common_prefix, pass_nll
from triptych.likelihood.score import Scorer
from triptych.prompts import Rendered
from triptych.training.step import accumulate_gradient

if TYPE_CHECKING:
    from triptych.models import Adapter, LoadedModel

N_ROWS = 16
CASES = [("llama", "none"), ("llama", "nf4"), ("gemma3", "none"), ("gemma3", "nf4")]


def flat(adapter: Adapter) -> Tensor:
    """All gradients in one line, in double precision."""
    return torch.cat([p.grad.double().flatten() for p in adapter.parameters().values() if p.grad is not None])


def ours(loaded: LoadedModel, adapter: Adapter, rows: Sequence[Rendered], **options: Any) -> tuple[Tensor, float]:
    adapter.model.zero_grad()
    nll = accumulate_gradient(
        loaded, head_of(loaded.model), rows, **{"max_rows": len(rows), "max_tokens": 1 << 20, **options}
    )
    return flat(adapter), nll


def plainly(loaded: LoadedModel, adapter: Adapter, rows: Sequence[Rendered], *, prompt_too: bool = False) -> Tensor:
    """The protocol as it is written: row by row, whole logits, labels -100 on the prompt, one division at the end."""
    adapter.model.zero_grad()
    n_scored = 0
    for row in rows:
        ids = torch.tensor(row.ids)
        labels = ids.clone()
        labels[: 1 if prompt_too else row.n_prompt] = -100
        logits = loaded.model(input_ids=ids[None], use_cache=False).logits[0]
        F.cross_entropy(logits[:-1].float(), labels[1:], ignore_index=-100, reduction="sum").backward()
        n_scored += int((labels[1:] != -100).sum())
    return flat(adapter) / n_scored


def apart(a: Tensor, b: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module", params=CASES, ids=[f"{a}-{q}" for a, q in CASES])
def case(
    request: pytest.FixtureRequest,
    adapted: Callable[..., tuple[LoadedModel, Adapter]],
    rendered: Callable[..., list[Rendered]],
) -> tuple[LoadedModel, Adapter, list[Rendered]]:
    architecture, quantize = request.param
    loaded, adapter = adapted(architecture, quantize=quantize)
    return loaded, adapter, rendered(loaded, N_ROWS)


Case = tuple["LoadedModel", "Adapter", list[Rendered]]


def test_accumulation_1x16_4x4_and_16x1_agree(case: Case) -> None:
    loaded, adapter, rows = case
    whole, _ = ours(loaded, adapter, rows, max_rows=16)
    assert whole.norm() > 1e-3  # something is there to agree about
    for max_rows in (1, 4):
        assert apart(ours(loaded, adapter, rows, max_rows=max_rows)[0], whole) < 1e-6


def test_the_bound_on_tokens_changes_nothing(case: Case) -> None:
    loaded, adapter, rows = case
    whole, _ = ours(loaded, adapter, rows)
    assert apart(ours(loaded, adapter, rows, max_tokens=150)[0], whole) < 1e-6


def test_a_shared_prefix_changes_nothing(case: Case) -> None:
    loaded, adapter, rows = case
    assert common_prefix(rows) > 16  # longer than the sliding window: the test is about something
    shared, one = ours(loaded, adapter, rows, share_prefix=True)
    apiece, other = ours(loaded, adapter, rows, share_prefix=False)
    assert apart(shared, apiece) < 1e-6
    assert one == pytest.approx(other, rel=1e-6)


def test_gradient_is_that_of_the_plain_protocol(case: Case) -> None:
    loaded, adapter, rows = case
    reference = plainly(loaded, adapter, rows)
    assert apart(ours(loaded, adapter, rows)[0], reference) < 2e-6
    assert apart(ours(loaded, adapter, rows, packed=False)[0], reference) < 2e-6


def test_prompt_tokens_are_not_trained_on(case: Case) -> None:
    loaded, adapter, rows = case
    gradient, _ = ours(loaded, adapter, rows)
    with_prompt = plainly(loaded, adapter, rows, prompt_too=True)
    assert apart(gradient, with_prompt) > 0.1  # it would be another gradient


def test_loss_of_a_step_is_the_scorers(case: Case) -> None:
    loaded, adapter, rows = case
    _, summed = ours(loaded, adapter, rows)
    scored = sum(nll.nll_nats for nll in Scorer(loaded).score(rows))
    assert summed == pytest.approx(scored, rel=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_changing_row_a_leaves_row_b_alone(
    architecture: str,
    adapted: Callable[..., tuple[LoadedModel, Adapter]],
    rendered: Callable[..., list[Rendered]],
) -> None:
    loaded, adapter = adapted(architecture)
    a, other_a, b = (rendered(loaded, 12)[i] for i in (3, 9, 6))
    alone = ours(loaded, adapter, [b])[0] * b.n_scored
    for first in (a, other_a):
        together, _ = ours(loaded, adapter, [first, b])
        of_a = ours(loaded, adapter, [first])[0] * first.n_scored
        assert apart(together * (first.n_scored + b.n_scored) - of_a, alone) < 2e-6

    def losses(first: Rendered) -> Tensor:
        rows = [first, b]
        with torch.no_grad():
            return pass_nll(loaded, head_of(loaded.model), rows, common_prefix(rows))[first.n_scored :]

    torch.testing.assert_close(losses(a), losses(other_a), rtol=1e-5, atol=1e-6)


def test_order_of_rows_changes_nothing(case: Case) -> None:
    loaded, adapter, rows = case
    assert apart(ours(loaded, adapter, rows[::-1], max_rows=4)[0], ours(loaded, adapter, rows, max_rows=4)[0]) < 1e-6


def test_gradients_add_up_and_the_base_gets_none(case: Case) -> None:
    loaded, adapter, rows = case
    once, _ = ours(loaded, adapter, rows)
    accumulate_gradient(loaded, head_of(loaded.model), rows, max_rows=16, max_tokens=1 << 20)
    assert apart(flat(adapter), 2 * once) < 1e-6
    trainable = {id(p) for p in adapter.parameters().values()}
    assert all(p.grad is None for p in adapter.model.parameters() if id(p) not in trainable)
