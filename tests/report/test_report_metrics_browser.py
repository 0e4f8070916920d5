"""A run that is decided by accuracy, in a browser: the metric switch, wrong answers, options, disagreement, classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_run import OPTIONS, Items, make_classified, save_run, save_texts

from triptych.metrics import metric_of
from triptych.metrics.classes import probabilities
from triptych.records import ItemScore, RunRecord
from triptych.report import Study, build_report

Open = Callable[..., Any]
HOSTILE = "</script><img src=x onerror=alert(1)> & {x}"
LEVEL = {"zero_shot": 6.0, "few_shot": 1.5, "qlora": 2.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, Items]:
    record, items = make_classified(200, metrics=("accuracy", "f1", "perplexity"), level=LEVEL)
    return _written(tmp_path_factory.mktemp("classes"), record, items), record, items


def _written(folder: Path, record: RunRecord, items: Items, options: tuple[str, ...] = OPTIONS) -> Path:
    save_run(folder, record, items)
    first = next(iter(items.values()))
    save_texts(folder, items, {i.id: (f"ask {i.id}", _reference(i, options)) for i in first})
    (folder / "tokens.parquet").unlink()
    build_report(folder)
    return folder / "report.html"


def _reference(item: ItemScore, options: tuple[str, ...]) -> str:
    return "surprise" if item.correct is None else options[item.correct]


def shown_ids(page: Any) -> list[str]:
    found: list[str] = page.locator("#rows-list tr.row .open").all_text_contents()
    return found


def wait_for_count(page: Any, count: int, of: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#rows-count")).to_have_text(f"{count} of {of} rows")


def test_the_banner_stands_above_the_answer(run: Any, open_report: Open) -> None:
    opened = open_report(run[0])
    page = opened.load()
    banner = page.locator("#disagreement")
    text = banner.inner_text()
    assert text.startswith("The metrics disagree: by accuracy the order is QLoRA 0.")
    assert "but by mean perplexity it is few-shot 1." in text
    assert page.locator(".answer").inner_text().startswith("Use QLoRA: its accuracy")
    assert banner.bounding_box()["y"] < page.locator(".answer").bounding_box()["y"]
    opened.assert_quiet()


def test_the_switch_changes_panels_figures_and_the_explorers_columns(run: Any, open_report: Open) -> None:
    _, record, items = run
    study = Study(record, items)
    opened = open_report(run[0])
    page = opened.load()
    buttons = page.locator("#metrics button")
    assert buttons.all_text_contents() == ["Accuracy", "F1", "Mean perplexity"]
    page.evaluate("plots.drawAll()")
    page.wait_for_selector('[data-plot="calibration"][data-drawn] .main-svg')
    assert page.locator('figure:has([data-plot="byK"]) h3').inner_text() == "Accuracy by number of demonstrations"
    assert "Right of 0" in page.locator('figure:has([data-plot="forest"]) figcaption').inner_text()
    for name, number, best in (("f1", 3, "QLoRA"), ("perplexity", 3, "Few-shot, k=4"), ("accuracy", 3, "QLoRA")):
        page.click(f'#metrics button[data-metric="{name}"]')
        page.wait_for_selector(f'html[data-metric="{name}"]')
        assert page.locator(".panel:visible").count() == number
        by = study.by(metric_of(name))
        levels = [f"{by.mean(setting):.3g}" for setting in by.best.values()]
        shown = [text.split(" ")[0] for text in page.locator(".panel:visible b").all_inner_texts()]
        assert [float(text) for text in shown] == pytest.approx([float(level) for level in levels], rel=0.01)
        assert page.locator(f'#metrics button[data-metric="{name}"]').get_attribute("aria-pressed") == "true"
        assert page.locator('#metrics button[aria-pressed="true"]').count() == 1
        assert page.locator("#rows-a option:checked").inner_text().startswith(by.name(by.ranked[0].label))
        assert best in page.locator("#rows-a option:checked").inner_text() or name == "perplexity"
        headings = {"f1": "F1", "perplexity": "Perplexity", "accuracy": "Accuracy"}
        assert page.locator("#rows-metric").inner_text() == headings[name]
        assert page.locator("#rows-head th").count() == (5 if name == "accuracy" else 4)
    page.click('#metrics button[data-metric="perplexity"]')
    page.wait_for_selector('html[data-metric="perplexity"]')
    assert page.locator('figure:has([data-plot="byK"]) h3').inner_text() == "Perplexity by number of demonstrations"
    assert "Left of 0" in page.locator('figure:has([data-plot="forest"]) figcaption').inner_text()
    opened.assert_quiet()


def test_the_explorer_sorts_by_the_metric_that_is_shown(run: Any, open_report: Open) -> None:
    _, record, items = run
    opened = open_report(run[0])
    page = opened.load()
    page.click('#metrics button[data-metric="f1"]')
    page.wait_for_selector('html[data-metric="f1"]')
    page.select_option("#rows-sort", "a")
    page.select_option("#rows-direction", "down")
    page.wait_for_timeout(80)
    expected = sorted(items["qlora/default"], key=lambda item: -item.metrics["f1"])
    assert shown_ids(page)[:5] == [item.id for item in expected[:5]]
    assert page.locator("#rows-list tr.row td.number").first.inner_text() == f"{expected[0].metrics['f1']:.3f}"
    assert record.metrics[1] == "f1"
    opened.assert_quiet()


def test_wrong_answers_are_filtered_and_say_what_was_chosen(run: Any, open_report: Open) -> None:
    _, _, items = run
    tuned, zero = items["qlora/default"], items["zero_shot/default"]
    opened = open_report(run[0])
    page = opened.load()
    page.select_option("#rows-b", label="Zero-shot, default")
    pairs = [(a.metrics["accuracy"] == 0, b.metrics["accuracy"] == 0) for a, b in zip(tuned, zero, strict=True)]
    for choice, kept in {
        "a": [a for a, _ in pairs],
        "b": [b for _, b in pairs],
        "a-only": [a and not b for a, b in pairs],
        "b-only": [b and not a for a, b in pairs],
        "both": [a and b for a, b in pairs],
        "": [True] * len(pairs),
    }.items():
        page.select_option("#rows-wrong", choice)
        wait_for_count(page, sum(kept), 200)
        expected = [item.id for item, keep in zip(tuned, kept, strict=True) if keep]
        assert shown_ids(page) == expected[:50]
    page.select_option("#rows-wrong", "a")
    wait_for_count(page, sum(a for a, _ in pairs), 200)
    first = next(item for item in tuned if item.metrics["accuracy"] == 0)
    line = page.locator("#rows-list tr.row").first
    assert line.locator("td.answer-of").inner_text() == (
        "(no option)" if first.correct is None else OPTIONS[first.correct]
    )
    assert line.locator("td.number").first.inner_text().split() == ["wrong", first.chosen]
    opened.assert_quiet()


def test_a_row_shows_its_options_with_their_probabilities(run: Any, open_report: Open) -> None:
    _, _, items = run
    item = items["qlora/default"][3]
    opened = open_report(run[0])
    page = opened.load()
    page.click("#rows-list tr.row[data-row='3'] .open")
    page.wait_for_selector("tr.detail[data-ready]")
    line = page.locator("tr.detail .line[data-cell='qlora/default'] .option")
    shares = probabilities(item.option_nll)
    ordered = sorted(range(5), key=lambda place: -shares[place])
    texts = line.all_inner_texts()
    assert [text.split()[0] for text in texts] == [OPTIONS[place] for place in ordered]
    percents = [float(text.split()[1]) for text in texts]
    assert percents == pytest.approx([100 * shares[place] for place in ordered], abs=1)
    assert line.first.get_attribute("class") in ("option chosen", "option correct chosen")
    assert (
        page.locator("tr.detail .line[data-cell='qlora/default'] .option.correct")
        .inner_text()
        .startswith(OPTIONS[item.correct])
    )
    page.click("#rows-list tr.row[data-row='9'] .open")
    page.wait_for_selector("tr.row[data-row='9'] + tr.detail[data-ready]")
    assert "The reference is none of the options." in page.locator("tr.row[data-row='9'] + tr.detail").inner_text()
    opened.assert_quiet()


def test_the_confusion_table_marks_its_diagonal(run: Any, open_report: Open) -> None:
    opened = open_report(run[0])
    page = opened.load()
    heading = page.locator("h3", has_text="Confusion of QLoRA")
    table = heading.locator("xpath=following-sibling::div[1]")
    marked = [int(text) for text in table.locator("td.hit").all_inner_texts()]
    assert len(marked) == 5
    right = sum(item.metrics["accuracy"] for item in run[2]["qlora/default"])
    assert sum(marked) == right
    opened.assert_quiet()


def test_a_page_that_is_loaded_again_keeps_the_metric(run: Any, open_report: Open) -> None:
    opened = open_report(run[0])
    page = opened.load()
    page.click('#metrics button[data-metric="f1"]')
    page.wait_for_selector('html[data-metric="f1"]')
    page.select_option("#rows-wrong", "a")
    wait_for_count(page, sum(item.metrics["accuracy"] == 0 for item in run[2]["qlora/default"]), 200)
    page.evaluate("view.save({})")
    page.reload()
    page.wait_for_selector('html[data-ready][data-metric="f1"]')
    assert page.locator("#rows-wrong").input_value() == "a"
    assert page.locator('.by-metric[data-metric="f1"]').is_visible()
    opened.assert_quiet()


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_its_window_and_prints(run: Any, open_report: Open, width: int) -> None:
    opened = open_report(run[0], viewport={"width": width, "height": 844})
    page = opened.load()
    page.evaluate("plots.drawAll()")
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("forPrint()")
    page.evaluate("afterPrint()")
    page.emulate_media(media="print")
    assert not page.locator("#metrics").is_visible()
    assert page.locator("#classes").is_visible()
    opened.assert_quiet()


def test_hostile_options_stay_words(tmp_path: Path, open_report: Open) -> None:
    options = (HOSTILE, "b", "<b>c</b>")
    record, items = make_classified(30, options=options)
    page_path = _written(tmp_path, record, items, options)
    opened = open_report(page_path)
    page = opened.load()
    page.evaluate("plots.drawAll()")
    page.click("#rows-list tr.row .open >> nth=0")
    page.wait_for_selector("tr.detail[data-ready]")
    assert page.locator("img").count() == 0
    assert page.locator("main b", has_text="c").filter(has_text="<b>").count() == 0
    assert (
        HOSTILE
        in page.locator("h3", has_text="Confusion of QLoRA").locator("xpath=following-sibling::div[1]").inner_text()
    )
    assert any(HOSTILE in text for text in page.locator("td.answer-of").all_inner_texts())
    opened.assert_quiet()
