"""What the models wrote: its statistics and tables, rows side by side, and rows the base model may know already."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from made_up_run import TEXT_CELLS, generation, make_run, reference_of, save_run, save_texts, write_texts, write_written
from rich.console import Console
from test_report_html import unpacked

from triptych.data import Row
from triptych.errors import DataError
from triptych.generate import check
from triptych.generate.settings import StoppedBy
from triptych.records import ItemScore, RunRecord
from triptych.records.predictions import predictions_path
from triptych.report import Study, build_report, holm, print_tables, text_comparisons
from triptych.report.contamination import contamination_table, suspects
from triptych.report.numbers import number
from triptych.report.row_texts import Written, samples, samples_note
from triptych.report.statistics import a_is_better, compare_rows, interval
from triptych.report.tables.generations import ENDS, FINDINGS, generations_table
from triptych.report.text.summaries import texts_answer
from triptych.runner.folder import RunFolder

HOSTILE = "</script><script>alert('row')</script><img src=x onerror=alert(1)>\n```\n# {preamble} ${x}\n````\n![x](http://x.y/z)"


def texts_of(items: dict[str, list[ItemScore]]) -> dict[str, tuple[str, str]]:
    first = next(iter(items.values()))
    return {item.id: (f"翻譯成文言文：\n第{i}句", reference_of(i)) for i, item in enumerate(first)}


def made(
    folder: Path, n_rows: int = 40, **options: Any
) -> tuple[RunRecord, dict[str, list[ItemScore]], dict[str, Row]]:
    record, items = make_run(n_rows)
    save_run(folder, record, items)
    rows = save_texts(folder, items, texts_of(items))
    return write_texts(folder, record, rows, **options), items, rows


def markdown(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8")


def test_higher_chrf_is_better() -> None:
    a, b = {"x": 50.0, "y": 40.0, "z": 30.0}, {"x": 20.0, "y": 40.0, "z": 31.0}
    found = compare_rows("a", a, "b", b, metric="chrf")
    assert (found.wins, found.ties, found.losses) == (1, 1, 1)
    assert found.difference == pytest.approx(29 / 3)
    assert a_is_better(found)
    as_ppl = compare_rows("a", {**a, "z": 10.0}, "b", b, metric="ppl")
    assert (as_ppl.wins, as_ppl.ties, as_ppl.losses) == (1, 1, 1)
    assert not a_is_better(as_ppl)
    worse = compare_rows("a", {"x": 1.0, "y": 1.0, "z": 0.0}, "b", b, metric="chrf")
    assert (worse.wins, worse.losses, a_is_better(worse)) == (0, 3, False)
    with pytest.raises(ValueError, match="only one of 'a'"):
        compare_rows("a", {"x": 1.0}, "b", b, metric="chrf")


def test_every_two_cells_are_compared_the_dearer_first_and_corrected_together(tmp_path: Path) -> None:
    record, _, _ = made(tmp_path)
    found = text_comparisons(record.generations)
    zero, few, tuned = TEXT_CELLS
    assert [(c.a, c.b) for c in found] == [(few, zero), (tuned, zero), (tuned, few)]
    assert [c.p_holm for c in found] == holm([c.p_value for c in found])
    by_cell = {g.cell: g.row_chrf for g in record.generations}
    for c in found:
        differences = [by_cell[c.a][row] - by_cell[c.b][row] for row in sorted(by_cell[c.a])]
        assert c.metric == "chrf"
        assert c.difference == pytest.approx(np.mean(differences))
        assert (c.ci_low, c.ci_high) == pytest.approx(interval(differences))
        assert c.wins == sum(d > 0 for d in differences)
    assert text_comparisons(reversed(record.generations)) == found  # type: ignore[arg-type]
    assert text_comparisons(()) == ()


def test_many_cells_are_compared_with_the_first_zero_shot_cell() -> None:
    said = {f"row-{i}": reference_of(i) for i in range(5)}
    cells = ["qlora/a", *(f"few_shot/p/k={k}" for k in range(4)), "zero_shot/one", "zero_shot/two"]
    found = text_comparisons([generation(cell, said, said) for cell in cells])
    assert {c.b for c in found} == {"zero_shot/one"}
    assert len(found) == len(cells) - 1


def test_the_report_shows_scores_intervals_ends_findings_and_signatures(tmp_path: Path) -> None:
    record, _, _ = made(tmp_path)
    assert build_report(tmp_path) == record
    text = markdown(tmp_path)
    part = text[text.index("### What the models wrote") : text.index("## 5. Every cell")]
    assert "Few-shot, k=10, seed 0" in part
    for g in record.generations:
        assert f" {number(g.chrf)} " in part
        assert g.chrf_signature.replace("|", "\\|") in part.replace("\\_", "_")
    assert "tok:zh" in part
    assert "ended by itself: 38, cut at the limit: 2" in part
    assert "| in circles: 1 " in part
    assert "Written: greedy, at most 256 new tokens." in part
    assert "By the chrF++ of its texts QLoRA comes first" in part
    assert "above zero, a is better" in part
    with (tmp_path / "tables" / "generations.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line, g in zip(lines, record.generations, strict=True):
        assert float(line["chrF++"]) == g.chrf
        assert float(line["row chrF++"]) == pytest.approx(np.mean(list(g.row_chrf.values())))
        low, high = float(line["95 % interval low"]), float(line["95 % interval high"])
        assert (low, high) == pytest.approx(interval(list(g.row_chrf.values())))
    assert (tmp_path / "tables" / "text_comparisons.tex").exists()
    assert "a is better" in (tmp_path / "tables" / "text_comparisons.csv").read_text(encoding="utf-8")


def test_a_run_that_compared_no_texts_is_compared_when_read(tmp_path: Path) -> None:
    record, items, _ = made(tmp_path)
    save_run(tmp_path, record.model_copy(update={"text_comparisons": ()}), items)
    assert build_report(tmp_path).text_comparisons == record.text_comparisons


def test_nothing_of_it_is_there_where_nothing_was_written(tmp_path: Path) -> None:
    record, items = make_run(40)
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    build_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What the models wrote" not in markdown(tmp_path) + page.partition("<script>")[0]
    assert not [name for name in unpacked(tmp_path / "report.html") if name.startswith("written")]
    assert not list((tmp_path / "tables").glob("*text*"))
    assert not (tmp_path / "tables" / "generations.csv").exists()
    assert "already" not in markdown(tmp_path)
    assert texts_answer(Study(record)) == []


def test_a_dozen_rows_side_by_side_from_the_lowest_to_the_highest(tmp_path: Path) -> None:
    record, _, rows = made(tmp_path)
    build_report(tmp_path)
    texts = {
        cell: {
            entry["id"]: entry["output"] for entry in json.loads(predictions_path(tmp_path, cell).read_text("utf-8"))
        }
        for cell in TEXT_CELLS
    }
    known = {row: (rows[row].instruction, rows[row].target()) for row in texts[TEXT_CELLS[0]]}
    found = samples(Study(record), Written(texts), known)
    means = [np.mean([text.chrf for text in sample.texts]) for sample in found]
    every = [np.mean([g.row_chrf[row] for g in record.generations]) for row in known]
    assert len({sample.row_id for sample in found}) == 12
    assert means == sorted(means)
    assert (means[0], means[-1]) == (pytest.approx(min(every)), pytest.approx(max(every)))
    text = markdown(tmp_path)
    for sample in found:
        assert [text.text for text in sample.texts] == [texts[cell][sample.row_id] for cell in TEXT_CELLS]
        assert f"**Row {sample.row_id}**" in text
        for words in (*known[sample.row_id], *(text.text for text in sample.texts)):
            assert f"```text\n{words}\n```" in text
    assert "12 of 40 rows" in samples_note(found, record)
    few = samples(Study(record), Written(texts), dict(list(known.items())[:5]))
    assert len(few) == 5
    assert samples(Study(record), Written(), known) == []


def test_long_texts_are_cut_in_samples_and_many_cells_are_fewer(tmp_path: Path) -> None:
    said = {f"row-{i}": "很" * 1000 for i in range(3)}
    cells = [f"few_shot/p/k={k}" for k in range(11)]
    record, _ = make_run(5)
    record = record.model_copy(update={"generations": tuple(generation(c, said, said) for c in cells)})
    found = samples(Study(record), Written(dict.fromkeys(cells, said)), dict.fromkeys(said, ("問", "答")))
    assert len(found[0].texts) == 8
    assert found[0].texts[0].text == "很" * 600 + "… (400 more characters)"
    assert "Of 11 cells, 8 are shown" in samples_note(found, record)


def test_without_texts_the_numbers_stay(tmp_path: Path) -> None:
    record, _, rows = made(tmp_path)
    build_report(tmp_path, texts=False)
    parts = unpacked(tmp_path / "report.html")
    assert not any(name.startswith("written") for name in parts)
    held = b"".join(parts.values()) + b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".md", ".csv", ".tex", ".html")
    )
    for cell in TEXT_CELLS:
        for entry in json.loads(predictions_path(tmp_path, cell).read_text("utf-8")):
            assert entry["output"].encode() not in held
            assert rows[entry["id"]].target().encode() not in held
    assert f"{record.generations[2].chrf:.1f}" in markdown(tmp_path)


def test_texts_that_are_gone_are_named(tmp_path: Path) -> None:
    made(tmp_path)
    predictions_path(tmp_path, TEXT_CELLS[0]).unlink()
    build_report(tmp_path)
    text = markdown(tmp_path)
    assert "has no texts of zero_shot/emotional" in text
    assert "Of 3 cells, 2 are shown" in text
    for cell in TEXT_CELLS[1:]:
        predictions_path(tmp_path, cell).unlink()
    build_report(tmp_path)
    assert "Rows side by side" not in markdown(tmp_path)
    assert not any(name.startswith("written") for name in unpacked(tmp_path / "report.html"))


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _changed(path: Path) -> None:
    path.write_text(path.read_text("utf-8").replace("某", "甲"), encoding="utf-8")


def _other_cell(path: Path) -> None:
    said = {entry["id"]: entry["output"] for entry in json.loads(path.read_text("utf-8"))}
    other = write_written(path.parent.parent, "zero_shot/other", said)
    other.with_suffix(".record.json").replace(path.with_suffix(".record.json"))


def _fewer_rows(path: Path) -> None:
    write_written(path.parent.parent, TEXT_CELLS[0], {"row-000": "很"})


def _no_text(path: Path) -> None:
    path.write_text('[{"id": "row-000", "output": 3}]', encoding="utf-8")


def _no_list(path: Path) -> None:
    path.write_text('{"id": 1}', encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_torn, "torn"),
        (_changed, "changed after"),
        (_other_cell, "cell 'zero_shot/other'"),
        (_fewer_rows, "row 'row-001' is in only one"),
        (_no_text, "is no text"),
        (_no_list, "no JSON list"),
    ],
)
def test_texts_of_another_run_are_refused(spoil: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    made(tmp_path)
    spoil(predictions_path(tmp_path, TEXT_CELLS[0]))
    with pytest.raises(DataError, match=rf"(?s){said}.*delete this file"):
        build_report(tmp_path)


@pytest.mark.parametrize("cell", [*TEXT_CELLS, "qlora/提示 a|b/..", "../../etc"])
def test_report_and_runner_look_in_the_same_place(cell: str, tmp_path: Path) -> None:
    assert predictions_path(tmp_path, cell) == RunFolder(tmp_path).predictions_of(cell)
    assert predictions_path(tmp_path, cell).parent == tmp_path / "predictions"


def test_the_terminal_has_the_scores(tmp_path: Path) -> None:
    record, _, _ = made(tmp_path)
    console = Console(width=80, record=True, file=(tmp_path / "out.txt").open("w", encoding="utf-8"))
    print_tables(record, console)
    text = console.export_text()
    assert "What the models wrote" in text
    assert "Paired differences of row chrF++ (higher is better)" in text
    assert f"{record.generations[2].chrf:.1f}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_hostile_texts_stay_words(tmp_path: Path, open_report: Callable[..., Any]) -> None:
    record, items = make_run(20, ks=(10,), seeds=(0,))
    save_run(tmp_path, record, items)
    rows = save_texts(tmp_path, items, {item.id: (HOSTILE, HOSTILE) for item in items["zero_shot/default"]})
    write_texts(tmp_path, record, rows, texts=lambda cell, row: f"{cell} {HOSTILE}")
    build_report(tmp_path)
    assert f"`````text\nqlora/default {HOSTILE}\n`````" in markdown(tmp_path)
    opened = open_report(tmp_path / "report.html")
    page = opened.load()
    assert page.locator(".said-by .words").first.text_content() == f"zero_shot/emotional {HOSTILE}"
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    shown = page.locator("tr.detail .texts .words").all_text_contents()
    assert shown == [f"{cell} {HOSTILE}" for cell in TEXT_CELLS]
    assert page.locator("img").count() == 0
    opened.assert_quiet()


def test_the_page_shows_texts_of_an_opened_row_and_fits_a_phone(
    tmp_path: Path, open_report: Callable[..., Any]
) -> None:
    record, _, _ = made(tmp_path)
    build_report(tmp_path)
    opened = open_report(tmp_path / "report.html", viewport={"width": 390, "height": 844})
    page = opened.load()
    assert page.locator("details.sample").count() == 12
    page.click("#rows-list tr.row[data-row='3'] .open")
    page.wait_for_selector("tr.detail[data-ready]")
    names = page.locator("tr.detail .texts .name").all_text_contents()
    chrf = [g.row_chrf["row-003"] for g in record.generations]
    for name, value in zip(names, chrf, strict=True):
        assert float(re.search(r"chrF\+\+ ([\d.]+)$", name)[1]) == pytest.approx(value, abs=0.05)  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    opened.assert_quiet()


def lowered(items: list[ItemScore], places: dict[int, float]) -> list[ItemScore]:
    """Rows with other nats per token in these places."""
    return [
        dataclasses.replace(item, nll_nats=places[i] * item.n_tokens) if i in places else item
        for i, item in enumerate(items)
    ]


def even(n_rows: int = 90, n_chars: int = 30) -> list[ItemScore]:
    random = np.random.default_rng(4)
    spread = random.normal(3, 0.3, n_rows)
    return [ItemScore(f"row-{i:03}", x * 20, 20, n_chars + i % 40) for i, x in enumerate(spread.tolist())]


def plain(items: list[ItemScore]) -> tuple[RunRecord, dict[str, list[ItemScore]]]:
    from made_up_run import make_cell

    record, _ = make_run(5)
    cell = make_cell("zero_shot/default", items)
    return record.model_copy(update={"cells": (cell,), "few_shot": (), "comparisons": ()}), {cell.cell: items}


def test_rows_that_stand_out_are_listed_as_a_hint(tmp_path: Path) -> None:
    record, items = plain(lowered(even(), {7: 0.1, 50: 0.9}))
    found = suspects(Study(record, items))
    assert [known.row_id for known in found] == ["row-007", "row-050"]
    assert found[0].usual == pytest.approx(3, abs=0.2)
    assert found[0].chrf is None
    save_run(tmp_path, record, items)
    build_report(tmp_path)
    text = markdown(tmp_path)
    part = text[text.index("### Rows the base model may know already") :]
    assert "row-007" in part
    assert "A hint, not a proof" in part
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A hint, not a proof" in page
    assert json.loads(unpacked(tmp_path / "report.html")["rows"])["slices"]["may be known already"]["values"] == ["yes"]


def test_nothing_is_listed_where_nothing_stands_out(tmp_path: Path) -> None:
    record, items = plain(even())
    assert suspects(Study(record, items)) == []
    assert contamination_table([], record) is None
    save_run(tmp_path, record, items)
    build_report(tmp_path)
    assert "already" not in markdown(tmp_path) + (tmp_path / "report.html").read_text("utf-8").partition("<script>")[0]
    assert not (tmp_path / "tables" / "known_rows.csv").exists()


def test_hard_rows_short_rows_and_few_rows_are_no_hint() -> None:
    assert suspects(Study(*plain(lowered(even(), {3: 9.0})))) == []
    short = [dataclasses.replace(item, n_chars=4) for item in lowered(even(), {3: 0.01})]
    assert suspects(Study(*plain(short))) == []
    assert suspects(Study(*plain(lowered(even(15), {3: 0.01})))) == []
    equal = [ItemScore(f"r{i}", 20.0, 20, 30) for i in range(60)]
    assert suspects(Study(*plain(equal))) == []


def test_rows_that_are_all_alike_make_no_small_difference_a_hint() -> None:
    items = [ItemScore(f"r{i}", (3 + 0.001 * (i % 7)) * 20, 20, 30) for i in range(60)]
    assert suspects(Study(*plain(lowered(items, {5: 2.0})))) == []
    assert [known.row_id for known in suspects(Study(*plain(lowered(items, {5: 1.4}))))] == ["r5"]


def test_each_length_has_its_own_usual() -> None:
    """Long rows have fewer nats per token than short ones: that alone makes none of them known."""
    random = np.random.default_rng(8)
    items = [
        ItemScore(f"r{i}", float(random.normal(level, 0.2)) * 20, 20, n_chars)
        for i, (level, n_chars) in enumerate([(6, 12)] * 60 + [(4, 40)] * 60 + [(1.5, 200)] * 60)
    ]
    assert suspects(Study(*plain(items))) == []


def test_texts_that_equal_the_reference_are_a_hint_and_many_of_them_are_said_to_be(tmp_path: Path) -> None:
    record, items = plain(even())
    said = {item.id: "完全不同的一句話在這裡" for item in items["zero_shot/default"]}
    references = {row: reference_of(i) for i, row in enumerate(said)}
    one = {**said, "row-004": references["row-004"]}
    wrote = record.model_copy(update={"generations": (generation("zero_shot/default", one, references),)})
    found = suspects(Study(wrote, items))
    assert [(known.row_id, known.distance) for known in found] == [("row-004", None)]
    assert found[0].chrf == pytest.approx(100)
    table = contamination_table(found, wrote)
    assert table is not None
    assert "nearly to the letter" in table.note
    assert "the task is easy" not in table.note
    tuned = record.model_copy(update={"generations": (generation("qlora/default", one, references),)})
    assert suspects(Study(tuned, items)) == []
    every = record.model_copy(update={"generations": (generation("zero_shot/default", references, references),)})
    table = contamination_table(suspects(Study(every, items)), every)
    assert table is not None
    assert "90 of 90 rows are written so: either the task is easy" in table.note
    assert len(table.rows) == 50


def test_tables_name_a_cell_that_the_run_does_not_have() -> None:
    said = {"row-0": "甲", "row-1": "乙"}
    table = generations_table([generation("zero_shot/gone", said, said)], {})
    assert table.rows[0][0] == "zero_shot/gone"


def test_every_kind_of_finding_and_of_end_has_its_words() -> None:
    assert check._KINDS.keys() == FINDINGS.keys()
    assert ENDS.keys() == set(get_args(StoppedBy))
