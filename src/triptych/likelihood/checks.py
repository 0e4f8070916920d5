"""What can be wrong with rows for a model, before they are computed; and with their numbers, after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.errors import ModelError, ScoringError
from triptych.likelihood.head import head_of
from triptych.models import LoadedModel
from triptych.prompts import Rendered, RenderedPrompt

Floats = np.ndarray[Any, np.dtype[np.float32]]
_MOST_NATS = 700.0  # exp() of more per token is beyond double precision


def check_rows(loaded: LoadedModel, rows: Sequence[Rendered]) -> None:
    """Refuse rows that the model can't compute, before any of them is.

    Raises:
        ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
    """
    limit = loaded.max_tokens
    for row in rows:
        if limit is not None and len(row.ids) > limit:
            raise ModelError(
                "a row is longer than the model's context",
                where=f"row {row.row_id!r}",
                found=f"{len(row.ids)} tokens",
                expected=f"at most {limit}",
                fix="render with max_tokens no larger than the model's context",
            )
    check_vocabulary(loaded, rows)


def check_vocabulary(loaded: LoadedModel, rows: Sequence[Rendered | RenderedPrompt]) -> None:
    """Refuse rows or prompts with a token that the model has no embedding or no logit for.

    Raises:
        ModelError: one holds such a token.
    """
    vocabulary = min(e.weight.shape[0] for e in (loaded.model.get_input_embeddings(), head_of(loaded.model)))
    for row in rows:
        if max(row.ids) >= vocabulary:
            raise ModelError(
                "a token is not in the model's vocabulary: this tokenizer belongs to another model",
                where=f"row {row.row_id!r}",
                found=f"token id {max(row.ids)}",
                expected=f"less than {vocabulary}",
                fix="use the tokenizer that the model was trained with",
            )


def check_nll(row: Rendered, nll: Floats) -> None:
    """Check that a row's NLL, [n_scored], can be used.

    Raises:
        ScoringError: a number is not finite, or too large for a perplexity.
    """
    if not np.isfinite(nll).all():
        bad = int((~np.isfinite(nll)).nonzero()[0][0])
        raise ScoringError(
            f"the model gives no finite likelihood for row {row.row_id!r}: scored token {bad + 1} of {row.n_scored} "
            f"(id {row.ids[row.n_prompt + bad]}) has NLL {nll[bad]}.\n"
            "  to fix it: check the weights are whole; with float16, try bfloat16 or float32"
        )
    if (mean := float(nll.mean())) > _MOST_NATS:
        raise ScoringError(
            f"row {row.row_id!r} costs {mean:.0f} nats a token: its perplexity is too large for a float.\n"
            "  to fix it: if an adapter is enabled, it has diverged: train with a lower lr"
        )
