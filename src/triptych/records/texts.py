"""Texts and tokens beside the numbers, for reports that show rows. A report without them shows numbers only.

    rows.parquet      role ("test", "demo"), id, instruction, output
    tokens.parquet    cell (null for the texts), id, and either
                        pieces + sizes    text of the scored tokens, a piece being 1 or more tokens (once per row)
                        nll               NLL in nats of each scored token (once per cell x row)

The scored tokens of a row (its output and EOS) are the same in every cell of a run, so their text is kept once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from triptych.errors import DataError
from triptych.records.store import atomic_write

__all__ = ["Text", "TokenTexts", "read_rows_shown", "read_tokens", "write_rows", "write_tokens"]


class Text(Protocol):
    """A row as the records see it (`data.Row` is one)."""

    @property
    def id(self) -> str:
        """Unique in its file."""

    @property
    def instruction(self) -> str:
        """What is asked."""

    @property
    def output(self) -> str | None:
        """What is wanted."""


@dataclass(frozen=True)
class TokenTexts:
    """What `tokens.parquet` holds."""

    pieces: dict[str, list[tuple[str, int]]]
    """Row id -> (text, number of tokens), in order."""
    nll: dict[str, dict[str, list[float]]]
    """Cell -> row id -> NLL in nats of each scored token."""


def write_rows(path: Path, roles: Mapping[str, Iterable[Text]]) -> None:
    """Write `rows.parquet`."""
    import pyarrow as pa

    lines = [
        {"role": role, "id": row.id, "instruction": row.instruction, "output": row.output}
        for role, rows in roles.items()
        for row in rows
    ]
    kinds = [(name, pa.string()) for name in ("role", "id", "instruction", "output")]
    _write(path, pa.Table.from_pylist(lines, schema=pa.schema(kinds)))


def read_rows_shown(path: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Role -> id -> (instruction, output); empty if the file isn't there."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in _read(path):
        found.setdefault(line["role"], {})[line["id"]] = (line["instruction"], line["output"])
    return found


def write_tokens(
    path: Path, pieces: Mapping[str, Sequence[tuple[str, int]]], nll: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    """Write `tokens.parquet`.

    Args:
        path: the file.
        pieces: row id -> (text, number of tokens), in the order of the test set.
        nll: cell -> per row, in the same order, the NLL of each scored token.
    """
    import pyarrow as pa

    lines: list[dict[str, Any]] = [
        {"id": row, "pieces": [text for text, _ in parts], "sizes": [size for _, size in parts]}
        for row, parts in pieces.items()
    ]
    for cell, rows in nll.items():
        lines += [{"cell": cell, "id": row, "nll": list(values)} for row, values in zip(pieces, rows, strict=True)]
    schema = pa.schema(
        [
            ("cell", pa.dictionary(pa.int32(), pa.string())),
            ("id", pa.string()),
            ("pieces", pa.list_(pa.string())),
            ("sizes", pa.list_(pa.int32())),
            ("nll", pa.list_(pa.float32())),
        ]
    )
    _write(path, pa.Table.from_pylist(lines, schema=schema))


def read_tokens(path: Path) -> TokenTexts:
    """Read `tokens.parquet`; empty if the file isn't there."""
    found = TokenTexts({}, {})
    for line in _read(path):
        if line["cell"] is None:
            found.pieces[line["id"]] = list(zip(line["pieces"], line["sizes"], strict=True))
        else:
            found.nll.setdefault(line["cell"], {})[line["id"]] = line["nll"]
    return found


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd")


def _read(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return []
    try:
        lines: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            "a record is torn or is not Parquet",
            where=str(path),
            found=str(error),
            fix="delete this file (the report then shows numbers only), or run the same command again to rebuild it",
        ) from error
    return lines
