"""The grid: names, order, and what a cell shows of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from triptych.config.experiment import ExperimentConfig
from triptych.config.strategies import SearchConfig
from triptych.data import Dataset, Row
from triptych.errors import ConfigError, TemplateError
from triptych.grid.cells import CellSpec, candidates, grid, trainings
from triptych.grid.inputs import check_pool, demo_pool, templates_of
from triptych.grid.renderer import ContextLimit
from triptych.grid.rows import ExperimentRows
from triptych.prompts import Rendered, Template


class Bytes:
    """A tokenizer of UTF-8 bytes."""

    bos_id, eos_id = 256, 257

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def config(**strategies: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"strategies": strategies})


def rows(name: str, n: int) -> tuple[Row, ...]:
    return tuple(Row(f"{name}-{i}", f"問{i}{name}", f"答{i}") for i in range(n))


def shown(
    cell: CellSpec, test: Sequence[Row], train: Sequence[Row], templates: dict[str, Template], max_tokens: int = 4096
) -> list[Rendered]:
    data = Dataset(tuple(train), (), tuple(test))
    tokenizer: Any = Bytes()
    return ExperimentRows(ExperimentConfig(), data, templates, tokenizer, ContextLimit(max_tokens)).cell(cell).rows


def test_names_and_order() -> None:
    cells = grid(
        config(
            zero_shot={"prompts": ["emotional", "default"]},
            few_shot={"k": [10, 1], "seeds": [2, 0], "draw": ["seed", "item"]},
            qlora={"prompt": "emotional"},
        )
    )
    assert [cell.name for cell in cells] == [
        "zero_shot/emotional",
        "zero_shot/default",
        *(
            f"few_shot/default/k={k}/draw={draw}/seed={seed}"
            for draw in ("seed", "item")
            for k in (10, 1)
            for seed in (2, 0)
        ),
        "qlora/emotional",
    ]
    assert len({cell.name for cell in cells}) == len(cells)


def test_the_study_is_the_default() -> None:
    names = [cell.name for cell in grid(ExperimentConfig())]
    assert len(names) == 2 + 4 * 3 + 1
    assert names[:2] == ["zero_shot/default", "zero_shot/emotional"]
    assert names[-1] == "qlora/default"
    assert "few_shot/default/k=10/draw=item/seed=2" in names


@pytest.mark.parametrize("left_out", ["zero_shot", "few_shot", "qlora"])
def test_a_strategy_can_be_left_out(left_out: str) -> None:
    every = {"zero_shot": True, "few_shot": {}, "qlora": {}}
    for off in (None, False):
        assert left_out not in {cell.strategy for cell in grid(config(**{**every, left_out: off}))}


def test_one_value_is_a_list_of_one() -> None:
    cells = grid(config(zero_shot={"prompts": "default"}, few_shot={"k": 3, "seeds": [7], "draw": "seed"}))
    assert [cell.name for cell in cells] == ["zero_shot/default", "few_shot/default/k=3/draw=seed/seed=7"]


def test_templates_of_the_grid_own_ones_first() -> None:
    own = ExperimentConfig.model_validate(
        {
            "prompts": {
                "mine": "Q: {instruction} A:",
                "default": {"zero_shot": "D {instruction}"},
                "unused": "{instruction}",
            },
            "strategies": {"zero_shot": {"prompts": ["mine", "default", "emotional"]}},
        }
    )
    templates = templates_of(own)
    assert set(templates) == {"mine", "default", "emotional"}
    assert templates["default"].prompt("x") == "D x"
    assert templates["mine"].prompt("x") == "Q: x A:"


def test_an_unknown_prompt_is_named_with_the_nearest() -> None:
    with pytest.raises(TemplateError, match=r"`emotinal`[\s\S]*did you mean `emotional`"):
        templates_of(config(qlora={"prompt": "emotinal"}))


def test_rows_in_the_test_set_are_never_in_the_pool() -> None:
    data = Dataset(rows("train", 5), (), rows("test", 2), overlapping_train_ids=frozenset({"train-1", "train-3"}))
    assert [row.id for row in demo_pool(data)] == ["train-0", "train-2", "train-4"]
    check_pool(config(few_shot={"k": [3]}), data)
    with pytest.raises(ConfigError, match=r"k = 4, 3 training rows that are not in the test set"):
        check_pool(config(few_shot={"k": [1, 4]}), data)
    check_pool(config(zero_shot={}), data)


@pytest.mark.parametrize("draw", ["item", "seed"])
def test_a_few_shot_cell_shows_k_training_rows(draw: Any) -> None:
    train, test = rows("train", 20), rows("test", 6)
    templates = templates_of(config(few_shot={}))
    cell = CellSpec("few_shot", "default", 3, 1, draw, "random")
    rendered = shown(cell, test, train, templates)
    assert [row.row_id for row in rendered] == [row.id for row in test]
    assert all(len(set(row.demo_ids)) == 3 for row in rendered)
    assert {demo for row in rendered for demo in row.demo_ids} <= {row.id for row in train}
    assert (len({row.demo_ids for row in rendered}) == 1) == (draw == "seed")
    # neither the order of the test rows nor which others are there decides what is shown
    backwards = shown(cell, test[::-1][:3], train, templates)
    assert backwards == rendered[::-1][:3]
    for other in (
        CellSpec("few_shot", "default", 3, 2, draw, "random"),
        CellSpec("few_shot", "default", 2, 1, draw, "random"),
    ):
        assert shown(other, test, train, templates) != rendered


def test_a_zero_shot_cell_shows_none() -> None:
    templates = templates_of(config(zero_shot={}))
    cell = CellSpec("zero_shot", "default")
    [rendered] = shown(cell, rows("test", 1), rows("train", 3), templates)
    assert rendered.demo_ids == ()
    assert bytes(rendered.ids[1 : rendered.n_prompt]).decode() == templates["default"].prompt("問0test")
    assert bytes(rendered.ids[rendered.n_prompt : -1]).decode() == "答0"


def test_demonstrations_that_do_not_fit_are_dropped_whole() -> None:
    templates = templates_of(config(few_shot={}))
    cell = CellSpec("few_shot", "default", 3, 0, "item", "random")
    train, test = rows("train", 9), rows("test", 3)
    whole = shown(cell, test, train, templates)
    cut = shown(cell, test, train, templates, len(whole[0].ids) - 1)
    for row, full in zip(cut, whole, strict=True):
        assert row.n_demos_dropped == 1
        assert row.demo_ids == full.demo_ids[:2]
        assert row.ids[row.n_prompt :] == full.ids[full.n_prompt :]  # the output is never cut
        assert "給你2個例子" in bytes(row.ids[1 : row.n_prompt]).decode()


def test_selections_prompts_and_orders_are_axes_of_the_grid() -> None:
    few = {
        "prompts": ["default", "emotional"],
        "k": [2],
        "seeds": [0, 1],
        "select": ["random", "bm25", "longest"],
        "order": ["nearest-last", "nearest-first"],
    }
    names = [cell.name for cell in grid(config(few_shot=few))]
    assert names[:5] == [
        "few_shot/default/k=2/draw=item/seed=0",
        "few_shot/default/k=2/draw=item/seed=1",
        "few_shot/default/k=2/select=bm25/order=nearest-last",
        "few_shot/default/k=2/select=bm25/order=nearest-first",
        "few_shot/default/k=2/select=longest",
    ]
    assert len(names) == len(set(names)) == 10


def test_prompt_is_a_short_form_of_prompts() -> None:
    assert grid(config(few_shot={"prompt": "emotional", "k": 1, "seeds": [0]}))[0].prompt == "emotional"
    with pytest.raises(ValueError, match="say the same"):
        config(few_shot={"prompt": "a", "prompts": ["b"]})


def test_trainings_and_compositions() -> None:
    made = config(qlora={"trained_k": [0, 2], "score": [{"prompts": "emotional"}, {"k": 2}]})
    assert [training.name for training in trainings(made)] == ["default/train_seed=0", "default/k=2/train_seed=0"]
    assert [training.first for training in trainings(made)] == [True, False]
    names = [cell.name for cell in grid(made)]
    assert names == [
        "qlora/default",
        "qlora/emotional/trained=default",
        "qlora/default/k=2/draw=item/seed=0",
        "qlora/default/k=2/draw=item/seed=0/trained_k=2/train_seed=0",
        "qlora/emotional/trained=default/trained_k=2/train_seed=0",
    ]


def test_each_seed_is_a_training() -> None:
    made = config(qlora={"seeds": [3, 5]})
    assert [cell.name for cell in grid(made)] == ["qlora/default", "qlora/default/train_seed=5"]
    assert [training.seed for training in trainings(made)] == [3, 5]


def test_a_training_row_is_not_its_own_demonstration() -> None:
    data = Dataset(rows("train", 3), (), rows("test", 2))
    check_pool(config(qlora={"trained_k": [2]}), data)
    with pytest.raises(ConfigError, match=r"k = 3, 2 training rows"):
        check_pool(config(qlora={"trained_k": [3]}), data)


def test_what_a_search_tries() -> None:
    names = [cell.name for cell in candidates(SearchConfig(k=(0, 1), select=("random", "bm25")))]
    assert names == [
        f"{start}"
        for prompt in ("default", "emotional")
        for start in (
            f"zero_shot/{prompt}",
            f"few_shot/{prompt}/k=1/draw=item/seed=0",
            f"few_shot/{prompt}/k=1/select=bm25/order=nearest-last",
        )
    ]
