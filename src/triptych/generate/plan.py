"""What is written together: rows that share a prefix, in batches of bounded size.

A batch is written from its first token to its last row's end; then the next begins. Which rows share one depends on
the prompts and the limits alone, not on their order nor on which of them are written already: a batch that was cut
short is written again whole, and comes out bit by bit the same, 16-bit rounding included.

Whether a model's rows can be decoded together is tried, as `likelihood.probe` tries packed rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from triptych.generate.attention import DecodeBatch
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.head import head_of
from triptych.likelihood.plan import Branch, default_budget, kv_bytes, plan_branches
from triptych.likelihood.probe import Trial, why_not
from triptych.models import LoadedModel
from triptych.models.device import free_memory
from triptych.models.shape import sizes_of
from triptych.prompts import Rendered, RenderedPrompt

logger = logging.getLogger(__name__)
_GROUP_SAVES = 4096
"""Tokens a longer shared prefix must save to be worth batches of its own: about what a batch of few rows wastes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a batch. They bound memory and change no token beyond float rounding."""

    rows: int
    """Rows written at a time."""
    kv_tokens: int
    """Tokens whose keys and values are held at a time, a shared prefix counted once."""
    pass_tokens: int
    """Prompt tokens of one forward pass."""

    def record(self) -> dict[str, int]:
        """For a part file: the run that resumes it uses the same."""
        return asdict(self)


def choose_limits(loaded: LoadedModel, rows: int | None = None) -> Limits:
    """Limits from the memory that is free now: a quarter of it for keys and values."""
    sizes = sizes_of(loaded.model.config.get_text_config())
    width = torch.float32.itemsize if loaded.device.type == "cpu" else loaded.dtype.itemsize
    most = rows or (64 if loaded.device.type == "cpu" else 256)
    return Limits(most, max(1024, free_memory(loaded.device) // 4 // kv_bytes(sizes, width)), default_budget(loaded))


def plan_groups(prompts: Sequence[RenderedPrompt]) -> Branch:
    """The tree of shared prefixes; each branch's own rows are a group. Prefixes leave each row its last token."""
    return plan_branches([Rendered(p.row_id, p.ids, len(p.ids), 0) for p in prompts], saves=_GROUP_SAVES)


def decode_batches(rows: Sequence[int], own: Sequence[int], new: Sequence[int], limits: Limits) -> Iterator[list[int]]:
    """Cut a group's rows into batches, longest prompts first: similar lengths together, long outputs early.

    Args:
        rows: indices into `own` and `new`, in an order that depends on their tokens alone.
        own: prompt tokens of each row beyond the shared prefix.
        new: most new tokens of each row.
        limits: bounds; a batch has at least one row.
    """
    batch: list[int] = []
    longest = 0
    for row in sorted(rows, key=lambda i: -own[i]):
        longer = max(longest, own[row] + new[row])
        if batch and (len(batch) == limits.rows or (len(batch) + 1) * longer > limits.kv_tokens):
            yield batch
            batch, longer = [], own[row] + new[row]
        batch.append(row)
        longest = longer
    if batch:
        yield batch


def can_decode_together(loaded: LoadedModel) -> bool:
    """Try whether rows can be continued side by side behind a shared prefix; if not, warn and say why.

    Raises:
        ModelError: the model's own forward fails, or it is not causal.
    """
    reason = why_not(loaded, _DECODED)
    if reason:
        logger.warning("this model's rows can't be written together (%s): they are written one by one", reason)
    return not reason


def _decoded(loaded: LoadedModel, rows: list[Rendered], n_prefix: int, past: PrefixKV) -> list[Tensor]:
    """NLL of each row's last tokens, each token from the hidden state that the step before gave."""
    head = head_of(loaded.model)
    batch = DecodeBatch(loaded.model, past, len(rows))
    hidden = batch.extend([row.ids[past.length : row.n_prompt] for row in rows])
    nlls = []
    for step in range(rows[0].n_scored):
        tokens = [row.ids[row.n_prompt + step] for row in rows]
        nlls.append(head.nll(hidden, torch.tensor(tokens, device=hidden.device)))
        hidden = batch.extend([[token] for token in tokens])
    return list(torch.stack(nlls, 1))


_DECODED = Trial("decoded", _decoded, prompts=(9, 5), scored=(6, 6), compared=2)
