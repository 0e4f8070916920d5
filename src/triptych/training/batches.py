"""Which rows make up each optimizer step, and how a step is cut into forward passes.

The first is decided by the seed alone; the second by memory, and changes nothing but speed:

    epoch 0:  shuffle(seed, 0)  ─►  step 0 │ step 1 │ … │ (last, may be short)
    step:     sorted by length  ─►  pass │ pass │ …          at most batch_size rows and tokens_per_pass tokens each
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from triptych.prompts import Rendered


def rows_of_step(step: int, n_rows: int, rows_per_step: int, seed: int) -> list[int]:
    """Indices of the training rows of one optimizer step (from 0), epochs following one another."""
    per_epoch = -(-n_rows // rows_per_step)
    epoch, at = divmod(step, per_epoch)
    order = list(range(n_rows))
    # a string seed is hashed by `random` itself: the same order on every machine
    random.Random(f"triptych-order:{seed}:{epoch}").shuffle(order)
    return order[at * rows_per_step : (at + 1) * rows_per_step]


def passes_of(rows: Sequence[Rendered], *, max_rows: int, max_tokens: int) -> list[list[Rendered]]:
    """Cut the rows of a step into passes of rows of like length."""
    passes: list[list[Rendered]] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: (-len(row.ids), row.row_id)):
        if not passes or len(passes[-1]) == max_rows or tokens + len(row.ids) > max_tokens:
            passes.append([])
            tokens = 0
        passes[-1].append(row)
        tokens += len(row.ids)
    return passes
