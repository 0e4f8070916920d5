"""Whether a model can be computed packed: tried on two made-up rows, against the model's own forward."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from triptych.likelihood.attention import Unsupported
from triptych.likelihood.head import Head
from triptych.likelihood.passes import common_prefix, own_forward_nll, pass_nll, prefix_kv
from triptych.models import LoadedModel
from triptych.prompts import Rendered

__all__ = ["can_be_packed"]

logger = logging.getLogger(__name__)


@torch.inference_mode()
def can_be_packed(loaded: LoadedModel, head: Head) -> bool:
    """Score two rows behind one prefix, both ways; a difference or an error is a no, with a warning that says why."""
    rows = _probe_rows(loaded)
    try:
        n_prefix = common_prefix(rows)
        ours = pass_nll(loaded, head, rows, n_prefix, prefix_kv(loaded, rows[0].ids[:n_prefix], None))
    except (Unsupported, AttributeError, LookupError, NotImplementedError, TypeError, RuntimeError) as error:
        logger.warning("this model can't share prefixes (%s): rows are scored one by one", error)
        return False
    theirs = torch.cat([own_forward_nll(loaded, row) for row in rows])
    difference = (ours - theirs).abs().mean().item()
    # 16-bit rounding alone moves these random tokens' NLL by about 1 % (measured: 0.2 of 19 nats); a mask or a
    # position that is wrong moves them by far more
    allowed = 1e-3 if loaded.dtype == torch.float32 else 0.05 * theirs.mean().item()
    if difference > allowed or math.isnan(difference):
        logger.warning(
            "packed passes differ from this model's own forward by %.3g nats a token: rows are scored one by one",
            difference,
        )
        return False
    return True


def _probe_rows(loaded: LoadedModel) -> list[Rendered]:
    """Two rows of unlike length behind a prefix longer than the sliding window, if there is a window in reach."""
    config: Any = loaded.model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    limit = min(loaded.max_tokens or 2048, 2048)
    n_prefix = window + 8 if window + 64 < limit else 24
    usable = min(config.vocab_size, 50_000)

    def ids(n: int, step: int) -> tuple[int, ...]:
        return tuple((i * step + 17) % usable for i in range(n))

    prefix = ids(n_prefix, 7919)
    return [Rendered(f"probe {n}", prefix + ids(n, step), n_prefix + 2, 1) for n, step in ((18, 31), (31, 57))]
