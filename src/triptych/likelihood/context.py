"""Attention of our own inside a model's decoder, for one forward pass: what scoring, training and decoding share.

A pass has tokens and their positions, and computes attention between them. While it is installed, the
model's own attention modules call it through transformers' attention interface, after their projections, norms and
rotary embedding: those stay the model's own.

Shape legend used below:
    T tokens of the pass   B rows   P prefix length   H query heads   K key/value heads   G = H / K   D head size
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

BLOCK = 256
"""Queries attended at a time where scores are written out, and on a CPU."""
_NAME = "triptych"
# What some architectures pass that changes the result and that is not handled here.
_UNHANDLED = ("s_aux", "sinks", "position_bias", "alibi", "cu_seq_lens_q")


class Unsupported(Exception):
    """This architecture's attention can't be computed here; the caller falls back to whole forwards."""


@dataclass
class PrefixKV:
    """Keys and values of a prefix, per attention module: each [1, K, P, D]."""

    length: int
    layers: dict[Any, tuple[Tensor, Tensor]]


class Scores(NamedTuple):
    """How a module turns products of queries and keys into scores."""

    scale: float
    window: int | None = None
    """Keys a query sees, itself included; None: all before it."""
    softcap: float | None = None


class Pass(Protocol):
    """One forward pass: its tokens, their positions, and attention between them."""

    @property
    def ids(self) -> Tensor:
        """[T]"""

    def positions(self) -> Tensor:
        """[T] position of each token in its own sequence."""

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, how: Scores) -> Tensor:
        """Query [1, H, T, D], key and value [1, K, T, D] of one module -> [T, H, D], contiguous."""


_current: Pass | None = None


def forward(model: Any, step: Pass) -> Tensor:
    """Last hidden states of a pass, [T, C], through the model's own decoder.

    Raises:
        Unsupported: the architecture asks of attention what isn't implemented here.
    """
    decoder = model.get_decoder()
    with _installed(decoder, step):
        out = decoder(input_ids=step.ids[None], position_ids=step.positions()[None], use_cache=False)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def resumable(model: Any) -> Callable[[], AbstractContextManager[None]]:
    """A function whose context installs the present pass again, after its end.

    For activation checkpointing, which computes blocks of the pass again in the backward.
    """
    step = _current
    return nullcontext if step is None else lambda: _installed(model.get_decoder(), step)


@contextmanager
def _installed(decoder: Any, step: Pass) -> Iterator[None]:
    global _current
    config = decoder.config
    before, outer = config._attn_implementation, _current
    config._attn_implementation, _current = _NAME, step
    try:
        yield
    finally:
        config._attn_implementation, _current = before, outer


def attention(
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
    step = _current
    if step is None or attention_mask is not None or dropout or any(kwargs.get(n) is not None for n in _UNHANDLED):
        raise Unsupported(f"{type(module).__name__} passes what packed attention doesn't handle")
    if query.shape[1] % key.shape[1] or not getattr(module, "is_causal", True):
        raise Unsupported(f"{type(module).__name__} is not causal attention with grouped heads")
    how = Scores(scaling if scaling is not None else query.shape[-1] ** -0.5, sliding_window, softcap)
    return step.attend(module, query, key, value, how)[None], None


def causal_mask(query: Tensor, keys: range, window: int | None, dtype: torch.dtype) -> Tensor:
    """Positions of queries [..., Q] and of keys -> [..., Q, L] added to scores: 0 where a query sees, else -inf."""
    query, key = query[..., None], torch.arange(keys.start, keys.stop, device=query.device)
    allowed = key <= query
    if window is not None:
        allowed &= query - key < window
    return torch.zeros(allowed.shape, dtype=dtype, device=query.device).masked_fill_(~allowed, float("-inf"))


def times_shared(left: Tensor, right: Tensor) -> Tensor:
    """[B, K, G, b, m] x [K, m, n], the same for all rows -> [B, K, G, b, n]."""
    rows, kv_heads, groups, queries, inner = left.shape
    flat = left.transpose(0, 1).reshape(kv_heads, rows * groups * queries, inner) @ right
    return flat.view(kv_heads, rows, groups, queries, -1).transpose(0, 1)


def times_own(left: Tensor, right: Tensor) -> Tensor:
    """[B, K, G, b, m] x [B, K, m, n], each row its own -> [B, K, G, b, n]."""
    rows, kv_heads, groups, queries, inner = left.shape
    out = left.reshape(rows, kv_heads, groups * queries, inner) @ right
    return out.view(rows, kv_heads, groups, queries, -1)


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, attention)


_register()
