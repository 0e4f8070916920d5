"""What is computed together: rows that share a prefix, in batches of bounded tokens.

Rows are sorted by their token ids, so that rows with a common beginning are neighbours, and form a tree:

    [BOS] 你是人工智慧助理 … USER:            computed once
      ├─ row 1 … row 60                       only what follows is computed per row
      └─ … 翻譯成文言文：                      computed once more, from the branch above
           └─ row 61 … row 250

A branch is made where computing the longer prefix once saves more than another pass costs. Prefixes are taken on
token ids, never on text, and end before the last prompt token: each row keeps the token that predicts its first
scored one.

The tokens of a pass are bounded by memory; decoding, training and `triptych plan` ask for these sizes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from triptych.likelihood.head import head_chunk
from triptych.models import LoadedModel
from triptych.models.device import free_memory
from triptych.models.shape import ModelShape, Sizes, sizes_of
from triptych.prompts import Rendered

BRANCH_SAVES = 384
"""Tokens a branch must save to be worth its own passes: about what a small pass costs beyond its tokens."""


@dataclass
class Branch:
    """A prefix `ids[start:end]` that continues its parent's, and the rows and branches that continue it.

    `rows` are indices into the planned list; `ids` are those of any row below (all agree up to `end`).
    """

    ids: tuple[int, ...]
    start: int
    end: int
    rows: list[int] = field(default_factory=list)
    children: list[Branch] = field(default_factory=list)


def plan_branches(
    rows: Sequence[Rendered], *, saves: int = BRANCH_SAVES, indices: Sequence[int] | None = None
) -> Branch:
    """Arrange rows into a tree of shared prefixes; the root's prefix may be empty.

    `indices` are what `Branch.rows` calls the rows; None: their places.
    """
    called = range(len(rows)) if indices is None else indices
    order = sorted(range(len(rows)), key=lambda i: rows[i].ids)
    usable = [rows[i].n_prompt - 1 for i in order]
    common = [_common(rows[a].ids, rows[b].ids) for a, b in pairwise(order)]

    def build(low: int, high: int, start: int) -> Branch:
        """The branch of order[low:high]; `start` is how much of the prefix its parent has."""
        end = min(min(common[low : high - 1], default=usable[low]), min(usable[low:high]))
        branch = Branch(rows[order[low]].ids, start, max(end, start))
        for first, last in _splits(common, low, high, branch.end):
            longer = min(min(common[first : last - 1], default=0), min(usable[first:last]))
            if (last - first - 1) * (longer - branch.end) >= saves:
                branch.children.append(build(first, last, branch.end))
            else:
                branch.rows.extend(called[i] for i in order[first:last])
        return branch

    if len(rows) == 1:  # nothing to share: a prefix pass would be one pass more
        return Branch(rows[0].ids, 0, 0, [called[0]])
    return build(0, len(rows), 0)


def _splits(common: Sequence[int], low: int, high: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut low:high into runs of neighbours that share more than `end` tokens."""
    first = low
    for index in range(low, high - 1):
        if common[index] <= end:
            yield first, index + 1
            first = index + 1
    yield first, high


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def batches(
    rows: Sequence[int], lengths: Sequence[int] | Mapping[int, int], n_prefix: int, *, budget: int
) -> Iterator[list[int]]:
    """Cut the rows of a branch into passes, longest first, so that rows of a pass have similar lengths.

    Args:
        rows: indices into `lengths`.
        lengths: tokens of each row that are still to compute.
        n_prefix: tokens of the shared prefix; attention puts its keys beside each row's.
        budget: bound on the pass's tokens, and (eightfold) on its keys: rows x (prefix + longest row).
    """
    batch: list[int] = []
    tokens = longest = 0
    for row in sorted(rows, key=lambda i: (-lengths[i], i)):
        longest = max(longest, lengths[row])
        too_long = tokens + lengths[row] > budget or (len(batch) + 1) * (n_prefix + longest) > 8 * budget
        if batch and too_long:
            yield batch
            batch, tokens, longest = [], 0, lengths[row]
        batch.append(row)
        tokens += lengths[row]
    if batch:
        yield batch


def token_bytes(sizes: Sizes, itemsize: int) -> int:
    """Bytes of a token of a pass without a gradient.

    About eight hidden states, four of the feed-forward's and its keys and values; and eightfold keys and values are
    reserved for the prefix beside it (`batches`).
    """
    return (8 * sizes.hidden_size + 4 * sizes.intermediate_size + 9 * 2 * sizes.n_kv_heads * sizes.head_dim) * itemsize


def pass_bytes(shape: ModelShape, tokens: int, itemsize: int, device: str) -> int:
    """Bytes of a pass without a gradient over so many tokens: its states, and one chunk of logits, in float32 too."""
    rows, columns = head_chunk(device)
    return tokens * token_bytes(shape, itemsize) + rows * min(columns, shape.vocab_size) * (itemsize + 4)


def kv_bytes(sizes: Sizes, itemsize: int) -> int:
    """Bytes of a token's keys and values in all layers."""
    return 2 * sizes.n_layers * sizes.n_kv_heads * sizes.head_dim * itemsize


def pass_tokens(sizes: Sizes, free: int, device: str) -> int:
    """Tokens of a pass on `cpu` or `cuda`: as a quarter of the `free` bytes holds, up to what still makes it faster."""
    most = 16_384 if device == "cuda" else 2048
    return max(256, min(most, free // 4 // token_bytes(sizes, 4)))


def default_budget(loaded: LoadedModel) -> int:
    """Tokens of a pass of this model, with the memory that is free now."""
    sizes = sizes_of(loaded.model.config.get_text_config())
    return pass_tokens(sizes, free_memory(loaded.device), loaded.device.type)
