"""Characters that hardly anyone means to write: what is left of broken encodings, and what can't be seen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from triptych.data.row import Row

KINDS = {
    "replacement character": "\ufffd",
    "control characters": "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f",
    "private use": "\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd",
    "invisible characters": "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff",
    "no characters": "\ufdd0-\ufdef\ufffe\uffff",
}
"""What is looked for, as ranges: U+FFFD stands where decoding failed; tab, line feed and carriage return are no control
characters here; invisible ones are zero-width spaces, joiners, direction and byte order marks."""

_ANY = re.compile(f"[{''.join(KINDS.values())}]")
_EACH = {kind: re.compile(f"[{ranges}]") for kind, ranges in KINDS.items()}
_NAMED = 5


@dataclass(slots=True)
class Odd:
    """One kind of odd character in a file."""

    n_rows: int = 0
    code_points: dict[str, int] = field(default_factory=dict)
    """"U+FFFD" -> how often."""
    examples: list[str] = field(default_factory=list)
    """Ids of the first rows."""


def odd_characters(rows: Iterable[Row]) -> dict[str, Odd]:
    """Count odd characters in instructions and outputs, by kind; kinds that don't occur are left out."""
    kinds: dict[str, Odd] = {}
    for row in rows:
        text = row.instruction if row.output is None else f"{row.instruction}\n{row.output}"
        if text.isascii() and text.isprintable():
            continue
        if _ANY.search(text) is None:
            continue
        for kind, pattern in _EACH.items():
            if characters := pattern.findall(text):
                _add(kinds.setdefault(kind, Odd()), row.id, characters)
    return kinds


def _add(odd: Odd, row_id: str, characters: list[str]) -> None:
    odd.n_rows += 1
    for character in characters:
        point = f"U+{ord(character):04X}"
        odd.code_points[point] = odd.code_points.get(point, 0) + 1
    if len(odd.examples) < _NAMED:
        odd.examples.append(row_id)
