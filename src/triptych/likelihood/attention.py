"""Attention over packed rows that share a prefix. No padding in the layers, no row sees another.

A forward pass gets its tokens in one line, [1, T]:

    past (KV from an earlier pass)    this pass
    ────────────── P0 ──────────────  prefix P1 │ row 1 │ row 2 │ … │ row B          T = P1 + sum of row lengths

    prefix token at i   sees   past, prefix[: i + 1]
    row token at s      sees   past, prefix, its own row[: s + 1]                     never another row

Linear layers, norms and activations run over exactly T tokens; only attention lays the rows out side by side, as
[B, S] with S the longest row. Rows are right-padded there, and causality alone hides the padding. Position ids are
given explicitly, so a row stands where it would stand in its own sequence: at P0 + P1.

Shape legend used below:
    T tokens of the pass   B rows   S longest row   P = P0 + P1 prefix length   L keys
    H query heads   K key/value heads   G = H / K   D head size

The model's own attention modules call `packed_attention` through transformers' attention interface, after their
projections, norms and rotary embedding: those stay the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Pack", "PrefixKV", "Unsupported", "packed_forward"]

_NAME = "triptych_packed"
_BLOCK = 256  # queries attended at a time on a CPU
# What some architectures pass that changes the result and that is not handled here.
_UNHANDLED = ("s_aux", "sinks", "position_bias", "alibi", "cu_seq_lens_q")


class Unsupported(Exception):
    """This architecture's attention can't be computed here; the caller falls back to whole forwards."""


@dataclass
class PrefixKV:
    """Keys and values of a prefix, per attention module: each [1, K, P, D]."""

    length: int
    layers: dict[Any, tuple[Tensor, Tensor]]


@dataclass
class Pack:
    """One forward pass: which tokens, where they stand, who sees whom."""

    ids: Tensor
    """[T]"""
    n_prefix: int
    """P1: leading tokens of the pass that all rows share."""
    lengths: Sequence[int]
    """Tokens of each row, in the order they follow the prefix."""
    past: PrefixKV | None = None
    keep_kv: bool = False
    """Collect the prefix's keys and values (past included) for later passes."""
    kept: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _masks: dict[Any, Tensor] = field(default_factory=dict)
    _layout: tuple[Tensor, Tensor] | None = None

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

    def layout(self) -> tuple[Tensor, Tensor]:
        """How rows lie in a line and side by side: (spread [B*S] -> line, gather [line] -> B*S).

        `spread` repeats a row's last token where the row is shorter than S; what is computed there is never read.
        """
        if self._layout is None:
            device = self.ids.device
            lengths = torch.tensor(self.lengths, device=device)
            longest = max(self.lengths)
            starts = lengths.cumsum(0) - lengths
            steps = torch.arange(longest, device=device)
            spread = starts[:, None] + torch.minimum(steps[None], lengths[:, None] - 1)
            inside = steps[None] < lengths[:, None]
            self._layout = spread.reshape(-1), inside.reshape(-1).nonzero().squeeze(1)
        return self._layout

    def mask(self, n_queries: int, n_before: int, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """[G*S, n_before + S] added to the scores: 0 where a query may look, -inf where not.

        The `n_before` keys are the last ones before the queries, so distance alone decides, in the prefix as well.
        """
        key = (n_queries, n_before, window, groups)
        if key not in self._masks:
            device = self.ids.device
            query = torch.arange(n_queries, device=device)[:, None] + n_before
            position = torch.arange(n_before + n_queries, device=device)[None]
            allowed = position <= query
            if window is not None:
                allowed &= query - position < window
            mask = torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, float("-inf"))
            self._masks[key] = mask.repeat(groups, 1)
        return self._masks[key]


_current: Pack | None = None


def packed_forward(model: Any, pack: Pack) -> Tensor:
    """Last hidden states of a pass, [T, C], through the model's own decoder.

    Raises:
        Unsupported: the architecture asks of attention what isn't implemented here.
    """
    decoder = model.get_decoder()
    with _attention_of(decoder, pack):
        out = decoder(input_ids=pack.ids[None], position_ids=pack.positions()[None], use_cache=False)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


@contextmanager
def _attention_of(decoder: Any, pack: Pack) -> Iterator[None]:
    global _current
    config = decoder.config
    before, outer = config._attn_implementation, _current
    config._attn_implementation, _current = _NAME, pack
    try:
        yield
    finally:
        config._attn_implementation, _current = before, outer


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Called by each attention module: query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D]."""
    pack = _current
    if pack is None or attention_mask is not None or dropout or any(kwargs.get(n) is not None for n in _UNHANDLED):
        raise Unsupported(f"{type(module).__name__} passes what packed attention doesn't handle")
    if query.shape[1] % key.shape[1] or not getattr(module, "is_causal", True):
        raise Unsupported(f"{type(module).__name__} is not causal attention with grouped heads")
    p1 = pack.n_prefix
    prefix_k, prefix_v = key[:, :, :p1], value[:, :, :p1]
    parts = []
    if pack.past is not None:
        past_k, past_v = pack.past.layers[module]
        if p1:
            prefix_k, prefix_v = torch.cat([past_k, prefix_k], 2), torch.cat([past_v, prefix_v], 2)
        else:
            prefix_k, prefix_v = past_k, past_v
    if pack.keep_kv:
        pack.kept[module] = (prefix_k.contiguous(), prefix_v.contiguous())
    if p1:
        parts.append(_attend(pack, query[:, :, :p1], prefix_k, prefix_v, p1, scaling, sliding_window, softcap))
    if pack.lengths:
        rows = [tensor[0, :, p1:].transpose(0, 1) for tensor in (query, key, value)]
        parts.append(_attend_rows(pack, rows, prefix_k, prefix_v, scaling, sliding_window, softcap))
    out = torch.cat(parts) if len(parts) > 1 else parts[0]
    return out[None], None


def _attend_rows(
    pack: Pack,
    rows: list[Tensor],
    prefix_k: Tensor,
    prefix_v: Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Rows in a line, each [R, heads, D] -> their outputs [R, H, D]."""
    n_rows, longest = len(pack.lengths), max(pack.lengths)
    ragged = min(pack.lengths) < longest
    if ragged:
        spread, gather = pack.layout()
        rows = [tensor.index_select(0, spread) for tensor in rows]
    query, key, value = (t.reshape(n_rows, longest, *t.shape[1:]).transpose(1, 2) for t in rows)
    if prefix_k.shape[2]:
        # a query of a window of w sees at most the w - 1 keys before its row
        reach = prefix_k.shape[2] if window is None else min(window - 1, prefix_k.shape[2])
        start = prefix_k.shape[2] - reach
        key = torch.cat([prefix_k[:, :, start:].expand(n_rows, -1, -1, -1), key], 2)
        value = torch.cat([prefix_v[:, :, start:].expand(n_rows, -1, -1, -1), value], 2)
    out = _attend(pack, query, key, value, longest, scaling, window, softcap)
    return out.index_select(0, gather) if ragged else out


def _attend(
    pack: Pack,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    n_queries: int,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """query [B, H, S, D], key and value [B, K, L, D], the last S keys being the queries' own -> [B*S, H, D]."""
    n_rows, heads, _, size = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    # the G query heads of one key head become G*S queries of it: keys are read once and never repeated
    folded = query.reshape(n_rows, kv_heads, groups * n_queries, size)
    if softcap is None and not (query.device.type == "cpu" and query.dtype != torch.float32):
        mask = pack.mask(n_queries, key.shape[2] - n_queries, window, groups, query.dtype)
        out = F.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
        out = out.view(n_rows, heads, n_queries, size)
    else:
        scale = scaling if scaling is not None else size**-0.5
        out = _attend_in_blocks(pack, query, key, value, scale, window, softcap)
    return out.transpose(1, 2).reshape(n_rows * n_queries, heads, size)


def _attend_in_blocks(
    pack: Pack, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Plain attention, a block of queries at a time with only the keys it can see; softmax in float32.

    On a CPU in bfloat16 this is 1.3 to 7 times as fast as torch's fused kernel (docs/experiments.md), and it is where
    soft-capped scores (Gemma 2) are computed on every device.
    """
    n_rows, heads, n_queries, size = query.shape
    kv_heads, n_keys = key.shape[1], key.shape[2]
    groups, n_before = heads // kv_heads, n_keys - n_queries
    grouped = query.reshape(n_rows, kv_heads, groups, n_queries, size)
    mask = pack.mask(n_queries, n_before, window, 1, torch.float32)
    blocks = []
    for first in range(0, n_queries, _BLOCK):
        last = min(first + _BLOCK, n_queries)
        low = 0 if window is None else max(0, n_before + first - window + 1)
        high = n_before + last
        block = grouped[:, :, :, first:last].reshape(n_rows, kv_heads, groups * (last - first), size)
        scores = (block.float() @ key[:, :, low:high].float().transpose(2, 3)).mul_(scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores.view(n_rows, kv_heads, groups, last - first, high - low) + mask[first:last, low:high]
        shares = scores.softmax(-1).to(value.dtype).view(n_rows, kv_heads, groups * (last - first), high - low)
        blocks.append((shares @ value[:, :, low:high]).view(n_rows, kv_heads, groups, last - first, size))
    out = torch.cat(blocks, 3) if len(blocks) > 1 else blocks[0]
    return out.view(n_rows, heads, n_queries, size)


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, packed_attention)


_register()
