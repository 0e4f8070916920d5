"""Raw rows from files with named columns: delimited text and Parquet."""

from __future__ import annotations

import csv
import io

from triptych.data.raw import RawRow, RawTable, decode, describe
from triptych.errors import DataError

__all__ = ["parse_csv", "parse_parquet"]

_COLUMNS = ("id", "instruction", "output")


def parse_csv(content: bytes, source: str, *, delimiter: str) -> RawTable:
    """Parse delimited text whose first line names the columns; blank lines are skipped.

    Raises:
        DataError: not UTF-8, broken quoting, a column named twice, or a row with more or fewer fields than columns.
    """
    # strict: without it the reader guesses at broken quoting and merges rows silently
    reader = csv.reader(io.StringIO(decode(content, source), newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for fields in reader:
            if fields:
                lines.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            "the quoting is broken, or a field is very long",
            where=f"{source}, the row that begins on line {line}",
            found=str(error),
            expected="fields with quotes, delimiters or line breaks inside are quoted, and quotes in them doubled",
            fix="write the file again with a CSV library, or use .jsonl",
        ) from error
    columns = _distinct(lines[0][1], source) if lines else ()
    return RawTable(columns, [_from_fields(columns, fields, source, line) for line, fields in lines[1:]])


def _from_fields(columns: tuple[str, ...], fields: list[str], source: str, line: int) -> RawRow:
    if len(fields) != len(columns):
        raise DataError(
            "a row has more or fewer fields than there are columns",
            where=f"{source}, line {line}",
            found=f"{len(fields)} fields, the first {describe(fields[0])}",
            expected=f"{len(columns)} fields: {', '.join(map(repr, columns))[:200]}",
            fix="quote the fields that hold the delimiter, or use .jsonl",
        )
    return RawRow(f"line {line}", dict(zip(columns, fields, strict=True)))


def _distinct(columns: list[str], source: str) -> tuple[str, ...]:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(
            "a column is named twice",
            where=f"{source}, the header",
            found=", ".join(map(repr, twice))[:200],
            expected="every column once",
            fix="rename or remove one of them: they can't both be used",
        )
    return tuple(columns)


def parse_parquet(content: bytes, source: str) -> RawTable:
    """Parse a Parquet file; only the columns of a row are decoded.

    Raises:
        DataError: not Parquet, torn, or a column named twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        names = [str(name) for name in file.schema_arrow.names]
        table = file.read(columns=[name for name in _COLUMNS if name in names], use_threads=False)
        values = table.to_pylist()
    except Exception as error:  # a torn file makes Arrow raise a dozen kinds; each means the same to the user
        raise DataError(
            "this is not a Parquet file, or it is torn",
            where=source,
            found=f"{type(error).__name__}: {ascii(str(error))[:200]}",
            expected="a whole Parquet file",
            fix="write or download it again, or use .jsonl",
        ) from error
    rows = [RawRow(f"row {number}", row) for number, row in enumerate(values, 1)]
    return RawTable(_distinct(names, source), rows)
