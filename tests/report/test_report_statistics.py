from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_run import make_cell, rows_from_ppl
from scipy import stats

from triptych.records import ItemScore
from triptych.report import compare, holm, interval, is_significant, summarise_few_shot
from triptych.report.statistics import intervals, verdict


def test_few_shot_groups_by_prompt_draw_and_k_with_the_n_minus_1_std() -> None:
    levels = {("item", 3, 1): 4.0, ("item", 3, 0): 2.0, ("item", 1, 0): 5.0, ("seed", 1, 0): 6.0}
    cells = [
        make_cell(f"few_shot/default/k={k}/draw={draw}/seed={seed}", rows_from_ppl([p]), k=k, draw=draw, seed=seed)
        for (draw, k, seed), p in levels.items()
    ]
    found = summarise_few_shot([*cells, make_cell("zero_shot/default", rows_from_ppl([9.0]))])
    assert [(s.draw, s.k, s.seeds) for s in found] == [("item", 1, (0,)), ("item", 3, (0, 1)), ("seed", 1, (0,))]
    three = found[1].ppl_mean
    assert three.mean == pytest.approx(3.0)
    assert three.std == pytest.approx(math.sqrt(2))
    assert three.n == 2
    assert found[1].cells[0].endswith("seed=0")


def test_one_seed_has_no_std() -> None:
    cell = make_cell("few_shot/default/k=1/draw=item/seed=0", rows_from_ppl([4.0]), k=1, draw="item", seed=0)
    assert summarise_few_shot([cell])[0].ppl_mean.std is None


def test_demonstrations_on_the_adapter_are_not_few_shot() -> None:
    cell = make_cell("few_shot/d/k=1/seed=0", rows_from_ppl([4.0]), k=1, draw="item", seed=0, adapter_sha256="a")
    assert summarise_few_shot([cell]) == ()


def test_a_few_shot_cell_without_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed and a draw"):
        summarise_few_shot([make_cell("few_shot/d/k=1", rows_from_ppl([4.0]), k=1)])


def test_interval_agrees_with_scipys_bca() -> None:
    values = np.random.default_rng(1).lognormal(1.5, 0.6, 250)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="BCa", rng=3).confidence_interval
    assert interval(values) == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_interval_is_fast_and_does_not_depend_on_the_order_of_rows() -> None:
    values = np.random.default_rng(1).lognormal(1.5, 0.6, 250)
    begin = time.perf_counter()
    found = interval(values)
    print(f"interval of 250 rows x 10,000 draws: {time.perf_counter() - begin:.3f} s")
    assert time.perf_counter() - begin < 5
    assert interval(np.random.default_rng(2).permutation(values)) == found
    assert found[0] < values.mean() < found[1]


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0], [3.0, 3.0 + 4e-16]])
def test_constant_rows_give_an_interval_of_no_width(values: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = interval(values)
    assert low == pytest.approx(3.0)
    assert high == pytest.approx(3.0)


def test_columns_that_share_their_resamples_have_the_intervals_they_have_alone() -> None:
    random = np.random.default_rng(9)
    columns = [random.lognormal(1, 0.5, size) for size in (40, 250, 40, 1)] + [
        np.full(40, 2.0),
        random.integers(1, 4, 40),
    ]
    assert intervals(columns, draws=2000) == [pytest.approx(interval(column, draws=2000)) for column in columns]


def test_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        interval([])


def test_compare_by_hand() -> None:
    a, b = rows_from_ppl([2.0, 3.0, 4.0, 9.0]), rows_from_ppl([3.0, 3.0, 5.0, 8.0])
    found = compare("a", a, "b", b)
    # differences -1, 0, -1, +1: mean -1/4; of the 16 sign patterns all have |sum| >= 1
    assert found.difference == pytest.approx(-0.25)
    assert (found.wins, found.ties, found.losses, found.n_rows) == (2, 1, 1, 4)
    assert found.p_value == 1.0
    assert "exact" in found.method


def test_exact_p_value_by_hand() -> None:
    a, b = rows_from_ppl([1.0, 2.0, 3.0, 4.0, 5.0]), rows_from_ppl([2.0, 4.0, 6.0, 8.0, 10.0])
    # all five differences have the same sign: only that pattern and its mirror reach the sum
    assert compare("a", a, "b", b).p_value == pytest.approx(2 / 2**5)


def test_sampled_and_exact_p_values_agree() -> None:
    random = np.random.default_rng(5)
    differences = random.normal(0.3, 1, 12)
    a, b = rows_from_ppl(list(20 + differences)), rows_from_ppl([20.0] * 12)
    exact = compare("a", a, "b", b).p_value
    longer = rows_from_ppl([*(20 + differences), 20.0])  # a thirteenth row without difference changes no sum
    sampled = compare("a", longer, "b", rows_from_ppl([20.0] * 13)).p_value
    assert sampled == pytest.approx(exact, abs=0.02)


def test_seeds_enter_with_each_rows_mean() -> None:
    a = rows_from_ppl([2.0, 6.0]) + rows_from_ppl([4.0, 8.0])
    found = compare("a", a, "b", rows_from_ppl([5.0, 5.0]))
    assert found.difference == pytest.approx((3.0 + 7.0) / 2 - 5.0)
    assert found.n_rows == 2


def test_the_order_of_rows_changes_nothing() -> None:
    random = np.random.default_rng(0)
    a, b = rows_from_ppl(random.lognormal(1, 0.5, 40).tolist()), rows_from_ppl(random.lognormal(1, 0.5, 40).tolist())
    shuffled = [a[i] for i in random.permutation(40)]
    assert compare("a", shuffled, "b", b[::-1]) == compare("a", a, "b", b)


def test_identical_scores_differ_by_zero_with_p_one() -> None:
    rows = rows_from_ppl(np.linspace(2, 9, 50).tolist())
    found = compare("a", rows, "b", rows)
    assert (found.difference, found.ci_low, found.ci_high, found.p_value, found.ties) == (0, 0, 0, 1, 50)
    assert not is_significant(found)


def test_exchanging_a_and_b_mirrors_the_result() -> None:
    random = np.random.default_rng(3)
    a, b = rows_from_ppl(random.lognormal(1, 0.5, 40).tolist()), rows_from_ppl(random.lognormal(1, 0.5, 40).tolist())
    one, other = compare("a", a, "b", b), compare("b", b, "a", a)
    assert one.difference == -other.difference
    assert one.p_value == other.p_value
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low), abs=0.1)


def test_other_rows_are_refused_with_their_number() -> None:
    rows = rows_from_ppl([2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match="2 rows are in only one of 'a'"):
        compare("a", rows, "b", rows[:1])


def test_seeds_with_different_rows_are_refused() -> None:
    rows = rows_from_ppl([2.0, 3.0])
    with pytest.raises(ValueError, match="more often than others"):
        compare("a", rows + rows[:1], "b", rows)


def test_p_values_are_roughly_uniform_where_nothing_differs() -> None:
    random = np.random.default_rng(11)
    found = []
    for _ in range(200):
        hardness = random.lognormal(1.5, 0.4, 30)
        a, b = (rows_from_ppl((hardness + random.normal(0, 0.1, 30)).tolist()) for _ in range(2))
        found.append(compare("a", a, "b", b, draws=499).p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.11


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        # statsmodels 0.15.0, multipletests(p, method="holm")
        (
            [0.01, 0.04, 0.03, 0.005, 0.04, 0.2, 1.0, 1e-6, 0.012],
            [0.07, 0.16, 0.15, 0.04, 0.16, 0.4, 1.0, 9e-6, 0.072],
        ),
    ],
)
def test_holm_by_hand_and_as_statsmodels_has_it(given: list[float], expected: list[float]) -> None:
    assert holm(given) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [corrected[i] for i in order] == sorted(corrected)


def test_compare_takes_the_scores_own_perplexity() -> None:
    a = ItemScore(id="x", nll_nats=4 * math.log(3), n_tokens=4, n_chars=2)
    b = ItemScore(id="x", nll_nats=2 * math.log(5), n_tokens=2, n_chars=2)
    assert compare("a", [a], "b", [b]).difference == pytest.approx(-2.0)


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [(-2.0, -1.0, 0.01, "better"), (1.0, 2.0, 0.01, "worse"), (-2.0, -1.0, 0.06, ""), (-1.0, 1.0, 0.01, "")],
)
def test_a_verdict_asks_for_the_interval_and_the_p_value(low: float, high: float, p: float, expected: str) -> None:
    found = compare("a", rows_from_ppl([2.0, 6.0]), "b", rows_from_ppl([4.0, 8.0]))
    found = found.model_copy(update={"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "p_holm": p})
    assert is_significant(found) == bool(expected)
    assert verdict(found, "better", "worse") == (expected or "can't be told")
