"""Rows side by side: what was asked, what was wanted, and what the model wrote in each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from triptych.records import RunRecord
from triptych.records.predictions import read_written
from triptych.records.schema import GenerationRecord, Strategy
from triptych.report.study import Study

MOST_ROWS = 12
MOST_CELLS = 8
MOST_CHARACTERS = 600
"""Of a text in a sample; the explorer of rows in report.html has it whole."""


@dataclass(frozen=True)
class Written:
    """What a run kept of the texts its cells wrote."""

    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Cell -> row id -> text."""
    note: str = ""
    """Which cells' texts are not there, and how to get them; empty where all are."""


class Said(NamedTuple):
    """One cell's text of a row."""

    name: str
    strategy: Strategy | None
    chrf: float
    text: str


class Sample(NamedTuple):
    """One row and what was written for it."""

    row_id: str
    instruction: str
    reference: str
    said: tuple[Said, ...]


@dataclass(frozen=True)
class Texts:
    """What a report says and shows of texts beside their tables."""

    said: Sequence[str] = ()
    samples: Sequence[Sample] = ()
    samples_note: str = ""
    missing_note: str = ""


def read_texts_written(run_dir: Path, generations: Sequence[GenerationRecord]) -> Written:
    """Read `predictions/`.

    Raises:
        DataError: a file is torn, or is of another run than the numbers.
    """
    found = {g.cell: read_written(run_dir, g.cell, g.row_chrf.keys()) for g in generations}
    there = {cell: texts for cell, texts in found.items() if texts is not None}
    missing = [cell for cell, texts in found.items() if texts is None]
    again = "`triptych run` with the same configuration writes them again"
    return Written(there, f"predictions/ has no texts of {', '.join(missing)}; {again}." if missing else "")


def samples(study: Study, written: Written, rows: Mapping[str, tuple[str, str]]) -> list[Sample]:
    """A dozen rows from the lowest to the highest chrF++ (its mean over the cells), evenly spread.

    `rows`: id -> (instruction, output). Of many cells, those with the highest chrF++ over the corpus are shown.
    """
    kept = [g for g in study.record.generations if g.cell in written.texts]
    if not kept:
        return []
    shared = [row for row in kept[0].row_chrf if row in rows and all(row in g.row_chrf for g in kept)]
    ordered = sorted(shared, key=lambda row: sum(g.row_chrf[row] for g in kept))
    if len(ordered) > MOST_ROWS:
        ordered = [ordered[round(i * (len(ordered) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    best = {g.cell for g in sorted(kept, key=lambda g: -g.chrf)[:MOST_CELLS]}
    strategies = {cell.cell: cell.strategy for cell in study.cells}

    def said(g: GenerationRecord, row: str) -> Said:
        name, text = study.cell_names.get(g.cell, g.cell), _cut(written.texts[g.cell][row])
        return Said(name, strategies.get(g.cell), g.row_chrf[row], text)

    return [
        Sample(row, _cut(rows[row][0]), _cut(rows[row][1]), tuple(said(g, row) for g in kept if g.cell in best))
        for row in ordered
    ]


def _cut(text: str) -> str:
    more = len(text) - MOST_CHARACTERS
    return text if more <= 0 else f"{text[:MOST_CHARACTERS]}… ({more:,} more characters)"


def samples_note(found: Sequence[Sample], record: RunRecord) -> str:
    """How the rows were picked, and what was left out."""
    if not found:
        return ""
    rows, shown = record.generations[0].n_rows, len(found[0].said)
    note = f"{len(found)} of {rows:,} rows, evenly spread from the lowest to the highest chrF++ (mean over the cells)."
    if rows == len(found):
        note = "All rows, from the lowest to the highest chrF++ (mean over the cells)."
    if shown < len(record.generations):
        note += f" Of {len(record.generations)} cells, {shown} are shown: those with texts and the highest chrF++."
    return note
