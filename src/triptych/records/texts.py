"""Texts and tokens beside the numbers, for reports that show rows. A report without them shows numbers only.

    rows.parquet      role ("test", "demo"), id, instruction, output, columns (further columns as a JSON object,
                      null for none; files of older versions don't have it)
    tokens.parquet    cell (null for the texts), id, and either
                        pieces + sizes    text of the scored tokens, a piece being 1 or more tokens (once per row)
                        nll               NLL in nats of each scored token (once per cell x row)

The scored tokens of a row (its output and EOS) are the same in every cell of a run, so their text is kept once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from triptych.errors import DataError
from triptych.records.store import atomic_write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


class Text(Protocol):
    """A row as the records see it (`data.Row` is one). It may have `columns`: (name, value) pairs beside its texts."""

    @property
    def id(self) -> str:
        """Unique in its file."""

    @property
    def instruction(self) -> str:
        """What is asked."""

    @property
    def output(self) -> str | None:
        """The reference answer."""


@dataclass(frozen=True)
class TokenTexts:
    """What `tokens.parquet` holds."""

    pieces: dict[str, list[tuple[str, int]]]
    """Row id -> (text, number of tokens), in order."""
    nll: dict[str, dict[str, npt.NDArray[np.float32]]]
    """Cell -> row id -> NLL in nats of each scored token, in the written order of the rows.

    A test set of 10,000 rows has millions of tokens, so they stay in one block, and these are views of it.
    """


def write_rows(path: Path, roles: Mapping[str, Iterable[Text]]) -> None:
    """Write `rows.parquet`."""
    import pyarrow as pa

    lines = [
        {"role": role, "id": row.id, "instruction": row.instruction, "output": row.output, "columns": _as_json(row)}
        for role, rows in roles.items()
        for row in rows
    ]
    kinds = [(name, pa.string()) for name in ("role", "id", "instruction", "output", "columns")]
    _write(path, pa.Table.from_pylist(lines, schema=pa.schema(kinds)))


def _as_json(row: Text) -> str | None:
    columns = getattr(row, "columns", ())
    return json.dumps(dict(columns), ensure_ascii=False) if columns else None


def read_rows_shown(path: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Role -> id -> (instruction, output); empty if the file isn't there."""
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    for line in _read(path):
        rows.setdefault(line["role"], {})[line["id"]] = (line["instruction"], line["output"])
    return rows


def read_columns(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Role -> id -> name -> value of the rows' further columns; empty if the file isn't there or has none.

    Raises:
        DataError: the file is torn, or a row's columns are no JSON object.
    """
    columns: dict[str, dict[str, dict[str, str]]] = {}
    for line in _read(path):
        if (text := line.get("columns")) is not None:
            columns.setdefault(line["role"], {})[line["id"]] = _columns(text, path, line["id"])
    return columns


def _columns(text: str, path: Path, row: str) -> dict[str, str]:
    try:
        columns = json.loads(text)
    except json.JSONDecodeError as error:
        raise _torn(path, f"row {row!r}, column `columns`: {error}") from error
    if not isinstance(columns, dict):
        raise _torn(path, f"row {row!r}, column `columns`: {type(columns).__name__} instead of a JSON object")
    return {str(name): str(value) for name, value in columns.items()}


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
    """Read `tokens.parquet`; empty if the file isn't there.

    Raises:
        DataError: the file is torn, or is no file of tokens.
    """
    import pyarrow.compute as pc

    table = _table(path)
    tokens = TokenTexts({}, {})
    if table is None:
        return tokens
    try:
        cell_names = pc.cast(table.column("cell"), "string")
        texts = table.filter(pc.is_null(cell_names)).select(["id", "pieces", "sizes"]).to_pylist()
        lines = table.filter(pc.is_valid(cell_names)).select(["cell", "id", "nll"]).combine_chunks()
    except KeyError as error:
        raise _torn(path, str(error)) from error
    for line in texts:
        tokens.pieces[line["id"]] = list(zip(line["pieces"], line["sizes"], strict=True))
    _fill(tokens.nll, lines)
    return tokens


def _fill(nll: dict[str, dict[str, npt.NDArray[np.float32]]], lines: pa.Table) -> None:
    if not lines.num_rows:
        return
    column = lines.column("nll").chunk(0)
    starts, values = column.offsets.to_numpy().tolist(), column.values.to_numpy(zero_copy_only=False)
    cells, ids = lines.column("cell").to_pylist(), lines.column("id").to_pylist()
    for place, (cell, row) in enumerate(zip(cells, ids, strict=True)):
        nll.setdefault(cell, {})[row] = values[starts[place] : starts[place + 1]]


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd")


def _read(path: Path) -> list[dict[str, Any]]:
    table = _table(path)
    return [] if table is None else table.to_pylist()


def _table(path: Path) -> pa.Table | None:
    """The file's content; None if it isn't there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise _torn(path, str(error)) from error


def _torn(path: Path, found: str) -> DataError:
    return DataError(
        "a record is torn or is not Parquet",
        where=str(path),
        found=found,
        fix="delete this file (the report then shows numbers only), or run the same command again to rebuild it",
    )
