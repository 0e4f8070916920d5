"""What a run kept of its rows' texts and tokens, checked against its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from triptych.errors import DataError
from triptych.records import ItemScore
from triptych.records.texts import TokenTexts, read_rows_shown, read_tokens

__all__ = ["LEFT_OUT", "RowTexts", "kept_note", "read_texts"]

LEFT_OUT = "The texts of the rows were left out of this report (--without-texts): it shows their numbers only."
AGAIN = "`triptych run` with the same configuration writes it again from the finished cells"
NLL_ERROR = 1e-3
"""How far a row's tokens may be from its sum, in nats per token: they are stored with 5 decimals."""


@dataclass(frozen=True)
class RowTexts:
    """What is known of rows beside their numbers; empty where the run kept none."""

    rows: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    """Role ("test", "demo") -> id -> (instruction, output)."""
    tokens: TokenTexts = field(default_factory=lambda: TokenTexts({}, {}))


def read_texts(run_dir: Path, items: Mapping[str, Sequence[ItemScore]]) -> RowTexts:
    """Read `rows.parquet` and `tokens.parquet`, whichever are there.

    Raises:
        DataError: one is torn, or is of another run than the numbers.
    """
    texts = RowTexts(read_rows_shown(run_dir / "rows.parquet"), read_tokens(run_dir / "tokens.parquet"))
    ids = {item.id for rows in items.values() for item in rows}
    test = texts.rows.get("test")
    if test is not None and ids - test.keys():
        raise _mismatch(run_dir / "rows.parquet", f"no text of row {min(ids - test.keys())!r}")
    for cell, by_row in texts.tokens.nll.items():
        for item in items.get(cell, ()):
            _check_tokens(run_dir, cell, item, by_row.get(item.id), texts.tokens.pieces.get(item.id, []))
    return texts


def _check_tokens(
    run_dir: Path, cell: str, item: ItemScore, nll: Sequence[float] | None, pieces: Sequence[tuple[str, int]]
) -> None:
    found = len(nll or ())
    if nll is None or found != item.n_tokens or sum(size for _, size in pieces) != item.n_tokens:
        told = f"cell {cell}, row {item.id!r}: {found} tokens where {item.n_tokens} were scored"
        raise _mismatch(run_dir / "tokens.parquet", told)
    if abs(sum(nll) - item.nll_nats) > NLL_ERROR * item.n_tokens:
        told = f"cell {cell}, row {item.id!r}: {sum(nll):.4f} nats where {item.nll_nats:.4f} were scored"
        raise _mismatch(run_dir / "tokens.parquet", told)


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
