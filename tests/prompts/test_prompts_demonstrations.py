"""Draws: fair, nested, and the same whatever else is scored."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.config.choices import Draw
from triptych.data import Row
from triptych.errors import ConfigError
from triptych.prompts import draw_demos

POOL = [Row(f"p{i}", f"question {i}", f"answer {i}") for i in range(20)]


def ids(k: int, *, seed: int = 0, draw: Draw = "item", row_id: str = "t", pool: list[Row] = POOL) -> list[str]:
    return [row.id for row in draw_demos(pool, k, seed=seed, draw=draw, row_id=row_id)]


def test_draws_are_what_they_were() -> None:
    """Change these only with the schema's version: published few-shot numbers hang on them."""
    assert ids(5, seed=0, draw="item", row_id="row-1") == ["p19", "p9", "p2", "p4", "p15"]
    assert ids(5, seed=1, draw="item", row_id="row-1") == ["p17", "p5", "p18", "p13", "p3"]
    assert ids(5, seed=0, draw="item", row_id="第二列") == ["p6", "p11", "p15", "p13", "p5"]
    assert ids(5, seed=0, draw="seed") == ["p4", "p16", "p6", "p7", "p8"]


@given(
    st.integers(0, 20), st.integers(0, 20), st.integers(0, 99), st.sampled_from(["item", "seed"]), st.text(max_size=5)
)
def test_smaller_k_begins_larger_k(a: int, b: int, seed: int, draw: Draw, row_id: str) -> None:
    small, large = sorted((a, b))
    drawn = ids(large, seed=seed, draw=draw, row_id=row_id)
    assert drawn[:small] == ids(small, seed=seed, draw=draw, row_id=row_id)
    assert len(set(drawn)) == large


def test_every_row_is_drawn_alike() -> None:
    trials, k = 3000, 3
    shown = Counter(id for t in range(trials) for id in ids(k, row_id=f"row {t}"))
    first = Counter(ids(1, row_id=f"row {t}")[0] for t in range(trials))
    for counts, share in ((shown, k / 20), (first, 1 / 20)):
        assert set(counts) == {row.id for row in POOL}
        spread = math.sqrt(trials * share * (1 - share))
        assert all(abs(n - trials * share) < 5 * spread for n in counts.values())
        # too even would be as wrong: a rotation through the pool is no draw
        assert max(abs(n - trials * share) for n in counts.values()) > 0.5 * spread


def test_pairs_are_drawn_alike() -> None:
    trials = 4000
    pairs = Counter(tuple(ids(2, row_id=str(t), pool=POOL[:5])) for t in range(trials))
    assert len(pairs) == 20
    assert all(abs(n - 200) < 5 * math.sqrt(190) for n in pairs.values())


def test_item_draws_do_not_depend_on_the_order_of_rows() -> None:
    rows = [f"row {i}" for i in range(30)]
    forward = {row: ids(3, row_id=row) for row in rows}
    backward = {row: ids(3, row_id=row) for row in reversed(rows)}
    assert forward == backward
    assert forward["row 7"] == ids(3, row_id="row 7")


def test_item_draws_differ_between_rows_and_seeds() -> None:
    assert len({tuple(ids(3, row_id=f"row {i}")) for i in range(30)}) > 25
    assert len({tuple(ids(3, seed=seed)) for seed in range(30)}) > 25


def test_seed_draw_is_one_set_for_all_rows() -> None:
    assert len({tuple(ids(3, draw="seed", row_id=f"row {i}")) for i in range(30)}) == 1
    assert len({tuple(ids(3, draw="seed", seed=seed)) for seed in range(30)}) > 25


def test_whole_pool_and_nothing() -> None:
    assert sorted(ids(20)) == sorted(row.id for row in POOL)
    assert ids(0) == []
    assert ids(0, pool=[]) == []


def test_more_than_the_pool() -> None:
    with pytest.raises(ConfigError, match="k = 21, 20 rows in the pool") as caught:
        ids(21)
    assert caught.value.exit_code == 2
