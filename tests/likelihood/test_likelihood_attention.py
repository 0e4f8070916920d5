"""Attention over packed rows against plain attention, written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.likelihood import attention, context
from triptych.likelihood.attention import Pack
from triptych.likelihood.context import PrefixKV, Scores, Unsupported

SIZE = 8


class Causal(torch.nn.Module):
    is_causal = True


def plain(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None, softcap: float | None) -> Tensor:
    """One sequence: q [H, S, D] the last S of the keys' L positions, k and v [K, L, D] -> [S, H, D]. In float64."""
    heads, n_queries, _ = q.shape
    n_keys = k.shape[1]
    k, v = (t.double().repeat_interleave(heads // t.shape[0], 0) for t in (k, v))
    scores = q.double() @ k.transpose(1, 2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    for i in range(n_queries):
        at = n_keys - n_queries + i
        for j in range(n_keys):
            if j > at or (window is not None and at - j >= window):
                scores[:, i, j] = float("-inf")
    return (scores.softmax(-1) @ v).transpose(0, 1)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("window", [None, 1, 5, 12, 100])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("lengths", [[6, 6, 6], [9, 2, 5], [1], [1, 1], [14]])
@pytest.mark.parametrize(("n_past", "n_prefix"), [(0, 0), (0, 7), (7, 0), (9, 4)])
def test_every_token_sees_its_own_sequence(
    n_past: int, n_prefix: int, lengths: list[int], heads: int, kv_heads: int, window: int | None, softcap: float | None
) -> None:
    total, module, scale = n_prefix + sum(lengths), Causal(), 0.4
    q, k, v = (randn(1, h, total, SIZE, seed=i) for i, h in enumerate((heads, kv_heads, kv_heads)))
    past_k, past_v = randn(1, kv_heads, n_past, SIZE, seed=8), randn(1, kv_heads, n_past, SIZE, seed=9)
    past = PrefixKV(n_past, {module: (past_k, past_v)}) if n_past else None
    pack = Pack(torch.zeros(total, dtype=torch.long), n_prefix, lengths, past, keep_kv=True)
    context._current = pack
    try:
        out, _ = context.attention(module, q, k, v, None, scaling=scale, sliding_window=window, softcap=softcap)
    finally:
        context._current = None
    assert out.shape == (1, total, heads, SIZE)
    prefix_k, prefix_v = (torch.cat([p, t[:, :, :n_prefix]], 2)[0] for p, t in ((past_k, k), (past_v, v)))
    expected = [plain(q[0, :, :n_prefix], prefix_k, prefix_v, scale, window, softcap)] if n_prefix else []
    first = n_prefix
    for n in lengths:
        own = slice(first, first + n)
        keys, values = torch.cat([prefix_k, k[0, :, own]], 1), torch.cat([prefix_v, v[0, :, own]], 1)
        expected.append(plain(q[0, :, own], keys, values, scale, window, softcap))
        first += n
    torch.testing.assert_close(out[0].double(), torch.cat(expected), atol=1e-5, rtol=1e-5)
    keys, values = pack.layers[module]
    assert torch.equal(keys[0], prefix_k)
    assert torch.equal(values[0], prefix_v)


def test_positions_are_those_of_each_rows_own_sequence() -> None:
    pack = Pack(torch.zeros(9, dtype=torch.long), 4, [3, 2], PrefixKV(10, {}))
    assert pack.positions().tolist() == [10, 11, 12, 13, 14, 15, 16, 14, 15]
    assert Pack(torch.zeros(3, dtype=torch.long), 0, [1, 2]).positions().tolist() == [0, 0, 1]


@pytest.mark.parametrize("block", [1, 7, 256])
@pytest.mark.parametrize("window", [None, 3, 40, 290])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
@pytest.mark.parametrize(("n_queries", "n_before"), [(300, 0), (300, 37), (5, 61)])
def test_blocks_equal_fused_attention(
    monkeypatch: pytest.MonkeyPatch,
    n_queries: int,
    n_before: int,
    heads: int,
    kv_heads: int,
    window: int | None,
    block: int,
) -> None:
    """The path taken in bfloat16 on a CPU, on float32 numbers, where it must agree to rounding."""
    if block == 1 and n_queries > 5:
        n_queries = 30
    monkeypatch.setattr(attention, "BLOCK", block)
    n_keys = n_before + n_queries
    q, k, v = (
        randn(2, heads, n_queries, SIZE),
        randn(2, kv_heads, n_keys, SIZE, seed=1),
        randn(2, kv_heads, n_keys, SIZE, seed=2),
    )
    pack = Pack(torch.zeros(1, dtype=torch.long), 0, [1])
    k[:, :, :n_before], v[:, :, :n_before] = k[:1, :, :n_before], v[:1, :, :n_before]  # rows share the prefix
    prefix, own = (k[:1, :, :n_before], v[:1, :, :n_before]), (k[:, :, n_before:], v[:, :, n_before:])
    out = attention._attend_in_blocks(pack, q, *own, prefix, Scores(0.3, window))
    fused = attention._attend_fused(pack, q, *own, prefix, Scores(0.3, window))
    at, key = torch.arange(n_before, n_keys)[:, None], torch.arange(n_keys)[None]
    allowed = (key <= at) & (at - key < (window or n_keys + 1))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("block", [4, 7])
def test_gradients_go_through_blocks(monkeypatch: pytest.MonkeyPatch, block: int, window: int | None) -> None:
    """Training rows longer than a block."""
    monkeypatch.setattr(attention, "BLOCK", block)
    n_before, n_queries = 6, 17
    q, k, v = (
        randn(2, h, n, SIZE, seed=i) for i, (h, n) in enumerate([(4, n_queries), (2, n_queries), (2, n_queries)])
    )
    prefix_k, prefix_v = randn(1, 2, n_before, SIZE, seed=5), randn(1, 2, n_before, SIZE, seed=6)
    tensors = [t.requires_grad_() for t in (q, k, v, prefix_k, prefix_v)]
    weights = randn(2, 4, n_queries, SIZE, seed=7)
    pack = Pack(torch.zeros(1, dtype=torch.long), 0, [1])
    out = attention._attend_fused(pack, q, k, v, (prefix_k, prefix_v), Scores(0.3, window))
    ours = torch.autograd.grad((out * weights).sum(), tensors)
    keys, values = (torch.cat([p.expand(2, -1, -1, -1), t], 2) for p, t in ((prefix_k, k), (prefix_v, v)))
    at, key = torch.arange(n_before, n_before + n_queries)[:, None], torch.arange(n_before + n_queries)[None]
    allowed = (key <= at) & (at - key < (window or 100))
    plainly = F.scaled_dot_product_attention(q, keys, values, attn_mask=allowed, scale=0.3, enable_gqa=True)
    for got, expected in zip(ours, torch.autograd.grad((plainly * weights).sum(), tensors), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_bfloat16_takes_the_blocks_and_stays_near() -> None:
    module = Causal()
    q, k, v = randn(1, 4, 40, SIZE), randn(1, 2, 40, SIZE, seed=1), randn(1, 2, 40, SIZE, seed=2)
    outs = []
    for dtype in (torch.float32, torch.bfloat16):
        context._current = Pack(torch.zeros(40, dtype=torch.long), 10, [20, 10])
        try:
            out, _ = context.attention(module, q.to(dtype), k.to(dtype), v.to(dtype), None, sliding_window=6)
        finally:
            context._current = None
        assert out.dtype == dtype
        outs.append(out.float())
    assert (outs[0] - outs[1]).abs().max() < 0.05
    assert (outs[0] - outs[1]).abs().mean() < 0.005


@pytest.mark.parametrize("extra", ["s_aux", "sinks", "position_bias", "alibi", "cu_seq_lens_q", "mask", "dropout"])
def test_what_is_not_handled_is_refused(extra: str) -> None:
    tensor = torch.zeros(1, 2, 3, SIZE)
    more = {"dropout": 0.1} if extra == "dropout" else {} if extra == "mask" else {extra: torch.ones(1)}
    context._current = Pack(torch.zeros(3, dtype=torch.long), 0, [3])
    try:
        mask = torch.ones(1) if extra == "mask" else None
        with pytest.raises(Unsupported):
            context.attention(Causal(), tensor, tensor, tensor, mask, **more)  # type: ignore[arg-type]
        three, two = torch.zeros(1, 3, 3, SIZE), torch.zeros(1, 2, 3, SIZE)
        with pytest.raises(Unsupported):
            context.attention(Causal(), three, two, two, None)
        module = Causal()
        module.is_causal = False
        with pytest.raises(Unsupported):
            context.attention(module, tensor, tensor, tensor, None)
    finally:
        context._current = None


def test_outside_of_a_pass_it_is_refused() -> None:
    tensor = torch.zeros(1, 2, 3, SIZE)
    with pytest.raises(Unsupported):
        context.attention(Causal(), tensor, tensor, tensor, None)
