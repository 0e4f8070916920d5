"""Does a test row occur in train? Then a low perplexity may be memory, or the answer may stand in the prompt itself."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from triptych.data.row import Row

_NAMED = 5


class _Dropped(dict[int, int | None]):
    """A table for str.translate that fills itself: None for what carries no wording, the character itself otherwise."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        # Z separators, P punctuation, S symbols; Cc and Cf hold the tab, the line break and the zero-width space
        dropped = category[0] in "ZPS" or category in ("Cc", "Cf")
        self[code] = None if dropped else code
        return self[code]


_DROPPED = _Dropped()


def normalise(text: str) -> str:
    """Reduce a text to its wording: NFKC, no whitespace, punctuation, symbols or invisible characters, casefolded.

    Repeated until nothing changes, since case folding can undo NFKC: `normalise(normalise(x)) == normalise(x)`.
    """
    while (reduced := unicodedata.normalize("NFKC", text).translate(_DROPPED).casefold()) != text:
        text = reduced
    return text


@dataclass(frozen=True, slots=True)
class Overlap:
    """Test rows that occur in train, as (test id, train id) pairs in the test file's order. False if there are none."""

    exact: tuple[tuple[str, str], ...]
    """Instruction and output are equal."""
    normalised: tuple[tuple[str, str], ...]
    """The same question was asked: the normalised instructions are equal. Pairs in `exact` are not repeated."""
    n_test: int
    """Test rows looked at."""

    def __bool__(self) -> bool:
        """Whether any test row occurs in train."""
        return bool(self.exact or self.normalised)

    @property
    def train_ids(self) -> frozenset[str]:
        """Train rows that occur in test."""
        return frozenset(train for _, train in self.exact + self.normalised)

    def message(self) -> str:
        """One paragraph for people, naming at most five test rows; `=` is an exact pair, `~` a normalised one."""
        if not self:
            return f"none of {self.n_test} test rows occurs in train"
        exact, normalised = by_test_row(self.exact), by_test_row(self.normalised)
        only_normalised = [test for test in normalised if test not in exact]
        n = len(exact) + len(only_normalised)
        named = [_named(test, "=", trains) for test, trains in exact.items()]
        named += [_named(test, "~", normalised[test]) for test in only_normalised]
        rest = f", and {n - _NAMED} more" if n > _NAMED else ""
        return (
            f"{n} of {self.n_test} test rows {'occurs' if n == 1 else 'occur'} in train ({len(exact)} exactly, "
            f"{len(only_normalised)} after normalising): {', '.join(named[:_NAMED])}{rest}"
        )


def find_overlap(train: Iterable[Row], test: Sequence[Row]) -> Overlap:
    """Find test rows that occur in train, in one pass over each (hashing; no pair is compared that doesn't match).

    Instructions that normalise to nothing ("？！") say nothing about each other and only count when equal exactly.
    """
    same_pair: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
    same_question: defaultdict[str, list[Row]] = defaultdict(list)
    for row in train:
        same_pair[row.instruction, row.output].append(row.id)
        same_question[normalise(row.instruction)].append(row)
    same_question.pop("", None)
    exact: list[tuple[str, str]] = []
    normalised: list[tuple[str, str]] = []
    for row in test:
        pair = (row.instruction, row.output)
        exact.extend((row.id, train_id) for train_id in same_pair.get(pair, ()))
        alike = same_question.get(normalise(row.instruction), ())
        normalised.extend((row.id, other.id) for other in alike if (other.instruction, other.output) != pair)
    return Overlap(tuple(exact), tuple(normalised), len(test))


def empty_outputs(rows: Iterable[Row]) -> str | None:
    """A sentence on rows whose output is empty, of which only EOS can be scored; None if there are none."""
    ids = [row.id for row in rows if row.output == ""]
    if not ids:
        return None
    named = ", ".join(ids[:_NAMED]) + (" …" if len(ids) > _NAMED else "")
    return f"{len(ids)} test rows have an empty output, of which only EOS is scored: {named}"


def by_test_row(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Test id -> the train ids it is paired with."""
    grouped: dict[str, list[str]] = {}
    for test, train in pairs:
        grouped.setdefault(test, []).append(train)
    return grouped


def _named(test: str, sign: str, trains: list[str]) -> str:
    more = f" (and {len(trains) - 1} more)" if len(trains) > 1 else ""
    return f"test {test} {sign} train {trains[0]}{more}"
