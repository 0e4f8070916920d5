from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from made_up_run import OPTIONS, aggregate, make_classified, make_run, save_run, save_texts

from triptych.cli.main import app
from triptych.errors import ConfigError, DataError, ForeignFileError
from triptych.records import ItemScore
from triptych.report import compare_runs, read_runs, write_comparison

Items = dict[str, list[ItemScore]]


def save(
    folder: Path, name: str, *, tokenizer: str = "t", change: object = None, test: str = "5", **facts: object
) -> Path:
    record, items = make_run(30, ks=(1,), seeds=(0, 1))
    if callable(change):
        items = {cell: [change(item) for item in rows] for cell, rows in items.items()}
        cells = tuple(c.model_copy(update={"aggregate": aggregate(items[c.cell])}) for c in record.cells)
        record = record.model_copy(update={"cells": cells})
    provenance = {"model": {"name": name, "tokenizer_sha256": tokenizer}, "data": {"test": {"sha256": test}}, **facts}
    record = record.model_copy(update={"name": name, "provenance": provenance})
    return save_run(folder / name, record, items)


def easier(item: ItemScore) -> ItemScore:
    return dataclasses.replace(item, nll_nats=0.8 * item.nll_nats)


def test_the_same_model_rows_and_tokenizer_are_compared_fully(tmp_path: Path) -> None:
    compared = compare_runs(read_runs([save(tmp_path, "a"), save(tmp_path, "b", change=easier)]))
    assert compared.refused == ()
    assert {row[4] for row in compared.tables["perplexity"].rows} == {"better"}
    assert [row[1] for row in compared.tables["bits_per_char"].rows] == ["zero-shot", "few-shot", "QLoRA"]


def test_another_tokenizer_leaves_bits_per_character(tmp_path: Path) -> None:
    def other(item: ItemScore) -> ItemScore:
        return dataclasses.replace(item, n_tokens=2 * item.n_tokens)

    runs = read_runs([save(tmp_path, "a"), save(tmp_path, "b", tokenizer="u", change=other)])
    compared = compare_runs(runs)
    assert "perplexity" not in compared.tables
    assert "b against a: perplexities are not compared, another tokenizer" in compared.refused[0]
    # the same NLLs on the same characters: no difference at all
    assert {row[2].value for row in compared.tables["bits_per_char"].rows} == {0.0}  # type: ignore[union-attr]
    level = compared.tables["levels"].rows[0]
    record = runs[0].study.record
    assert math.isclose(float(level[3]), record.cells[0].aggregate.bits_per_char)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"change": lambda item: dataclasses.replace(item, id=f"x{item.id}")}, "60 are in only one of them"),
        ({"change": lambda item: dataclasses.replace(item, n_chars=item.n_chars + 1)}, "30 of 30 have the same id"),
        ({"test": "6"}, "their test files differ"),
        ({"max_tokens": 1024}, "another longest input (max_tokens): None and 1024"),
    ],
)
def test_other_rows_or_rules_are_set_side_by_side_only(tmp_path: Path, facts: dict[str, object], said: str) -> None:
    compared = compare_runs(read_runs([save(tmp_path, "a"), save(tmp_path, "b", **facts)]))  # type: ignore[arg-type]
    assert said in compared.refused[0]
    assert list(compared.tables) == ["runs", "levels"]


def test_the_same_texts_from_another_file_are_the_same_rows(tmp_path: Path) -> None:
    folders = [save(tmp_path, "a"), save(tmp_path, "b", test="6")]
    for folder in folders:
        save_texts(folder, make_run(30, ks=(1,), seeds=(0, 1))[1])
    assert compare_runs(read_runs(folders)).refused == ()


def test_an_unknown_tokenizer_is_not_taken_for_the_same(tmp_path: Path) -> None:
    compared = compare_runs(read_runs([save(tmp_path, "a"), save(tmp_path, "b", tokenizer="")]))
    assert "doesn't say which tokenizer" in compared.refused[0]


def test_accuracies_of_the_same_rows_and_options_are_compared(tmp_path: Path) -> None:
    record, items = make_classified(60)
    worse = {"zero_shot": 0.1, "few_shot": 0.2, "qlora": 0.3}
    other, its = make_classified(60, skill=worse)
    few, fewer = make_classified(60, options=OPTIONS[:3])
    for name, (one, rows) in {"a": (record, items), "b": (other, its), "c": (few, fewer)}.items():
        cells = tuple(c.model_copy(update={"options_sha256": name.replace("b", "a") * 64}) for c in one.cells)
        save_run(tmp_path / name, one.model_copy(update={"name": name, "cells": cells}), rows)
    compared = compare_runs(read_runs([tmp_path / name for name in "abc"]))
    table = compared.tables["accuracy"]
    assert table.title == "Accuracy: differences to the first run"
    assert "above zero, this run is better" in table.note
    assert [row[0] for row in table.rows] == ["b"] * 3
    tuned = next(row for row in table.rows if row[1] == "QLoRA")
    ours, theirs = (sum(i.metrics["accuracy"] for i in rows["qlora/default"]) / 60 for rows in (its, items))
    assert tuned[2].value == pytest.approx(ours - theirs)  # type: ignore[union-attr]
    assert tuned[4] == "worse"
    assert any("c against a: accuracies are not compared, other options." in line for line in compared.refused)


def test_bad_folders_are_told(tmp_path: Path) -> None:
    folder = save(tmp_path, "a")
    with pytest.raises(ConfigError, match="named twice"):
        read_runs([folder, tmp_path / "b" / ".." / "a"])
    with pytest.raises(DataError, match="missing"):
        read_runs([folder, tmp_path / "none"])


def test_the_command_rebuilds_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [save(tmp_path, "a"), save(tmp_path, "b|c", tokenizer="u")]
    assert app(["report", *map(str, folders)], standalone_mode=False) in (None, 0)
    text = (tmp_path / "comparison" / "comparison.md").read_text(encoding="utf-8")
    assert r"b\|c against a: perplexities are not compared" in text
    assert (tmp_path / "comparison" / "tables" / "bits_per_char.tex").exists()
    assert (tmp_path / "a" / "report.html").exists()
    assert "comparison.md" in capsys.readouterr().out
    app(["report", str(folders[0])], standalone_mode=False)
    assert capsys.readouterr().out.rstrip().endswith("report.html")
    assert write_comparison(compare_runs(read_runs(folders)), tmp_path / "x").exists()


def test_a_comparison_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    compared = compare_runs(read_runs([save(tmp_path, "a"), save(tmp_path, "b", change=easier)]))
    out, mine = tmp_path / "out", tmp_path / "out" / "tables" / "mine.tex"
    mine.parent.mkdir(parents=True)
    mine.write_text("MINE")
    for _ in range(2):
        write_comparison(compared, out)
    (out / "manifest.json").unlink()
    write_comparison(compared, out)  # as one of an earlier version
    assert mine.read_text() == "MINE"
    (out / "comparison.md").write_text("MINE")
    (out / "manifest.json").unlink()
    with pytest.raises(ForeignFileError, match=r"comparison\.md"):
        write_comparison(compared, out)
    assert (out / "comparison.md").read_text() == "MINE"
