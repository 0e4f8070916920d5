"""Whether a model's rows can be continued together: tried on two made-up rows, against the model's own forward."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from triptych.generate.attention import Continued
from triptych.likelihood.attention import Unsupported
from triptych.likelihood.head import Head
from triptych.likelihood.passes import own_forward_nll, prefix_kv
from triptych.models import LoadedModel
from triptych.prompts import Rendered

__all__ = ["can_be_continued"]

logger = logging.getLogger(__name__)

_PROMPTS = (9, 5)  # own prompt tokens of the two rows
_STEPS = 6  # tokens continued one at a time


@torch.inference_mode()
def can_be_continued(loaded: LoadedModel, head: Head) -> bool:
    """Continue two rows behind one prefix, both ways; a difference or an error is a no, and a warning says why."""
    rows = _made_rows(loaded)
    n_prefix = rows[0].n_prompt - _PROMPTS[0]
    try:
        batch = Continued(loaded.model, prefix_kv(loaded, rows[0].ids[:n_prefix], None), len(rows))
        hidden = batch.extend([row.ids[n_prefix : row.n_prompt] for row in rows])
        ours = []
        for step in range(_STEPS):
            tokens = [row.ids[row.n_prompt + step] for row in rows]
            ours.append(head.nll(hidden, torch.tensor(tokens, device=hidden.device)))
            hidden = batch.extend([[token] for token in tokens])
    except (Unsupported, AttributeError, LookupError, NotImplementedError, TypeError, RuntimeError) as error:
        logger.warning("this model's rows can't be written together (%s): they are written one by one", error)
        return False
    theirs = torch.stack([own_forward_nll(loaded, row) for row in rows], 1)
    difference = (torch.stack(ours) - theirs).abs().mean().item()
    # as in the scorer's probe: 16-bit rounding moves these by about 1 %, a wrong mask or position by far more
    allowed = 1e-3 if loaded.dtype == torch.float32 else 0.05 * theirs.mean().item()
    if difference > allowed or math.isnan(difference):
        logger.warning(
            "rows written together differ from the model's own forward by %.3g nats a token: written one by one",
            difference,
        )
        return False
    return True


def _made_rows(loaded: LoadedModel) -> list[Rendered]:
    """Two rows of unlike length behind a prefix longer than the sliding window, if there is a window in reach."""
    config: Any = loaded.model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    limit = min(loaded.max_tokens or 2048, 2048)
    n_prefix = window + 8 if window + 64 < limit else 24
    usable = min(config.vocab_size, 50_000)

    def ids(n: int, step: int) -> tuple[int, ...]:
        return tuple((i * step + 17) % usable for i in range(n))

    prefix = ids(n_prefix, 7919)
    return [
        Rendered(f"probe {n}", prefix + ids(n + _STEPS, 31 + 26 * at), n_prefix + n, 1) for at, n in enumerate(_PROMPTS)
    ]
