"""`triptych report RUN --wrong CELL` and the same from Python; metrics in the frames of a run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from made_up_run import OPTIONS, make_classified, make_run, save_run, save_texts, write_texts
from typer.testing import CliRunner

import triptych
from triptych.cli.main import app
from triptych.errors import ConfigError, ForeignFileError
from triptych.records import ItemScore
from triptych.report.wrong import export_wrong, wrong_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record, items = make_classified()
    run = save_run(tmp_path / "run", record, items)
    save_texts(run, items, {i.id: (f"=ask {i.id}\n第二行", _reference(i)) for i in items["zero_shot/default"]})
    return run


def _reference(item: ItemScore) -> str:
    return "surprise" if item.correct is None else OPTIONS[item.correct]


def wrong_items(cell: str) -> list[ItemScore]:
    _, items = make_classified()
    return [item for item in items[cell] if item.metrics["accuracy"] == 0]


def test_the_wrong_rows_of_a_cell_with_what_was_asked_wanted_and_chosen(folder: Path) -> None:
    table = wrong_rows(folder, "qlora/default")
    assert table.columns == ("id", "instruction", "reference", "answer", "accuracy", "nll_nats")
    expected = wrong_items("qlora/default")
    assert 0 < len(expected) < 60
    assert table.rows == tuple(
        (i.id, f"=ask {i.id}\n第二行", _reference(i), i.chosen, 0.0, i.nll_nats) for i in expected
    )
    assert all(row[2] != row[3] for row in table.rows)


def test_the_command_writes_csv_to_standard_output_and_builds_no_report(folder: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(folder), "--wrong", "qlora/default"])
    assert result.exit_code == 0
    lines = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [line["id"] for line in lines] == [item.id for item in wrong_items("qlora/default")]
    assert lines[0]["instruction"].startswith("'=ask")  # no formula for a spreadsheet
    assert not (folder / "report.html").exists()


def test_the_command_writes_a_file_as_its_name_says(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "wrong.json"
    for _ in range(2):  # its own file is replaced
        result = CliRunner().invoke(app, ["report", str(folder), "--wrong", "zero_shot/default", "--out", str(out)])
        assert result.exit_code == 0
    value = json.loads(out.read_text(encoding="utf-8"))
    assert [line["id"] for line in value] == [item.id for item in wrong_items("zero_shot/default")]
    assert value[0]["instruction"] == f"=ask {value[0]['id']}\n第二行"
    assert f"wrong: {len(value)} rows in" in result.stdout
    as_csv = tmp_path / "wrong.csv"
    for _ in range(2):
        export_wrong(folder, "zero_shot/default", as_csv)
    assert len(list(csv.DictReader(io.StringIO(as_csv.read_text(encoding="utf-8"))))) == len(value)


def test_a_file_of_the_users_is_kept(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("id,label\n1,joy\n", encoding="utf-8")
    with pytest.raises(ForeignFileError, match="not one that holds wrong rows"):
        export_wrong(folder, "qlora/default", mine)
    assert mine.read_text(encoding="utf-8") == "id,label\n1,joy\n"
    export_wrong(folder, "qlora/default", mine, force=True)
    assert mine.read_text(encoding="utf-8").startswith("id,instruction,reference,answer,accuracy,nll_nats\n")
    for name in ("results.json", "items.parquet"):
        with pytest.raises(ForeignFileError):
            export_wrong(folder, "qlora/default", folder / name)


def test_a_cell_that_is_not_there_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no such cell.*the nearest is --wrong qlora/default"):
        wrong_rows(folder, "qlora/defualt")
    result = CliRunner().invoke(app, ["report", str(folder), str(folder), "--wrong", "qlora/default"])
    assert isinstance(result.exception, ConfigError) or "takes one run" in result.output


def test_a_run_of_perplexities_has_no_wrong_rows(tmp_path: Path) -> None:
    folder = save_run(tmp_path, *make_run(5))
    with pytest.raises(ConfigError, match=r"(?s)says which rows are wrong.*perplexity"):
        wrong_rows(folder, "qlora/default")


def test_of_a_metric_of_texts_the_answer_is_what_was_written(tmp_path: Path) -> None:
    record, items = make_classified(metrics=("exact_match",))
    save_run(tmp_path, record, items)
    texts = {i.id: (f"ask {i.id}", _reference(i)) for i in items["zero_shot/default"]}
    rows = save_texts(tmp_path, items, texts)
    write_texts(tmp_path, record, rows, cells=("qlora/default",), texts=lambda cell, row: f"said of {row.id}")
    table = wrong_rows(tmp_path, "qlora/default")
    assert table.columns[4] == "exact_match"
    assert [row[3] for row in table.rows] == [f"said of {row[0]}" for row in table.rows]
    # texts that were not kept are empty, not the option that accuracy chose
    assert {row[3] for row in wrong_rows(tmp_path, "zero_shot/default").rows} == {""}


def test_a_run_in_python_has_metrics_as_columns(folder: Path) -> None:
    record, items = make_classified()
    run = triptych.load_run(folder)
    values = [cell.aggregate.metrics["accuracy"] for cell in record.cells]
    assert list(run.cells["accuracy"]) == [value.value for value in values]
    assert list(run.cells["accuracy_ci_low"]) == [value.ci_low for value in values]
    assert "metrics" not in run.cells
    scored = [item for of_cell in items.values() for item in of_cell]
    assert list(run.items["accuracy"]) == [item.metrics["accuracy"] for item in scored]
    assert list(run.items["chosen"]) == [item.chosen for item in scored]
    assert "metrics" not in run.items
    assert list(run.comparisons["metric"]) == [c.metric for c in record.comparisons]
    assert set(run.comparisons["metric"]) == {"accuracy", "ppl"}
    four = run.few_shot.query("k == 4").iloc[0]
    assert four["accuracy"] == pytest.approx(sum(v.value for v in values[4:6]) / 2)
    assert four["accuracy_std"] > 0
    wrong = run.wrong("qlora/default")
    assert list(wrong["id"]) == [item.id for item in wrong_items("qlora/default")]
    assert "accuracy" in run.answer[0]
    assert "accuracy" in run._repr_html_()


def test_a_run_without_options_has_no_columns_for_them(tmp_path: Path) -> None:
    run = triptych.load_run(save_run(tmp_path, *make_run(5)))
    assert not {"chosen", "option_nll", "correct", "metrics"} & set(run.items)
    assert "accuracy" not in run.cells
