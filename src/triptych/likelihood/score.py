"""The scorer: NLL of each row's scored tokens, exact, independent of the rows that are scored with it.

    rows ──► in the cache? ──► tree of shared prefixes ──► passes of bounded tokens ──► NLL at scored positions

Whether a model can be computed this way is not assumed but tried (`probe`); if it can't, the model's own forward is
used for all, one row at a time, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from triptych.errors import ScoringError
from triptych.likelihood.cache import ScoreCache, Scored
from triptych.likelihood.checks import Floats, check_nll, check_rows
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.head import Head, head_of
from triptych.likelihood.passes import in_halves, is_packable, pass_nll, prefix_kv, reference_nll
from triptych.likelihood.plan import Branch, batches, default_budget, plan_branches
from triptych.likelihood.probe import can_be_packed
from triptych.models import LoadedModel, active_adapter_sha256
from triptych.models.device import trim_malloc
from triptych.prompts import Rendered
from triptych.records import ItemScore

Progress = Callable[[int], None]
"""Called with the number of rows just finished."""
Done = Callable[[Sequence[int], Sequence[Tensor]], None]
"""Called with rows and what was computed of each."""


@dataclass(frozen=True, slots=True)
class RowNLL:
    """NLL of each scored token of a row, in nats."""

    tokens: Floats
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

    def score(self, rows: Sequence[Rendered], progress: Progress | None = None) -> list[RowNLL]:
        """NLL of each row, in the order given.

        Raises:
            ScoringError: NaN, infinity or a likelihood too small to have a perplexity, with the row named.
            ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
        """
        check_rows(self.loaded, rows)

        def check(index: int, nll: Floats) -> None:
            check_nll(rows[index], nll)

        arrays, cached = self.numbers(rows, lambda part: _Rows(self, [rows[i] for i in part]), check, progress)
        return [RowNLL(nll, index in cached) for index, nll in enumerate(arrays)]

    @torch.inference_mode()
    def numbers(
        self,
        contents: Sequence[Scored],
        work: Callable[[Sequence[int]], Work],
        check: Callable[[int, Floats], None],
        progress: Progress | None,
    ) -> tuple[list[Floats], set[int]]:
        """The numbers of each content, from the cache or computed; and which were in the cache.

        Args:
            contents: what the cache knows them by.
            work: how the contents at some places are computed.
            check: raises ScoringError for numbers that can't be used; such ones of the cache are computed again.
            progress: told of contents that are done.
        """
        adapter = active_adapter_sha256(self.loaded.model) if self.cache else None
        found = self.cache.get(contents, adapter) if self.cache else [None] * len(contents)
        cached = {i: nll for i, nll in enumerate(found) if nll is not None and _is_usable(check, i, nll)}
        missing = [index for index in range(len(contents)) if index not in cached]
        if progress is not None and cached:
            progress(len(cached))
        computed: dict[int, Floats] = {}

        def done(places: Sequence[int], numbers: Sequence[Tensor]) -> None:
            for place, tensor in zip(places, numbers, strict=True):
                computed[missing[place]] = tensor.numpy().astype(np.float32)
                check(missing[place], computed[missing[place]])
            if progress is not None:
                progress(len(places))

        self.compute(work(missing), done)
        if missing and self.loaded.device.type == "cpu":
            trim_malloc()
        if self.cache and missing:
            # only when all are there: a cell that was cut short is computed whole, and comes out bit by bit the same
            self.cache.put([contents[i] for i in missing], adapter, [computed[i] for i in missing])
        known = cached | computed
        return [known[index] for index in range(len(contents))], set(cached)

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


def _is_usable(check: Callable[[int, Floats], None], index: int, nll: Floats) -> bool:
    try:
        check(index, nll)
    except ScoringError:
        return False
    return True


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
