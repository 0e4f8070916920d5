"""The crossover in a report: curves from cells, where they cross, what the answer says, the table and the chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make_cell, make_run, rows_from_ppl, save_run

from triptych.records import CellRecord, ItemScore, RunRecord
from triptych.report import Study, answer, build_report, comparisons, summarise_few_shot
from triptych.report.budgets import most_rows
from triptych.report.crossover import crossovers
from triptych.report.crossover_shown import crossover_chart, crossover_tables

BUDGETS = (12, 48, 192)
ROWS = 200


def scored(share: float, seed: int) -> list[ItemScore]:
    """Rows of which a share is right; each seed errs on a few others."""
    right = round(share * ROWS)
    places = {(7 * place + (5 * seed if place % 10 == 0 else 0)) % ROWS for place in range(right)}
    rows = rows_from_ppl([2.0 + place % 3 for place in range(ROWS)])
    return [replace(row, metrics={"accuracy": float(place in places)}) for place, row in enumerate(rows)]


def run_of(
    few: Sequence[float], tuned: Sequence[float], zero: float = 0.2, budgets: Sequence[int] = BUDGETS
) -> tuple[RunRecord, dict[str, list[ItemScore]]]:
    """Accuracies of retrieved demonstrations and of QLoRA at each budget, two seeds each; the last is all of train."""
    items: dict[str, list[ItemScore]] = {"zero_shot/asked": scored(zero, 0)}
    cells: list[CellRecord] = [make_cell("zero_shot/asked", items["zero_shot/asked"])]
    for place, budget in enumerate(budgets):
        whole = place == len(budgets) - 1
        for seed in (None,) if whole else (0, 1):
            facts: dict[str, Any] = {"budget": budget, "budget_seed": seed}
            after = "" if whole else f"/budget={budget}/budget_seed={seed}"
            shown = f"few_shot/asked/k=4/select=bm25/order=nearest-last{after}"
            trained = f"qlora/asked{after}"
            items[shown], items[trained] = scored(few[place], seed or 0), scored(tuned[place], seed or 0)
            cells.append(make_cell(shown, items[shown], k=4, select="bm25", order="nearest-last", **facts))
            training = {"training": f"asked/train_seed=0{after}", "adapter_sha256": "a" * 64, "train_seed": 0}
            cells.append(make_cell(trained, items[trained], trained_prompt="asked", **training, **facts))
    metrics = ("accuracy", "perplexity")
    made: dict[str, Any] = {
        "name": "budgets",
        "metrics": metrics,
        "cells": tuple(cells),
        "few_shot": summarise_few_shot(most_rows(cells)),
        "comparisons": comparisons(most_rows(cells), items, metrics),
        "crossover": crossovers(cells, items, metrics),
    }
    record = make_run(3, ks=(1,), seeds=(0,))[0].model_copy(update={"curve": (), "tune": None, "warnings": (), **made})
    return record, items


def test_curves_are_the_cells_means() -> None:
    record, _ = run_of((0.4, 0.5, 0.6), (0.3, 0.5, 0.8))
    accuracy, perplexity = record.crossover
    assert (accuracy.metric, accuracy.budgets) == ("accuracy", BUDGETS)
    assert perplexity.metric == "perplexity"
    assert set(accuracy.curves) == {"zero_shot", "few_shot/bm25/k=4", "qlora"}
    levels = {name: [round(p.mean, 2) for p in points] for name, points in accuracy.curves.items()}
    assert levels["zero_shot"] == [0.2, 0.2, 0.2]
    assert levels["few_shot/bm25/k=4"] == pytest.approx([0.4, 0.5, 0.6], abs=0.02)
    assert [p.seeds for p in accuracy.curves["qlora"]] == [2, 2, 1]
    for points in accuracy.curves.values():
        assert all(0 <= p.ci_low < p.mean < p.ci_high <= 1 for p in points)


def test_the_sentence_says_with_how_many_rows_which() -> None:
    record, items = run_of((0.5, 0.55, 0.6), (0.2, 0.5, 0.9))
    crossing = next(c for c in record.crossover[0].crossings if c.a.startswith("few_shot") and c.b == "qlora")
    assert crossing.budget is not None and 48 < crossing.budget < 192
    first = answer(Study(record, items))[0]
    assert first.startswith(f"With fewer than about {float(f'{crossing.budget:.2g}'):.0f} labelled rows [")
    assert first.endswith("] show 4 retrieved demonstrations; with more, fine-tune.")


def test_a_strategy_that_is_the_best_in_between_is_said() -> None:
    record, items = run_of((0.1, 0.6, 0.65), (0.05, 0.2, 0.95), zero=0.35)
    first = answer(Study(record, items))[0]
    parts = first.split("; ")
    assert parts[0].startswith("With fewer than about ") and parts[0].endswith("] use the prompt alone")
    assert parts[1].startswith("up to about ") and parts[1].endswith("] show 4 retrieved demonstrations")
    assert parts[2] == "with more, fine-tune."


def test_no_interval_of_a_share_is_a_point() -> None:
    record, _ = run_of((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    curves = record.crossover[0].curves
    assert all(point.ci_low == 0 and point.ci_high > 0.01 for point in curves["few_shot/bm25/k=4"])
    assert all(point.ci_low < 0.99 and point.ci_high == 1 for point in curves["qlora"])


def test_of_crossing_downwards_the_names_are_exchanged() -> None:
    record, _ = run_of((0.2, 0.5, 0.9), (0.5, 0.55, 0.6))
    crossing = next(c for c in record.crossover[0].crossings if {c.a, c.b} == {"few_shot/bm25/k=4", "qlora"})
    assert crossing.a == "qlora" and crossing.budget is not None


def test_never_before_and_cannot_be_told() -> None:
    def said(few: Sequence[float], tuned: Sequence[float]) -> dict[tuple[str, str], str | None]:
        record, _ = run_of(few, tuned)
        return {(c.a.split("/")[0], c.b.split("/")[0]): c.said for c in record.crossover[0].crossings}

    found = said((0.5, 0.6, 0.7), (0.05, 0.06, 0.07))
    assert found["zero_shot", "few_shot"] == "before 12"
    assert found["zero_shot", "qlora"] == "never within 12 … 192"
    assert said((0.5, 0.6, 0.7), (0.5, 0.6, 0.7))["few_shot", "qlora"] == "can't be told within 12 … 192"


def test_one_best_at_every_budget() -> None:
    record, items = run_of((0.3, 0.4, 0.5), (0.6, 0.7, 0.9))
    assert answer(Study(record, items))[0] == "From 12 to 192 labelled rows the best is to fine-tune."
    alike, items = run_of((0.6, 0.7, 0.9), (0.6, 0.7, 0.9))
    retrieve = "From 12 to 192 labelled rows the best is to show 4 retrieved demonstrations"
    assert answer(Study(alike, items))[0] == f"{retrieve}, though it can't be told from QLoRA."


def test_what_is_compared_has_the_most_rows() -> None:
    record, items = run_of((0.5, 0.55, 0.6), (0.2, 0.5, 0.9))
    study = Study(record, items)
    assert {cell.budget for cell in study.cells} == {None, 192}
    assert study.mean(study.best["qlora"]) == pytest.approx(0.9)
    assert len(study.whole.cells) == 1 + 2 * 5
    assert study.completed_whole.cells == record.cells


def test_a_run_without_budgets_has_none() -> None:
    record, items = run_of((0.5,), (0.6,), budgets=(192,))
    assert record.crossover == ()
    study = Study(record, items)
    assert crossover_chart(study) is None and crossover_tables(study) == {}


def test_tables_and_chart() -> None:
    study = Study(*run_of((0.5, 0.55, 0.6), (0.2, 0.5, 0.9)))
    tables, chart = crossover_tables(study), crossover_chart(study)
    assert tables["crossover"].columns == ("strategy", "12", "48", "192")
    assert [row[0] for row in tables["crossover"].rows] == ["the prompt alone", "few-shot, bm25, k=4", "QLoRA"]
    assert len(tables["crossings"].rows) == 3
    assert chart is not None
    assert [s.role for s in chart.series] == ["level", "few_shot", "band", "test"]
    assert [text for _, text in chart.ticks] == ["12", "48", "192"]


def test_the_report_has_figure_files_and_tables(tmp_path: Path, real_figures: None) -> None:
    folder = save_run(tmp_path / "run", *run_of((0.5, 0.55, 0.6), (0.2, 0.5, 0.9)))
    build_report(folder)
    assert all((folder / "figures" / f"crossover.{kind}").stat().st_size > 1000 for kind in ("png", "svg"))
    assert (folder / "tables" / "crossover.csv").read_text(encoding="utf-8").startswith("strategy,12,48,192\n")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.index("With fewer than about") < text.index("## By labelled rows") < text.index("figures/crossover.png")


@pytest.mark.slow
def test_the_page_draws_it(tmp_path: Path, open_report: Callable[..., Any]) -> None:
    folder = save_run(tmp_path / "run", *run_of((0.5, 0.55, 0.6), (0.2, 0.5, 0.9)))
    build_report(folder)
    opened = open_report(folder / "report.html")
    page = opened.load()
    page.evaluate("plots.drawAll()")
    page.wait_for_selector('[data-plot="crossover"][data-drawn] .main-svg')
    legend = page.locator('[data-plot="crossover"] .legendtext').all_text_contents()
    assert legend == ["the prompt alone: 0.200", "few-shot, bm25, k=4", "QLoRA"]
    page.click('button[data-metric="perplexity"]')
    page.wait_for_function(
        "document.querySelector('figure:has([data-plot=\"crossover\"]) h3').textContent.startsWith('Perplexity')"
    )
    opened.assert_quiet()
