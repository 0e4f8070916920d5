"""The scorer: NLL of each row's scored tokens, exact, whatever else is scored with it.

    rows ──► tree of shared prefixes ──► passes of bounded tokens ──► hidden states at scored positions ──► NLL

Whether a model can be computed this way is not assumed but tried: before the first row, a probe is scored here and by
the model's own forward, and if they differ the scorer uses the model's own forward for all, one row at a time, and
says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.errors import ModelError, ScoringError
from triptych.likelihood.attention import PrefixKV, Unsupported
from triptych.likelihood.head import Head, head_of
from triptych.likelihood.passes import own_forward_nll, pass_nll, prefix_kv
from triptych.likelihood.plan import Branch, batches, plan_branches
from triptych.models import LoadedModel
from triptych.prompts import Rendered
from triptych.records import ItemScore

__all__ = ["RowNLL", "Scorer", "to_items"]

logger = logging.getLogger(__name__)

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""


@dataclass(frozen=True, slots=True)
class RowNLL:
    """NLL of each scored token of a row, in nats."""

    tokens: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def nll_nats(self) -> float:
        """The sum, carried in double precision and independent of order."""
        return math.fsum(self.tokens.tolist())


class Scorer:
    """Scores rendered rows on one loaded model, with whatever adapter is switched on at the time.

    Args:
        loaded: the model.
        budget_tokens: tokens of one forward pass; None takes a default for the device. It bounds memory, and
            changes no result beyond float rounding.
        packed: None tries packed passes against the model's own forward; False never uses them.
    """

    def __init__(self, loaded: LoadedModel, *, budget_tokens: int | None = None, packed: bool | None = None) -> None:
        self.loaded = loaded
        self.budget = budget_tokens or (8192 if loaded.device.type == "cuda" else 2048)
        self.head: Head = head_of(loaded.model)
        self.packed = self._probe() if packed is None else packed

    @torch.inference_mode()
    def score(self, rows: Sequence[Rendered], progress: Progress | None = None) -> list[RowNLL]:
        """NLL of each row, in the order given.

        Raises:
            ScoringError: NaN or infinity, with the row named.
            ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
        """
        self._check_lengths(rows)
        results: list[RowNLL | None] = [None] * len(rows)

        def done(indices: Sequence[int], nlls: Sequence[Tensor]) -> None:
            for index, nll in zip(indices, nlls, strict=True):
                results[index] = _checked(rows[index], nll)
            if progress is not None:
                progress(len(indices))

        if not self.packed:
            for index, row in enumerate(rows):
                done([index], [own_forward_nll(self.loaded, row).cpu()])
        elif rows:
            self._walk(plan_branches(rows), None, rows, done)
        return [result for result in results if result is not None]

    def _walk(
        self,
        branch: Branch,
        past: PrefixKV | None,
        rows: Sequence[Rendered],
        done: Callable[[Sequence[int], Sequence[Tensor]], None],
    ) -> None:
        """Compute a branch's prefix, its rows, then its children; its KV is released on return."""
        if branch.end > branch.start:
            past = prefix_kv(self.loaded, branch.ids[: branch.end], past)
        lengths = [len(row.ids) - branch.end for row in rows]
        for batch in batches(branch.rows, lengths, branch.end, budget=self.budget):
            these = [rows[i] for i in batch]
            nll = pass_nll(self.loaded, self.head, these, branch.end, past)
            done(batch, torch.split(nll.cpu(), [row.n_scored for row in these]))
        for child in branch.children:
            self._walk(child, past, rows, done)

    @torch.inference_mode()
    def _probe(self) -> bool:
        """Whether packed passes give what the model's own forward gives."""
        rows = _probe_rows(self.loaded)
        try:
            ours: list[Tensor] = []
            branch = plan_branches(rows, saves=1)
            self._walk(branch, None, rows, lambda _, nlls: ours.extend(nlls))
        except (Unsupported, AttributeError, LookupError, NotImplementedError, TypeError, RuntimeError) as error:
            logger.warning("this model can't share prefixes (%s): rows are scored one by one", error)
            return False
        theirs = [own_forward_nll(self.loaded, rows[i]).cpu() for i in _visited(branch, rows)]
        difference = (torch.cat(ours) - torch.cat(theirs)).abs().mean().item()
        # 16-bit rounding alone moves these random tokens' NLL by about 1 % (measured: 0.2 of 19 nats); a mask or a
        # position that is wrong moves them by far more
        allowed = 1e-3 if self.loaded.dtype == torch.float32 else 0.05 * torch.cat(theirs).mean().item()
        if difference > allowed or math.isnan(difference):
            logger.warning(
                "packed passes differ from this model's own forward by %.3g nats a token: rows are scored one by one",
                difference,
            )
            return False
        return True

    def _check_lengths(self, rows: Sequence[Rendered]) -> None:
        limit = self.loaded.max_tokens
        for row in rows:
            if limit is not None and len(row.ids) > limit:
                raise ModelError(
                    "a row is longer than the model's context",
                    where=f"row {row.row_id!r}",
                    found=f"{len(row.ids)} tokens",
                    expected=f"at most {limit}",
                    fix="render with max_tokens no larger than the model's context",
                )
            if max(row.ids) >= self.head.weight.shape[0]:
                raise ModelError(
                    "a token is not in the model's vocabulary: this tokenizer belongs to another model",
                    where=f"row {row.row_id!r}",
                    found=f"token id {max(row.ids)}",
                    expected=f"less than {self.head.weight.shape[0]}",
                    fix="use the tokenizer that the model was trained with",
                )


def _visited(branch: Branch, rows: Sequence[Rendered]) -> list[int]:
    """Row indices in the order `_walk` finishes them."""
    lengths = [len(row.ids) - branch.end for row in rows]
    own = [i for batch in batches(branch.rows, lengths, branch.end, budget=1 << 30) for i in batch]
    return own + [i for child in branch.children for i in _visited(child, rows)]


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


def _checked(row: Rendered, nll: Tensor) -> RowNLL:
    if not bool(torch.isfinite(nll).all()):
        bad = int((~torch.isfinite(nll)).nonzero()[0])
        raise ScoringError(
            f"the model gives no finite likelihood for row {row.row_id!r}: scored token {bad + 1} of {row.n_scored} "
            f"(id {row.ids[row.n_prompt + bad]}) has NLL {nll[bad].item()}.\n"
            "  to mend it: check the weights are whole; with float16, try bfloat16 or float32"
        )
    return RowNLL(nll.numpy().astype(np.float32))


def to_items(rows: Sequence[Rendered], nlls: Sequence[RowNLL]) -> list[ItemScore]:
    """Join what was rendered and what it cost into records."""
    return [
        ItemScore(
            id=row.row_id,
            nll_nats=nll.nll_nats,
            n_tokens=row.n_scored,
            n_chars=row.n_chars,
            n_prompt_tokens=row.n_prompt,
            n_demos=len(row.demo_ids),
            n_demos_dropped=row.n_demos_dropped,
            demo_ids=row.demo_ids,
        )
        for row, nll in zip(rows, nlls, strict=True)
    ]
