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
from triptych.records.store import read_table, torn_table, write_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FIX = "delete this file (the report then shows numbers only), or run the same command again to rebuild it"


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

    lines = []
    for role, rows in roles.items():
        for row in rows:
            columns = getattr(row, "columns", ())
            as_json = json.dumps(dict(columns), ensure_ascii=False) if columns else None
            texts = {"instruction": row.instruction, "output": row.output, "columns": as_json}
            lines.append({"role": role, "id": row.id, **texts})
    kinds = [(name, pa.string()) for name in ("role", "id", "instruction", "output", "columns")]
    write_table(path, lines, pa.schema(kinds))


def read_rows_shown(path: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Role -> id -> (instruction, output); empty if the file isn't there."""
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    for line in _lines(path):
        rows.setdefault(line["role"], {})[line["id"]] = (line["instruction"], line["output"])
    return rows


def read_columns(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Role -> id -> name -> value of the rows' further columns; empty if the file isn't there or has none.

    Raises:
        DataError: the file is torn, or a row's columns are no JSON object.
    """
    columns: dict[str, dict[str, dict[str, str]]] = {}
    for line in _lines(path):
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

    `pieces` is row id -> (text, number of tokens), in the order of the test set; `nll` is cell -> NLL of each scored
    token, per row in the same order.
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
    write_table(path, lines, schema)


def read_tokens(path: Path) -> TokenTexts:
    """Read `tokens.parquet`; empty if the file isn't there.

    Raises:
        DataError: the file is torn, or is no file of tokens.
    """
    import pyarrow.compute as pc

    tokens = TokenTexts({}, {})
    if not path.exists():
        return tokens
    table = read_table(path, fix=_FIX)
    try:
        cell_names = pc.cast(table.column("cell"), "string")
        texts = table.filter(pc.is_null(cell_names)).select(["id", "pieces", "sizes"]).to_pylist()
        lines = table.filter(pc.is_valid(cell_names)).select(["cell", "id", "nll"]).combine_chunks()
    except KeyError as error:
        raise _torn(path, str(error)) from error
    for line in texts:
        tokens.pieces[line["id"]] = list(zip(line["pieces"], line["sizes"], strict=True))
    if lines.num_rows:
        column = lines.column("nll").chunk(0)
        starts, values = column.offsets.to_numpy().tolist(), column.values.to_numpy(zero_copy_only=False)
        cells, ids = lines.column("cell").to_pylist(), lines.column("id").to_pylist()
        for place, (cell, row) in enumerate(zip(cells, ids, strict=True)):
            tokens.nll.setdefault(cell, {})[row] = values[starts[place] : starts[place + 1]]
    return tokens


def _lines(path: Path) -> list[dict[str, Any]]:
    return read_table(path, fix=_FIX).to_pylist() if path.exists() else []


def _torn(path: Path, found: str) -> DataError:
    return torn_table(path, found, fix=_FIX)
