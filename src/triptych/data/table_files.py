"""Raw rows from files with named columns: delimited text and Parquet. Both are read a piece at a time."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any

from triptych.config.data import ROW_PARTS
from triptych.data.layouts import NESTED
from triptych.data.row import RawRow, RawStream, describe, lines_of
from triptych.errors import DataError

_ROWS_AT_ONCE = 4096
_LONGEST_FIELD = 1 << 28
"""Characters: Python's own limit of 131,072 is shorter than a chapter of a book."""
_DELIMITERS = (",", "\t", ";", "|")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def parse_csv(file: IO[bytes], source: str, *, delimiter: str) -> RawStream:
    """Parse delimited text whose first line names the columns; blank lines are skipped.

    A header without the suffix's delimiter is divided by another one, if it has one: spreadsheets of many countries
    write `;` into .csv files.

    Raises:
        DataError: not UTF-8, broken quoting, a column named twice, or a row with more or fewer fields than columns.
    """
    lines = _split_at_returns(iter(file), source)
    head: list[str] = []  # blank lines, and the header's first line
    for line in lines:
        head.append(line)
        if line.strip():
            break
    found = _delimiter(head[-1] if head else "", delimiter)
    csv.field_size_limit(_LONGEST_FIELD)
    # strict: without it the reader guesses at broken quoting and merges rows silently
    reader = csv.reader(itertools.chain(head, lines), delimiter=found, strict=True)
    fields = _fields(reader, source)
    _, header = next(fields, (0, []))
    columns = _distinct(header, source)

    def rows() -> Iterator[RawRow]:
        for number, (line, values) in enumerate(fields, 1):
            yield RawRow(number, _named(columns, values, source, line), line)

    notes = () if found == delimiter else (f"the fields are divided by {found!r}",)
    return RawStream(dict.fromkeys(columns), rows(), notes)


def _delimiter(header: str, usual: str) -> str:
    """The usual one where the header has it outside quotes, else the one that it has most of."""
    bare = _QUOTED.sub("", header)
    counts = {delimiter: bare.count(delimiter) for delimiter in (usual, *_DELIMITERS)}
    best = max(counts, key=lambda delimiter: counts[delimiter])  # the usual one, if none is there
    return usual if counts[usual] else best


def _split_at_returns(file: Iterator[bytes], source: str) -> Iterator[str]:
    r"""Lines of decoded text; a lone "\r" ends one too, as it did on old machines."""
    for _, text in lines_of(file, source):
        if "\r" in text:
            yield from io.StringIO(text, newline="")
        else:
            yield text


def _fields(reader: Any, source: str) -> Iterator[tuple[int, list[str]]]:
    """Each row's fields, with the line it begins on."""
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"the quoting is broken, or a field has more than {_LONGEST_FIELD:,} characters",
            where=f"{source}, the row that begins on line {line}",
            found=str(error),
            expected="fields with quotes, delimiters or line breaks inside are quoted, and quotes in them doubled",
            fix="write the file again with a CSV library, or use .jsonl",
        ) from error


def _named(columns: tuple[str, ...], fields: list[str], source: str, line: int) -> dict[str, str]:
    if len(fields) != len(columns):
        raise DataError(
            "a row has more or fewer fields than there are columns",
            where=f"{source}, line {line}",
            found=f"{len(fields)} fields, the first {describe(fields[0])}",
            expected=f"{len(columns)} fields: {', '.join(map(repr, columns))[:200]}",
            fix="quote the fields that hold the delimiter, or use .jsonl",
        )
    return dict(zip(columns, fields, strict=True))


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


def parse_parquet(file: IO[bytes], source: str, *, wanted: Collection[str] = (*ROW_PARTS, *NESTED)) -> RawStream:
    """Parse a Parquet file, a few thousand rows at a time; columns of lists, objects and bytes are left undecoded, but
    for those that are `wanted`.

    Raises:
        DataError: not Parquet, torn, or a column named twice.
    """
    import pyarrow.parquet as pq

    with _parquet_errors(source):
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        fields = list(parquet.schema_arrow)
        names = [str(field.name) for field in fields]
        chosen = [str(field.name) for field in fields if field.name in wanted or _is_plain(field.type)]
    columns = _distinct(names, source)

    def rows() -> Iterator[RawRow]:
        with _parquet_errors(source):
            batches = parquet.iter_batches(_ROWS_AT_ONCE, columns=chosen, use_threads=False)
            every = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, values in enumerate(every, 1):
                yield RawRow(number, values)

    undecoded = [repr(name)[:40] for name in names if name not in chosen]
    notes = f"left out, since they hold lists, objects or bytes: columns {', '.join(undecoded[:8])}"
    return RawStream(dict.fromkeys(columns), rows(), (notes,) if undecoded else ())


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):  # of texts: a row's own options
        return bool(types.is_string(kind.value_type) or types.is_large_string(kind.value_type))
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


@contextmanager
def _parquet_errors(source: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a torn file makes Arrow raise a dozen kinds; each means the same to the user
        raise DataError(
            "this is not a Parquet file, or it is torn",
            where=source,
            found=f"{type(error).__name__}: {ascii(str(error))[:200]}",
            expected="a whole Parquet file",
            fix="write or download it again, or use .jsonl",
        ) from error
