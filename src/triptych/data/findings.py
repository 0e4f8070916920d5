"""What `triptych data check` found: plain records, written as they are by `--json`."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych.data.oddities import Odd


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
