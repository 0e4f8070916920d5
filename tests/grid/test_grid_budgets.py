"""Subsets of the training rows: nested, in the classes' proportions, the same wherever they are asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from triptych.config.experiment import ExperimentConfig
from triptych.data import Row
from triptych.grid.budgets import Subsets, cut_demonstrations
from triptych.grid.cells import Subset, cell_as_trained, grid, trainings


def rows_of(classes: list[int]) -> list[Row]:
    return [Row(f"r{i}", f"message {i}", f"class {label}") for i, label in enumerate(classes)]


CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(classes=CLASSES, seed=st.integers(0, 5), by_output=st.booleans(), data=st.data())
def test_a_larger_subset_holds_the_smaller(classes: list[int], seed: int, by_output: bool, data: Any) -> None:
    rows = rows_of(classes)
    small, large = sorted(data.draw(st.lists(st.integers(1, len(rows)), min_size=2, max_size=2)))
    subsets = Subsets(rows, by_output=by_output)
    few, many = (subsets.of(Subset(n, seed)) for n in (small, large))
    assert (len(few), len(many)) == (small, large)
    assert {row.id for row in few} <= {row.id for row in many}
    assert many == [row for row in rows if row in many]  # in the rows' own order
    assert subsets.of(Subset(len(rows), seed)) == subsets.of(None) == rows


@given(classes=CLASSES, seed=st.integers(0, 5), data=st.data())
def test_classes_keep_their_proportions(classes: list[int], seed: int, data: Any) -> None:
    rows = rows_of(classes)
    n = data.draw(st.integers(1, len(rows)))
    chosen = Counter(row.output for row in Subsets(rows, by_output=True).of(Subset(n, seed)))
    every = Counter(row.output for row in rows)
    assert all(abs(chosen[name] - n * count / len(rows)) <= len(every) for name, count in every.items())


def test_as_many_rows_as_balanced_classes_are_one_of_each() -> None:
    rows = rows_of([i % 12 for i in range(360)])
    for seed in range(5):
        for n in (12, 24, 96):
            chosen = Counter(row.output for row in Subsets(rows, by_output=True).of(Subset(n, seed)))
            assert set(chosen.values()) == {n // 12}


def test_seeds_give_other_rows() -> None:
    subsets = Subsets(rows_of([0] * 100), by_output=False)
    assert subsets.of(Subset(20, 0)) != subsets.of(Subset(20, 1))


def config(**over: Any) -> ExperimentConfig:
    strategies = {
        "zero_shot": {"prompts": ["default"]},
        "few_shot": {"k": [1, 4], "seeds": [0, 1], "select": ["random", "bm25"]},
        "qlora": {},
    }
    return ExperimentConfig.model_validate({"strategies": strategies, **over})


def test_cells_and_trainings_are_named_by_their_rows() -> None:
    given = config(budgets=[16, "all"], budget_seeds=[0, 1])
    names = [cell.name for cell in grid(given)]
    assert len(names) == len(set(names)) == 1 + 2 * 2 + 2 * 2 + 2 * 2 + 2 + 2 + 1
    assert "few_shot/default/k=4/draw=item/seed=1/budget=16/budget_seed=1" in names
    assert "few_shot/default/k=4/select=bm25/order=nearest-last/budget=16/budget_seed=0" in names
    assert "qlora/default/train_seed=0/budget=16/budget_seed=1" in names
    trained = trainings(given)
    assert [one.first for one in trained] == [True, False, False]
    assert all(cell_as_trained(one).subset == one.subset for one in trained)


def test_cells_of_all_rows_are_those_of_a_run_without_budgets() -> None:
    whole = {cell.name for cell in grid(config(budgets=[16, "all"])) if cell.subset is None}
    assert whole == {cell.name for cell in grid(config())}


def test_seeds_go_in_pairs_unless_they_are_crossed() -> None:
    def seeds(**over: Any) -> set[tuple[int | None, int]]:
        cells = [cell for cell in grid(config(budgets=[16], **over)) if cell.select == "random" and cell.k == 1]
        return {(cell.seed, cell.subset.seed) for cell in cells if cell.subset}

    assert seeds(budget_seeds=[7, 8]) == {(0, 7), (1, 8)}
    assert seeds(budget_seeds=[7, 8, 9]) == {(0, 7), (1, 8), (0, 9)}
    assert seeds(budget_seeds=[7]) == {(0, 7), (1, 7)}
    assert seeds(budget_seeds=[7, 8], cross_seeds=True) == {(0, 7), (1, 7), (0, 8), (1, 8)}


def test_a_budget_smaller_than_k_is_said() -> None:
    assert cut_demonstrations(config()) == []
    (said,) = cut_demonstrations(config(budgets=["all", 3, 2, 16]))
    assert said.startswith("k = 4 asks for more") and "2, 3:" in said


def test_a_time_limit_that_would_change_them_is_refused() -> None:
    with pytest.raises(ValidationError, match="no `within` beside `budgets`"):
        config(budgets=[16], within="10m")


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ([16, 16], "each value once"),
        ([0], "a number of training rows"),
        (["half"], "or `all`"),
        ([True], "a number of training rows"),
        ([], "at least one value"),
    ],
)
def test_budgets_that_are_none(budgets: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(budgets=budgets)
