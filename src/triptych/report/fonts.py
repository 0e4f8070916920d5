"""Which installed fonts can draw the names in a figure, and what stands for a name that none of them can draw.

matplotlib brings DejaVu Sans, which has no Chinese. Fonts are asked whether they have the very characters, because
their names say little: of `NotoSansCJK-Regular.ttc` older matplotlibs know the first face only, "Noto Sans CJK JP", and
that one draws Chinese as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar

from pydantic import BaseModel

from triptych.records import RunRecord

__all__ = ["BASE", "WHY", "StandIns", "families", "stand_ins"]

BASE = "DejaVu Sans"
PREFERRED = (
    *("Noto Sans CJK TC", "Noto Sans TC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK HK"),
    *("Source Han Sans TC", "Source Han Sans", "PingFang TC", "PingFang HK", "Heiti TC", "Microsoft JhengHei"),
    *("Microsoft YaHei", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Arial Unicode MS"),
)
"""Asked first, in this order."""
LAST_RESORT = "Last Resort"
"""It has a box for every character, and comes with matplotlib."""
MOST_OPENED = 400
"""Files asked at most: a machine with thousands of fonts should not look through all of them for one odd character."""
WHY = "no font on this machine has the characters of the names on the right"

ValueT = TypeVar("ValueT")
RecordT = TypeVar("RecordT", bound=BaseModel)


def families(texts: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """Font families to draw these texts with, `BASE` first, and the characters that no installed font has."""
    from matplotlib.font_manager import findfont

    missing = {character for character in "".join(texts) if not character.isspace()}
    missing -= _drawn_by(findfont(BASE), missing)
    chosen = [BASE]
    for path, name in _fonts() if missing else ():
        if not missing:
            break
        if found := _drawn_by(path, missing):
            chosen.append(name or _added(path))
            missing -= found
    return chosen, frozenset(missing)


def _fonts() -> Iterator[tuple[str, str]]:
    """Files and family names of the fonts matplotlib knows, the likely ones first.

    Then files it doesn't know, without a name: it keeps a list, and fonts may have been installed since.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    known: dict[str, str] = {}
    for font in fontManager.ttflist:
        if not font.name.startswith(LAST_RESORT) and (font.fname not in known or font.name in PREFERRED):
            known[font.fname] = font.name
    rank = {name: place for place, name in enumerate(PREFERRED)}
    ordered = sorted(known.items(), key=lambda font: (rank.get(font[1], len(rank)), "CJK" not in font[1], font))
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
    return min(names, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))


class StandIns:
    """Names that can be drawn, for names that can't."""

    def __init__(self, names: Mapping[str, str], missing: frozenset[str] = frozenset()) -> None:
        self.names = dict(names)
        """Name -> what the figures write for it."""
        # the longest first: a name may be a part of another
        every = [re.escape(name) for name in sorted(self.names, key=len, reverse=True)]
        every += [f"[{re.escape(''.join(sorted(missing)))}]+"] if missing else []
        self._pattern = re.compile("|".join(every)) if every else None

    def text(self, text: str) -> str:
        """A text in which every name has its stand-in; what is no name and can't be drawn is a question mark."""
        return self._pattern.sub(lambda found: self.names.get(found[0], "?"), text) if self._pattern else text

    def keys(self, values: Mapping[str, ValueT]) -> dict[str, ValueT]:
        """A mapping by setting label, by the labels that figures use."""
        return {self.text(label): value for label, value in values.items()}

    def record(self, record: RunRecord) -> RunRecord:
        """The run as figures call it."""
        if self._pattern is None:
            return record
        return record.model_copy(
            update={
                "cells": self._in_all(record.cells, "cell", "prompt", "trained_prompt", "training", "select", "order"),
                "few_shot": self._in_all(record.few_shot, "prompt", "select", "order", "cells"),
                "comparisons": self._in_all(record.comparisons, "a", "b"),
            }
        )

    def _in_all(self, records: Sequence[RecordT], *fields: str) -> tuple[RecordT, ...]:
        return tuple(r.model_copy(update={name: self._in(getattr(r, name)) for name in fields}) for r in records)

    def _in(self, value: object) -> object:
        if isinstance(value, tuple):
            return tuple(self._in(part) for part in value)
        return self.text(value) if isinstance(value, str) else value

    def used_in(self, texts: Iterable[str]) -> dict[str, str]:
        """Stand-in -> name, for those that occur in a figure's texts."""
        every = "\n".join(texts)
        found = {stand_in: name for name, stand_in in self.names.items()}
        return {s: name for s, name in found.items() if re.search(rf"(?<!\w){re.escape(s)}(?!\w)", every)}


def stand_ins(record: RunRecord) -> tuple[StandIns, list[str]]:
    """What stands for the names of this run that can't be drawn here, and the fonts for all the others."""
    prompts = [name for cell in record.cells for name in (cell.prompt, cell.trained_prompt) if name]
    names = list(dict.fromkeys([*prompts, *(summary.prompt for summary in record.few_shot)]))
    labels = [
        text for cell in record.cells for text in (cell.cell, cell.training or "", cell.select or "", cell.order or "")
    ]
    # what figures say beside the names must be drawable as well, and is by BASE
    chosen, missing = families([*names, *labels, *(label for c in record.comparisons for label in (c.a, c.b))])
    free = (short for number in count(1) if (short := f"prompt {number}") not in names)
    found = {name: next(free) for name in names if missing & set(name)}
    return StandIns(found, missing), chosen
