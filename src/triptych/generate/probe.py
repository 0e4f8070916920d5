"""Whether a model's rows can be decoded together: tried as `likelihood.probe` tries packed rows."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from triptych.generate.attention import DecodeBatch
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.head import head_of
from triptych.likelihood.probe import Trial, why_not
from triptych.models import LoadedModel
from triptych.prompts import Rendered

logger = logging.getLogger(__name__)


def can_decode_together(loaded: LoadedModel) -> bool:
    """Try whether rows can be continued side by side behind a shared prefix; a no is said, with the reason.

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
