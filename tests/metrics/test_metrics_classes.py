"""Macro-F1, confusion and calibration by hand, as scikit-learn has them, and what must not change them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.metrics.classes import Bin, confusion, ece, macro_f1, probabilities, reliability

CLASSES = st.integers(0, 4)
PAIRS = st.lists(st.tuples(CLASSES, CLASSES), min_size=1, max_size=60)


def test_macro_f1_by_hand() -> None:
    # class 0: tp 1, fp 1, fn 1 -> 1/2; class 1: tp 2, fp 1, fn 0 -> 4/5; class 2: tp 0 -> 0
    correct, chosen = [0, 0, 1, 1, 2], [0, 1, 1, 1, 0]
    assert macro_f1(correct, chosen) == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)


def test_macro_f1_and_confusion_are_scikit_learns() -> None:
    # scikit-learn 1.9.1: f1_score(average="macro", zero_division=0), confusion_matrix; class 5 is only ever an answer
    correct = [4, 2, 2, 4, 0, 3, 1, 0, 1, 0, 2, 3, 1, 3, 4, 0, 4, 1, 0, 1]
    correct += [3, 2, 1, 3, 1, 0, 1, 4, 4, 3, 1, 1, 0, 0, 1, 1, 1, 1, 2, 2]
    chosen = [4, 5, 2, 5, 0, 3, 1, 0, 1, 0, 2, 3, 0, 3, 0, 0, 3, 1, 0, 0]
    chosen += [3, 5, 1, 3, 1, 0, 1, 3, 4, 3, 1, 1, 0, 3, 1, 1, 1, 0, 2, 2]
    assert macro_f1(correct, chosen) == pytest.approx(0.6194736842105263)
    matrix = [[7, 0, 0, 1, 0, 0], [3, 11, 0, 0, 0, 0], [0, 0, 4, 0, 0, 2], [0, 0, 0, 6, 0, 0], [1, 0, 0, 2, 2, 1]]
    counts = confusion(correct, chosen)
    assert [[counts.get((a, b), 0) for b in range(6)] for a in range(5)] == matrix


def test_a_class_that_nothing_has_and_nothing_chose_does_not_count() -> None:
    assert macro_f1([0, 3], [0, 3]) == 1
    assert macro_f1([], []) is None


def test_a_reference_that_is_no_option_counts_against_what_was_chosen() -> None:
    # class 0: tp 1, answered twice, reference once -> 2/3
    assert macro_f1([0, None], [0, 0]) == pytest.approx(2 / 3)
    assert macro_f1([None], [2]) == 0
    assert confusion([0, None, None], [0, 0, 0]) == {(0, 0): 1, (None, 0): 2}


@given(PAIRS, st.permutations(range(5)), st.randoms())
def test_macro_f1_knows_neither_names_nor_order(pairs: list[tuple[int, int]], names: list[int], random: object) -> None:
    correct, chosen = [a for a, _ in pairs], [b for _, b in pairs]
    found = macro_f1(correct, chosen)
    assert found is not None
    assert 0 <= found <= 1
    assert macro_f1([names[a] for a in correct], [names[b] for b in chosen]) == pytest.approx(found)
    shuffled = sorted(pairs)
    assert macro_f1([a for a, _ in shuffled], [b for _, b in shuffled]) == pytest.approx(found)
    # exchanging precision and recall leaves F1 as it is
    assert macro_f1(chosen, correct) == pytest.approx(found)


@given(PAIRS)
def test_confusion_adds_up_to_the_rows_and_its_diagonal_to_the_right_ones(pairs: list[tuple[int, int]]) -> None:
    counts = confusion([a for a, _ in pairs], [b for _, b in pairs])
    assert sum(counts.values()) == len(pairs)
    assert sum(n for (a, b), n in counts.items() if a == b) == sum(a == b for a, b in pairs)


def test_probabilities_by_hand_and_of_nlls_beyond_any_exponent() -> None:
    assert probabilities([0.0, math.log(3)]) == pytest.approx([3 / 4, 1 / 4])
    assert probabilities([5000.0, 5000.0 + math.log(3)]) == pytest.approx([3 / 4, 1 / 4])
    assert probabilities([1.0, 5000.0]) == pytest.approx([1.0, 0.0])


@given(st.lists(st.floats(0, 700), min_size=1, max_size=9), st.floats(-50, 50))
def test_probabilities_sum_to_one_and_a_constant_changes_nothing(nll: list[float], shift: float) -> None:
    found = probabilities(nll)
    assert math.fsum(found) == pytest.approx(1)
    assert probabilities([value + shift for value in nll]) == pytest.approx(found, abs=1e-9)
    assert found[nll.index(min(nll))] == max(found)


def test_reliability_and_ece_by_hand() -> None:
    confidences, right = [0.1, 0.2, 0.6, 0.9, 1.0], [0, 1, 1, 1, 0]
    curve = reliability(confidences, right, bins=2)
    assert curve == [
        Bin(0.0, 0.5, 2, pytest.approx(0.15), 0.5),
        Bin(0.5, 1.0, 3, pytest.approx(2.5 / 3), pytest.approx(2 / 3)),
    ]
    # 2/5 |0.5 - 0.15| + 3/5 |2/3 - 2.5/3|
    assert ece(curve) == pytest.approx(0.14 + 0.1)
    assert ece([]) is None


def test_a_probability_on_an_edge_is_in_the_lower_bin() -> None:
    assert [one.high for one in reliability([0.5, 0.0, 1.0], [1, 0, 1], bins=2)] == [0.5, 1.0]
    assert reliability([0.5, 0.0], [1, 0], bins=2)[0].n == 2


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=80))
def test_bins_hold_every_row_once_inside_their_bounds(rows: list[tuple[float, int]]) -> None:
    curve = reliability([p for p, _ in rows], [hit for _, hit in rows])
    assert sum(one.n for one in curve) == len(rows)
    for one in curve:
        assert one.low - 1e-9 <= one.confidence <= one.high + 1e-9
        assert 0 <= one.accuracy <= 1
    found = ece(curve)
    assert found is not None
    # never below the distance of the two means, by the triangle inequality
    gap = abs(math.fsum(p for p, _ in rows) - sum(hit for _, hit in rows)) / len(rows)
    assert gap - 1e-9 <= found <= 1 + 1e-9
