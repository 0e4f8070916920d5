"""Option likelihood: the NLL of every option behind a row's prompt, and of its reference, in one pass.

    rows ──► in the cache? ──► tree of shared prefixes ──► each prompt once, its options as a trie ──► NLL of each

Each option gets the NLL that it has alone behind the prompt: it never sees another one. Where a model can't be
packed, each is computed by the model's own forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from triptych.errors import ScoringError
from triptych.likelihood.branches import branches_nll
from triptych.likelihood.cache import Content
from triptych.likelihood.checks import Floats, check_nll, check_rows
from triptych.likelihood.context import PrefixKV
from triptych.likelihood.passes import reference_nll
from triptych.likelihood.score import Progress, RowNLL, Scorer
from triptych.likelihood.trie import Trie, trie_of
from triptych.prompts import Rendered, RenderedOptions


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
        return self.rows[row].n_prompt + max(map(len, self.given[row].answers))

    def alone(self, row: int) -> Tensor:
        trie, one = self.tries[row], self.rows[row]
        edges = torch.empty(len(trie.targets))
        for answer, path in zip(self.given[row].answers, trie.paths, strict=True):
            edges[list(path)] = reference_nll(self.scorer.loaded, _behind_prompt(one, answer)).cpu()
        return edges

    def together(self, part: list[int], n_prefix: int, past: PrefixKV | None) -> Sequence[Tensor]:
        prompts = [self.rows[i].ids[: self.rows[i].n_prompt] for i in part]
        tries, scorer = [self.tries[i] for i in part], self.scorer
        return [nll.cpu() for nll in branches_nll(scorer.loaded, scorer.head, prompts, tries, n_prefix, past)]


def score_options(
    scorer: Scorer, rows: Sequence[RenderedOptions], progress: Progress | None = None
) -> list[OptionsNLL]:
    """NLL of each row's options and reference, in the order given.

    Raises:
        ScoringError: an NLL is not finite, or the reference's is too large for a perplexity, with the row named.
        ModelError: a row is longer than the model's positions, or holds a token the model doesn't know.
    """
    check_rows(scorer.loaded, [_behind_prompt(row.row, max(row.answers, key=len)) for row in rows])
    trie = cache(trie_of)  # rows with the same options share one
    tries = [trie(row.answers) for row in rows]

    def check(index: int, edges: Floats) -> None:
        _check_finite(rows[index], edges)
        check_nll(rows[index].row, _of_answers(rows[index], tries[index], edges)[0])

    contents = [_content(row, one) for row, one in zip(rows, tries, strict=True)]
    arrays, cached = scorer.numbers(
        contents, lambda part: _Options(scorer, [rows[i] for i in part], [tries[i] for i in part]), check, progress
    )
    scored = []
    for index, (row, one, edges) in enumerate(zip(rows, tries, arrays, strict=True)):
        reference, options = _of_answers(row, one, edges)
        scored.append(OptionsNLL(RowNLL(reference, index in cached), options))
    return scored


def _of_answers(row: RenderedOptions, trie: Trie, edges: Floats) -> tuple[Floats, tuple[Floats, ...]]:
    """Token NLLs of the reference, and of each option."""
    nlls = [edges[list(path)] for path in trie.paths]
    return nlls[row.answers.index(row.reference)], tuple(nlls[: len(row.options)])


def _behind_prompt(row: Rendered, answer: Sequence[int]) -> Rendered:
    """The row with another answer."""
    return Rendered(row.row_id, (*row.ids[: row.n_prompt], *answer), row.n_prompt, 0)


def _content(row: RenderedOptions, trie: Trie) -> Content:
    """What the cache knows a row's edges by: its prompt and its trie."""
    edges = [number for edge in zip(trie.at, trie.targets, strict=True) for number in edge]
    n_prompt = row.row.n_prompt
    # a row with its output has the number of its prompt's tokens here, which is above zero
    return Content(-n_prompt, (*row.row.ids[:n_prompt], *edges), len(trie.targets))


def _check_finite(row: RenderedOptions, edges: Floats) -> None:
    if not np.isfinite(edges).all():
        raise ScoringError(
            f"the model gives an option of row {row.row.row_id!r} no finite likelihood.\n"
            "  to fix it: check the weights are whole; with float16, try bfloat16 or float32"
        )
