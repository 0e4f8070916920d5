"""Test rows that the base model may have seen in its own training: a hint, not a proof.

Two signs, both from cells without adapter and without demonstrations:

    too well expected   nats per token of the best zero-shot prompt, more than `LIMIT` robust standard deviations below
                        the median of rows of like length: 0.6745 (x - median) / MAD < -3.5 (Iglewicz & Hoaglin 1993);
                        and at most half that median
    recited             its text nearly equals the reference: chrF++ of the row at `NEAR` or above

Short outputs are left out: they can be guessed. A test set that the model has seen as a whole has no outliers: only the
number of recited rows shows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.records import CellRecord, ItemScore, RunRecord
from triptych.report.groups import best_of_each, group_cells
from triptych.report.slices import by_length
from triptych.report.study import Study
from triptych.report.tables.table import Table, Value

LIMIT = 3.5
SHARE = 0.5
"""Of the usual nats per token: a row above it is no memory, however alike the other rows are."""
NEAR = 90.0
FEWEST_CHARACTERS = 10
FEWEST_ROWS = 20
"""Of like length; a median of fewer says little."""
MANY = 0.1
"""Where more than this share is recited, the task may simply be easy, and the note says so."""
MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row that stands out, and by what; None where that sign is absent or wasn't looked for."""

    row_id: str
    nats_per_token: float
    usual: float
    """Median of rows of like length."""
    distance: float | None
    """In robust standard deviations below that median; None where it is no outlier."""
    chrf: float | None
    """Highest row chrF++ of a zero-shot text of the base model; None where it isn't near the reference."""


def suspects(study: Study) -> list[Suspect]:
    """Rows with either sign, the strongest outlier first; empty where no zero-shot prompt was scored."""
    plain = [cell for cell in study.cells if cell.strategy == "zero_shot" and cell.adapter_sha256 is None]
    best = best_of_each(group_cells(plain)).get("zero_shot")
    if best is None:
        return []
    long = {i.id: i for i in study.items[best.first.cell] if i.n_chars >= FEWEST_CHARACTERS}
    near = _near(study.record, plain)
    rows = []
    for row, (usual, deviation) in _usual(long).items():
        x = long[row].nll_nats / long[row].n_tokens
        distance = (usual - x) / deviation if deviation > 0 and x <= SHARE * usual else 0.0
        if distance > LIMIT or row in near:
            rows.append(Suspect(row, x, usual, distance if distance > LIMIT else None, near.get(row)))
    return sorted(rows, key=lambda row: (-(row.distance or 0), -(row.chrf or 0), row.row_id))


def _usual(rows: Mapping[str, ItemScore]) -> dict[str, tuple[float, float]]:
    """Row -> median and robust standard deviation (MAD / 0.6745) of nats per token among rows of like length.

    A part that is too small has no deviation.
    """
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for row, part in by_length({row: item.n_chars for row, item in rows.items()}).items():
        parts[part].append(row)
    usual: dict[str, tuple[float, float]] = {}
    for alike in parts.values():
        values = np.array([rows[row].nll_nats / rows[row].n_tokens for row in alike])
        median = float(np.median(values))
        deviation = float(np.median(np.abs(values - median))) / 0.6745 if len(alike) >= FEWEST_ROWS else 0.0
        usual |= dict.fromkeys(alike, (median, deviation))
    return usual


def _near(record: RunRecord, plain: Sequence[CellRecord]) -> dict[str, float]:
    cells = {cell.cell for cell in plain}
    scores = [pair for g in record.generations if g.cell in cells for pair in g.row_chrf.items() if pair[1] >= NEAR]
    return dict(sorted(scores, key=lambda pair: pair[1]))


def contamination_table(suspected: Sequence[Suspect], record: RunRecord) -> Table | None:
    """The rows by id and how they stand out; None where none does."""
    if not suspected:
        return None
    written = any(row.chrf is not None for row in suspected)
    columns = ("row", "nats per token", "usual at its length", "robust SDs below", *(["chrF++"] if written else []))
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (s.row_id, s.nats_per_token, s.usual, s.distance, s.chrf)[: len(columns)] for s in suspected[:MOST_SHOWN]
    )
    return Table("Rows the base model may know already", columns, rows, _note(suspected, record, written=written))


def _note(suspected: Sequence[Suspect], record: RunRecord, *, written: bool) -> str:
    well = f"more than {LIMIT:g} robust SDs better than is usual at its length, with half the nats or fewer"
    signs = [f"expects the output {well}"]
    signs += [f"writes it nearly to the letter (chrF++ of {NEAR:g} or more)"] if written else []
    note = (
        "A hint, not a proof: without demonstrations and adapter the model "
        f"{' or '.join(signs)}, which can mean that it saw these rows in its own training, and also that they are easy "
        "or common phrases. Look at them before trusting a comparison that rests on them."
    )
    recited, rows = sum(s.chrf is not None for s in suspected), max((g.n_rows for g in record.generations), default=0)
    if recited > MANY * rows:
        note += (
            f" {recited:,} of {rows:,} rows are written so: either the task is easy, or much of the test set is known."
        )
    return note + (f" The first {MOST_SHOWN} of {len(suspected):,} are shown." if suspected[MOST_SHOWN:] else "")
