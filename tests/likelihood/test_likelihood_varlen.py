"""Rows in a line for the GPU's kernel. The layout is tested everywhere, with plain attention in the kernel's place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_likelihood_attention import SIZE, Causal, plain, randn
from torch import Tensor

from triptych.likelihood import attention, context, varlen
from triptych.likelihood.attention import Pack
from triptych.likelihood.context import PrefixKV

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel needs a GPU")
LAYOUTS = [(0, 0, [6, 3, 9]), (0, 7, [9, 2, 5]), (7, 0, [4, 4]), (9, 4, [1, 12, 3]), (3, 5, []), (0, 6, [])]


class PlainKernel(torch.nn.Module):
    """What the kernel is told to compute, sequence by sequence, in float64. [T, H, D]"""

    @staticmethod
    def apply(q: Tensor, k: Tensor, v: Tensor, layout: varlen.VarlenLayout, scale: float, window: int | None) -> Tensor:
        ends_q, ends_k, parts = layout.cu_q.tolist(), layout.cu_k.tolist(), []
        for i in range(len(ends_q) - 1):
            of_q, of_k = slice(ends_q[i], ends_q[i + 1]), slice(ends_k[i], ends_k[i + 1])
            assert of_q.stop - of_q.start <= layout.max_q and of_k.stop - of_k.start <= layout.max_k
            each = (q[of_q].transpose(0, 1), k[of_k].transpose(0, 1), v[of_k].transpose(0, 1))
            parts.append(plain(*each, scale, window, None))
        return torch.cat(parts).to(q.dtype)


def attend(
    q: Tensor, k: Tensor, v: Tensor, past: list[Tensor], n_prefix: int, lengths: list[int], window: int | None
) -> tuple[Tensor, Any]:
    """Through the model's door: [1, T, H, D], and what was kept of the prefix."""
    module, n_past = Causal(), past[0].shape[2]
    before = PrefixKV(n_past, {module: (past[0], past[1])}) if n_past else None
    ids = torch.zeros(q.shape[2], dtype=torch.long, device=q.device)
    pack = Pack(ids, n_prefix, lengths, before, keep_kv=True)
    context._current = pack
    try:
        out, _ = context.attention(module, q, k, v, None, scaling=0.4, sliding_window=window)
    finally:
        context._current = None
    return out, pack.layers[module]


def tensors(n_past: int, n_prefix: int, lengths: list[int], size: int = SIZE, kv_heads: int = 2) -> list[Tensor]:
    total = n_prefix + sum(lengths)
    own = [randn(1, heads, total, size, seed=i) for i, heads in enumerate((4, kv_heads, kv_heads))]
    return [*own, *(randn(1, kv_heads, n_past, size, seed=8 + i) for i in range(2))]


@pytest.mark.parametrize("window", [None, 1, 5, 100])
@pytest.mark.parametrize(("n_past", "n_prefix", "lengths"), LAYOUTS)
def test_the_layout_says_what_rows_side_by_side_compute(
    n_past: int, n_prefix: int, lengths: list[int], window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for on in (False, True):
        monkeypatch.setattr(attention, "can_use_varlen", lambda query, on=on: on)
        monkeypatch.setattr(varlen, "_Flash", PlainKernel)
        q, k, v, *past = [t.requires_grad_() for t in tensors(n_past, n_prefix, lengths)]
        out, kept = attend(q, k, v, past, n_prefix, lengths, window)
        weights = randn(*out.shape, seed=3)
        gradients = torch.autograd.grad((out * weights).sum(), [q, k, v, *past], materialize_grads=True)
        results.append([out, *kept, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_only_16_bits_on_a_gpu_go_through_the_kernel() -> None:
    assert not varlen.can_use_varlen(torch.zeros(1, 8))
    assert not varlen.can_use_varlen(torch.zeros(1, 8, dtype=torch.bfloat16))


@pytest.mark.parametrize("before", [(False, False), (True, True), (True, False)])
def test_gradients_in_one_order_are_asked_for_and_the_setting_put_back(before: tuple[bool, bool]) -> None:
    def now() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    try:
        with varlen._in_one_order():
            assert now() == (True, False)
        assert now() == before
    finally:
        torch.use_deterministic_algorithms(False)


@ON_GPU
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("n_past", "n_prefix", "lengths"), LAYOUTS)
def test_the_kernel_computes_it(
    n_past: int, n_prefix: int, lengths: list[int], window: int | None, size: int, kv_heads: int
) -> None:
    """In bfloat16, against float64 of the same numbers; and its gradients against those in float32."""
    given = [t.to("cuda", torch.bfloat16) for t in tensors(n_past, n_prefix, lengths, size, kv_heads)]
    assert varlen.can_use_varlen(given[0])
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        q, k, v, *past = [t.to(dtype).requires_grad_() for t in given]
        out, _ = attend(q, k, v, past, n_prefix, lengths, window)
        weights = randn(*out.shape, seed=3).to("cuda")
        gradients = torch.autograd.grad((out.float() * weights).sum(), [q, k, v, *past], materialize_grads=True)
        results.append([out, *gradients])
    for one, other in zip(*results, strict=True):
        assert (one.float() - other.float()).norm() <= 0.02 * other.float().norm() + 1e-6
