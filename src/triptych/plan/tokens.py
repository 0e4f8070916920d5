"""Tokens of rendered rows as the scorer and the training compute them: what is shared is counted once.

The scorer's own plan (`likelihood.plan`) and the training's own batches (`training.batches`) are asked, so the counts
are those of the run and not an estimate. Only a model that can't be computed packed, which shows when it is loaded, is
computed row by row: `plain` tokens then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from triptych.config.tune import TuneConfig
from triptych.likelihood.passes import common_prefix
from triptych.likelihood.plan import Branch, plan_branches
from triptych.likelihood.trie import trie_of
from triptych.prompts import Rendered, RenderedOptions
from triptych.training.step import passes_of, rows_of_step

_SUMMED = ("rows", "plain", "forward", "scored", "pairs")


@dataclass(frozen=True, slots=True)
class Work:
    """What computing some rows takes. Works add up with `+`."""

    rows: int = 0
    plain: int = 0
    """Tokens of the rows, each counted whole."""
    forward: int = 0
    """Tokens that go through the layers: shared beginnings once, each row's last token (it predicts nothing) never."""
    scored: int = 0
    """Tokens whose likelihood is computed: positions that go through the output head."""
    pairs: int = 0
    """(query, key) pairs of attention in one layer and head, sliding windows left out of account."""
    kept: int = 0
    """Most prefix tokens whose keys and values are stored at once."""
    longest: int = 0
    """Tokens of the longest row."""

    def __add__(self, other: Work) -> Work:
        """Both, one after the other: what is counted adds up, what is a most stays the larger."""
        names = Work.__dataclass_fields__
        return Work(**{n: (sum if n in _SUMMED else max)((getattr(self, n), getattr(other, n))) for n in names})

    def times(self, n: int) -> Work:
        """The same work n times, one after another."""
        return replace(self, **{name: getattr(self, name) * n for name in _SUMMED})


def scoring_work(rows: Sequence[Rendered], options: Sequence[RenderedOptions] | None = None) -> Work:
    """What scoring these rows in one go takes; `options`: the same rows with their options, where those are scored."""
    if not rows:
        return Work()
    ends = [_output(row) for row in rows] if options is None else [_branches(row) for row in options]
    forward, pairs, kept = _below(plan_branches(rows), rows, ends, 0)
    return Work(
        rows=len(rows),
        plain=sum(len(row.ids) for row in rows),
        forward=forward,
        scored=sum(end.scored for end in ends),
        pairs=pairs,
        kept=kept,
        longest=max(len(row.ids) for row in rows),
    )


class _End(NamedTuple):
    """What is computed behind a row's prompt."""

    forward: int
    pairs: int
    scored: int


def _output(row: Rendered) -> _End:
    n = row.n_scored - 1  # the last token predicts nothing
    return _End(n, n * row.n_prompt + _causal(n), row.n_scored)


def _branches(row: RenderedOptions) -> _End:
    trie = trie_of(row.answers)
    n = len(trie.tokens)
    return _End(n, n * row.row.n_prompt + sum(trie.depths) + n, n + 1)


def training_work(rows: Sequence[Rendered], config: TuneConfig) -> Work:
    """What the optimizer steps of a training take: `plain` and `scored` are those of its summary."""
    if not rows:
        return Work()
    total = Work(longest=max(len(row.ids) for row in rows))
    counted: dict[tuple[int, ...], Work] = {}
    for step in range(config.total_steps(len(rows))):
        order = tuple(rows_of_step(step, len(rows), config.rows_per_step, config.seed))
        if order not in counted:
            counted[order] = _step([rows[i] for i in order], config)
        total += counted[order]
    return total


def _step(rows: Sequence[Rendered], config: TuneConfig) -> Work:
    total = Work()
    for batch in passes_of(rows, max_rows=config.batch_size, max_tokens=config.tokens_per_pass):
        shared = common_prefix(batch) if len(batch) > 1 and not config.dropout else 0
        own = [len(row.ids) - 1 - shared for row in batch]
        total += Work(
            rows=len(batch),
            plain=sum(len(row.ids) for row in batch),
            forward=shared + sum(own),
            scored=sum(row.n_scored for row in batch),
            pairs=_causal(shared) + sum(n * shared + _causal(n) for n in own),
        )
    return total


def _below(branch: Branch, rows: Sequence[Rendered], ends: Sequence[_End], prefix: int) -> tuple[int, int, int]:
    """Forward tokens and attention pairs of a branch and all under it, and the most prefix tokens stored meanwhile.

    A child's keys and values are a whole copy, and its parent's stay until it is done.
    """
    new = branch.end - branch.start
    prefix += branch.end if new else 0
    forward, pairs, most = new, new * branch.start + _causal(new), prefix
    for index in branch.rows:
        own = rows[index].n_prompt - branch.end
        forward += own + ends[index].forward
        pairs += own * branch.end + _causal(own) + ends[index].pairs
    for child in branch.children:
        below = _below(child, rows, ends, prefix)
        forward, pairs, most = forward + below[0], pairs + below[1], max(most, below[2])
    return forward, pairs, most


def _causal(n: int) -> int:
    return n * (n + 1) // 2
