from __future__ import annotations

import json
from importlib.resources import files

import pytest
from made_up_run import make_cell, make_run, rows_from_ppl, save_run, save_texts, study_of

from triptych.data import Row
from triptych.report import Study, build_report, slices
from triptych.report.hard_rows import difficulty, hard_table, hurt_table
from triptych.report.slices import by_length, slice_tables


@pytest.mark.parametrize(
    ("instruction", "direction"),
    [
        ("將下麵句子翻譯成文言文：\n他不會來了。", "to classical"),
        ("將下面句子翻譯成文言文：\n他不會來了。", "to classical"),
        ("他不會來了。\n這句話在中國古代怎麼說：", "to classical"),
        ("他不會來了。\n翻譯成古文：", "to classical"),
        ("翻譯成文言文：\n他不會來了。\n答案：", "to classical"),
        ("其不至矣。\n幫我把這句話翻譯成現代文", "to modern"),
        ("其不至矣。\n翻譯成白話文：", "to modern"),
        ("文言文翻譯：\n其不至矣。", "to modern"),
        ("他說這段文言文翻譯成現代文很難。\n把這句話翻譯成文言文：", "to classical"),
    ],
)
def test_direction_of_the_studys_and_the_samples_wordings(instruction: str, direction: str) -> None:
    rows = [Row("x", instruction, "甲"), Row("m", "文言文翻譯：\n乙", "丙"), Row("c", "乙\n翻譯成古文：", "丙")]
    assert slices(rows)["direction"]["x"] == direction


def test_every_row_of_the_sample_has_a_direction_and_most_a_wording() -> None:
    content = json.loads(files("triptych.data").joinpath("sample/test.json").read_text(encoding="utf-8"))
    rows = [Row(row["id"], row["instruction"], row["output"]) for row in content]
    found = slices(rows)
    assert list(found) == ["direction", "wording", "length"]
    assert len(found["direction"]) == len(rows)
    assert "… 翻譯成古文：" in set(found["wording"].values())
    assert "文言文翻譯： …" in set(found["wording"].values())


def test_other_data_have_only_lengths() -> None:
    rows = [Row(str(i), f"What is {i} plus {i}?", "x" * i) for i in range(1, 31)]
    assert list(slices(rows)) == ["length"]
    assert set(slices(rows)["length"].values()) == {
        *("short (up to 10 characters)", "middle (11 to 20)", "long (over 20 characters)"),
    }


def test_equal_lengths_are_no_slice() -> None:
    assert slices([Row(str(i), "a", "b") for i in range(5)]) == {}
    assert by_length({}) == {}


def test_slices_by_hand() -> None:
    items = {"zero_shot/default": rows_from_ppl([2, 4, 6, 8]), "qlora/default": rows_from_ppl([1.5, 5, 3, 20])}
    cells = [
        make_cell(name, rows, **({"adapter_sha256": "a"} if "qlora" in name else {})) for name, rows in items.items()
    ]
    parts = {"kind": {"r0": "a", "r1": "a", "r2": "b", "r3": "b"}}
    study, alone = study_of(cells, items), study_of(cells[:1], items)
    table = slice_tables(study, parts)["kind"]
    assert table.columns == ("setting", "a, 2 rows", "b, 2 rows")
    assert [tuple(row[1:]) for row in table.rows] == [pytest.approx((3, 7)), pytest.approx((3.25, 11.5))]
    found = difficulty(study)
    assert found["hard for every strategy"] == {"r3": "yes"}
    assert found["QLoRA against zero-shot"] == {"r0": "helps", "r1": "hurts", "r2": "helps", "r3": "hurts"}
    hurt = hurt_table(study)
    assert hurt is not None
    assert hurt.rows[0][:3] == ("QLoRA", 2, "50 %")
    assert hurt.rows[0][4] == "r3, r1"
    hard = hard_table(study, {"r3": "words"})
    assert hard is not None
    assert hard.rows[0][:2] == ("r3", "words")
    assert hard_table(alone, {}) is None
    assert hurt_table(alone) is None


def test_many_values_are_lines_and_the_report_has_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    record, items = make_run()
    many = {"wording": {f"row-{i:03}": f"w{i % 7}" for i in range(60)}}
    table = slice_tables(Study(record, items), many)["wording"]
    assert table.columns == ("wording", "rows", "Zero-shot, default", "Few-shot, k=10", "QLoRA")
    assert sum(int(row[1]) for row in table.rows) == 60  # type: ignore[arg-type]
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    build_report(tmp_path)
    assert (tmp_path / "tables" / "slice_direction.csv").exists()
    assert "By direction" in (tmp_path / "report.md").read_text(encoding="utf-8")
    for path in (tmp_path / "tables").glob("*.csv"):
        assert path.with_suffix(".tex").exists()
