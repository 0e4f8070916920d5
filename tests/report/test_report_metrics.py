"""A run that is decided by accuracy or by a metric of texts: settings, comparisons, tables and the answer follow it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_run import (
    Items,
    aggregate,
    make_cell,
    make_classified,
    make_run,
    rows_from_ppl,
    save_run,
    save_texts,
    study_of,
    write_texts,
)
from rich.console import Console
from typer.testing import CliRunner

from triptych.cli.main import app
from triptych.metrics import metric_of
from triptych.records import CellRecord, ItemScore
from triptych.report import (
    Study,
    answer,
    build_report,
    cells_table,
    comparisons,
    few_shot_table,
    holm,
    print_tables,
    row_warnings,
    study_table,
    to_csv,
    to_latex,
)
from triptych.report.curves import curve_chart
from triptych.report.hard_rows import difficulty, hard_table, hurt_table
from triptych.report.power import settle_table, uncertainty_table
from triptych.report.proportions import mcnemar, wilson
from triptych.report.series import by_k_chart, differences_chart
from triptych.report.slices import slice_tables
from triptych.report.statistics import a_is_better, compare_rows, sign_flip
from triptych.report.tables.overview import study_tables

ACCURACY, PERPLEXITY = metric_of("accuracy"), metric_of("perplexity")
CONTRADICTING = {"zero_shot": 6.0, "few_shot": 1.5, "qlora": 2.0}
"""Perplexities that order the strategies otherwise than accuracy does."""


def rows(right: list[int], ppl: float = 4.0, **metrics: list[float]) -> list[ItemScore]:
    """Rows that are right (1) or wrong (0), all of one perplexity."""
    columns = {"accuracy": [float(one) for one in right], **metrics}
    return [
        replace(
            item, metrics={name: values[place] for name, values in columns.items() if not math.isnan(values[place])}
        )
        for place, item in enumerate(rows_from_ppl([ppl] * len(right)))
    ]


def decided(items: Items, metrics: tuple[str, ...] = ("accuracy",), **fields: Any) -> Study:
    cells = [_cell(name, scored) for name, scored in items.items()]
    return study_of(cells, items, metrics=metrics, comparisons=comparisons(cells, items, metrics), **fields)


def _cell(name: str, scored: list[ItemScore]) -> CellRecord:
    if name.startswith("few_shot"):
        return make_cell(name, scored, k=1, draw="item", seed=int(name[-1]))
    return make_cell(name, scored, **({"adapter_sha256": "a" * 64} if name.startswith("qlora") else {}))


# ---- which metric decides


def test_the_first_metric_decides_what_is_best_and_perplexity_breaks_ties() -> None:
    items = {
        "zero_shot/a": rows([1, 1, 1, 0], ppl=9.0),
        "zero_shot/b": rows([1, 0, 0, 0], ppl=2.0),
        "zero_shot/c": rows([0, 1, 1, 1], ppl=5.0),
    }
    study = decided(items, ("accuracy", "perplexity"))
    assert study.best["zero_shot"].label == "zero_shot/c"  # as often right as a, with the lower perplexity
    assert study.by(PERPLEXITY).best["zero_shot"].label == "zero_shot/b"
    assert study.by(ACCURACY) is study
    assert study.by(PERPLEXITY) is study.by(PERPLEXITY)


def test_a_metric_that_no_cell_has_decides_nothing_and_is_said() -> None:
    record, items = make_run(30)
    study = Study(record.model_copy(update={"metrics": ("exact_match", "perplexity")}), items)
    assert study.metric == PERPLEXITY
    assert answer(study)[0] == answer(Study(record, items))[0]
    assert row_warnings(study)[0] == "No cell has a value of exact_match: the answer is by mean perplexity."


def test_a_metric_that_failed_is_said_with_its_cell_and_reason(tmp_path: Path) -> None:
    record, items = make_run(30)
    rows = save_texts(save_run(tmp_path, record, items), items)
    record = write_texts(tmp_path, record, rows, cells=("qlora/default",))
    failed = record.generations[0].model_copy(
        update={"metric_errors": {"mine:polite": "row 'row-003': it is no number"}}
    )
    again = failed.model_copy(update={"cell": "zero_shot/default"})
    study = Study(record.model_copy(update={"generations": (failed, again), "metrics": ("mine:polite",)}), items)
    assert row_warnings(study)[:2] == [
        "No cell has a value of mine:polite: the answer is by mean perplexity.",
        "qlora/default has no mine:polite (nor has 1 other cell): row 'row-003': it is no number",
    ]


def test_a_strategy_that_lacks_the_metric_is_not_called_not_run() -> None:
    items = {"zero_shot/default": rows_from_ppl([3.0] * 20), "qlora/default": rows([1] * 20)}
    study = decided(items)
    assert list(study.best) == ["qlora"]
    assert study.comparisons == ()
    assert "Without accuracy" not in answer(study)[0]  # there is nothing to compare with
    items["few_shot/default/k=1/draw=item/seed=0"] = rows([0] * 20)
    first = answer(decided(items))[0]
    assert first.startswith("Use QLoRA: its accuracy, 1.00 on 20 rows (20 right), is the highest.")
    assert first.endswith("Without accuracy: zero-shot.")
    assert study_table(decided(items)).rows[1][2] is None


# ---- comparisons


def test_each_metric_is_a_family_of_its_own_and_the_first_comes_first() -> None:
    record, items = make_classified(metrics=("accuracy", "f1", "perplexity"))
    made = record.comparisons
    assert list(dict.fromkeys(c.metric for c in made)) == ["accuracy", "f1", "ppl"]
    for key in ("accuracy", "f1", "ppl"):
        of_key = [c for c in made if c.metric == key]
        assert len(of_key) == 4
        assert [c.p_holm for c in of_key] == holm([c.p_value for c in of_key])
    # the run's metrics change nothing of perplexity's
    alone = comparisons(record.cells, items)
    assert tuple(c for c in made if c.metric == "ppl") == alone
    assert Study(record, items).by(PERPLEXITY).comparisons == alone


def test_single_cells_get_mcnemar_and_means_over_seeds_get_sign_flips() -> None:
    record, _ = make_classified()
    by_pair = {(c.a, c.b): c for c in record.comparisons if c.metric == "accuracy"}
    single = by_pair["qlora/default", "zero_shot/default"]
    assert single.p_value == mcnemar(single.wins, single.losses)
    assert single.method.endswith("McNemar's exact test, two-sided")
    (seeds,) = (c for (a, b), c in by_pair.items() if a == "qlora/default" and b.startswith("few_shot"))
    assert "sign-flip" in seeds.method
    assert "McNemar" not in seeds.method


def test_mcnemar_is_the_exact_sign_flip_test_of_zeros_and_ones() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        a, b = random.integers(0, 2, (2, 11)).astype(float)
        made = compare_rows("a", _by_id(a), "b", _by_id(b), metric="accuracy", draws=100)
        assert made.p_value == pytest.approx(sign_flip(a - b, 100)[0])
        assert made.wins - made.losses == round(float((a - b).sum()))


def test_a_graded_metric_whose_rows_happen_to_be_zero_or_one_is_no_share() -> None:
    a, b = _by_id(np.array([1.0, 0.0, 1.0])), _by_id(np.array([0.0, 0.0, 1.0]))
    assert "sign-flip" in compare_rows("a", a, "b", b, metric="f1", draws=100).method


def test_of_accuracy_the_higher_is_better() -> None:
    a, b = _by_id(np.ones(30)), _by_id(np.array([0.0] * 10 + [1.0] * 20))
    made = compare_rows("a", a, "b", b, metric="accuracy", draws=500)
    assert (made.wins, made.ties, made.losses) == (10, 20, 0)
    assert a_is_better(made)
    assert made.difference == pytest.approx(1 / 3)
    assert made.p_value == pytest.approx(2 / 2**10)
    assert not a_is_better(compare_rows("b", b, "a", a, metric="accuracy", draws=500))


def test_rows_without_a_value_are_left_out_of_that_metric_alone() -> None:
    nan = math.nan
    items = {
        "zero_shot/default": rows([1, 0, 1, 0], f1=[0.5, nan, 0.2, 0.1]),
        "qlora/default": rows([1, 1, 1, 0], f1=[0.9, 0.4, nan, 0.3]),
    }
    made = decided(items, ("accuracy", "f1")).record.comparisons
    assert [(c.metric, c.n_rows) for c in made] == [("accuracy", 4), ("f1", 2)]
    assert made[1].difference == pytest.approx((0.4 + 0.2) / 2)


def _by_id(values: np.ndarray[Any, Any]) -> dict[str, float]:
    return {f"r{place:02}": float(value) for place, value in enumerate(values)}


# ---- intervals, chance and majority


def test_shares_have_wilsons_interval_with_rows_and_without() -> None:
    record, items = make_classified()
    for study in (Study(record, items), Study(record)):
        for cell in record.cells:
            value = cell.aggregate.metrics["accuracy"]
            assert study.intervals[cell.cell] == pytest.approx((value.ci_low, value.ci_high))
        seeds = study.by_label["few_shot/default/k=4/draw=item"]
        assert study.intervals[seeds.label] == pytest.approx(wilson(60 * study.mean(seeds), 60))


def test_a_graded_metric_has_the_bootstraps_interval_of_its_rows() -> None:
    record, items = make_classified(metrics=("f1", "accuracy"))
    study = Study(record, items)
    low, high = study.intervals["qlora/default"]
    assert low < study.mean(study.by_label["qlora/default"]) < high
    assert study.intervals["qlora/default"] != Study(record, items).by(ACCURACY).intervals["qlora/default"]


def test_chance_is_one_over_the_options_of_each_row() -> None:
    record, items = make_classified()
    assert Study(record).chance == pytest.approx(1 / 5)
    few = [
        replace(item, option_nll=item.option_nll[: 2 + place % 2]) for place, item in enumerate(items["qlora/default"])
    ]
    assert Study(record, {**items, "zero_shot/default": few}).chance == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert Study(make_run(5)[0]).chance is None


def test_chance_and_majority_stand_beside_accuracy_and_nowhere_else() -> None:
    record, items = make_classified()
    said = "Without a model, accuracy would be 0.200 by guessing among the options and 0.300 by always giving"
    assert said in study_table(Study(record, items)).note
    assert said in cells_table(Study(record, items)).note
    plain, its = make_run(5)
    assert "Without a model" not in study_table(Study(plain, its)).note


def test_a_winner_that_guessing_equals_is_told_so() -> None:
    record, items = make_classified(skill={"zero_shot": 0.0, "few_shot": 0.0, "qlora": 0.0})
    text = " ".join(answer(Study(record, items)))
    assert "what needs no model: always giving the most frequent output of train is right on 0.300 of the rows." in text
    record, items = make_classified(200, skill={"zero_shot": 0.2, "few_shot": 1.4, "qlora": 9.0})
    assert "needs no model" not in " ".join(answer(Study(record, items)))
    # it is asked of what is recommended, and that is the cheapest unbeaten
    assert answer(Study(record, items))[0].startswith("Use QLoRA")


# ---- the answer


def test_the_answer_speaks_of_the_metric_and_its_direction() -> None:
    record, items = make_classified(200, skill={"zero_shot": 0.2, "few_shot": 1.4, "qlora": 9.0})
    first, *others = answer(Study(record, items))
    right = round(200 * record.cells[-1].aggregate.metrics["accuracy"].value)
    assert first.startswith(f"Use QLoRA: its accuracy, {right / 200:.3f} on 200 rows ({right} right), is the highest.")
    assert "Worse beyond chance" in first
    assert others[0].startswith("QLoRA raises accuracy by 0.")
    assert " better on " in others[0]
    assert "perplexity" not in " ".join(others)


def test_a_lower_accuracy_is_worse() -> None:
    items = {"zero_shot/default": rows([1] * 60), "qlora/default": rows([1] * 20 + [0] * 40)}
    first, second, *_ = answer(decided(items))
    assert first.startswith("Use zero-shot (default): its accuracy, 1.00 on 60 rows (60 right), is the highest.")
    assert second.startswith("QLoRA lowers accuracy by 0.667 ")
    assert "worse on 40 of 60 rows" in second


def test_metrics_that_order_the_strategies_differently_are_said_first_with_both_numbers(tmp_path: Path) -> None:
    record, items = make_classified(200, level=CONTRADICTING)
    study = Study(record, items)
    accuracy = {strategy: study.mean(setting) for strategy, setting in study.best.items()}
    first = answer(study)[0]
    assert first.startswith(f"The metrics disagree: by accuracy the order is QLoRA {accuracy['qlora']:.3f} > few-shot ")
    assert "but by mean perplexity it is few-shot 1.5" in first
    assert "Beyond chance they contradict each other on few-shot and QLoRA." in first
    said = CliRunner().invoke(app, ["report", str(save_run(tmp_path, record, items))]).stdout
    assert " ".join(said.split()).startswith("The metrics disagree: by accuracy")
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("**The metrics disagree")
    assert lines[4].startswith("**Use QLoRA")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index('id="disagreement"') < page.index('class="answer')
    assert page.count("The metrics disagree: by") == 1


def test_metrics_that_agree_or_tie_are_not_called_contradicting() -> None:
    record, items = make_classified(80)
    assert "disagree" not in answer(Study(record, items))[0]
    tied = {"zero_shot/default": rows([1, 0] * 10, ppl=3.0), "qlora/default": rows([0, 1] * 10, ppl=2.0)}
    assert "disagree" not in " ".join(answer(decided(tied, ("accuracy", "perplexity"))))
    by_chance = {"zero_shot/default": rows([1, 0] * 10, ppl=3.0), "qlora/default": rows([0, 1] * 9 + [0, 0], ppl=2.0)}
    said = answer(decided(by_chance, ("accuracy", "perplexity")))[0]
    assert said.endswith("On no pair of strategies they contradict each other beyond chance.")


# ---- tables, charts, files


def test_every_metric_has_its_column_and_perplexity_stands_beside() -> None:
    record, items = make_classified(metrics=("accuracy", "exact_match"))
    study = Study(record, items)
    table = study_table(study)
    scores = ("accuracy", "95 % interval", "exact_match", "ppl_mean", "bits_per_char")
    assert table.columns == ("strategy", "setting", *scores, "seeds")
    assert table.rows[0][2] == record.cells[-1].aggregate.metrics["accuracy"].value
    assert set(scores) < set(cells_table(study).columns)
    assert {"accuracy", "exact_match", "ppl_mean"} < set(few_shot_table(study).columns)
    line = next(csv.DictReader(io.StringIO(to_csv(cells_table(study)))))
    value = record.cells[0].aggregate.metrics["accuracy"]
    assert float(line["accuracy"]) == value.value
    assert float(line["95 % interval low"]) == pytest.approx(value.ci_low)
    assert r"exact\_match" in to_latex(table)
    assert "accuracy_token" not in " ".join((*table.columns, *cells_table(study).columns))


def test_perplexity_first_keeps_its_columns_and_adds_the_others() -> None:
    record, items = make_classified(metrics=("perplexity", "accuracy"))
    study = Study(record, items)
    assert study_table(study).columns == ("strategy", "setting", "ppl_mean", "accuracy", "bits_per_char", "seeds")
    assert answer(study)[0].startswith("Use QLoRA: its mean perplexity")


def test_a_metric_over_seeds_has_its_mean_and_spread() -> None:
    record, items = make_classified()
    shares = [
        cell.aggregate.metrics["accuracy"].value for cell in record.cells if cell.strategy == "few_shot" and cell.k == 4
    ]
    table = few_shot_table(Study(record, items))
    over = table.rows[1][table.columns.index("accuracy")]
    assert over.mean == pytest.approx(np.mean(shares))  # type: ignore[union-attr]
    assert over.std == pytest.approx(np.std(shares, ddof=1))  # type: ignore[union-attr]


def test_other_normalisations_have_one_table_and_no_comparison() -> None:
    record, items = make_classified()
    tables = study_tables(Study(record, items))
    table = tables["accuracy_by_normalisation"]
    assert table.columns[1:3] == ("sum", "per token")
    assert [row[1] for row in table.rows] == [c.aggregate.metrics["accuracy"].value for c in record.cells]
    assert [row[3] for row in table.rows] == [c.aggregate.metrics["accuracy_char"].value for c in record.cells]
    assert "accuracy_by_normalisation" not in study_tables(Study(*make_run(5)))
    assert tables["comparisons"].title == "Paired differences of accuracy"
    assert tables["comparisons_perplexity"].title == "Paired differences of perplexity"
    assert "above zero, a is better" in tables["comparisons"].note


def test_uncertainty_power_and_slices_are_of_the_metric() -> None:
    record, items = make_classified()
    study = Study(record, items)
    table = uncertainty_table(study)
    assert table.columns[1] == "accuracy"
    right = [item.metrics["accuracy"] for item in items["qlora/default"]]
    assert table.rows[-1][1] == pytest.approx(np.mean(right))
    assert table.rows[-1][4] == pytest.approx(np.std(right, ddof=1) / math.sqrt(len(right)))
    assert settle_table(study).rows[0][1] == record.comparisons[0].difference
    halves = {item.id: str(place % 2) for place, item in enumerate(items["qlora/default"])}
    cut = slice_tables(study, {"half": halves})["half"]
    assert cut.note == "Accuracy of those rows."
    assert cut.rows[-1][1] == pytest.approx(np.mean(right[::2]))


def test_rows_are_hard_where_every_strategy_is_wrong() -> None:
    record, items = make_classified()
    study = Study(record, items)
    table = hard_table(study, {})
    assert table is not None
    hard = difficulty(study)["hard for every strategy"]
    for row in hard:
        assert study.rows["qlora/default"][row] == 0
    assert all(f"row-{place:03}" in hard for place in range(9, 60, 10))  # their references are no options
    hurt = hurt_table(study)
    assert hurt is not None
    assert hurt.columns[3] == "median loss"
    assert hurt.rows[-1][1] == sum(
        a.metrics["accuracy"] < b.metrics["accuracy"]
        for a, b in zip(items["qlora/default"], items[study.best["zero_shot"].first.cell], strict=True)
    )


def test_charts_are_of_the_metric_and_never_logarithmic() -> None:
    record, items = make_classified()
    study = Study(record, items)
    chart = by_k_chart(study)
    assert chart is not None
    assert chart.y == "accuracy of the test rows"
    assert not chart.log
    assert all(0 <= level <= 1 for level in chart.levels)
    forest = differences_chart(study)
    assert forest is not None
    assert forest.x == "difference of accuracy"


def test_the_learning_curve_is_of_the_metric_where_every_point_has_it() -> None:
    record, items = make_classified()
    chart = curve_chart(Study(record, items))
    assert chart is not None
    assert chart.y == "mean perplexity of the rows"
    plain = record.curve
    measured = tuple(
        point.model_copy(update={"aggregate": aggregate(scored)})
        for point, scored in zip(plain, items.values(), strict=False)
    )
    chart = curve_chart(Study(record.model_copy(update={"curve": measured}), items))
    assert chart is not None
    assert chart.y == "accuracy of the rows"
    test = next(series for series in chart.series if series.role == "test")
    assert test.y == tuple(point.aggregate.metrics["accuracy"].value for point in measured)
    band = next(series for series in chart.series if series.role == "band")
    first = measured[0].aggregate.metrics["accuracy"]
    assert band.bounds[0] == pytest.approx((first.ci_low, first.ci_high))


def test_a_run_decided_by_the_users_own_metric(tmp_path: Path) -> None:
    record, items = make_classified()
    name = "my_metrics:polite"
    own = {cell: [replace(i, metrics={name: i.nll_nats}) for i in scored] for cell, scored in items.items()}
    cells = [cell.model_copy(update={"aggregate": aggregate(own[cell.cell])}) for cell in record.cells]
    changes = {
        "metrics": (name,),
        "cells": tuple(cells),
        "comparisons": comparisons(cells, own, (name,)),
        "choices": (),
    }
    record = record.model_copy(update=changes)
    assert answer(Study(record, own))[0].split(":")[1].startswith(" its polite, ")
    build_report(save_run(tmp_path, record, own))
    assert f"{name}: mean over the rows of what {name} returns" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_terminal_holds_every_name_at_80_columns() -> None:
    record, _ = make_classified(metrics=("accuracy", "f1", "perplexity"))
    console = Console(file=io.StringIO(), width=80)
    print_tables(record, console)
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    for name in ("QLoRA", "few-shot k=4", "zero-shot emotional"):
        assert name in text
    for cell in record.cells:
        assert f"{cell.aggregate.metrics['accuracy'].value:.3f}" in text
    assert "Accuracy of 60 rows, higher is better." in text
    assert "Without a model, accuracy would be 0.200" in text
