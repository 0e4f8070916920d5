"""What a run kept of its rows' texts and tokens, checked against its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triptych.errors import DataError
from triptych.records import ItemScore
from triptych.records.texts import TokenTexts, read_columns, read_rows_shown, read_tokens

if TYPE_CHECKING:
    import numpy.typing as npt

LEFT_OUT = (
    "The texts of the rows were left out of this report (--without-texts): it shows their numbers only. So were slices "
    "by further columns, but for those that report.slices names."
)
AGAIN = "`triptych run` with the same configuration writes it again from the finished cells"
NLL_ERROR = 1e-3
"""How far a row's tokens may be from its sum, in nats per token: they are stored with 5 decimals."""


@dataclass(frozen=True)
class RowTexts:
    """What is known of rows beside their numbers; empty where the run kept none."""

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
    test = texts.rows.get("test")
    if test is not None and ids - test.keys():
        raise _mismatch(rows, f"no text of row {min(ids - test.keys())!r}")
    sizes = {row: sum(size for _, size in pieces) for row, pieces in texts.tokens.pieces.items()}
    for cell, by_row in texts.tokens.nll.items():
        _check_tokens(tokens, cell, items.get(cell, ()), by_row, sizes)
    return texts


def _check_tokens(
    path: Path,
    cell: str,
    items: Sequence[ItemScore],
    nll: Mapping[str, npt.NDArray[np.float32]],
    sizes: Mapping[str, int],
) -> None:
    """Every row's tokens are as many as were scored, and add up to its NLL."""
    for item in items:
        found = len(nll[item.id]) if item.id in nll else 0
        if item.id not in nll or found != item.n_tokens or sizes.get(item.id, 0) != item.n_tokens:
            told = f"cell {cell}, row {item.id!r}: {found} tokens where {item.n_tokens} were scored"
            raise _mismatch(path, told)
    if not items:
        return
    counts = np.array([item.n_tokens for item in items])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(np.concatenate([nll[item.id] for item in items]), starts, dtype=np.float64)
    off = np.abs(sums - [item.nll_nats for item in items]) > NLL_ERROR * counts
    if off.any():
        place = int(np.argmax(off))
        item = items[place]
        told = f"cell {cell}, row {item.id!r}: {sums[place]:.4f} nats where {item.nll_nats:.4f} were scored"
        raise _mismatch(path, told)


def _mismatch(path: Path, found: str) -> DataError:
    return DataError(
        f"{path.name} and items.parquet do not belong together",
        where=str(path),
        found=found,
        fix="delete this file (the report then shows numbers only), or run the same command again: it is rebuilt",
    )


def kept_note(texts: RowTexts, cells: Sequence[str]) -> str:
    """What can't be shown of rows, and why; empty where nothing is missing."""
    if not texts.rows.get("test"):
        return f"This run has no rows.parquet, so rows are shown by number only; {AGAIN}."
    if not texts.tokens.pieces:
        return f"This run has no tokens.parquet, so tokens are not coloured; {AGAIN}."
    without = [cell for cell in cells if cell not in texts.tokens.nll]
    return f"tokens.parquet has no tokens of {', '.join(without)}; {AGAIN}." if without else ""
