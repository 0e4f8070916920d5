"""The rows' texts and tokens and the texts that models wrote, as far as a run kept them; rows side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from triptych.errors import DataError
from triptych.records import ItemScore, RunRecord
from triptych.records.predictions import read_written
from triptych.records.schema import GenerationRecord, Strategy
from triptych.records.texts import TokenTexts, read_columns, read_rows_shown, read_tokens
from triptych.report.study import Study

if TYPE_CHECKING:
    import numpy.typing as npt

    Nlls = Mapping[str, npt.NDArray[np.float32]]

LEFT_OUT = (
    "The texts of the rows were left out of this report (--without-texts): it shows their numbers only. So were slices "
    "by further columns, but for those that report.slices names."
)
AGAIN = "`triptych run` with the same configuration writes it again from the finished cells"
NLL_ERROR = 1e-3
"""How far a row's tokens may be from its sum, in nats per token: they are stored with 5 decimals."""
MOST_ROWS = 12
MOST_CELLS = 8
MOST_CHARACTERS = 600
"""Of a text in a sample; the explorer of rows in report.html has it whole."""


@dataclass(frozen=True)
class RowTexts:
    """Texts, tokens and columns of rows; empty where the run kept none."""

    rows: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    """Role ("test", "demo") -> id -> (instruction, output)."""
    tokens: TokenTexts = field(default_factory=lambda: TokenTexts({}, {}))
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Test row's id -> name -> value of its further columns; empty where the rows have none."""


def read_texts(run_dir: Path, items: Mapping[str, Sequence[ItemScore]]) -> RowTexts:
    """Read `rows.parquet` and `tokens.parquet`, whichever are there.

    Raises:
        DataError: one is torn, or is of another run than the numbers.
    """
    rows, tokens = run_dir / "rows.parquet", run_dir / "tokens.parquet"
    texts = RowTexts(read_rows_shown(rows), read_tokens(tokens), read_columns(rows).get("test", {}))
    ids = {item.id for scored in items.values() for item in scored}
    if "test" in texts.rows and (without := ids - texts.rows["test"].keys()):
        raise _mismatch(rows, f"no text of row {min(without)!r}")
    sizes = {row: sum(size for _, size in pieces) for row, pieces in texts.tokens.pieces.items()}
    for cell, by_row in texts.tokens.nll.items():
        _check_tokens(tokens, cell, items.get(cell, ()), by_row, sizes)
    return texts


def _check_tokens(path: Path, cell: str, items: Sequence[ItemScore], nll: Nlls, sizes: Mapping[str, int]) -> None:
    """Every row has as many tokens as were scored, and they add up to its NLL."""
    for item in items:
        n = len(nll[item.id]) if item.id in nll else 0
        if item.id not in nll or n != item.n_tokens or sizes.get(item.id, 0) != item.n_tokens:
            raise _mismatch(path, f"cell {cell}, row {item.id!r}: {n} tokens where {item.n_tokens} were scored")
    if not items:
        return
    counts = np.array([item.n_tokens for item in items])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(np.concatenate([nll[item.id] for item in items]), starts, dtype=np.float64)
    off = np.abs(sums - [item.nll_nats for item in items]) > NLL_ERROR * counts
    if off.any():
        item, nats = items[int(np.argmax(off))], sums[int(np.argmax(off))]
        found = f"{nats:.4f} nats where {item.nll_nats:.4f} were scored"
        raise _mismatch(path, f"cell {cell}, row {item.id!r}: {found}")


def _mismatch(path: Path, found: str) -> DataError:
    return DataError(
        f"{path.name} and items.parquet do not belong together",
        where=str(path),
        found=found,
        fix="delete this file (the report then shows numbers only), or run the same command again: it is rebuilt",
    )


def kept_note(texts: RowTexts, cells: Sequence[str]) -> str:
    """Which texts or tokens of rows can't be shown, and why; empty where nothing is missing."""
    if not texts.rows.get("test"):
        return f"This run has no rows.parquet, so rows are shown by number only; {AGAIN}."
    if not texts.tokens.pieces:
        return f"This run has no tokens.parquet, so tokens are not coloured; {AGAIN}."
    without = [cell for cell in cells if cell not in texts.tokens.nll]
    return f"tokens.parquet has no tokens of {', '.join(without)}; {AGAIN}." if without else ""


@dataclass(frozen=True)
class Written:
    """What a run kept of the texts its cells wrote."""

    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Cell -> row id -> text."""
    note: str = ""
    """Which cells' texts are not there, and how to get them; empty where all are."""


class CellText(NamedTuple):
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
    texts: tuple[CellText, ...]


@dataclass(frozen=True)
class Texts:
    """What a report says and shows of texts beside their tables."""

    sentences: Sequence[str] = ()
    samples: Sequence[Sample] = ()
    samples_note: str = ""
    missing_note: str = ""


def read_texts_written(run_dir: Path, generations: Sequence[GenerationRecord]) -> Written:
    """Read `predictions/`.

    Raises:
        DataError: a file is torn, or is of another run than the numbers.
    """
    read = {g.cell: read_written(run_dir, g.cell, g.row_chrf.keys()) for g in generations}
    missing = ", ".join(cell for cell, texts in read.items() if texts is None)
    note = f"predictions/ has no texts of {missing}; `triptych run` with the same configuration writes them again."
    return Written({cell: texts for cell, texts in read.items() if texts is not None}, note if missing else "")


def samples(study: Study, written: Written, rows: Mapping[str, tuple[str, str]]) -> list[Sample]:
    """A dozen rows from the lowest to the highest chrF++ (its mean over the cells), evenly spread.

    `rows`: id -> (instruction, output). Of many cells, those with the highest chrF++ over the corpus are shown.
    """
    generations = [g for g in study.record.generations if g.cell in written.texts]
    if not generations:
        return []
    shared = [row for row in generations[0].row_chrf if row in rows and all(row in g.row_chrf for g in generations)]
    ordered = sorted(shared, key=lambda row: sum(g.row_chrf[row] for g in generations))
    if len(ordered) > MOST_ROWS:
        ordered = [ordered[round(i * (len(ordered) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    best = {g.cell for g in sorted(generations, key=lambda g: -g.chrf)[:MOST_CELLS]}
    strategies = {cell.cell: cell.strategy for cell in study.cells}

    def text(g: GenerationRecord, row: str) -> CellText:
        name = study.cell_names.get(g.cell, g.cell)
        return CellText(name, strategies.get(g.cell), g.row_chrf[row], _cut(written.texts[g.cell][row]))

    texts = {row: tuple(text(g, row) for g in generations if g.cell in best) for row in ordered}
    return [Sample(row, _cut(rows[row][0]), _cut(rows[row][1]), texts[row]) for row in ordered]


def _cut(text: str) -> str:
    more = len(text) - MOST_CHARACTERS
    return text if more <= 0 else f"{text[:MOST_CHARACTERS]}… ({more:,} more characters)"


def samples_note(side_by_side: Sequence[Sample], record: RunRecord) -> str:
    """How the rows were picked, and what was left out."""
    if not side_by_side:
        return ""
    rows, count, shown = record.generations[0].n_rows, len(side_by_side), len(side_by_side[0].texts)
    picked = "All rows," if rows == count else f"{count} of {rows:,} rows, evenly spread"
    note = f"{picked} from the lowest to the highest chrF++ (mean over the cells)."
    if shown < len(record.generations):
        note += f" Of {len(record.generations)} cells, {shown} are shown: those with texts and the highest chrF++."
    return note
