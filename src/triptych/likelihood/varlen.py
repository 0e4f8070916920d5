"""Attention over rows of unlike lengths in one call, for GPUs: FlashAttention-2 (Dao 2023, arXiv 2307.08691) in torch.

The kernel takes queries and keys in a line, and where each sequence begins in it. A pass is laid out as

    queries     prefix P1       │ row 1                │ row 2               │ …          the pass itself, untouched
    keys        past, prefix    │ past, prefix, row 1  │ past, prefix, row 2 │ …

and causality is counted from a sequence's end, so that every query sees all that is before its own piece. Nothing is
padded. Keys and values of the shared beginning are laid before each row's own; in the backward their gradients are
summed over the rows in one order, never by atomic additions.

Shape legend: T tokens of the pass, L keys, R tokens of the rows, P = P0 + P1 prefix length, H query heads, K key/value
heads, D head size
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.likelihood.context import Scores

_SIXTEEN_BITS = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class VarlenLayout:
    """Where the sequences of a pass begin, and which keys each one gets."""

    cu_q: Tensor
    """[N + 1] int32: where each sequence's queries begin."""
    cu_k: Tensor
    """[N + 1] int32: where each sequence's keys begin."""
    max_q: int
    max_k: int
    prefix: int
    """P."""
    at: Tensor
    """[L] where each key comes from: past, prefix and rows in a line."""
    prefix_at: Tensor
    """[n P] places of the prefix's keys: before each row, and as a sequence of its own if the pass computes any."""
    own_at: Tensor
    """[R] places of the rows' own keys."""


def can_use_varlen(query: Tensor) -> bool:
    """Whether the kernel takes such queries, [..., D]."""
    return (
        query.device.type == "cuda"
        and query.dtype in _SIXTEEN_BITS
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def varlen_layout(row_lengths: Sequence[int], n_past: int, n_prefix: int, device: torch.device) -> VarlenLayout:
    """The layout of a pass of rows of these lengths, behind P0 tokens of an earlier pass and P1 of its own."""
    prefix, computed = n_past + n_prefix, bool(n_prefix)
    lengths = torch.tensor(row_lengths, dtype=torch.int64)
    queries = torch.cat([torch.tensor([n_prefix] * computed, dtype=torch.int64), lengths])
    keys = torch.cat([torch.tensor([prefix] * computed, dtype=torch.int64), lengths + prefix])
    begin = keys.cumsum(0) - keys
    prefix_at = (begin[:, None] + torch.arange(prefix)).reshape(-1)
    n_own = int(lengths.sum())
    before = (begin[computed:] + prefix) - (lengths.cumsum(0) - lengths)
    own_at = before.repeat_interleave(lengths) + torch.arange(n_own)
    source = torch.empty(len(prefix_at) + n_own, dtype=torch.int64)
    source[prefix_at] = torch.arange(prefix).repeat(len(keys))
    source[own_at] = prefix + torch.arange(n_own)
    return VarlenLayout(
        F.pad(queries.cumsum(0), (1, 0)).to(device, torch.int32),
        F.pad(keys.cumsum(0), (1, 0)).to(device, torch.int32),
        int(queries.max()),
        int(keys.max()),
        prefix,
        source.to(device),
        prefix_at.to(device),
        own_at.to(device),
    )


def varlen_attention(
    layout: VarlenLayout, query: Tensor, key: Tensor, value: Tensor, past: tuple[Tensor, Tensor], how: Scores
) -> Tensor:
    """Attention of a whole pass: query [T, H, D], key and value [T, K, D], past 2 x [P0, K, D] -> [T, H, D].

    The kernel has no soft cap: that of `how` must be None.
    """
    if past[0].shape[0]:
        key, value = (torch.cat(pair) for pair in zip(past, (key, value), strict=True))
    keys, values = (_BeforeEachRow.apply(t, layout) for t in (key, value))  # type: ignore[no-untyped-call]
    out: Tensor = _Flash.apply(query, keys, values, layout, how.scale, how.window)  # type: ignore[no-untyped-call]
    return out


class _BeforeEachRow(torch.autograd.Function):
    """Past, prefix and rows in a line [P + R, K, D] -> [L, K, D]: the prefix (if computed), prefix and row, ..."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, layout: VarlenLayout) -> Tensor:
        ctx.layout = layout
        return keys.index_select(0, layout.at)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        gradient, layout = upstream[0], ctx.layout
        own = gradient.index_select(0, layout.own_at)
        if not layout.prefix:
            return own, None
        shared = gradient.index_select(0, layout.prefix_at).view(-1, layout.prefix, *gradient.shape[1:])
        return torch.cat([shared.sum(0, dtype=torch.float32).to(gradient.dtype), own]), None


class _Flash(torch.autograd.Function):
    """torch's kernel and its backward. Its public name (`varlen_attn`) changed its arguments between releases."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: VarlenLayout, scale: float, window: int | None
    ) -> Tensor:
        ctx.layout, ctx.options = layout, _options(scale, window)
        out, lse, rng, unused, _ = torch.ops.aten._flash_attention_forward(
            query, key, value, layout.cu_q, layout.cu_k, layout.max_q, layout.max_k, 0.0, True, False, **ctx.options
        )
        ctx.save_for_backward(query, key, value, out, lse, rng, unused)
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value, out, lse, rng, unused = ctx.saved_tensors
        layout, given = ctx.layout, upstream[0].contiguous()
        of_seqs = (layout.cu_q, layout.cu_k, layout.max_q, layout.max_k)
        with _in_one_order():
            gradients = torch.ops.aten._flash_attention_backward(
                given, query, key, value, out, lse, *of_seqs, 0.0, True, rng, unused, **ctx.options
            )
        return (*gradients, None, None, None)


@contextmanager
def _in_one_order() -> Iterator[None]:
    """Let the kernel add up gradients in one order, so that a training can be repeated bit by bit."""
    before = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warn)


def _options(scale: float, window: int | None) -> dict[str, Any]:
    sides = {} if window is None else {"window_size_left": window - 1, "window_size_right": 0}
    return {"scale": scale, **sides}
