"""The scorer: NLL of each row's scored tokens, exact, whatever else is scored with it.

    rows ──► known already? ──► tree of shared prefixes ──► passes of bounded tokens ──► NLL at scored positions

Whether a model can be computed this way is not assumed but tried (`probe`); if it can't, the model's own forward is
used for all, one row at a time, and that is said.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from triptych.errors import ModelError, ScoringError
from triptych.likelihood.cache import ScoreCache
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.head import Head, head_of
from triptych.likelihood.passes import is_packable, pass_nll, prefix_kv, reference_nll
from triptych.likelihood.plan import Branch, batches, plan_branches
from triptych.likelihood.probe import can_be_packed
from triptych.likelihood.sizes import default_budget
from triptych.models import LoadedModel, active_adapter_sha256
from triptych.models.device import out_of_memory, trim_malloc
from triptych.prompts import Rendered
from triptych.records import ItemScore

logger = logging.getLogger(__name__)

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""

_MOST_NATS = 700.0  # exp() of more per token is beyond double precision


class _Tokens(Protocol):
    """A rendered row, or a prompt alone."""

    @property
    def row_id(self) -> str: ...
    @property
    def ids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class RowNLL:
    """NLL of each scored token of a row, in nats."""

    tokens: np.ndarray[Any, np.dtype[np.float32]]
    cached: bool = False
    """Whether it was known already."""

    @property
    def nll_nats(self) -> float:
        """The sum, carried in double precision and independent of order."""
        return math.fsum(self.tokens.tolist())


class Scorer:
    """Scores rendered rows on one loaded model, with whatever adapter is switched on at the time.

    Args:
        loaded: the model.
        budget_tokens: tokens of one forward pass; None finds them from free memory. It bounds memory (beyond one
            shared prefix), and changes no result beyond float rounding.
        packed: None tries packed passes against the model's own forward; False never uses them.
        cache: scores known already, by content; None computes everything.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        budget_tokens: int | None = None,
        packed: bool | None = None,
        cache: ScoreCache | None = None,
    ) -> None:
        self.loaded = loaded
        self.cache = cache
        self.budget = budget_tokens or default_budget(loaded)
        self.packed = can_be_packed(loaded) if packed is None else packed

    @property
    def head(self) -> Head:
        """The output head with what adapters add to it now."""
        return head_of(self.loaded.model)

    @torch.inference_mode()
    def score(self, rows: Sequence[Rendered], progress: Progress | None = None) -> list[RowNLL]:
        """NLL of each row, in the order given.

        Raises:
            ScoringError: NaN, infinity or a likelihood too small to have a perplexity, with the row named.
            ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
        """
        check_rows(self.loaded, rows)
        adapter = active_adapter_sha256(self.loaded.model) if self.cache else None
        known = self.cache.get(rows, adapter) if self.cache else [None] * len(rows)
        results = [None if nll is None else _known(row, nll) for row, nll in zip(rows, known, strict=True)]
        missing = [index for index, result in enumerate(results) if result is None]
        if progress is not None and len(missing) < len(rows):
            progress(len(rows) - len(missing))

        def done(indices: Sequence[int], nlls: Sequence[Tensor]) -> None:
            for index, nll in zip(indices, nlls, strict=True):
                results[missing[index]] = _checked(rows[missing[index]], nll)
            if progress is not None:
                progress(len(indices))

        self._compute([rows[index] for index in missing], done)
        if missing and self.loaded.device.type == "cpu":
            trim_malloc()
        found = [result for result in results if result is not None]
        if self.cache and missing:
            # only when all are there: a cell that was cut short is computed whole, and comes out bit by bit the same
            self.cache.put([rows[i] for i in missing], adapter, [found[i].tokens for i in missing])
        return found

    def _compute(self, rows: Sequence[Rendered], done: Callable[[Sequence[int], Sequence[Tensor]], None]) -> None:
        alone = [i for i, row in enumerate(rows) if not self.packed or not is_packable(self.loaded, row)]
        for index in alone:
            done([index], [reference_nll(self.loaded, rows[index]).cpu()])
        together = sorted(set(range(len(rows))) - set(alone))
        if together:
            packed = [rows[index] for index in together]
            self._walk(plan_branches(packed), None, packed, lambda part, nlls: done([together[i] for i in part], nlls))

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
            for part, nll in self._pass(batch, rows, branch.end, past):
                done(part, torch.split(nll.cpu(), [rows[i].n_scored for i in part]))
        for child in branch.children:
            self._walk(child, past, rows, done)

    def _pass(
        self, batch: list[int], rows: Sequence[Rendered], n_prefix: int, past: PrefixKV | None
    ) -> list[tuple[list[int], Tensor]]:
        """One pass, or, where memory runs out, two of half the rows, and so on; the budget stays halved."""
        try:
            return [(batch, pass_nll(self.loaded, self.head, [rows[i] for i in batch], n_prefix, past))]
        except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a plain RuntimeError on a CPU
            if len(batch) == 1 or not out_of_memory(error):
                raise
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        self.budget = max(1, self.budget // 2)
        logger.warning("out of memory with %d rows in a pass: going on with at most half", len(batch))
        half = len(batch) // 2
        return self._pass(batch[:half], rows, n_prefix, past) + self._pass(batch[half:], rows, n_prefix, past)


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


def check_vocabulary(loaded: LoadedModel, rows: Sequence[_Tokens]) -> None:
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


def _checked(row: Rendered, nll: Tensor) -> RowNLL:
    if not bool(torch.isfinite(nll).all()):
        bad = int((~torch.isfinite(nll)).nonzero()[0])
        raise ScoringError(
            f"the model gives no finite likelihood for row {row.row_id!r}: scored token {bad + 1} of {row.n_scored} "
            f"(id {row.ids[row.n_prompt + bad]}) has NLL {nll[bad].item()}.\n"
            "  to fix it: check the weights are whole; with float16, try bfloat16 or float32"
        )
    if (mean := nll.mean().item()) > _MOST_NATS:
        raise ScoringError(
            f"row {row.row_id!r} costs {mean:.0f} nats a token: no number holds its perplexity.\n"
            "  to fix it: if an adapter is on, it has diverged: train with a lower lr"
        )
    return RowNLL(nll.numpy().astype(np.float32))


def _known(row: Rendered, tokens: np.ndarray[Any, np.dtype[np.float32]]) -> RowNLL | None:
    """What the cache has of a row, held to what is asked of computed numbers; None where it fails: it is computed."""
    try:
        return replace(_checked(row, torch.from_numpy(tokens)), cached=True)
    except ScoringError:
        return None


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
