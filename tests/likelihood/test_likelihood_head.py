"""The chunked head against the plain formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.likelihood.head import Head, head_chunk, head_of

C = 24
# a vocabulary below, on and above the chunk of 4,096 columns, and no multiple of it
SIZES = [7, 4096, 4097, 9001]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": 0.25},
    "softcap and scale": {"softcap": 3.0, "scale": 2.0},
    "bias": {"bias": True},
    "bias, scale and softcap": {"bias": True, "scale": 0.5, "softcap": 2.0},
}


def case(size: int, options: dict[str, Any], *, n: int = 33, spread: float = 1.0) -> tuple[Head, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    weight = torch.randn(size, C, generator=generator) * spread
    bias = torch.randn(size, generator=generator) if options.get("bias") else None
    head = replace(Head(weight, bias), **{k: v for k, v in options.items() if k != "bias"})
    hidden = torch.randn(n, C, generator=generator)
    targets = torch.randint(0, size, (n,), generator=generator)
    targets[0], targets[1] = 0, size - 1  # the first and the last column
    return head, hidden, targets


def plain(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """The formula, all logits at once."""
    bias = None if head.bias is None else head.bias.to(hidden.dtype)
    logits = F.linear(hidden, head.weight.to(hidden.dtype), bias) * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return F.cross_entropy(logits, targets, reduction="none")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_nll_is_cross_entropy(size: int, kind: str) -> None:
    head, hidden, targets = case(size, KINDS[kind])
    exact = plain(head, hidden.double(), targets)
    nll = head.nll(hidden, targets)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll.double(), exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_autograds(size: int, kind: str) -> None:
    head, hidden, targets = case(size, KINDS[kind])
    weights = torch.linspace(0.5, 2, len(targets))  # the upstream gradient differs from row to row
    ours, theirs = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    nll = head.nll(ours, targets)
    torch.testing.assert_close(nll.double(), plain(head, theirs, targets), atol=1e-5, rtol=0)
    (nll * weights).sum().backward()
    (plain(head, theirs, targets) * weights).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-5)
    assert head.weight.grad is None


def test_more_rows_than_a_block() -> None:
    head, hidden, targets = case(300, {"softcap": 3.0}, n=700)
    ours = hidden.clone().requires_grad_()
    nll = head.nll(ours, targets)
    torch.testing.assert_close(nll.double(), plain(head, hidden.double(), targets), atol=1e-5, rtol=0)
    nll.sum().backward()
    theirs = hidden.double().requires_grad_()
    plain(head, theirs, targets).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-5)


def test_extreme_logits_stay_finite() -> None:
    """Sums of exp(300) overflow float32; the running maximum must move across chunks, in both directions."""
    head, hidden, targets = case(9001, {}, spread=60.0)
    torch.testing.assert_close(
        head.nll(hidden, targets).double(), plain(head, hidden.double(), targets), rtol=1e-5, atol=1e-3
    )
    ours = hidden.clone().requires_grad_()
    head.nll(ours, targets).sum().backward()
    assert ours.grad is not None and torch.isfinite(ours.grad).all()
    rising = Head(torch.linspace(-500, 500, 9001)[:, None])
    for one in (torch.ones(1, 1), -torch.ones(1, 1)):
        best = torch.tensor([9000 if one > 0 else 0])
        assert rising.nll(one, best).item() == pytest.approx(plain(rising, one.double(), best).item(), abs=1e-4)


def test_a_certain_answer_costs_nothing() -> None:
    head = Head(torch.tensor([[100.0], [0.0], [-100.0]]))
    assert head.nll(torch.ones(1, 1), torch.tensor([0])).item() == 0.0
    assert head.nll(torch.ones(1, 1), torch.tensor([1])).item() == pytest.approx(100.0)


def test_bfloat16_sums_in_float32() -> None:
    head, hidden, targets = case(9001, {})
    half = Head(head.weight.bfloat16())
    rounded = Head(head.weight.bfloat16().float())
    exact = plain(rounded, hidden.bfloat16().double(), targets)
    nll = half.nll(hidden.bfloat16(), targets)
    assert nll.dtype == torch.float32
    assert (nll.double() - exact).abs().max() < 0.08  # one logit's rounding, not nine thousand
    assert (nll.double() - exact).mean().abs() < 0.01
    ours = hidden.bfloat16().requires_grad_()
    half.nll(ours, targets).sum().backward()
    assert ours.grad is not None and ours.grad.dtype == torch.bfloat16
    theirs = hidden.bfloat16().double().requires_grad_()
    plain(rounded, theirs, targets).sum().backward()
    assert theirs.grad is not None
    assert (ours.grad.double() - theirs.grad).norm() < 0.02 * theirs.grad.norm()


def test_inputs_are_left_alone() -> None:
    head, hidden, targets = case(9001, {"softcap": 3.0, "scale": 2.0, "bias": True})
    copies = [t.clone() for t in (head.weight, hidden, targets)]
    head.nll(hidden, targets)
    head.nll(hidden.clone().requires_grad_(), targets).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(copies, (head.weight, hidden, targets), strict=True))


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_the_head_of_a_model(load_fake: Any, architecture: str) -> None:
    model = load_fake(architecture).model
    ids = torch.arange(3, 200, 6)[None]
    with torch.no_grad():
        hidden = model.get_decoder()(ids).last_hidden_state[0]
        logits = model(ids).logits[0]
    head = head_of(model)
    assert head.softcap == (5.0 if architecture == "gemma3" else None)
    torch.testing.assert_close(head.logits(hidden, slice(0, 259)), logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.logits(hidden, slice(100, 120)), logits[:, 100:120], atol=1e-5, rtol=1e-5)


def test_models_that_scale_their_logits() -> None:
    import transformers as hf

    from fake_model import fake_config

    config = fake_config("llama")
    small = {k: getattr(config, k) for k in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")}
    ids = torch.arange(3, 200, 6)[None]
    for made, scale in (
        (hf.GraniteConfig(**small, num_hidden_layers=1, num_key_value_heads=2, logits_scaling=4.0), 0.25),
        (hf.CohereConfig(**small, num_hidden_layers=1, num_key_value_heads=2, logit_scale=0.5), 0.5),
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = hf.AutoModelForCausalLM.from_config(made).eval()
        with torch.no_grad():
            hidden = model.get_decoder()(ids).last_hidden_state[0]
            logits = model(ids).logits[0]
        head = head_of(model)
        assert head.scale == scale
        torch.testing.assert_close(head.logits(hidden, slice(0, 259)), logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("softcap", [None, 400.0])
def test_a_target_far_below_the_maximum(softcap: float | None) -> None:
    """exp(l_v - l_y) overflows float32 here, so the maximum has to be looked for; values and gradients stay right."""
    weight = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    hidden = (40 * weight[3:6]).requires_grad_()
    targets = (hidden.detach() @ weight.T).argmin(1)
    head = Head(weight, softcap=softcap)
    logits = hidden @ weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert plain.max() > 89  # exp of it is infinite in float32
    (expected,) = torch.autograd.grad(plain.sum(), hidden)
    nll = head.nll(hidden, targets)
    (gradient,) = torch.autograd.grad(nll.sum(), hidden)
    torch.testing.assert_close(nll, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(head.nll(hidden, targets), plain, rtol=1e-5, atol=1e-5)


def test_products_are_of_the_size_that_estimates_count(monkeypatch: pytest.MonkeyPatch) -> None:
    above, seen = Head._above, set()

    def counting(self: Head, hidden: torch.Tensor, base: torch.Tensor, columns: slice) -> torch.Tensor:
        out = above(self, hidden, base, columns)
        seen.add(tuple(out.shape))
        return out

    monkeypatch.setattr(Head, "_above", counting)
    rows, columns = head_chunk("cpu")
    Head(torch.randn(2 * columns, 4)).nll(torch.randn(2 * rows, 4), torch.zeros(2 * rows, dtype=torch.long))
    assert seen == {(rows, columns)}
