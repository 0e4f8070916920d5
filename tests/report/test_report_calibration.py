"""Confusion, macro-F1 and calibration in a report; the computations themselves are tested in tests/metrics."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_run import OPTIONS, make_classified, make_run, save_run, save_texts

from triptych.metrics.classes import ece, macro_f1, reliability
from triptych.records import ItemScore
from triptych.report import Study, build_report
from triptych.report.calibration import (
    NO_OPTION,
    Answers,
    answers_of,
    best_cells,
    calibration_chart,
    class_tables,
    confused_table,
    confusion_table,
)


def test_an_answer_is_the_option_of_the_lowest_nll_and_the_first_of_equals() -> None:
    item = ItemScore("a", 1.0, 1, 1, chosen="x", option_nll=(math.log(4), math.log(2), math.log(4)), correct=2)
    tied = replace(item, option_nll=(1.0, 1.0), correct=None)
    found = answers_of([item, ItemScore("no options", 1.0, 1, 1), tied])
    assert found.chosen == (1, 0)
    assert found.correct == (2, None)
    assert found.confidence == pytest.approx((1 / 2, 1 / 2))
    assert found.right == [0.0, 0.0]


def test_confusion_by_hand() -> None:
    answers = Answers((0, 0, 1, None, 1), (0, 1, 1, 0, 0), (0.5,) * 5)
    table = confusion_table("few", answers, ("yes", "no"))
    assert table.columns == ("reference", "yes", "no")
    assert table.rows == (("yes", 1, 1), ("no", 1, 1), (NO_OPTION, 1, 0))
    assert confusion_table("few", Answers((0,), (0,), (0.9,)), ("yes", "no")).rows == (("yes", 1, 0), ("no", 0, 0))


def test_the_most_confused_pairs_come_first() -> None:
    answers = Answers((0, 0, 0, 1, 2, 2), (1, 1, 0, 1, 0, 2), (0.5,) * 6)
    table = confused_table("few", answers, ("a", "b", "c"))
    assert table.rows == (("a", "b", 2, 3), ("c", "a", 1, 2))
    assert table.note.startswith("3 of 6 rows are wrong, in 2 pairs of reference and answer.")


def test_the_tables_of_a_run_are_of_the_best_cell_of_each_strategy() -> None:
    record, items = make_classified()
    study = Study(record, items)
    best = best_cells(study)
    assert list(best) == ["zero_shot", "few_shot", "qlora"]
    accuracy = {cell.cell: cell.aggregate.metrics["accuracy"].value for cell in record.cells}
    setting = study.best["few_shot"]
    assert accuracy[best["few_shot"].cell] == max(accuracy[cell.cell] for cell in setting.cells)
    shown, files = class_tables(study)
    assert files == {}
    assert list(shown) == ["classes", "confusion_zero_shot", "confusion_few_shot", "confusion_qlora"]
    matrix = shown["confusion_qlora"]
    assert sum(value for row in matrix.rows for value in row[1:] if isinstance(value, int)) == 60
    right = sum(row[1 + place] for place, row in enumerate(matrix.rows[:5]))  # type: ignore[misc]
    assert right == round(60 * accuracy["qlora/default"])
    line = shown["classes"].rows[-1]
    answers = answers_of(items["qlora/default"])
    assert line[0] == "QLoRA"
    assert line[1] == pytest.approx(accuracy["qlora/default"])
    assert line[2] == macro_f1(answers.correct, answers.chosen)
    assert line[4] == ece(reliability(answers.confidence, answers.right))


def test_many_options_show_their_most_confused_pairs_and_keep_the_rest_in_files(tmp_path: Path) -> None:
    options = tuple(f"intent {place:02}" for place in range(21))
    record, items = make_classified(120, options=options)
    shown, files = class_tables(Study(record, items))
    assert "confusion_qlora" not in shown
    assert shown["confused_qlora"].columns == ("reference", "answer", "rows", "rows of the reference")
    assert len(files["confusion_qlora"].columns) == 22
    build_report(save_run(tmp_path, record, items))
    with (tmp_path / "tables" / "confusion_qlora.csv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert sum(int(value) for line in lines[1:] for value in line[1:]) == 120
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Confused most by QLoRA" in page
    assert "Confusion of QLoRA" not in page


def test_more_than_200_options_have_no_table_of_pairs() -> None:
    options = tuple(f"o{place}" for place in range(201))
    shown, files = class_tables(Study(*make_classified(10, options=options)))
    assert list(shown) == ["classes"]
    assert files == {}


def test_options_of_each_rows_own_have_calibration_and_no_classes() -> None:
    record, items = make_classified()
    shown, files = class_tables(Study(record.model_copy(update={"choices": ()}), items))
    assert list(shown) == ["classes"]
    assert all(row[2] is None and row[4] is not None for row in shown["classes"].rows)
    assert files == {}


def test_calibration_is_drawn_for_the_best_cells_and_only_where_there_are_options(tmp_path: Path) -> None:
    record, items = make_classified()
    chart = calibration_chart(Study(record, items))
    assert chart is not None
    assert [series.role for series in chart.series] == ["equal", *["reliability"] * 3]
    tuned = chart.series[-1]
    curve = answers_of(items["qlora/default"]).curve
    assert tuned.x == tuple(one.confidence for one in curve)
    assert tuned.y == tuple(one.accuracy for one in curve)
    assert tuned.name.startswith("QLoRA: ECE 0.")
    assert calibration_chart(Study(*make_run(5))) is None
    build_report(save_run(tmp_path, record, items))
    assert (tmp_path / "figures" / "calibration.svg").is_file()
    assert (tmp_path / "figures" / "calibration.png").is_file()
    assert "figures/calibration.png" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_without_texts_no_option_is_named(tmp_path: Path) -> None:
    record, items = make_classified()
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items, {i.id: ("q", OPTIONS[i.correct or 0]) for i in items["zero_shot/default"]})
    (tmp_path / "tokens.parquet").unlink()
    build_report(tmp_path)
    assert "sadness" in (tmp_path / "report.md").read_text(encoding="utf-8")
    build_report(tmp_path, texts=False)
    for path in (*tmp_path.glob("report.*"), *(tmp_path / "tables").iterdir()):
        assert "sadness" not in path.read_text(encoding="utf-8")
    assert not list((tmp_path / "tables").glob("confusion*"))
