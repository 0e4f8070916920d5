"""One forward pass over a few rows, and the NLL of their scored tokens. Scoring and training both go through here."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor

from triptych.likelihood.attention import Pack
from triptych.likelihood.context import PrefixKV, forward
from triptych.likelihood.head import Head
from triptych.models import LoadedModel
from triptych.models.device import out_of_memory
from triptych.models.rope import reset_rope
from triptych.prompts import Rendered

logger = logging.getLogger(__name__)
T = TypeVar("T")


def is_packable(loaded: LoadedModel, n_tokens: int) -> bool:
    """Whether a row may share a pass: not one that is so long that its rotary frequencies depend on its length."""
    return loaded.rope_limit is None or n_tokens <= loaded.rope_limit


def pass_nll(
    loaded: LoadedModel, head: Head, rows: Sequence[Rendered], n_prefix: int, past: PrefixKV | None = None
) -> Tensor:
    """NLL in nats of the scored tokens of some rows that agree in their first `n_prefix` tokens.

    What `past` holds of the prefix is read from it; the rest of the prefix is computed here, once for all rows (and
    takes part in the gradient, if there is one). Returns [sum of n_scored] float32, row after row.
    """
    start = past.length if past else 0
    # the last token (EOS) predicts nothing, so it isn't computed
    own = [row.ids[n_prefix:-1] for row in rows]
    lengths = [len(part) for part in own]
    line = [*rows[0].ids[start:n_prefix], *(token for part in own for token in part)]
    # the token at position t is predicted by the hidden state at t - 1
    firsts = accumulate(lengths[:-1], initial=n_prefix - start)
    where = [
        first + row.n_prompt - 1 - n_prefix + i
        for first, row in zip(firsts, rows, strict=True)
        for i in range(row.n_scored)
    ]
    targets = [token for row in rows for token in row.ids[row.n_prompt :]]
    # everything is sent to a GPU before it is asked to compute: a transfer waits for the work that is queued
    ids, at, expected = _tensor(line, loaded), _tensor(where, loaded), _tensor(targets, loaded)
    hidden = forward(loaded.model, Pack(ids, n_prefix - start, lengths, past))
    return head.nll(hidden.index_select(0, at), expected)


def prefix_kv(loaded: LoadedModel, ids: Sequence[int], past: PrefixKV | None) -> PrefixKV:
    """Keys and values of a prefix `ids` that continues what `past` holds."""
    start = past.length if past else 0
    pack = Pack(_tensor(ids[start:], loaded), len(ids) - start, (), past, keep_kv=True)
    forward(loaded.model, pack)
    return PrefixKV(len(ids), pack.layers)


def reference_nll(loaded: LoadedModel, row: Rendered) -> Tensor:
    """NLL by the model's own forward and whole logits: the slow way that works for every model. [n_scored]"""
    if not is_packable(loaded, len(row.ids)):
        reset_rope(loaded.model)
    logits = loaded.model(input_ids=_tensor(row.ids, loaded)[None], use_cache=False).logits[0]
    logprobs: Tensor = logits[row.n_prompt - 1 : -1].float().log_softmax(-1)
    targets = _tensor(row.ids[row.n_prompt :], loaded)
    return -logprobs.gather(1, targets[:, None]).squeeze(1)


def own_states(loaded: LoadedModel, ids: Sequence[int], last: int) -> tuple[Tensor, Tensor]:
    """Last hidden states [n, C] of a sequence by the model's own forward, and logits of the `last` positions [last, V].

    Logits of all positions are not made where the model can be asked not to: a vocabulary may have 262,144 words.
    """
    states: list[Tensor] = []

    def on_output(_module: Any, _args: Any, out: Any) -> None:
        states.append(out.last_hidden_state if hasattr(out, "last_hidden_state") else out[0])

    handle = loaded.model.get_decoder().register_forward_hook(on_output)
    few = "logits_to_keep" in inspect.signature(type(loaded.model).forward).parameters
    try:
        options = {"logits_to_keep": last} if few else {}
        logits = loaded.model(input_ids=_tensor(ids, loaded)[None], use_cache=False, **options).logits[0]
    finally:
        handle.remove()
    return states[0][0], logits[-last:]


def in_halves(loaded: LoadedModel, rows: list[int], compute: Callable[[list[int]], T]) -> list[tuple[list[int], T]]:
    """What `compute` returns for these rows; where memory runs out, for each half of them, and so on."""
    try:
        return [(rows, compute(rows))]
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a plain RuntimeError on a CPU
        if len(rows) == 1 or not out_of_memory(error):
            raise
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()
    half = len(rows) // 2
    logger.warning("out of memory with %d rows at a time: continuing with half", len(rows))
    return in_halves(loaded, rows[:half], compute) + in_halves(loaded, rows[half:], compute)


def common_prefix(rows: Sequence[Rendered]) -> int:
    """How many leading tokens all rows share, ending before the last prompt token of each."""
    shared = min(row.n_prompt - 1 for row in rows)
    first = rows[0].ids
    for row in rows[1:]:
        shared = next((i for i in range(shared) if row.ids[i] != first[i]), shared)
    return shared


def _tensor(ids: Sequence[int], loaded: LoadedModel) -> Tensor:
    return torch.tensor(ids, device=loaded.device)
