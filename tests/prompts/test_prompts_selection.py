"""Each strategy against the plain way to compute it, and what must hold for all."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.config.choices import Order, Select
from triptych.data import Row
from triptych.errors import ConfigError, DataError
from triptych.prompts import Selector, Vectors, draw_demos
from triptych.prompts.ngrams import GramIndex, grams, jaccard

TEXTS = [
    "翻譯成文言文：大風颳了三天，把老松樹連根拔起。",
    "翻譯成文言文：大雨下了三天，河水漫過了橋。",
    "翻譯成現代文：大風三日，拔寺前老松。",
    "翻譯成現代文：吾母不識字，而能誦山歌數十。",
    "大軍經過村子，將領下令誰踩壞莊稼就打二十棍。",
    "The wind blew for three days and tore up the old pine.",
    "the WIND blew for   three days",
    "關吏檢行李，雖一書必披而視之。",
    "短",
    "松",
]
POOL = [Row(f"p{i}", text, "答" * (i % 4), (("direction", "ab"[i % 2]),)) for i, text in enumerate(TEXTS)]
QUERY = Row("q", "翻譯成文言文：大風吹了一夜，松樹都倒了。", None, (("direction", "b"),))
ALL = get_args(Select)
BY_RANK = ("bm25", "embedding", "mmr", "longest", "shortest", "similar-length")


def vectors_for(rows: list[Row], seed: int = 0) -> Vectors:
    """Directions that depend on the text alone."""
    made = {}
    for row in rows:
        generator = np.random.default_rng([seed, *row.instruction.encode()])
        made[row.instruction] = generator.standard_normal(5).astype(np.float32)
    return made


VECTORS = vectors_for([*POOL, QUERY])


def selector(select: Select, pool: list[Row] = POOL, **options: Any) -> Selector:
    needs = {"same": {"column": "direction"}, "embedding": {"vectors": VECTORS}}
    return Selector(pool, select=select, **{**needs.get(select, {}), **options})


def ids(
    select: Select, k: int, *, row: Row = QUERY, seed: int = 0, pool: list[Row] = POOL, **options: Any
) -> list[str]:
    return [demo.id for demo in selector(select, pool, **options).choose(row, k, seed=seed).demos]


def ranked(scores: dict[str, float]) -> list[str]:
    """By score, equals by id."""
    return sorted(scores, key=lambda id: (-scores[id], id))


def cosine(a: Row, b: Row) -> float:
    x, y = VECTORS[a.instruction].astype(float), VECTORS[b.instruction].astype(float)
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


# -- against the plain way ---------------------------------------------------------------------------------------------


def plain_grams(text: str) -> list[str]:
    text = " ".join(text.casefold().split())
    return list(text) + [a + b for a, b in itertools.pairwise(text)]


@given(st.text(), st.lists(st.text(), max_size=6))
def test_similarity_is_shared_grams_of_all(text: str, others: list[str]) -> None:
    mine = set(plain_grams(text))
    expected = [
        len(mine & set(plain_grams(o))) / len(mine | set(plain_grams(o))) if mine | set(plain_grams(o)) else 1.0
        for o in others
    ]
    assert sorted(grams(text)) == sorted(plain_grams(text))
    assert [jaccard(text, o) for o in others] == expected
    assert GramIndex(others).jaccard(text).tolist() == expected


@pytest.mark.parametrize("draw", ["item", "seed"])
@pytest.mark.parametrize("seed", range(5))
def test_random_is_the_studys_draw(draw: Any, seed: int) -> None:
    for k in (1, 3, 10):
        drawn = draw_demos(POOL, k, seed=seed, draw=draw, row_id=QUERY.id)
        assert selector("random", draw=draw).choose(QUERY, k, seed=seed).demos == drawn


@pytest.mark.parametrize("draw", ["item", "seed"])
def test_same_draws_among_rows_of_the_querys_value(draw: Any) -> None:
    alike = [row for row in POOL if row.column("direction") == "b"]
    for seed in range(5):
        expected = draw_demos(alike, 3, seed=seed, draw=draw, row_id=QUERY.id)
        assert selector("same", draw=draw).choose(QUERY, 3, seed=seed).demos == expected


def test_bm25_is_the_formula() -> None:
    k1, b = 1.5, 0.75
    terms = {row.id: Counter(plain_grams(row.instruction)) for row in POOL}
    length = {id: sum(counts.values()) for id, counts in terms.items()}
    average = sum(length.values()) / len(length)
    scores = dict.fromkeys(terms, 0.0)
    for term in plain_grams(QUERY.instruction):
        df = sum(term in counts for counts in terms.values())
        idf = math.log(1 + (len(POOL) - df + 0.5) / (df + 0.5))
        for id, counts in terms.items():
            tf = counts[term]
            scores[id] += idf * tf / (tf + k1 * (1 - b + b * length[id] / average))
    assert ids("bm25", 10) == ranked(scores)
    ours = selector("bm25")._ranking._bm25.scores(QUERY.instruction)  # rows of POOL are in the order of their ids
    np.testing.assert_allclose(ours, list(scores.values()), rtol=1e-5)


def test_bm25_without_anything_in_common_goes_by_id() -> None:
    assert ids("bm25", 3, row=Row("q", "ΩΨ", None)) == ["p0", "p1", "p2"]
    assert ids("bm25", 3, row=Row("q", "", None)) == ["p0", "p1", "p2"]


def test_embedding_is_cosine() -> None:
    assert ids("embedding", 10) == ranked({row.id: cosine(QUERY, row) for row in POOL})


@pytest.mark.parametrize("with_vectors", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_mmr_is_the_definition(with_vectors: bool, weight: float) -> None:
    def alike(a: Row, b: Row) -> float:
        return cosine(a, b) if with_vectors else jaccard(a.instruction, b.instruction)

    chosen: list[Row] = []
    while len(chosen) < 6:
        value = {
            row.id: weight * alike(QUERY, row) - (1 - weight) * max((alike(row, c) for c in chosen), default=0.0)
            for row in POOL
            if row not in chosen
        }
        best = ranked({id: round(v, 6) for id, v in value.items()})[0]
        chosen.append(next(row for row in POOL if row.id == best))
    vectors = VECTORS if with_vectors else None
    assert ids("mmr", 6, vectors=vectors, mmr_lambda=weight) == [row.id for row in chosen]


def test_mmr_of_relevance_alone_is_nearest() -> None:
    assert ids("mmr", 5, vectors=VECTORS, mmr_lambda=1.0) == ids("embedding", 5)


def test_lengths() -> None:
    size = {row.id: len(row.instruction) + len(row.target()) for row in POOL}
    assert ids("longest", 10) == ranked({id: float(n) for id, n in size.items()})
    assert ids("shortest", 10) == ranked({id: -float(n) for id, n in size.items()})
    off = {row.id: -abs(len(row.instruction) - len(QUERY.instruction)) for row in POOL}
    assert ids("similar-length", 10) == ranked({id: float(n) for id, n in off.items()})


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("select", ALL)
def test_order_changes_places_only(select: Select) -> None:
    best = ids(select, 5)
    by_order = {order: ids(select, 5, order=order) for order in get_args(Order)}
    assert all(sorted(shown) == sorted(best) for shown in by_order.values())
    assert by_order["nearest-last"] == by_order["nearest-first"][::-1]


@pytest.mark.parametrize("select", ["bm25", "embedding"])
def test_nearest_is_by_the_strategys_own_measure(select: Select) -> None:
    assert ids(select, 5, order="nearest-first") == ids(select, 5)
    assert ids(select, 5, order="nearest-last") == ids(select, 5)[::-1]


@pytest.mark.parametrize("select", ["random", "longest"])
def test_nearest_is_by_shared_characters_otherwise(select: Select) -> None:
    shown = selector(select, order="nearest-last").choose(QUERY, 6, seed=1)
    assert list(shown.similarity) == sorted(shown.similarity)
    assert shown.drop == "first"  # what doesn't fit is dropped from the far end
    assert selector(select, order="nearest-first").choose(QUERY, 6, seed=1).drop == "last"


def test_ranked_rows_are_shuffled_by_seed_and_query() -> None:
    shown = {tuple(ids("bm25", 6, order="random", seed=seed)) for seed in range(20)}
    assert len(shown) > 15
    assert ids("bm25", 6, order="random", seed=3) == ids("bm25", 6, order="random", seed=3)
    assert ids("random", 6, order="random") == ids("random", 6)  # drawn at random already


def test_similarity_comes_with_the_demos() -> None:
    chosen = selector("bm25").choose(QUERY, 4, seed=0)
    assert chosen.similarity == tuple(jaccard(QUERY.instruction, demo.instruction) for demo in chosen.demos)
    assert selector("bm25").choose(QUERY, 0, seed=0).demos == ()


# -- what holds for all ------------------------------------------------------------------------------------------------

WORDS = st.text(alphabet="天地玄黃 ab。", max_size=8)


@given(
    st.lists(WORDS, min_size=1, max_size=12, unique=True),
    st.randoms(use_true_random=False),
    st.sampled_from(ALL),
    st.integers(0, 3),
    st.data(),
)
def test_invariances(texts: list[str], random: Any, select: Select, seed: int, data: st.DataObject) -> None:
    pool = [Row(f"r{i}", text, text[::-1], (("direction", "ab"[i % 2]),)) for i, text in enumerate(texts)]
    query = data.draw(st.sampled_from(pool))  # as in training with demonstrations: the query is a row of the pool
    vectors = vectors_for(pool)
    made = Selector(pool, select=select, column="direction", vectors=vectors)
    most = 0
    for k in range(1, len(pool) + 1):
        try:
            chosen = made.choose(query, k, seed=seed).demos
        except ConfigError:
            break
        most = k
        assert query not in chosen
        assert all(demo.instruction != query.instruction for demo in chosen)
        assert len(set(chosen)) == k
        assert chosen == made.choose(query, k, seed=seed).demos
        if k > 1:  # nested
            assert set(made.choose(query, k - 1, seed=seed).demos) < set(chosen)
        if select in BY_RANK:  # the pool's order doesn't matter
            shuffled = random.sample(pool, len(pool))
            again = Selector(shuffled, select=select, column="direction", vectors=vectors)
            assert again.choose(query, k, seed=seed).demos == chosen
    assert most < len(pool)


@pytest.mark.parametrize("select", ALL)
def test_the_query_is_never_shown(select: Select) -> None:
    same_words = Row("other id", POOL[1].instruction.replace("，", " , ") + "!", "x", QUERY.columns)
    shown = ids(select, 4, row=same_words, vectors={**VECTORS, same_words.instruction: VECTORS[POOL[1].instruction]})
    assert "p1" not in shown


def test_a_row_that_only_shares_the_id_may_be_shown() -> None:
    """Rows of files without ids are numbered: `row-3` of train has nothing to do with `row-3` of test."""
    same_id = Row("p3", QUERY.instruction, "x", QUERY.columns)
    assert "p3" in ids("longest", len(POOL), row=same_id)


def test_what_is_left_out_changes_no_other_draw() -> None:
    query = POOL[4]
    drawn = [row.id for row in draw_demos(POOL, 10, seed=0, draw="item", row_id=query.id)]
    assert ids("random", 9, row=query) == [id for id in drawn if id != query.id]


@pytest.mark.parametrize("select", ALL)
@pytest.mark.parametrize("most", [0.05, 0.2, 0.35])
def test_near_duplicates_are_left_out(select: Select, most: float) -> None:
    made = selector(select, max_similarity=most)
    far = [row.id for row in POOL if jaccard(row.instruction, QUERY.instruction) <= most]
    if select == "same":
        far = [id for id in far if int(id[1:]) % 2]
    chosen = made.choose(QUERY, len(far), seed=0)
    assert sorted(demo.id for demo in chosen.demos) == sorted(far)
    assert all(similarity <= most for similarity in chosen.similarity)
    with pytest.raises(ConfigError, match=f"k = {len(far) + 1}, {len(far)} of 10 rows") as caught:
        made.choose(QUERY, len(far) + 1, seed=0)
    assert "raise max_similarity" in str(caught.value)


# -- bad input ---------------------------------------------------------------------------------------------------------


def error_of(make: Any) -> str:
    with pytest.raises((ConfigError, DataError)) as caught:
        make()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_rule_that_matches_no_row() -> None:
    message = error_of(lambda: Selector(POOL, select="same", column="directoin"))
    assert "column: directoin" in message
    assert "expected: direction" in message
    assert "data.derive" in message
    bare = [Row("1", "a", "b")]
    assert "the data has none" in error_of(lambda: Selector(bare, select="same", column="direction"))


def test_a_query_without_the_column() -> None:
    message = error_of(lambda: selector("same").choose(Row("lost", "x", None), 1, seed=0))
    assert "row 'lost'" in message
    assert "no value in `direction`" in message


def test_a_value_that_too_few_training_rows_have() -> None:
    query = Row("q", "x", None, (("direction", "sideways"),))
    message = error_of(lambda: selector("same").choose(query, 1, seed=0))
    assert "select: same, row 'q'" in message
    assert "direction is 'sideways', the pool has 'a' 5, 'b' 5" in message


@pytest.mark.parametrize("select", ALL)
def test_more_than_the_pool(select: Select) -> None:
    assert "11" in error_of(lambda: selector(select).choose(QUERY, 11, seed=0))
    empty = Selector([], select=select, column="direction", vectors={})
    assert "k = 1, 0 of 0 rows" in error_of(lambda: empty.choose(QUERY, 1, seed=0))


def test_settings_that_do_not_go_together() -> None:
    assert "needs a column" in error_of(lambda: Selector(POOL, select="same"))
    assert "needs vectors" in error_of(lambda: Selector(POOL, select="embedding"))
    assert "chooses for each row" in error_of(lambda: Selector(POOL, select="bm25", draw="seed"))
    assert "max_similarity" in error_of(lambda: Selector(POOL, max_similarity=1.5))
    assert "mmr_lambda" in error_of(lambda: Selector(POOL, select="mmr", mmr_lambda=-0.1))
    wrong: Any = "nearest"
    assert "random, same, bm25" in error_of(lambda: Selector(POOL, select=wrong))
    assert "nearest-last, nearest-first" in error_of(lambda: Selector(POOL, order=wrong))


def test_a_row_without_a_vector() -> None:
    assert "row 'new'" in error_of(lambda: selector("embedding").choose(Row("new", "never seen", None), 1, seed=0))


def test_a_vector_of_nothing_is_near_nothing() -> None:
    vectors = {**VECTORS, "松": np.zeros(5, dtype=np.float32)}
    scores = {row.id: 0.0 if row.id == "p9" else cosine(QUERY, row) for row in POOL}
    assert ids("embedding", 10, vectors=vectors) == ranked(scores)
