"""Attention of rows that are decoded together: a shared prefix stored once, each row's own tokens side by side.

A pass gets new tokens in one line, [1, T], some of each row: at first what is left of its prompt, then one at a time.

    shared prefix, once          own tokens, row by row          this pass
    ──────────── P ───────────   row 1 ────── n1 ───             a new token at s of row b stands at P + nb + s
                                 row 2 ── n2                     and sees the prefix, its row's nb, and [: s + 1]
                                 row 3 ──────── n3

Nothing is padded in the linear layers. Keys and values are stored in slots, which are grown now and then; a mask hides
what a row has not written.

Shape legend used below:
    T tokens of the pass   B rows   S most new tokens of a row   P prefix length   C slots   L keys
    H query heads   K key/value heads   G = H / K   D head size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from triptych.likelihood.context import BLOCK, PrefixKV, Scores, causal_mask, forward, times_own, times_shared

_GROWTH = 64  # slots added at a time: growing copies all of them

_KV = tuple[Tensor, Tensor]


class DecodeBatch:
    """Rows behind one prefix (or none), with the keys and values of all their tokens so far."""

    def __init__(self, model: Any, prefix: PrefixKV | None, n_rows: int) -> None:
        self._model, self._device = model, model.get_decoder().device
        self.n_prefix = prefix.length if prefix else 0
        # scores are computed in float32; on a CPU, where converting is slow, the prefix is stored in it
        self._prefix = {m: (_stored(k[0]), _stored(v[0])) for m, (k, v) in prefix.layers.items()} if prefix else {}
        self._own: dict[Any, _KV] = {}
        self.lengths = [0] * n_rows
        """Own tokens held of each row."""
        self._slots = 0

    def extend(
        self, tokens: Sequence[Sequence[int]], *, first: int = 0, advance: Sequence[bool] | None = None
    ) -> Tensor:
        """Compute new tokens of the rows `first`, `first + 1`, …, one or more of each; `Unsupported` if it can't.

        `advance`: False for rows whose new tokens are not stored (finished ones that are still in the batch).
        Returns [B, C], the hidden state of each row's last new token.
        """
        counts = [len(part) for part in tokens]
        held = self.lengths[first : first + len(counts)]
        self._slots = max(self._slots, *(n + count for n, count in zip(held, counts, strict=True)))
        ids = torch.tensor([token for part in tokens for token in part], device=self._device)
        states = forward(self._model, _DecodePass(ids, self, first, held, counts))
        for i, count in enumerate(counts):
            if advance is None or advance[i]:
                self.lengths[first + i] += count
        return states.index_select(0, torch.tensor(counts, device=self._device).cumsum(0) - 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        at = torch.tensor(rows, device=self._device)
        self.lengths = [self.lengths[row] for row in rows]
        self._slots = max(self.lengths)
        for module, (keys, values) in self._own.items():
            self._own[module] = tuple(t[:, :, : self._slots].index_select(0, at) for t in (keys, values))  # type: ignore[assignment]

    def prefix_of(self, module: Any, like: Tensor) -> _KV:
        """Keys and values of the prefix in a layer, each [K, P, D]; empty ones where there is no prefix."""
        empty = like[0, :, :0]
        return self._prefix.get(module, (empty, empty))

    def slots_of(self, module: Any, like: Tensor) -> _KV:
        """Keys and values of a layer's rows, each [B, K, C, D], C at least what is needed now; written in place."""
        keys, values = self._own.get(module, (None, None))
        if keys is None or values is None or keys.shape[2] < self._slots:
            n_slots = -(-self._slots // _GROWTH) * _GROWTH
            shape = (len(self.lengths), like.shape[1], n_slots, like.shape[3])
            new = tuple(_stored(like.new_zeros(shape)) for _ in range(2))
            for old, fresh in zip((keys, values), new, strict=True):
                if old is not None:
                    fresh[:, :, : old.shape[2]] = old
            self._own[module] = keys, values = new  # type: ignore[assignment]
        return keys, values


def _stored(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.device.type == "cpu" else tensor


@dataclass
class _DecodePass:
    """One forward pass: its rows, how many new tokens each has, and their positions."""

    ids: Tensor
    """[T]"""
    batch: DecodeBatch
    first: int
    held: Sequence[int]
    """Own tokens of each row before this pass."""
    counts: Sequence[int]
    """New tokens of each row."""
    rows: Tensor = field(init=False)
    """[T] row of each token."""
    slots: Tensor = field(init=False)
    """[T] slot of each token in its row."""
    spread: Tensor | None = field(init=False, default=None)
    """[B*S] place in the line, a row's last token repeated where the row is shorter; None where none is."""
    gather: Tensor | None = field(init=False, default=None)
    """[T] place in B*S."""
    _masks: dict[Any, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        device = self.ids.device
        counts = torch.tensor(self.counts, device=device)
        self._held = torch.tensor(self.held, device=device)
        starts = counts.cumsum(0) - counts
        steps = torch.arange(self.longest, device=device)[None]
        inside = steps < counts[:, None]
        row, step = inside.nonzero(as_tuple=True)
        self.rows, self.slots = row + self.first, self._held[row] + step
        if min(self.counts) < self.longest:
            self.spread = (starts[:, None] + torch.minimum(steps, counts[:, None] - 1)).reshape(-1)
            self.gather = inside.reshape(-1).nonzero().squeeze(1)

    def positions(self) -> Tensor:
        """[T] position of each token in its own sequence."""
        return self.slots + self.batch.n_prefix

    @property
    def longest(self) -> int:
        """S."""
        return max(self.counts)

    def reach(self, begin: int, end: int, window: int | None) -> tuple[int, int]:
        """First and last + 1 position that any query of [begin:end] sees."""
        low = 0 if window is None else max(0, self.batch.n_prefix + min(self.held) + begin - window + 1)
        return low, self.batch.n_prefix + min(max(self.held) + end, self.batch._slots)

    def mask(self, begin: int, end: int, window: int | None) -> Tensor:
        """[B, 1, 1, end - begin, L] added to the scores: 0 where a query may look, -inf where not."""
        key = (begin, end, window)
        if key not in self._masks:
            first = self.batch.n_prefix + self._held[:, None]
            query = first + torch.arange(begin, end, device=self.ids.device)
            mask = causal_mask(query, range(*self.reach(begin, end, window)), window, torch.float32)
            self._masks[key] = mask[:, None, None]
        return self._masks[key]

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, how: Scores) -> Tensor:
        """Write the new keys and values to their slots; query [1, H, T, D] -> [T, H, D]."""
        heads, kv_heads = query.shape[1], key.shape[1]
        own = []
        for slots, new in zip(self.batch.slots_of(module, key), (key, value), strict=True):
            slots[self.rows, :, self.slots] = new[0].transpose(0, 1).to(slots.dtype)
            own.append(slots[self.first : self.first + len(self.counts)])
        line = query[0].transpose(0, 1)
        if self.spread is not None:
            line = line.index_select(0, self.spread)
        side = line.reshape(len(self.counts), self.longest, heads, -1).transpose(1, 2)
        grouped = side.reshape(len(self.counts), kv_heads, heads // kv_heads, self.longest, -1)
        out = _attend(self, grouped, self.batch.prefix_of(module, key), own, how)
        out = out.view(side.shape).transpose(1, 2).reshape(line.shape)
        if self.gather is not None:
            out = out.index_select(0, self.gather)
        return out.to(query.dtype).contiguous()  # some modules take a view of it


def _attend(step: _DecodePass, query: Tensor, prefix: _KV, own: Sequence[Tensor], how: Scores) -> Tensor:
    """query [B, K, G, S, D], prefix 2 x [K, P, D], own 2 x [B, K, C, D] -> [B, K, G, S, D] float32.

    The prefix's keys and values meet all rows' queries in one product, without a copy per row.
    """
    scale, window, softcap = how
    n_prefix = prefix[0].shape[1]
    blocks = []
    for begin in range(0, step.longest, BLOCK):
        end = min(begin + BLOCK, step.longest)
        low, high = step.reach(begin, end, window)
        seen = slice(min(low, n_prefix), n_prefix)
        slots = slice(max(0, low - n_prefix), high - n_prefix)
        block = query[:, :, :, begin:end].float() * scale
        before = times_shared(block, prefix[0][:, seen].float().transpose(1, 2))
        beside = times_own(block, own[0][:, :, slots].float().transpose(2, 3))
        scores = torch.cat([before, beside], -1)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        probs = scores.add_(step.mask(begin, end, window)).softmax(-1)
        n_seen = seen.stop - seen.start
        out = times_own(probs[..., n_seen:], own[1][:, :, slots].float())
        if n_seen:
            out += times_shared(probs[..., :n_seen], prefix[1][:, seen].float())
        blocks.append(out)
    return torch.cat(blocks, 3) if len(blocks) > 1 else blocks[0]
