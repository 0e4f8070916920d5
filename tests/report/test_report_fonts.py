"""Chinese names in figures: drawn where a font can, and said to be boxes where none can."""

from __future__ import annotations

from pathlib import Path

import matplotlib.font_manager as fonts
import pytest
from made_up_run import make_run, save_run
from matplotlib.ft2font import FT2Font

from triptych.records import ItemScore, RunRecord
from triptych.report import Study, build_report
from triptych.report.figures.draw import draw_figures
from triptych.report.figures.fonts import BASE, families

NAME = "情緒"


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


def renamed() -> tuple[RunRecord, dict[str, list[ItemScore]]]:
    """The study's run with a Chinese prompt."""
    record, items = make_run(40)
    record = RunRecord.model_validate_json(record.model_dump_json().replace("emotional", NAME))
    return record, dict(zip([cell.cell for cell in record.cells], items.values(), strict=True))


def test_no_font_is_looked_for_where_the_base_one_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych.report.figures.fonts._fonts", lambda: pytest.fail("looked for fonts"))
    assert families(["few-shot, k=3 ± −", "naïve α → ∅\n"]) == ([BASE], frozenset())


def test_without_a_chinese_font_the_characters_are_missing(only_dejavu: None) -> None:
    assert families(["情緒 a", "b"]) == ([BASE], frozenset("情緒"))


@pytest.mark.filterwarnings("error")
def test_names_that_cannot_be_drawn_are_said(only_dejavu: None, tmp_path: Path, real_figures: None) -> None:
    record, items = renamed()
    save_run(tmp_path, record, items)
    build_report(tmp_path)
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "No font on this machine has 情緒: the files in figures/ show boxes instead." in text
    assert "| 情緒" in (tmp_path / "report.md").read_text(encoding="utf-8")


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
    drawn, warnings = draw_figures(Study(*renamed()), tmp_path)
    assert "differences" in drawn
    assert warnings == []
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in drawn)
