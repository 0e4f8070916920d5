"""Four averages of the same rows, by hand."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.likelihood.aggregate import aggregate
from triptych.records import ItemScore

TOY = [
    ItemScore(str(i), nll, n, chars)
    for i, (nll, n, chars) in enumerate([(6, 3, 2), (40, 20, 15), (2, 4, 3), (90, 30, 21)])
]
scores = st.builds(
    ItemScore, st.text(max_size=3), st.floats(0, 500, allow_subnormal=False), st.integers(1, 900), st.integers(0, 900)
)


def test_toy_set_by_hand() -> None:
    result = aggregate(TOY)
    assert result.ppl_mean == pytest.approx((math.e**2 + math.e**2 + math.e**0.5 + math.e**3) / 4, rel=1e-12)
    assert result.ppl_corpus == pytest.approx(math.exp(138 / 57), rel=1e-12)
    assert result.ppl_geometric == pytest.approx(math.exp((2 + 2 + 0.5 + 3) / 4), rel=1e-12)
    assert result.bits_per_char == pytest.approx(138 / math.log(2) / 41, rel=1e-12)
    assert (result.n_rows, result.n_tokens) == (4, 57)
    rounded = [round(x, 2) for x in (result.ppl_mean, result.ppl_corpus, result.ppl_geometric)]
    assert rounded == [9.13, 11.26, 6.52]


def test_outputs_without_a_character_have_no_bits_per_character() -> None:
    empty = [ItemScore(str(i), 18.4, 1, 0) for i in range(3)]  # EOS alone is scored
    assert aggregate(empty).bits_per_char is None
    assert aggregate(empty).ppl_mean == pytest.approx(math.exp(18.4))
    assert aggregate([*empty, ItemScore("one", 2.0, 2, 4)]).bits_per_char == pytest.approx(57.2 / math.log(2) / 4)


def test_the_averages_differ() -> None:
    result = aggregate(TOY)
    assert result.ppl_geometric < result.ppl_mean < result.ppl_corpus


def test_rows_alike_make_all_averages_alike() -> None:
    result = aggregate([ItemScore(str(i), 12.0, 8, 5) for i in range(7)])
    assert result.ppl_mean == pytest.approx(math.exp(1.5), rel=1e-12)
    assert result.ppl_corpus == pytest.approx(math.exp(1.5), rel=1e-12)
    assert result.ppl_geometric == pytest.approx(math.exp(1.5), rel=1e-12)


def test_one_row_is_itself() -> None:
    assert aggregate(TOY[:1]).ppl_mean == pytest.approx(TOY[0].ppl)


@given(st.lists(scores, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_order_changes_nothing_at_all(items: list[ItemScore], shuffle: random.Random) -> None:
    items = [ItemScore(i.id, min(i.nll_nats, 600.0 * i.n_tokens), i.n_tokens, i.n_chars) for i in items]
    shuffled = items.copy()
    shuffle.shuffle(shuffled)
    assert aggregate(shuffled) == aggregate(items)


def test_exactly_equal_where_plain_sums_are_not() -> None:
    items = [ItemScore(str(i), 0.1 * 10 ** (i % 6), 1000 + i, 1) for i in range(200)]
    plain = {sum(i.nll_nats for i in order) for order in (items, items[::-1], sorted(items, key=lambda i: i.nll_nats))}
    assert len(plain) > 1
    results = [aggregate(order) for order in (items, items[::-1], sorted(items, key=lambda i: i.nll_nats))]
    assert results[0] == results[1] == results[2]


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        aggregate([])


def test_aggregate_leaves_torch_unloaded() -> None:
    import subprocess
    import sys

    code = "import sys, triptych.likelihood.aggregate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
