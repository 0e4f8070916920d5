"""Chinese names in figures: drawn where a font can, written otherwise where none can, never boxes."""

from __future__ import annotations

from pathlib import Path

import matplotlib.font_manager as fonts
import pytest
from made_up_run import make_run, save_run
from matplotlib.ft2font import FT2Font

from triptych.records import RunRecord
from triptych.report import build_report
from triptych.report.figures import draw_figures
from triptych.report.fonts import BASE, StandIns, families

NAMES = ("情緒", "prompt 1")


def chinese_font() -> str:
    for path in sorted(fonts.findSystemFonts()):
        try:
            if FT2Font(path).get_char_index(ord("情")):
                return path
        except (OSError, RuntimeError):
            continue
    pytest.skip("no font with Chinese is installed here (Debian: apt-get install fonts-noto-cjk)")


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has the fonts matplotlib brings and no other."""
    monkeypatch.setattr(fonts, "findSystemFonts", lambda *_, **__: [])
    kept = [font for font in fonts.fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(fonts.fontManager, "ttflist", kept)


def renamed() -> tuple[RunRecord, dict[str, list]]:  # type: ignore[type-arg]
    """The study's run with a Chinese prompt, and another whose name is a stand-in's."""
    record, items = make_run(40)
    text = record.model_dump_json().replace("emotional", NAMES[0])
    text = text.replace("few_shot/default", f"few_shot/{NAMES[1]}")
    record = RunRecord.model_validate_json(text)
    few = [c.model_copy(update={"prompt": NAMES[1]}) if c.strategy == "few_shot" else c for c in record.cells]
    record = record.model_copy(update={"cells": tuple(few)})
    return record, dict(zip([cell.cell for cell in record.cells], items.values(), strict=True))


def test_no_font_is_looked_for_where_the_base_one_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.report.fonts._fonts", lambda: pytest.fail("looked for fonts"))
    assert families(["few-shot, k=3 ± −", "naïve α → ∅\n"]) == ([BASE], frozenset())


def test_without_a_chinese_font_the_characters_are_missing(only_dejavu: None) -> None:
    assert families(["情緒 a", "b"]) == ([BASE], frozenset("情緒"))


def test_stand_ins_know_names_within_names() -> None:
    short = StandIns({"情": "prompt 1", "情緒": "prompt 2"}, frozenset("情緒理"))
    assert short.text("zero_shot/情緒 − 情, 理理") == "zero_shot/prompt 2 − prompt 1, ?"
    assert short.keys({"情緒": 1, "a": 2}) == {"prompt 2": 1, "a": 2}
    assert short.used_in(["x prompt 2\n"]) == {"prompt 2": "情緒"}
    assert short.used_in(["prompt 22"]) == {}
    assert StandIns({}).text("情") == "情"


@pytest.mark.filterwarnings("error")
def test_names_that_cannot_be_drawn_have_a_key_and_no_boxes(
    only_dejavu: None, tmp_path: Path, real_figures: None
) -> None:
    record, items = renamed()
    save_run(tmp_path, record, items)
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    below = text[text.index("](figures/differences.png)") :].splitlines()[2]
    # prompt 1 is taken by a prompt of that name
    assert below.startswith("Written for a name in the figure: prompt 2 = 情緒 (no font on this machine")
    assert not text[text.index("](figures/scatter.png)") :].splitlines()[2].startswith("Written")
    assert "prompt 2 = 情緒" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "| 情緒" in text


@pytest.mark.filterwarnings("error")
def test_a_chinese_name_is_drawn_where_a_font_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_figures: None
) -> None:
    path = chinese_font()
    # as on a machine where matplotlib made its list before the font was installed
    monkeypatch.setattr(fonts, "findSystemFonts", lambda *_, **__: [path])
    kept = [font for font in fonts.fontManager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(fonts.fontManager, "ttflist", kept)
    chosen, missing = families(["情緒"])
    assert (chosen[0], missing) == (BASE, frozenset())
    assert len(chosen) == 2
    record, _ = renamed()
    drawn = draw_figures(record, {}, {}, tmp_path)
    assert "differences" in drawn
    assert not any(drawn.values())
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in drawn)
