"""The scorer: NLL of each row's scored tokens, exact, independent of the rows that are scored with it.

    rows ──► in the cache? ──► tree of shared prefixes ──► passes of bounded tokens ──► NLL at scored positions

Whether a model can be computed this way is not assumed but tried (`probe`); if it can't, the model's own forward is
used for all, one row at a time, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from triptych.errors import ModelError, ScoringError
from triptych.likelihood.cache import ScoreCache
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.head import Head, head_of
from triptych.likelihood.passes import in_halves, is_packable, pass_nll, prefix_kv, reference_nll
from triptych.likelihood.plan import Branch, batches, default_budget, plan_branches
from triptych.likelihood.probe import can_be_packed
from triptych.models import LoadedModel, active_adapter_sha256
from triptych.models.device import trim_malloc
from triptych.prompts import Rendered, RenderedPrompt
from triptych.records import ItemScore

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""
Done = Callable[[Sequence[int], Sequence[Tensor]], None]
"""Called with rows and what was computed of each."""

_MOST_NATS = 700.0  # exp() of more per token is beyond double precision


@dataclass(frozen=True, slots=True)
class RowNLL:
    """NLL of each scored token of a row, in nats."""

    tokens: np.ndarray[Any, np.dtype[np.float32]]
    cached: bool = False
    """Whether it was in the cache."""

    @property
    def nll_nats(self) -> float:
        """The sum, carried in double precision and independent of order."""
        return math.fsum(self.tokens.tolist())


class Work(Protocol):
    """What is computed of some rows; they are known by their places in `rows`."""

    @property
    def rows(self) -> Sequence[Rendered]:
        """By their prompts it is planned which prefixes are shared."""

    def tokens(self, row: int) -> int:
        """Tokens that a row takes in a pass, its whole prompt included."""

    def longest(self, row: int) -> int:
        """Tokens of its longest sequence."""

    def alone(self, row: int) -> Tensor:
        """By the model's own forward."""

    def together(self, part: list[int], n_prefix: int, past: PrefixKV | None) -> Sequence[Tensor]:
        """In one pass, behind a prefix of `n_prefix` tokens that `past` holds; a tensor a row, on the CPU."""


class Scorer:
    """Scores rendered rows on one loaded model, with the adapter that is enabled at the time, if any.

    Args:
        loaded: the model.
        budget_tokens: tokens of one forward pass; None finds them from free memory. It bounds memory (beyond one
            shared prefix), and changes no result beyond float rounding.
        packed: None tries packed passes against the model's own forward; False never uses them.
        cache: scores of earlier runs, by content; None computes everything.
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
        cached = self.cache.get(rows, adapter) if self.cache else [None] * len(rows)
        results = [None if nll is None else _from_cache(row, nll) for row, nll in zip(rows, cached, strict=True)]
        missing = [index for index, result in enumerate(results) if result is None]
        if progress is not None and len(missing) < len(rows):
            progress(len(rows) - len(missing))

        def done(indices: Sequence[int], nlls: Sequence[Tensor]) -> None:
            for index, nll in zip(indices, nlls, strict=True):
                results[missing[index]] = checked(rows[missing[index]], nll)
            if progress is not None:
                progress(len(indices))

        self.compute(_Rows(self, [rows[index] for index in missing]), done)
        if missing and self.loaded.device.type == "cpu":
            trim_malloc()
        nlls = [result for result in results if result is not None]
        if self.cache and missing:
            # only when all are there: a cell that was cut short is computed whole, and comes out bit by bit the same
            self.cache.put([rows[i] for i in missing], adapter, [nlls[i].tokens for i in missing])
        return nlls

    def compute(self, work: Work, done: Done) -> None:
        """Compute each row as `work` says: in passes over shared prefixes, or alone where it can't be packed."""
        every = range(len(work.rows))
        alone = [i for i in every if not self.packed or not is_packable(self.loaded, work.longest(i))]
        for index in alone:
            done([index], [work.alone(index).cpu()])
        together = sorted(set(every) - set(alone))
        if together:
            branch = plan_branches([work.rows[index] for index in together], indices=together)
            self._walk(branch, None, work, done)

    def _walk(self, branch: Branch, past: PrefixKV | None, work: Work, done: Done) -> None:
        """Compute a branch's prefix, its rows, then its children; its KV is released on return."""
        if branch.end > branch.start:
            past = prefix_kv(self.loaded, branch.ids[: branch.end], past)
        lengths = {row: work.tokens(row) - branch.end for row in branch.rows}
        for batch in batches(branch.rows, lengths, branch.end, budget=self.budget):
            # where memory runs out, in several passes: the budget is halved for each split and stays so
            parts = in_halves(self.loaded, batch, partial(work.together, n_prefix=branch.end, past=past))
            self.budget = max(1, self.budget >> (len(parts) - 1))
            for part, nlls in parts:
                done(part, nlls)
        for child in branch.children:
            self._walk(child, past, work, done)


class _Rows:
    """Rows with their outputs."""

    def __init__(self, scorer: Scorer, rows: Sequence[Rendered]) -> None:
        self.scorer, self.rows = scorer, rows

    def tokens(self, row: int) -> int:
        return len(self.rows[row].ids)

    longest = tokens

    def alone(self, row: int) -> Tensor:
        return reference_nll(self.scorer.loaded, self.rows[row])

    def together(self, part: list[int], n_prefix: int, past: PrefixKV | None) -> Sequence[Tensor]:
        rows = [self.rows[i] for i in part]
        nll = pass_nll(self.scorer.loaded, self.scorer.head, rows, n_prefix, past).cpu()
        return torch.split(nll, [row.n_scored for row in rows])


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


def checked(row: Rendered, nll: Tensor) -> RowNLL:
    """A row's NLL, [n_scored], if it can be used.

    Raises:
        ScoringError: a number is not finite, or too large for a perplexity.
    """
    if not bool(torch.isfinite(nll).all()):
        bad = int((~torch.isfinite(nll)).nonzero()[0])
        raise ScoringError(
            f"the model gives no finite likelihood for row {row.row_id!r}: scored token {bad + 1} of {row.n_scored} "
            f"(id {row.ids[row.n_prompt + bad]}) has NLL {nll[bad].item()}.\n"
            "  to fix it: check the weights are whole; with float16, try bfloat16 or float32"
        )
    if (mean := nll.mean().item()) > _MOST_NATS:
        raise ScoringError(
            f"row {row.row_id!r} costs {mean:.0f} nats a token: its perplexity is too large for a float.\n"
            "  to fix it: if an adapter is enabled, it has diverged: train with a lower lr"
        )
    return RowNLL(nll.numpy().astype(np.float32))


def _from_cache(row: Rendered, tokens: np.ndarray[Any, np.dtype[np.float32]]) -> RowNLL | None:
    """A row's numbers from the cache, checked as computed ones are; None where they fail: they are computed again."""
    try:
        return replace(checked(row, torch.from_numpy(tokens)), cached=True)
    except ScoringError:
        return None


def to_items(rows: Sequence[Rendered], nlls: Sequence[RowNLL]) -> list[ItemScore]:
    """Records of rows and their NLL."""
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
