"""A run over numbers of labelled rows: nothing outside a subset is seen, and a budget can be added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config.read import read_config
from triptych.errors import ConfigError
from triptych.grid.cells import Subset, grid, trainings
from triptych.grid.rows import ExperimentRows
from triptych.plan.plan import plan_experiment
from triptych.records.store import read_items
from triptych.runner.made_from import RunFacts
from triptych.runner.run import run_experiment

Project = Callable[..., Path]
STRATEGIES: dict[str, Any] = {
    "zero_shot": {"prompts": ["default"]},
    "few_shot": {"k": [1, 3], "seeds": [0, 1], "select": ["random", "bm25", "longest"]},
    "qlora": {"trained_k": [0, 1]},
}
BUDGETS: dict[str, Any] = {"budgets": [2, 5, "all"], "budget_seeds": [0, 1]}


def test_no_row_outside_a_subset_is_shown_or_trained_on(project: Project) -> None:
    rows = ExperimentRows.read(read_config(project(strategies=STRATEGIES, **BUDGETS)))
    every = {row.id for row in rows.data.train}
    seen = 0
    for cell in grid(rows.config):
        allowed = {row.id for row in rows.labelled(cell.subset)}
        shown = [one.demo_ids for one in rows.cell(cell).rows]
        assert {demo for demos in shown for demo in demos} <= allowed
        # with fewer rows than k all of them are shown
        most = min(cell.k, len(allowed) - bool(cell.training))
        assert all(most - 1 <= len(demos) <= cell.k for demos in shown)
        seen += bool(cell.subset) and bool(cell.k)
    for training in trainings(rows.config):
        allowed = {row.id for row in rows.labelled(training.subset)}
        trained = rows.training(training).train
        assert {row.row_id for row in trained} == allowed
        assert {demo for row in trained for demo in row.demo_ids} <= allowed
        assert (allowed == every) == (training.subset is None)
    assert seen


@pytest.mark.parametrize("tuned", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("no_report")
def test_a_run_records_budgets_and_one_that_is_added_computes_only_what_is_new(
    tuned: bool, project: Project, tmp_path: Path
) -> None:
    strategies = {**STRATEGIES, "few_shot": {"k": [1], "seeds": [0, 1]}, "qlora": {} if tuned else None}
    kinds = ("few_shot", "qlora") if tuned else ("few_shot",)
    config = read_config(project(strategies=strategies, budgets=[5, "all"], budget_seeds=[0, 1]))
    first = run_experiment(config, tmp_path / "run", on="local:1")
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "cells").glob("*.json")}
    record = run_experiment(read_config(project(strategies=strategies, **BUDGETS)), tmp_path / "run", on="local:1")
    assert {path: path.stat().st_mtime_ns for path in cells} == cells
    if tuned:
        whole = run_experiment(read_config(project(strategies=strategies, **BUDGETS)), tmp_path / "whole", on="local:1")
        assert [(c.cell, c.aggregate) for c in record.cells] == [(c.cell, c.aggregate) for c in whole.cells]
    assert {c.cell: c.aggregate for c in first.cells}.items() <= {c.cell: c.aggregate for c in record.cells}.items()
    assert {(c.strategy, c.budget, c.budget_seed) for c in record.cells} == {
        ("zero_shot", None, None),
        *((strategy, n, seed) for strategy in kinds for n in (2, 5) for seed in (0, 1)),
        *((strategy, 14, None) for strategy in kinds),
    }
    (crossover,) = record.crossover
    assert crossover.budgets == (2, 5, 14)
    assert set(crossover.curves) == {"zero_shot", "few_shot/random/k=1", *kinds[1:]}
    assert all([point.budget for point in points] == [2, 5, 14] for points in crossover.curves.values())
    items = read_items(tmp_path / "run" / "items.parquet")
    few = [c for c in record.cells if c.strategy == "few_shot" and c.budget == 5]
    mean = sum(item.ppl for c in few for item in items[c.cell]) / sum(len(items[c.cell]) for c in few)
    assert crossover.curves["few_shot/random/k=1"][1].mean == pytest.approx(mean)
    # what is compared has as many rows
    assert {name for c in record.comparisons for name in (c.a, c.b) if "budget=" in name} == set()
    assert all(len(summary.cells) == 2 for summary in record.few_shot)
    assert not any("asks for more" in warning for warning in record.warnings)


def test_the_plan_counts_every_budget(project: Project, tmp_path: Path) -> None:
    config = read_config(project(strategies=STRATEGIES, **BUDGETS))
    plan = plan_experiment(config, tmp_path / "run")
    assert [cell.name for cell in plan.cells] == [cell.name for cell in grid(config)]
    assert len(plan.trainings) == 2 * (1 + 2 * 2)


def test_a_budget_larger_than_train_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a budget is larger[\s\S]*or `all`"):
        run_experiment(read_config(project(strategies=STRATEGIES, budgets=[2, 15])), tmp_path / "run", on="local:1")
    assert not (tmp_path / "run").exists()


def test_subsets_decide_what_cells_and_trainings_are_made_from(project: Project) -> None:
    rows = ExperimentRows.read(read_config(project(strategies=STRATEGIES, **BUDGETS)))
    facts = RunFacts(rows, {"weights_sha256": "0"}, lambda: {})
    cells = {facts.cell(cell).sha256 for cell in grid(rows.config)}
    assert len(cells) == len(grid(rows.config))
    first, *others = (facts.training(training) for training in trainings(rows.config))
    assert first.sha256 not in {one.sha256 for one in others}
    # as in runs from before there were budgets
    assert "min_steps" not in first.facts["tune"]
    whole = ExperimentRows.read(read_config(project(strategies=STRATEGIES)))
    before = RunFacts(whole, {"weights_sha256": "0"}, lambda: {})
    assert {before.cell(cell).sha256 for cell in grid(whole.config)} <= cells


def test_training_steps_follow_the_rows(project: Project) -> None:
    tune = read_config(project(tune={"min_steps": 7, "epochs": 2, "batch_size": 4})).tune
    assert tune.total_steps(2) == 7
    assert tune.total_steps(14) == 8
    assert read_config(project(tune={"min_steps": 7, "max_steps": 3, "batch_size": 4})).tune.total_steps(14) == 3
    rows = ExperimentRows.read(read_config(project(strategies=STRATEGIES, **BUDGETS)))
    assert len(rows.labelled(Subset(2, 0))) == 2
