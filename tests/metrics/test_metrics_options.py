"""Which options there are, what is said about them, and which one is chosen in which way to normalise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row, outputs_of
from triptych.errors import ConfigError, DataError
from triptych.metrics.choose import choices_by, sums
from triptych.metrics.options import MOST, options_of


def rows(*outputs: str, **columns: str) -> list[Row]:
    return [Row(f"r{i}", "?", output, tuple(columns.items())) for i, output in enumerate(outputs)]


def test_auto_is_the_distinct_outputs_of_train_sorted() -> None:
    train = outputs_of(rows("b", "a", "b", "c", ""))
    options = options_of("auto", train, rows("a"))
    assert options.same == ("a", "b", "c")
    assert options.most_frequent == "b"
    assert options.majority(rows("b", "b", "a", "c")) == 0.5
    assert options.correct(rows("c")[0]) == 2
    assert options.correct(rows("d")[0]) is None


def test_a_list_keeps_its_order_and_a_column_is_each_rows_own() -> None:
    assert options_of(["z", "a"], {}, []).same == ("z", "a")
    own = rows("yes", choices=json.dumps(["yes", "no"])) + rows("b", choices=json.dumps(["a", "b", "c"]))
    options = options_of("choices", {}, own)
    assert [options.of(row) for row in own] == [("yes", "no"), ("a", "b", "c")]
    assert options.majority(own) is None


@pytest.mark.parametrize("value", [None, "yes", '"yes"', "[]", '["one"]', '["same", "same"]', '["a", ""]', '["a", 1]'])
def test_a_row_without_options_of_its_own_is_named(value: str | None) -> None:
    row = Row("r7", "?", "yes", () if value is None else (("choices", value),))
    with pytest.raises(DataError, match="r7"):
        options_of("choices", {}, [row])


def test_too_many_or_too_few_outputs_are_no_options() -> None:
    many = {f"text {i}": 1 for i in range(5000)}
    with pytest.raises(ConfigError, match=r"5,000 distinct outputs"):
        options_of("auto", many, [])
    assert len(options_of("auto", {str(i): 1 for i in range(MOST)}, []).same) == MOST
    for few in ({}, {"only": 3}, {"only": 3, "": 2}):
        with pytest.raises(ConfigError, match="2 or more"):
            options_of("auto", few, [])


def test_references_that_are_no_option_and_options_within_others_are_said() -> None:
    options = options_of(["card", "card arrival", "cash"], {}, [])
    first, second = options.warnings(rows("card", "strange", "strange", "odd"))
    assert first.startswith("3 of 4 test rows") and "'strange', 'odd'" in first
    assert "'card' of 'card arrival'" in second
    assert options_of(["a", "b"], {}, []).warnings(rows("a", "b")) == []


def test_each_way_to_normalise_by_hand() -> None:
    # option:       whole  tokens  chars | without the end
    nll = [np.array(values, dtype=np.float32) for values in ([1.0, 2.0], [2.0, 0.75, 0.75], [0.5, 4.0])]
    n_chars = [2, 7, 4]  # sums 3, 3.5, 4.5; per token 1.5, 1.167, 2.25; per character 1.5, 0.5, 1.125
    chosen = choices_by(nll, n_chars)  # without the end 1, 2.75, 0.5; per character 0.5, 0.393, 0.125
    assert chosen == {
        "accuracy": 0,
        "accuracy_token": 1,
        "accuracy_char": 1,
        "accuracy_no_eos": 2,
        "accuracy_no_eos_char": 2,
    }


def test_ties_go_to_the_first() -> None:
    same = [np.array([1.0, 1.0], dtype=np.float32)] * 3
    assert set(choices_by(same, [3, 3, 3]).values()) == {0}


@given(st.lists(st.lists(st.floats(0, 50, width=32), min_size=2, max_size=6), min_size=2, max_size=8))
def test_the_chosen_option_has_the_lowest_sum(values: list[list[float]]) -> None:
    nll = [np.array(tokens, dtype=np.float32) for tokens in values]
    whole = [math.fsum(tokens) for tokens in values]
    assert sums(nll) == pytest.approx(whole)
    assert whole[choices_by(nll, [1] * len(nll))["accuracy"]] == pytest.approx(min(whole))
