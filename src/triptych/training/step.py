"""One optimizer step: which rows, how they are cut into forward passes, and the gradient.

    epoch 0:  shuffle(seed, 0)  ─►  step 0 │ step 1 │ … │ (last, may be short)       decided by the seed alone
    step:     sorted by length  ─►  pass │ pass │ …          at most batch_size rows and tokens_per_pass tokens each

    loss of a step = sum of NLL over all scored tokens of all its rows / number of those tokens

The denominator is that of the whole step and is divided by once in each pass, so how the step is cut into passes
(accumulation) changes nothing but rounding. Rows of a pass that begin alike (the prompt's preamble) have that beginning
computed once; its gradient is the sum of theirs, as it would be computed row by row. With dropout the beginning is
not shared, since each row draws its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from triptych.likelihood.head import Head
from triptych.likelihood.passes import common_prefix, is_packable, pass_nll, reference_nll
from triptych.models import LoadedModel
from triptych.models.lora import cast_once
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


def accumulate_gradient(
    loaded: LoadedModel,
    head: Head,
    rows: Sequence[Rendered],
    *,
    max_rows: int,
    max_tokens: int,
    n_scored: int | None = None,
    share_prefix: bool = True,
    packed: bool = True,
) -> float:
    """Add the step's gradient to the trainable parameters' `.grad`; returns the rows' NLL in nats, summed.

    Args:
        loaded: the model, with an adapter on it.
        head: its output head.
        rows: the rows of the step, or one rank's share of them (which may be none).
        max_rows: of a pass, as `max_tokens`.
        max_tokens: of a pass.
        n_scored: scored tokens of the whole step, by which the sum is divided; None: of `rows`.
        share_prefix: compute a common beginning once.
        packed: whether the model can compute rows side by side (`Scorer.packed`); else one row at a time.
    """
    denominator = n_scored or sum(row.n_scored for row in rows)
    total = 0.0
    with cast_once(loaded.model):
        together = [row for row in rows if packed and is_packable(loaded, len(row.ids))]
        for batch in passes_of(together, max_rows=max_rows, max_tokens=max_tokens):
            n_prefix = common_prefix(batch) if share_prefix and len(batch) > 1 else 0
            with torch.enable_grad():
                total += _backward(pass_nll(loaded, head, batch, n_prefix), denominator)
        for row in rows:
            if not packed or not is_packable(loaded, len(row.ids)):
                with torch.enable_grad():
                    total += _backward(reference_nll(loaded, row), denominator)
    return total


def _backward(nll: Tensor, denominator: int) -> float:
    summed = nll.sum()
    (summed / denominator).backward()  # type: ignore[no-untyped-call]
    return summed.item()
