"""What is left of an instruction without its template: two rows may ask the same in different words around it.

Templates aren't given; they show themselves: a first or last line, or a beginning up to a colon, that many rows share,
followed by something else in each.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_FEWEST = 3
"""The fewest rows that share a template."""
_COLON = re.compile(r"[:：]")

_Cut = Callable[[str], tuple[str, str] | None]
"""From a text to (the piece that may be a template, the rest); None if there is no such piece or no rest."""


@dataclass(frozen=True, slots=True)
class Templates:
    """Pieces that instructions share."""

    heads: frozenset[str]
    """First lines."""
    tails: frozenset[str]
    """Last lines."""
    openings: frozenset[str]
    """Beginnings of a line, up to its first colon."""

    def body(self, text: str) -> str:
        """The text without templates around it, and without white space around what is left."""
        text = text.strip()
        while (shorter := self._without_one(text)) is not None:
            text = shorter
        return text

    def _without_one(self, text: str) -> str | None:
        cuts = ((cut(text), pieces) for cut, pieces in zip(_CUTS, (self.heads, self.tails, self.openings), strict=True))
        return next((cut[1] for cut, pieces in cuts if cut is not None and cut[0] in pieces), None)


def find_templates(texts: Sequence[str], *, share: float = 0.002) -> Templates:
    """Look for pieces that this share of the texts have, and again in what is left without them."""
    least = max(_FEWEST, int(len(texts) * share))
    outer = Templates(*(_shared(texts, cut, least) for cut in _CUTS))
    if not (outer.heads or outer.tails or outer.openings):
        return outer
    left = [outer.body(text) for text in texts]
    heads, tails, openings = (_shared(left, cut, least) for cut in _CUTS)
    return Templates(outer.heads | heads, outer.tails | tails, outer.openings | openings)


def _shared(texts: Iterable[str], cut: _Cut, least: int) -> frozenset[str]:
    """Two passes; only hashes of the pieces are kept, until it is known which are many."""
    counts = Counter(hash(found[0]) for text in texts if (found := cut(text.strip())) is not None)
    many = {piece for piece, n in counts.items() if n >= least}
    rests: defaultdict[str, set[int]] = defaultdict(set)
    for text in texts:
        found = cut(text.strip())
        if found is not None and hash(found[0]) in many:
            rests[found[0]].add(hash(found[1]))
    return frozenset(piece for piece, different in rests.items() if len(different) >= least)


def _head(text: str) -> tuple[str, str] | None:
    line, _, rest = text.partition("\n")
    return (line.strip(), rest.strip()) if rest.strip() else None


def _tail(text: str) -> tuple[str, str] | None:
    rest, _, line = text.rpartition("\n")
    return (line.strip(), rest.strip()) if rest.strip() else None


def _opening(text: str) -> tuple[str, str] | None:
    colon = _COLON.search(text)
    if colon is None:
        return None
    rest = text[colon.end() :].strip()
    return (text[: colon.start()], rest) if rest else None


_CUTS = (_head, _tail, _opening)
