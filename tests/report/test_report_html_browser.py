"""`report.html` as a reader meets it: in a browser that has no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make_grid, make_run, save_run, save_texts

from triptych.data import Row
from triptych.prompts import template_from_mapping
from triptych.records import ItemScore, RunRecord
from triptych.report import Study, build_report

Open = Callable[..., Any]
HOSTILE = "</script><script>alert('row')</script><img src=x onerror=alert(1)> & {preamble} ${x}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, dict[str, list[ItemScore]], dict[str, Row]]:
    record, items = make_run(dev=True)
    folder = save_run(tmp_path_factory.mktemp("html"), record, items)
    rows = save_texts(folder, items)
    build_report(folder)
    return folder / "report.html", record, items, rows


def shown_ids(page: Any) -> list[str]:
    found: list[str] = page.locator("#rows-list tr.row .open").all_text_contents()
    return found


def wait_for_rows(page: Any, count: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#rows-list tr.row")).to_have_count(count)


def test_it_opens_offline_and_asks_for_nothing(run: Any, open_report: Open) -> None:
    opened = open_report(run[0])
    page = opened.load()
    page.evaluate("plots.drawAll()")
    for name in ("curve", "loss", "byK", "forest", "distribution", "scatter"):
        page.wait_for_selector(f'[data-plot="{name}"][data-drawn] .main-svg')
    assert "Use QLoRA" in page.locator(".answer").inner_text()
    assert page.locator(".panel").count() == 3
    assert page.locator("#rows-count").inner_text() == "60 of 60 rows"
    opened.assert_quiet()


def test_search_filter_and_sort(run: Any, open_report: Open) -> None:
    _, record, items, rows = run
    opened = open_report(run[0])
    page = opened.load()
    page.fill("#rows-search", "第17句")
    wait_for_rows(page, 1)
    assert shown_ids(page) == ["row-017"]
    page.fill("#rows-search", "")
    tuned, zero = (Study(record, items).rows[label] for label in ("qlora/default", "zero_shot/default"))
    wait_for_rows(page, 50)
    for key, value in (("difference", lambda row: tuned[row] - zero[row]), ("a", tuned.get)):
        page.select_option("#rows-sort", key)
        page.wait_for_timeout(60)
        assert shown_ids(page)[:5] == sorted(tuned, key=value)[:5]
    page.select_option("#rows-sort", label="few_shot/default/k=3/draw=item/seed=1")
    page.select_option("#rows-direction", "down")
    page.wait_for_timeout(60)
    worst = sorted(items["few_shot/default/k=3/draw=item/seed=1"], key=lambda item: -item.ppl)
    assert shown_ids(page)[:5] == [item.id for item in worst[:5]]
    assert rows["row-017"].id == "row-017"
    opened.assert_quiet()


def test_slices_filter_rows(run: Any, open_report: Open) -> None:
    _, _, items, _ = run
    opened = open_report(run[0])
    page = opened.load()
    page.select_option("#rows-slice", "direction")
    page.select_option("#rows-value", label="to modern")
    wait_for_rows(page, 30)
    assert shown_ids(page) == [f"row-{i:03}" for i in range(0, 60, 2)]
    page.select_option("#rows-slice", "QLoRA against zero-shot")
    page.select_option("#rows-value", label="helps")
    helped = sum(a.ppl < b.ppl for a, b in zip(items["qlora/default"], items["zero_shot/emotional"], strict=True))
    assert page.locator("#rows-count").inner_text() == f"{helped} of 60 rows"
    page.select_option("#rows-slice", "")
    wait_for_rows(page, 50)
    page.click("#rows-after")
    wait_for_rows(page, 10)
    opened.assert_quiet()


def test_columns_of_the_data_filter_rows(tmp_path: Path, open_report: Open) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    save_texts(
        tmp_path, items, columns=lambda place: {"朝代 <b>": "漢" if place % 3 else HOSTILE} if place < 20 else {}
    )
    build_report(tmp_path)
    opened = open_report(tmp_path / "report.html")
    page = opened.load()
    page.select_option("#rows-slice", "朝代 <b>")
    page.select_option("#rows-value", label="漢")
    wait_for_rows(page, 13)
    assert shown_ids(page) == [f"row-{i:03}" for i in range(20) if i % 3]
    page.select_option("#rows-value", index=0)
    wait_for_rows(page, 7)
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert f"朝代 <b>: {HOSTILE}" in page.locator("tr.detail").text_content()
    opened.assert_quiet()


@pytest.mark.slow
def test_a_richer_grid_has_its_figures_and_every_setting(tmp_path: Path, open_report: Open) -> None:
    record, items = make_grid(30)
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    build_report(tmp_path)
    opened = open_report(tmp_path / "report.html")
    page = opened.load()
    page.evaluate("plots.drawAll()")
    page.wait_for_selector('[data-plot="byK"][data-drawn] .legendtext')
    legend = page.locator('[data-plot="byK"] .legendtext').all_text_contents()
    for way in ("random", "same", "bm25, nearest-last", "bm25, nearest-first"):
        assert any(f"few-shot, {way}" in line for line in legend), legend
    assert "(3 trainings)" in page.locator("#rows-a").inner_text()
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    page.locator("tr.detail button.plain").click()
    names = page.locator("tr.detail .tokens .name").all_text_contents()
    assert len(names) == len(record.cells)
    assert "QLoRA, default, k=2, trained with 2 demos, training seed 2, seed 1" in names
    assert len(set(names)) == len(names)
    opened.assert_quiet()


def test_without_tokens_the_texts_are_still_there(tmp_path: Path, open_report: Open) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    (tmp_path / "tokens.parquet").unlink()
    build_report(tmp_path)
    opened = open_report(tmp_path / "report.html")
    page = opened.load()
    assert "no tokens.parquet" in page.locator("#rows .warnings").inner_text()
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert page.locator("tr.detail pre").count() == 1
    assert page.locator("tr.detail .tokens").count() == 0
    opened.assert_quiet()


def test_an_opened_row_shows_its_texts_tokens_and_the_prompt_as_it_was(run: Any, open_report: Open) -> None:
    _, record, items, rows = run
    opened = open_report(run[0])
    page = opened.load()
    page.click("#rows-list tr.row[data-row='3'] .open")
    page.wait_for_selector("tr.detail[data-ready]")
    detail = page.locator("tr.detail")
    assert rows["row-003"].target() in detail.inner_text()
    assert detail.locator(".tokens .line").count() == 3
    text = "".join(detail.locator(".tokens .line").first.locator(".token").all_text_contents())
    assert text == rows["row-003"].target() + "</s>"
    for cell in record.cells:
        item = items[cell.cell][3]
        template = template_from_mapping(
            {key: record.prompts[cell.prompt][key] for key in ("preamble", "zero_shot", "few_shot")},
            name=cell.prompt,
            where="test",
        )
        detail.locator("select").select_option(label=cell.cell)
        demos = [rows[demo] for demo in item.demo_ids]
        assert detail.locator("pre").text_content() == template.prompt(rows[item.id].instruction, demos)
    page.click("#rows-list tr.row[data-row='3'] .open")
    assert page.locator("tr.detail").count() == 0
    opened.assert_quiet()


def test_the_theme_follows_the_system_and_the_switch(run: Any, open_report: Open) -> None:
    def ground(page: Any) -> str:
        found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return found

    opened = open_report(run[0], color_scheme="dark")
    page = opened.load()
    dark = ground(page)
    page.click("#theme")
    assert ground(page) != dark
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.click("#theme")
    assert ground(page) == dark
    opened.assert_quiet()


def test_a_point_of_the_scatter_opens_its_row(run: Any, open_report: Open) -> None:
    opened = open_report(run[0])
    page = opened.load()
    page.evaluate("explorer.show(57)")
    page.wait_for_selector("tr.detail[data-ready]")
    assert page.locator("tr.detail").evaluate("e => e.previousSibling.querySelector('.open').textContent") == "row-057"
    opened.assert_quiet()


def test_it_fits_a_phone_and_prints(run: Any, open_report: Open) -> None:
    opened = open_report(run[0], viewport={"width": 390, "height": 844})
    page = opened.load()
    page.evaluate("plots.drawAll()")
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator("#statistics").is_visible()
    opened.assert_quiet()


def test_print_is_light_and_the_screen_comes_back(run: Any, open_report: Open) -> None:
    opened = open_report(run[0], color_scheme="dark")
    page = opened.load()
    page.evaluate("plots.drawAll()")
    ink = "document.querySelector('[data-plot=forest] .xtitle').style.fill"
    dark = page.evaluate(ink)
    page.evaluate("forPrint()")
    light = page.evaluate(ink)
    assert light != dark
    page.evaluate("afterPrint()")
    assert page.evaluate(ink) == dark
    assert page.evaluate("document.documentElement.dataset.theme") is None
    opened.assert_quiet()


def test_hostile_names_and_rows_stay_words(tmp_path: Path, open_report: Open) -> None:
    record, items = make_run(30, ks=(1,), seeds=(0,))
    as_text = record.model_dump_json().replace("emotional", HOSTILE.replace("'", "`").replace('"', ""))
    record = RunRecord.model_validate_json(as_text).model_copy(update={"name": HOSTILE, "warnings": (HOSTILE,)})
    changed = {
        cell.cell: [_renamed(item) for item in items[old]] for cell, old in zip(record.cells, items, strict=True)
    }
    first = next(iter(changed.values()))
    save_run(tmp_path, record, changed)
    save_texts(tmp_path, changed, {item.id: (HOSTILE, HOSTILE) for item in first})
    build_report(tmp_path)
    opened = open_report(tmp_path / "report.html")
    page = opened.load()
    page.evaluate("plots.drawAll()")
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert HOSTILE in page.locator("tr.detail .words").first.text_content()
    assert page.locator("h1").text_content() == HOSTILE
    assert page.locator(".excerpt").first.text_content() == HOSTILE
    assert page.locator("img").count() == 0
    opened.assert_quiet()


def _renamed(item: ItemScore) -> ItemScore:
    from dataclasses import replace

    return replace(item, id=f"<b onclick=alert(2)>{item.id}</b>")


def test_without_texts_it_shows_numbers_and_says_so(tmp_path: Path, open_report: Open) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    build_report(tmp_path)
    opened = open_report(tmp_path / "report.html")
    page = opened.load()
    assert "no rows.parquet" in page.locator("#rows .warnings").inner_text()
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert page.locator("tr.detail .levels li").count() == len(Study(record).settings)
    assert page.locator("tr.detail pre").count() == 0
    opened.assert_quiet()
