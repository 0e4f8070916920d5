"""What `triptych data check` found: plain records, written as they are by `--json`; and the odd characters among it:
what is left of broken encodings, and what can't be seen.
"""

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


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are alike in something."""

    text: str
    """The first 60 characters of what they share."""
    ids: tuple[str, ...]
    """At most five of them."""
    n_rows: int


@dataclass(frozen=True, slots=True)
class Repeats:
    """Something that should be different in each row, and isn't."""

    n_groups: int = 0
    n_rows: int = 0
    """Rows in all groups. `n_rows - n_groups` could go."""
    examples: tuple[Group, ...] = ()
    """The largest groups."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Bodies that are nearly equal, not equal: those are `bodies`."""

    threshold: float
    n_pairs: int = 0
    n_rows: int = 0
    """Rows with at least one such row elsewhere; across files: test rows."""
    examples: tuple[tuple[str, str, float], ...] = ()
    """(id, id, Jaccard index), the most alike first; across files test first."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of one column, in characters or tokens."""

    mean: float
    p50: float
    p95: float
    p99: float
    longest: int


@dataclass(frozen=True, slots=True)
class FileSurvey:
    """One file."""

    path: str
    format: str
    notes: tuple[str, ...]
    """What was left out of the rows, or read in a particular way."""
    n_rows: int
    n_in_file: int
    n_without_output: int
    n_empty_outputs: int
    n_copies: int
    """Rows whose output says what the body says, punctuation aside."""
    n_padded: int
    """Rows with white space at an end of the instruction or the output."""
    rows: Repeats
    """Instruction and output are equal."""
    instructions: Repeats
    bodies: Repeats
    """The instruction without its template, normalised (see `data.bodies`, `data.normalise`)."""
    outputs: Repeats
    """Normalised, without what many outputs begin with."""
    flipped: Repeats
    """One row's body is the other's output, and the other way round."""
    near: Likeness
    lengths: dict[str, Lengths] = field(default_factory=dict)
    """Characters of "instruction" and "output"; with a tokenizer also "instruction tokens" and "output tokens"."""
    odd: dict[str, Odd] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Across:
    """Test rows that are in train too, in one way or another."""

    exact: Repeats
    """Instruction and output; each group is one test row with the train rows."""
    instructions: Repeats
    """Normalised instructions, where the pair isn't exact."""
    bodies: Repeats
    outputs: Repeats
    """Test outputs that are a train row's output, or its body."""
    near: Likeness


@dataclass(frozen=True, slots=True)
class Survey:
    """What `survey` found."""

    train: FileSurvey
    test: FileSurvey | None
    across: Across | None
    templates: tuple[str, ...]
    """The lines and openings that were taken for templates."""


def odd_characters(rows: Iterable[Row]) -> dict[str, Odd]:
    """Count odd characters in instructions and outputs, by kind; kinds that don't occur are left out."""
    kinds: dict[str, Odd] = {}
    for row in rows:
        text = row.instruction if row.output is None else f"{row.instruction}\n{row.output}"
        if (text.isascii() and text.isprintable()) or _ANY.search(text) is None:
            continue
        for kind, pattern in _EACH.items():
            if characters := pattern.findall(text):
                odd = kinds.setdefault(kind, Odd())
                odd.n_rows += 1
                for character in characters:
                    point = f"U+{ord(character):04X}"
                    odd.code_points[point] = odd.code_points.get(point, 0) + 1
                if len(odd.examples) < _NAMED:
                    odd.examples.append(row.id)
    return kinds
