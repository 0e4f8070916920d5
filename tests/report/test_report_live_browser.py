"""`report.html` of a run that goes on, in a browser: it loads itself again until it is whole, and loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_run import Items, make_run, save_run, save_texts

from triptych.config.read import read_config
from triptych.records import RunRecord
from triptych.report import Study, build_report, build_so_far, comparisons, summarise_few_shot
from triptych.report.row_texts import read_texts
from triptych.report.so_far import SoFar

Open = Callable[..., Any]
ZERO, FEW = 2, 6


class MadeUp:
    """A made-up run in a folder, of which as many cells are finished as is asked for."""

    def __init__(self, folder: Path, n_rows: int) -> None:
        self.folder = folder
        self.record, self.items = make_run(n_rows, ks=(1, 3))
        save_run(folder, self.record, self.items)
        save_texts(folder, self.items)
        self.texts = read_texts(folder, self.items)

    def upto(self, n_cells: int, **facts: Any) -> Path:
        cells = self.record.cells[:n_cells]
        items: Items = {cell.cell: self.items[cell.cell] for cell in cells}
        changed = {"few_shot": summarise_few_shot(cells), "comparisons": comparisons(cells, items)}
        none: dict[str, Any] = {"cells": cells, "curve": (), "tune": None, "trainings": ()}
        record = RunRecord.model_validate(self.record.model_copy(update={**none, **changed}))
        counts = {"zero_shot": (min(n_cells, ZERO), ZERO), "few_shot": (max(0, n_cells - ZERO), FEW), "qlora": (0, 1)}
        known: dict[str, Any] = {"trainings": (0, 1), "seconds_left": 240.0, "share": 0.4, "refresh_seconds": 1}
        so_far = SoFar(**{"cells": counts, **known, **facts})
        build_so_far(self.folder, Study(record, items, so_far), self.texts)
        return self.folder / "report.html"

    def whole(self) -> None:
        build_report(self.folder)


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path, 70)


def banner(page: Any, holds: str) -> None:
    """Wait until the banner says it."""
    from playwright.sync_api import expect

    expect(page.locator("#so-far")).to_contain_text(holds, timeout=60_000)


def wait_until_whole(page: Any) -> None:
    page.wait_for_selector("html[data-ready]:not(:has(#so-far))", timeout=120_000)


@pytest.mark.slow
def test_the_page_becomes_whole_and_keeps_what_the_reader_has_before_them(made_up: MadeUp, open_report: Open) -> None:
    opened = open_report(made_up.upto(3))
    page = opened.load()
    banner(page, "3 of 9 cells scored, 0 of 1 trainings done.")
    assert page.locator(".answer").inner_text().startswith("So far, few-shot (k=1")
    assert "QLoRA isn't trained yet." in page.locator(".answer").inner_text()
    page.click("#refresh")  # the page stays while it is set up
    page.select_option("#rows-b", label="Few-shot, k=1")
    page.select_option("#rows-sort", "length")
    page.fill("#rows-search", "row-0")
    page.wait_for_timeout(250)  # it searches when the reader stops typing
    page.click("#rows-after")
    first = page.locator("#rows-list tr.row .open >> nth=4")
    name = first.text_content()
    first.click()
    page.wait_for_selector("tr.detail[data-ready]")
    page.locator("tr.detail select").select_option(label="zero_shot/emotional")
    page.locator("details[data-view=cells]").evaluate("one => (one.open = true)")
    page.evaluate("document.querySelector('tr.detail').previousSibling.scrollIntoView()")
    page.evaluate("scrollBy(0, -200)")

    def place() -> float:
        found: float = page.evaluate("document.querySelector('tr.detail').previousSibling.getBoundingClientRect().top")
        return found

    def same() -> None:
        page.wait_for_selector("html[data-ready]")
        assert page.locator("tr.detail[data-ready]").count() == 1
        assert page.locator("tr.detail").evaluate("e => e.previousSibling.querySelector('.open').textContent") == name
        assert page.locator("tr.detail select").evaluate("e => e.selectedOptions[0].label") == "zero_shot/emotional"
        assert abs(place() - at) < 3, (place(), at)
        assert page.input_value("#rows-search") == "row-0"
        assert page.locator("#rows-b").evaluate("e => e.selectedOptions[0].label").startswith("Few-shot, k=1")
        assert page.input_value("#rows-sort") == "length"
        assert page.locator("#rows-page").inner_text() == "page 2 of 2"
        assert page.locator("details[data-view=cells]").evaluate("one => one.open")

    at = place()
    made_up.upto(6)
    page.locator("#refresh").evaluate("one => one.click()")
    banner(page, "6 of 9 cells")
    same()
    assert not page.locator("#trouble").is_visible()
    made_up.whole()
    wait_until_whole(page)
    same()
    assert page.locator(".answer").inner_text().startswith("Use QLoRA")
    assert page.title().startswith("Classical")
    assert page.evaluate("typeof refresh") == "undefined"
    assert page.evaluate("sessionStorage.length") == 0
    opened.assert_quiet()


@pytest.mark.slow
def test_what_is_being_typed_is_not_lost(made_up: MadeUp, open_report: Open) -> None:
    opened = open_report(made_up.upto(2))
    page = opened.load()
    page.click("#rows-search")
    page.keyboard.type("row-01", delay=120)
    made_up.upto(5)
    banner(page, "5 of 9 cells")
    page.wait_for_selector("html[data-ready]")
    page.keyboard.type("7")
    assert page.input_value("#rows-search") == "row-017"
    opened.assert_quiet()


@pytest.mark.slow
def test_refreshing_can_be_paused_from_the_keyboard_and_is_not_printed(made_up: MadeUp, open_report: Open) -> None:
    opened = open_report(made_up.upto(2))
    page = opened.load()
    page.focus("#refresh")
    page.keyboard.press("Enter")
    assert page.get_attribute("#refresh", "aria-pressed") == "true"
    made_up.upto(5)
    page.wait_for_timeout(1800)
    banner(page, "2 of 9 cells")
    page.emulate_media(media="print")
    assert not page.locator("#refresh").is_visible()
    assert page.locator("#so-far").is_visible()
    page.emulate_media(media="screen")
    page.reload()  # by hand: it stays paused
    banner(page, "5 of 9 cells")
    assert page.get_attribute("#refresh", "aria-pressed") == "true"
    opened.assert_quiet()


@pytest.mark.slow
def test_where_nothing_new_comes_it_looks_less_often_and_says_so(made_up: MadeUp, open_report: Open) -> None:
    import datetime

    long_ago = datetime.datetime.now().astimezone() - datetime.timedelta(minutes=31)
    opened = open_report(made_up.upto(2, written=long_ago))
    page = opened.load()
    banner(page, "every 2 s")
    banner(page, "Nothing new for 31 minutes.")
    opened.assert_quiet()


@pytest.mark.slow
def test_it_fits_a_phone_and_asks_for_nothing_without_storage(made_up: MadeUp, open_report: Open) -> None:
    opened = open_report(made_up.upto(2), viewport={"width": 390, "height": 844})
    opened.page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new Error('none'); } })"
    )
    page = opened.load()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    made_up.whole()
    wait_until_whole(page)
    opened.assert_quiet()


class Steps:
    """Lets a run score one cell, and no more, whenever the test says so."""

    def __init__(self) -> None:
        self.may, self.all = threading.Semaphore(0), False

    def wait(self) -> None:
        if not self.all:
            assert self.may.acquire(timeout=60)

    def go_on(self) -> None:
        self.all = True
        self.may.release()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    from triptych.runner import live, tasks

    steps, score = Steps(), tasks.score_cell

    def scored(*arguments: Any) -> Any:
        steps.wait()
        return score(*arguments)

    monkeypatch.setattr(tasks, "score_cell", scored)
    monkeypatch.setattr(live, "EVERY", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e9)
    monkeypatch.setattr(live, "REFRESH_SECONDS", 1)
    yield steps
    steps.go_on()


def test_a_report_that_is_opened_while_a_run_goes_on_becomes_whole(
    project: Callable[..., Path], tmp_path: Path, steps: Steps, open_report: Open
) -> None:
    from triptych.runner.run import run_experiment

    path, config = tmp_path / "run" / "report.html", read_config(project(strategies={"few_shot": {"k": [1, 2]}}))
    thread = threading.Thread(target=run_experiment, args=(config, path.parent), daemon=True)
    thread.start()
    steps.may.release()
    opened = open_report(path)
    while not path.exists():
        assert thread.is_alive()
        opened.page.wait_for_timeout(50)
    page = opened.load()
    banner(page, "1 of 7 cells scored, 0 of 1 trainings done.")
    assert "Few-shot isn't scored yet, and QLoRA isn't trained yet." in page.locator(".answer").inner_text()
    assert not (path.parent / "results.json").exists()
    page.click("#rows-list tr.row[data-row='2'] .open")
    page.wait_for_selector("tr.detail[data-ready]")
    steps.may.release()
    banner(page, "2 of 7 cells")
    steps.go_on()
    wait_until_whole(page)
    thread.join(timeout=120)
    assert (path.parent / "results.json").exists()
    assert page.locator("tr.detail").evaluate("e => e.previousSibling.dataset.row") == "2"
    assert "So far" not in page.locator("body").inner_text()
    opened.assert_quiet()
