"""Attention over packed rows that share a prefix. No padding in the layers, no row attends to another.

A forward pass gets its tokens in one line, [1, T]:

    past (KV from an earlier pass)    this pass
    ────────────── P0 ──────────────  prefix P1 │ row 1 │ row 2 │ … │ row B          T = P1 + sum of row lengths

    prefix token at i   sees   past, prefix[: i + 1]
    row token at s      sees   past, prefix, its own row[: s + 1]                     never another row

Linear layers, norms and activations run over exactly T tokens; only attention lays the rows out side by side, as
[B, S] with S the longest row. Rows are right-padded there, and causality alone hides the padding. Position ids are
given explicitly, so a row begins where it would begin in its own sequence: at P0 + P1.

Shape legend used below:
    T tokens of the pass   B rows   S longest row   P = P0 + P1 prefix length   L keys
    H query heads   K key/value heads   G = H / K   D head size (values may have one of their own: MLA)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.likelihood.context import BLOCK, PrefixKV, Scores, causal_mask, times_own, times_shared
from triptych.likelihood.varlen import VarlenLayout, can_use_varlen, varlen_attention, varlen_layout


def attention_path(device: str, itemsize: int) -> Literal["varlen", "fused", "blocks"]:
    """How attention is usually computed on `cpu` or `cuda` in a dtype of `itemsize` bytes; memory estimates use it too.

    `varlen`: nothing is padded. `fused`: rows side by side through torch's kernel, also where the varlen kernel doesn't
    take the head size. `blocks`: rows side by side with scores written out, also where they are soft-capped.
    """
    if itemsize != 2:
        return "fused"
    return "varlen" if device == "cuda" else "blocks"


@dataclass
class Pack:
    """One forward pass: its tokens, their positions, and which of them each one attends to."""

    ids: Tensor
    """[T]"""
    n_prefix: int
    """P1: leading tokens of the pass that all rows share."""
    lengths: Sequence[int]
    """Tokens of each row, in the order they follow the prefix."""
    past: PrefixKV | None = None
    keep_kv: bool = False
    """Collect the prefix's keys and values (past included) for later passes."""
    layers: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)
    causal: ClassVar[bool] = True
    """Whether a row's tokens see all before them in the row."""
    _masks: dict[Any, Tensor] = field(default_factory=dict)

    @property
    def n_past(self) -> int:
        """P0."""
        return self.past.length if self.past else 0

    def positions(self) -> Tensor:
        """[T] position of each token in its own sequence."""
        device = self.ids.device
        start = self.n_past + self.n_prefix
        parts = [torch.arange(self.n_past, start, device=device)]
        parts += [torch.arange(start, start + n, device=device) for n in self.lengths]
        return torch.cat(parts)

    @cached_property
    def layout(self) -> Tensor:
        """[R] place of each token of the rows, one after another, when the rows are side by side as [B*S]."""
        device = self.ids.device
        lengths = torch.tensor(self.lengths, device=device)
        inside = torch.arange(max(self.lengths), device=device)[None] < lengths[:, None]
        return inside.reshape(-1).nonzero().squeeze(1)

    @cached_property
    def varlen(self) -> VarlenLayout:
        """Where the sequences begin and end, for the kernel that takes rows of unlike lengths."""
        return varlen_layout(self.lengths, self.n_past, self.n_prefix, self.ids.device)

    def mask(self, n_queries: int, n_before: int, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """[G*S, n_before + S] added to the scores: 0 where a query may look, -inf where not.

        The `n_before` keys are the last ones before the queries, so distance alone decides, in the prefix as well.
        """
        key = (n_queries, n_before, window, groups)
        if key not in self._masks:
            query = torch.arange(n_queries, device=self.ids.device) + n_before
            self._masks[key] = causal_mask(query, range(n_before + n_queries), window, dtype).repeat(groups, 1)
        return self._masks[key]

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, how: Scores) -> Tensor:
        """Attention of one module: query [1, H, T, D], key and value [1, K, T, D] -> [T, H, D]."""
        p1 = self.n_prefix
        past = self.past.layers[module] if self.past else (key[:, :, :0], value[:, :, :0])
        prefix = past
        if p1:
            prefix = (torch.cat([past[0], key[:, :, :p1]], 2), torch.cat([past[1], value[:, :, :p1]], 2))
        if self.keep_kv:
            self.layers[module] = (prefix[0].contiguous(), prefix[1].contiguous())
        plain = self.causal and how.softcap is None
        if plain and can_use_varlen(query) and value.shape[-1] == query.shape[-1]:
            own = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
            before = (past[0][0].transpose(0, 1), past[1][0].transpose(0, 1))
            return varlen_attention(self.varlen, own[0], own[1], own[2], before, how)
        parts = []
        if p1:
            parts.append(attend_causally(self, query[:, :, :p1], key[:, :, :p1], value[:, :, :p1], past, how))
        if self.lengths:
            rows = [tensor[0, :, p1:].transpose(0, 1) for tensor in (query, key, value)]
            parts.append(self.attend_rows(rows, prefix, how))
        return torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()  # some modules take a view of it

    def attend_rows(self, rows: list[Tensor], prefix: tuple[Tensor, Tensor], how: Scores) -> Tensor:
        """Query, key and value of the rows in a line, each [R, heads, D], behind a prefix -> [R, H, D]."""
        n_rows, longest = len(self.lengths), max(self.lengths)
        ragged = min(self.lengths) < longest
        if ragged:
            places = self.layout
            rows = [_Spread.apply(t, places, n_rows * longest) for t in rows]  # type: ignore[no-untyped-call]
        query, key, value = (t.reshape(n_rows, longest, *t.shape[1:]).transpose(1, 2) for t in rows)
        out = attend_causally(self, query, key, value, prefix, how)
        return out.index_select(0, places) if ragged else out


class _Spread(torch.autograd.Function):
    """[R, ...] to its places among n, zeros elsewhere: what is computed there is never read.

    Gathering from repeated places would work too, but its gradient is a sum, whose order is undefined on a GPU; and
    torch's own `index_copy` keeps its input until the backward.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(n, *rows.shape[1:]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return upstream[0].index_select(0, places), None, None


def attend_causally(
    pack: Pack, query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor], how: Scores
) -> Tensor:
    """query [B, H, S, D], own key and value [B, K, S, D], shared prefix 2 x [1, K, P, D] -> [B*S, H, D]."""
    n_rows, heads, n_queries, _ = query.shape
    fused = how.softcap is None and attention_path(query.device.type, query.itemsize) != "blocks"
    out = (_attend_fused if fused else _attend_in_blocks)(pack, query, key, value, prefix, how)
    return out.transpose(1, 2).reshape(n_rows * n_queries, heads, value.shape[-1])


def _attend_fused(
    pack: Pack, query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor], how: Scores
) -> Tensor:
    """torch's fused kernel over prefix and own keys laid side by side. [B, H, S, D]"""
    window = how.window
    n_rows, heads, n_queries, size = query.shape
    kv_heads, n_prefix = key.shape[1], prefix[0].shape[2]
    # a query of a window of w sees at most the w - 1 keys before its row
    reach = n_prefix if window is None else min(window - 1, n_prefix)
    if reach:
        shared = (t[:, :, n_prefix - reach :].expand(n_rows, -1, -1, -1) for t in prefix)
        key, value = (torch.cat(pair, 2) for pair in zip(shared, (key, value), strict=True))
    groups = heads // kv_heads
    grouped = query.reshape(n_rows, kv_heads, groups, n_queries, size)
    # with a mask the kernel computes every pair; a block of queries at a time, it gets only keys that one of them sees
    step = BLOCK if query.device.type == "cpu" else n_queries
    blocks = []
    for first in range(0, n_queries, step):
        last = min(first + step, n_queries)
        low = 0 if window is None else max(0, reach + first - window + 1)
        # the G query heads of one key head become G*b queries of it: keys are read once and never repeated
        folded = grouped[:, :, :, first:last].reshape(n_rows, kv_heads, groups * (last - first), size)
        keys, values = (t[:, :, low : reach + last] for t in (key, value))
        mask = pack.mask(last - first, reach + first - low, window, groups, query.dtype)
        out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=how.scale)
        blocks.append(out.reshape(n_rows, kv_heads, groups, last - first, -1))
    out = blocks[0] if len(blocks) == 1 else torch.cat(blocks, 3)
    return out.reshape(n_rows, heads, n_queries, -1)


def _attend_in_blocks(
    pack: Pack, query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor], how: Scores
) -> Tensor:
    """Plain attention, a block of queries at a time with only the keys it can see; scores and softmax in float32.

    All rows' queries meet the shared prefix's keys in one product, without a copy per row. Its values are laid beside
    each row's own: two products added up would be rounded to 16 bits twice, which raised the error
    against float32 by half (measured). On a CPU in bfloat16 all this is faster than torch's fused kernel
    (docs/experiments.md), and it is where soft-capped scores (Gemma 2) are computed on every device. [B, H, S, D]
    """
    scale, window, softcap = how
    n_rows, heads, n_queries, size = query.shape
    kv_heads, n_prefix = key.shape[1], prefix[0].shape[2]
    groups = heads // kv_heads
    grouped = query.reshape(n_rows, kv_heads, groups, n_queries, size)
    prefix_k, own_k = prefix[0][0].float(), key.float()
    values = torch.cat([prefix[1].expand(n_rows, -1, -1, -1), value], 2) if n_prefix else value
    mask = pack.mask(n_queries, n_prefix, window, 1, torch.float32)
    blocks = []
    for first in range(0, n_queries, BLOCK):
        last = min(first + BLOCK, n_queries)
        low = 0 if window is None else max(0, n_prefix + first - window + 1)
        from_prefix, from_own = min(low, n_prefix), max(0, low - n_prefix)
        block = grouped[:, :, :, first:last].float()  # [B, K, G, b, D]
        before = times_shared(block, prefix_k[:, from_prefix:].transpose(1, 2))
        own = times_own(block, own_k[:, :, from_own:last].transpose(2, 3))
        scores = torch.cat([before, own], -1).mul_(scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        probs = (scores + mask[first:last, low : n_prefix + last]).softmax(-1).to(value.dtype)
        blocks.append(times_own(probs, values[:, :, low : n_prefix + last]))
    return torch.cat(blocks, 3).view(n_rows, heads, n_queries, -1)
