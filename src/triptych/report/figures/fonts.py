"""Which installed fonts draw the names in a figure: matplotlib takes each character from the first family that has it.

matplotlib brings DejaVu Sans, which has no Chinese. Fonts are checked for the characters themselves, since their names
say little: older matplotlibs know only the first face of `NotoSansCJK-Regular.ttc`, "Noto Sans CJK JP", which draws
Chinese as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BASE = "DejaVu Sans"
PREFERRED = (
    *("Noto Sans CJK TC", "Noto Sans TC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK HK"),
    *("Source Han Sans TC", "Source Han Sans", "PingFang TC", "PingFang HK", "Heiti TC", "Microsoft JhengHei"),
    *("Microsoft YaHei", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Arial Unicode MS"),
)
"""Tried first, in this order."""
LAST_RESORT = "Last Resort"
"""It has a box for every character, and comes with matplotlib."""
MOST_OPENED = 400
"""Files opened at most: on a machine with thousands of fonts, not all should be searched for one odd character."""


def families(texts: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """Font families to draw these texts with, `BASE` first, and the characters that no installed font has."""
    from matplotlib.font_manager import findfont

    missing = {character for character in "".join(texts) if not character.isspace()}
    missing -= _drawn_by(findfont(BASE), missing)
    chosen = [BASE]
    for path, name in _fonts() if missing else ():
        if not missing:
            break
        if drawn := _drawn_by(path, missing):
            chosen.append(name or _added(path))
            missing -= drawn
    return chosen, frozenset(missing)


def _fonts() -> Iterator[tuple[str, str]]:
    """Files and family names of the fonts matplotlib knows, the likely ones first.

    Then files it doesn't know, without a name: it keeps a list, and fonts may have been installed since.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    names: dict[str, str] = {}
    for font in fontManager.ttflist:
        if not font.name.startswith(LAST_RESORT) and (font.fname not in names or font.name in PREFERRED):
            names[font.fname] = font.name
    rank = {name: place for place, name in enumerate(PREFERRED)}
    ordered = sorted(names.items(), key=lambda font: (rank.get(font[1], len(rank)), "CJK" not in font[1], font))
    yield from ordered[:MOST_OPENED]
    newer = sorted(set(findSystemFonts()) - {font.fname for font in fontManager.ttflist})
    likely = sorted(newer, key=lambda path: ("CJK" not in path, "Serif" in path, "Regular" not in path, path))
    yield from ((path, "") for path in likely[:MOST_OPENED])


def _drawn_by(path: str, characters: Iterable[str]) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return {character for character in characters if font.get_char_index(ord(character))}
    except (OSError, RuntimeError):  # not a font, or one of a kind that can't be read
        return set()


def _added(path: str) -> str:
    """Make a font known to matplotlib; a collection has several families, of which the likeliest is used."""
    from matplotlib.font_manager import fontManager

    fontManager.addfont(path)
    names = [font.name for font in fontManager.ttflist if font.fname == path]
    return min(names, key=lambda name: (*PREFERRED, name).index(name))
