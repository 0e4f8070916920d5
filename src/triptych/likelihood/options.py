"""Option likelihood: the NLL of every option behind a row's prompt, and of its reference, in one pass.

    rows ──► in the cache? ──► tree of shared prefixes ──► each prompt once, its options as a trie ──► NLL of each

Each option gets the NLL that it has alone behind the prompt: it never sees another one. Where a model can't be
packed, each is computed by the model's own forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as cached
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.errors import ScoringError
from triptych.likelihood.branches import branches_nll
from triptych.likelihood.cache import Content
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.passes import reference_nll
from triptych.likelihood.score import Progress, RowNLL, Scorer, check_rows, checked
from triptych.likelihood.trie import Trie, trie_of
from triptych.models import active_adapter_sha256
from triptych.models.device import trim_malloc
from triptych.prompts import Rendered, RenderedOptions

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class OptionsNLL:
    """NLL of each token of a row's options and of its reference, in nats."""

    reference: RowNLL
    options: tuple[Floats, ...]
    """In the options' order; the last token of each is EOS, or the end of the turn."""


class _Options:
    """The work of scoring rows with their options (`score.Work`): edges of a trie for each row."""

    def __init__(self, scorer: Scorer, rows: Sequence[RenderedOptions], tries: Sequence[Trie]) -> None:
        self.scorer, self.given, self.tries = scorer, rows, tries
        self.rows = [row.row for row in rows]

    def tokens(self, row: int) -> int:
        return self.rows[row].n_prompt + len(self.tries[row].tokens)

    def longest(self, row: int) -> int:
        return self.rows[row].n_prompt + max(map(len, _answers(self.given[row])))

    def alone(self, row: int) -> Tensor:
        trie, one = self.tries[row], self.rows[row]
        edges = torch.empty(len(trie.targets))
        for answer, path in zip(_answers(self.given[row]), trie.paths, strict=True):
            sequence = Rendered(one.row_id, (*one.ids[: one.n_prompt], *answer), one.n_prompt, 0)
            edges[list(path)] = reference_nll(self.scorer.loaded, sequence).cpu()
        return edges

    def together(self, part: list[int], n_prefix: int, past: PrefixKV | None) -> Sequence[Tensor]:
        prompts = [self.rows[i].ids[: self.rows[i].n_prompt] for i in part]
        tries, scorer = [self.tries[i] for i in part], self.scorer
        return [nll.cpu() for nll in branches_nll(scorer.loaded, scorer.head, prompts, tries, n_prefix, past)]


@torch.inference_mode()
def score_options(
    scorer: Scorer, rows: Sequence[RenderedOptions], progress: Progress | None = None
) -> list[OptionsNLL]:
    """NLL of each row's options and reference, in the order given.

    Raises:
        ScoringError: an NLL is not finite, with the row named.
        ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
    """
    loaded, cache = scorer.loaded, scorer.cache
    trie = cached(trie_of)  # rows with the same options share one
    tries = [trie(_answers(row)) for row in rows]
    longest = [(*row.row.ids[: row.row.n_prompt], *max(_answers(row), key=len)) for row in rows]
    check_rows(loaded, [Rendered(r.row.row_id, ids, r.row.n_prompt, 0) for r, ids in zip(rows, longest, strict=True)])
    adapter = active_adapter_sha256(loaded.model) if cache else None
    keys = [_content(row, one) for row, one in zip(rows, tries, strict=True)]
    results: list[Floats | None] = list(cache.get(keys, adapter)) if cache else [None] * len(rows)
    missing = [index for index, edges in enumerate(results) if edges is None]
    if progress is not None and len(missing) < len(rows):
        progress(len(rows) - len(missing))

    def done(indices: Sequence[int], edges: Sequence[Tensor]) -> None:
        for index, nll in zip(indices, edges, strict=True):
            _check_finite(rows[missing[index]], nll)
            results[missing[index]] = nll.numpy().astype(np.float32)
        if progress is not None:
            progress(len(indices))

    scorer.compute(_Options(scorer, [rows[i] for i in missing], [tries[i] for i in missing]), done)
    if missing and loaded.device.type == "cpu":
        trim_malloc()
    computed = [edges for edges in results if edges is not None]
    if cache and missing:
        cache.put([keys[i] for i in missing], adapter, [computed[i] for i in missing])
    fresh = set(missing)
    return [
        _row(row, one, edges, cached=index not in fresh)
        for index, (row, one, edges) in enumerate(zip(rows, tries, computed, strict=True))
    ]


def _answers(row: RenderedOptions) -> tuple[tuple[int, ...], ...]:
    """The options, and behind them the reference where it is none of them."""
    return row.options if row.reference in row.options else (*row.options, row.reference)


def _row(row: RenderedOptions, trie: Trie, edges: Floats, *, cached: bool) -> OptionsNLL:
    answers = _answers(row)
    nlls = [edges[list(path)] for path in trie.paths]
    reference = checked(row.row, torch.from_numpy(nlls[answers.index(row.reference)]))
    return OptionsNLL(RowNLL(reference.tokens, cached), tuple(nlls[: len(row.options)]))


def _content(row: RenderedOptions, trie: Trie) -> Content:
    """What the cache knows a row's edges by: its prompt and its trie."""
    edges = [number for edge in zip(trie.at, trie.targets, strict=True) for number in edge]
    n_prompt = row.row.n_prompt
    # a row with its output has the number of its prompt's tokens here, which is above zero
    return Content(-n_prompt, (*row.row.ids[:n_prompt], *edges), len(trie.targets))


def _check_finite(row: RenderedOptions, nll: Tensor) -> None:
    if not bool(torch.isfinite(nll).all()):
        raise ScoringError(
            f"the model gives an option of row {row.row.row_id!r} no finite likelihood.\n"
            "  to fix it: check the weights are whole; with float16, try bfloat16 or float32"
        )
