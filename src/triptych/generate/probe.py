"""Whether a model's rows can be continued together: tried as `likelihood.probe` tries packed rows."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from triptych.generate.attention import Continued
from triptych.likelihood.head import head_of
from triptych.likelihood.passes import prefix_kv
from triptych.likelihood.probe import own_nll, probe_rows, require_close, require_independent, why_not
from triptych.models import LoadedModel
from triptych.prompts import Rendered

__all__ = ["can_be_continued"]

logger = logging.getLogger(__name__)

_PROMPTS, _SCORED = (9, 5), (6, 6)  # own prompt tokens of the two rows, and tokens continued one at a time


@torch.inference_mode()
def can_be_continued(loaded: LoadedModel) -> bool:
    """Try whether rows can be continued side by side behind a shared prefix; a no is said, with the reason.

    Raises:
        ModelError: the model's own forward fails, or it is not causal.
    """
    reason = why_not(loaded, _together, _on_small_copy)
    if reason:
        logger.warning("this model's rows can't be written together (%s): they are written one by one", reason)
    return not reason


def _together(loaded: LoadedModel) -> None:
    """Two rows continued at once, and again with the other's text changed."""
    n_prefix, rows = probe_rows(loaded, _PROMPTS, _SCORED)
    theirs = _own(loaded, rows)
    ours = _continued(loaded, rows, n_prefix)
    moved = 0.0
    for changed in (0, 1):
        others = _continued(loaded, probe_rows(loaded, _PROMPTS, _SCORED, changed)[1], n_prefix)
        moved = max(moved, (others[1 - changed] - ours[1 - changed]).abs().max().item())
    require_independent(loaded, moved, theirs)
    require_close(loaded, ours, theirs)


def _on_small_copy(twin: LoadedModel) -> float:
    """Nats a token, at most, between rows continued together and the model's own forward."""
    n_prefix, rows = probe_rows(twin, _PROMPTS, _SCORED)
    return (_continued(twin, rows, n_prefix) - _own(twin, rows)).abs().max().item()


def _own(loaded: LoadedModel, rows: list[Rendered]) -> Tensor:
    return torch.stack([own_nll(loaded, row) for row in rows])


def _continued(loaded: LoadedModel, rows: list[Rendered], n_prefix: int) -> Tensor:
    """[2, n_scored] NLL of the rows' last tokens, each from the hidden state that the step before gave."""
    head = head_of(loaded.model)
    batch = Continued(loaded.model, prefix_kv(loaded, rows[0].ids[:n_prefix], None), len(rows))
    hidden = batch.extend([row.ids[n_prefix : row.n_prompt] for row in rows])
    nlls = []
    for step in range(rows[0].n_scored):
        tokens = [row.ids[row.n_prompt + step] for row in rows]
        nlls.append(head.nll(hidden, torch.tensor(tokens, device=hidden.device)))
        hidden = batch.extend([[token] for token in tokens])
    return torch.stack(nlls, 1)
