"""Waves: bounded, whole, and the same whatever order the rows come in."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from triptych.generate.plan import Limits, decode_batches


@given(
    own=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    most=st.integers(1, 40),
    rows=st.integers(1, 8),
    kv_tokens=st.integers(1, 500),
)
def test_batches_hold_every_row_once_and_keep_the_bounds(own: list[int], most: int, rows: int, kv_tokens: int) -> None:
    new = [most] * len(own)
    found = list(decode_batches(range(len(own)), own, new, Limits(rows, kv_tokens, 64)))
    assert sorted(row for batch in found for row in batch) == list(range(len(own)))
    lengths = [own[row] for batch in found for row in batch]
    assert lengths == sorted(lengths, reverse=True)
    for batch in found:
        assert len(batch) <= rows
        # a batch lays its rows out side by side, as long as the longest of them may become
        assert len(batch) == 1 or len(batch) * max(own[row] + new[row] for row in batch) <= kv_tokens
    for batch, after in pairwise(found):  # none is cut for nothing
        longest = max(own[row] + new[row] for row in [*batch, after[0]])
        assert len(batch) == rows or (len(batch) + 1) * longest > kv_tokens
