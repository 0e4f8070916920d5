"""Slices by any further column of the data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from made_up_run import make_run, save_run, save_texts
from test_report_html import unpacked

from triptych.report import build_report
from triptych.report.slices import MOST_PARTS, REST, column_slices


def ask(values: list[str], wanted: list[str] | None) -> tuple[dict[str, dict[str, str]], list[str]]:
    return column_slices({f"r{i}": {"c": value} for i, value in enumerate(values)}, wanted)


def test_columns_of_two_to_twelve_values_are_slices_by_themselves() -> None:
    assert ask(["a", "b", "a"], None) == ({"c": {"r0": "a", "r1": "b", "r2": "a"}}, [])
    assert ask(["a"] * 5, None) == ({}, [])
    assert ask([str(i) for i in range(12)], None)[0].keys() == {"c"}
    assert ask([str(i) for i in range(13)], None) == ({}, [])
    assert column_slices({}, None) == ({}, [])


def test_named_columns_may_have_any_number_of_values() -> None:
    found = ask([str(i) for i in range(1, 31)], ["c"])[0]["c"]
    assert list(dict.fromkeys(found.values())) == ["up to 10", "over 10, up to 20", "over 20"]
    assert [row for row, part in found.items() if part == "up to 10"] == [f"r{i}" for i in range(10)]
    words = [f"w{i}" for i in range(60)] + ["w0", "w1"]
    found = ask(words, ["c"])[0]["c"]
    assert len(set(found.values())) == MOST_PARTS
    assert found["r0"] == "w0"
    assert list(found.values()).count(REST) == 60 - (MOST_PARTS - 1)
    assert set(ask(["1", "nan", *"abcdefghijk"], ["c"])[0]["c"].values()) == {"1", "nan", *"abcdefghijk"}


def test_a_column_that_makes_no_slice_is_named_with_the_nearest() -> None:
    rows = {"r0": {"direction_": "x", "era": "漢"}, "r1": {"direction_": "y"}}
    found, notes = column_slices(rows, ["directoin", "era", "direction_"])
    assert found == {"direction_": {"r0": "x", "r1": "y"}}
    assert "no test row has such a column; the nearest is 'direction_' (columns: 'direction_', 'era')" in notes[0]
    assert "'directoin'" in notes[0]
    assert "'era': it has one value, '漢'" in notes[1]
    assert "any further column" in column_slices({}, ["x"])[1][0]


def test_a_column_called_like_another_slice_keeps_both() -> None:
    assert column_slices({"r0": {"length": "a"}, "r1": {"length": "b"}}, None, ["length"])[0].keys() == {
        "column length"
    }


def columns(place: int) -> dict[str, str]:
    return {"朝代": "漢" if place % 3 else "唐", "體裁": "詩" if place % 2 else "文", "n": str(place), "one": "same"}


def with_slices(folder: Path, wanted: list[str] | None) -> Path:
    record, items = make_run(60)
    config = {} if wanted is None else {"config": {"report": {"slices": wanted}}}
    record = record.model_copy(update={"provenance": {**record.provenance, **config}})
    save_run(folder, record, items)
    save_texts(folder, items, columns=columns)
    return folder


def test_the_report_has_tables_and_filters_of_every_small_column(tmp_path: Path) -> None:
    build_report(with_slices(tmp_path, None))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "### By 朝代" in text
    assert "### By 體裁" in text
    assert "### By n\n" not in text
    slices = json.loads(unpacked(tmp_path / "report.html")["rows"])["slices"]
    assert {"direction", "朝代", "體裁"} <= slices.keys()
    assert slices["朝代"]["values"] == ["唐", "漢"]
    assert slices["朝代"]["codes"] == [int(i % 3 > 0) for i in range(60)]


def test_columns_whose_names_leave_no_file_name_do_not_share_one(tmp_path: Path) -> None:
    build_report(with_slices(tmp_path, ["朝代", "體裁"]))
    heads = []
    for path in sorted((tmp_path / "tables").glob("slice__*.csv")):
        with path.open(encoding="utf-8") as file:
            heads.append(next(csv.reader(file))[1])
    assert heads == ["唐, 20 rows", "文, 30 rows"]


def test_named_columns_only_and_a_warning_for_the_wrong_one(tmp_path: Path) -> None:
    build_report(with_slices(tmp_path, ["n", "朝"]))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "### By n" in text
    assert "### By 體裁" not in text
    assert text.index("No slice by the column '朝'") < text.index("## 1.")
    assert "the nearest is '朝代'" in (tmp_path / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")


@pytest.mark.parametrize(("wanted", "shown"), [(None, False), (["朝代"], True)])
def test_without_texts_only_named_columns_are_shown(wanted: list[str] | None, shown: bool, tmp_path: Path) -> None:
    build_report(with_slices(tmp_path, wanted), texts=False)
    assert ("### By 朝代" in (tmp_path / "report.md").read_text(encoding="utf-8")) == shown
    assert ("朝代" in json.loads(unpacked(tmp_path / "report.html")["rows"])["slices"]) == shown
